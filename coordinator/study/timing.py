"""How long the rest of a study will take, from what has been measured so far.

A case that was measured takes its mean. For another the nearest one of its protocol and model is taken apart: its rounds take
the other line's delay, its bytes the other line's bandwidth, and the rest stays; other lengths count by their tokens.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean

from ...network import Profile
from .records import Answer, Case, profile_of

_CLIENT_ONE_WAYS = 2  # of a step: the client asks and is answered
_SETUP_ONE_WAYS = 4  # of an answer: its links say who they are


class TimeLeft:
    """Learns from answers, those that warm up too."""

    def __init__(self) -> None:
        self._measured: dict[Case, list[float]] = defaultdict(list)
        self._examples: dict[Case, Answer] = {}

    def learn(self, answer: Answer, *, warmup: bool = False) -> None:
        self._examples.setdefault(answer.case, answer)
        if not warmup:
            self._measured[answer.case].append(answer.e2e_ms / 1e3)

    def of(self, case: Case) -> float | None:
        """Seconds that an answer takes; None if nothing like it was measured yet."""
        if known := self._measured.get(case):
            return fmean(known)
        alike = [one for one in self._examples.values() if _kind(one.case) == _kind(case)]
        if not alike:
            return None
        nearest = min(alike, key=lambda one: _distance(one.case, case))
        return _carried(nearest, case)

    def total(self, cases: Iterable[Case]) -> float | None:
        """Seconds for all of these answers; None while one of them is unknown."""
        found = 0.0
        for case in cases:
            seconds = self.of(case)
            if seconds is None:
                return None
            found += seconds
        return found


def _kind(case: Case) -> tuple[object, ...]:
    return case.protocol, case.model, case.forwarded


def _distance(one: Case, other: Case) -> float:
    return abs(math.log(_weight(one) / _weight(other)))


def _weight(case: Case) -> float:
    return case.prompt_tokens + case.new_tokens


def _carried(answer: Answer, case: Case) -> float:
    """Seconds of the answer, had it been of this case."""
    here, there = (profile_of(network) or Profile() for network in (answer.case.network, case.network))
    crossings = sum(answer.rounds) + _CLIENT_ONE_WAYS * len(answer.rounds) + _SETUP_ONE_WAYS
    delay = 0.0 if case.protocol == "plain" else crossings * (there.one_way - here.one_way)
    bits = 8 * (sum(answer.offline_bytes) / 2 + sum(answer.online_bytes) / 2)
    transfer = bits * (1 / there.bandwidth - 1 / here.bandwidth)
    longer = _weight(case) / _weight(answer.case)
    return max(0.0, answer.e2e_ms / 1e3 + delay + transfer) * longer
