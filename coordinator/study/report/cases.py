"""The cases of a study, ordered and named: which line each had, and what tells it from the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

from ....network import Profile
from .. import metrics
from ..records import Answer, Case, Prediction, Results, profile_of
from .words import short

PLAINTEXT = "plain"  # runs on this machine alone: no network applies to it


@dataclass(frozen=True, slots=True)
class Spread:
    """Of n samples: as `metrics.Summary`, and the tenth percentile."""

    n: int
    mean: float
    p10: float
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, samples: Iterable[float]) -> Spread | None:
        """None of no samples."""
        ordered = sorted(samples)
        if not ordered:
            return None
        return cls(len(ordered), fmean(ordered), *(metrics.percentile(ordered, p) for p in (10, 50, 90, 99)))


@dataclass(frozen=True, slots=True)
class Metric:
    """One of metrics.METRICS, as people call it."""

    key: str
    name: str

    @property
    def meaning(self) -> str:
        return self.key.upper()


TTFT = Metric("ttft", "time to first token")
TPOT = Metric("tpot", "time per token")
ITL = Metric("itl", "time between two tokens")
E2E = Metric("e2e", "time of the whole answer")
METRICS = (TTFT, TPOT, ITL, E2E)


@dataclass(frozen=True, slots=True, order=True)
class Workload:
    """What was asked of a model, whatever the protocol and the network."""

    model: str
    prompt_tokens: int
    new_tokens: int

    @classmethod
    def of(cls, case: Case) -> Workload:
        return cls(case.model, case.prompt_tokens, case.new_tokens)


@dataclass
class Cases:
    """What a report asks of the results again and again."""

    results: Results

    @cached_property
    def all(self) -> list[Case]:
        """Measured ones, by workload, protocol and growing round trip. Of `plain`, which no network applies to, one each."""
        return self.ordered(map(_without_network, self.results.cases()))

    @cached_property
    def _protocol_order(self) -> dict[str, int]:
        """As they were measured: the study's own protocol comes first if its maker put it there."""
        every = [*self.results.cases(), *(each.case for each in self.results.predictions)]
        return {name: number for number, name in enumerate(dict.fromkeys(case.protocol for case in every))}

    @cached_property
    def _answers(self) -> dict[Case, list[Answer]]:
        found: dict[Case, list[Answer]] = {case: [] for case in self.all}
        for answer in self.results.answers:
            found[_without_network(answer.case)].append(answer)
        return found

    @cached_property
    def predictions(self) -> dict[Case, Prediction]:
        return {_without_network(each.case): each for each in self.results.predictions}

    def answers(self, case: Case) -> list[Answer]:
        return self._answers.get(case, [])

    def spread(self, case: Case, metric: Metric) -> Spread | None:
        return Spread.of(metrics.samples(self.answers(case), metric.key))

    def per_token(self, case: Case, values: Callable[[Answer], Sequence[float]]) -> float | None:
        """Mean of what an answer's steps after the prompt took; None where there is none."""
        found = [value for answer in self.answers(case) for value in values(answer)[1:]]
        return fmean(found) if found else None

    def _order(self, case: Case) -> tuple[object, ...]:
        line = line_of(case)
        place = (line.rtt, -line.bandwidth) if line else (math.inf, 0.0)
        protocol = (case.protocol != PLAINTEXT, self._protocol_order.get(case.protocol, -1), case.protocol)
        return (Workload.of(case), *protocol, case.forwarded, place, case.network)

    def ordered(self, cases: Iterable[Case]) -> list[Case]:
        return sorted(set(cases), key=self._order)

    @cached_property
    def workloads(self) -> list[Workload]:
        return sorted({Workload.of(case) for case in self.all})

    @cached_property
    def protocols(self) -> list[str]:
        """Names of series, the forwarded ones apart: each has its own colour, pattern and shape throughout."""
        every = [*self.all, *self.ordered(self.predictions)]
        return list(dict.fromkeys(protocol_of(case) for case in every if case.protocol != PLAINTEXT))

    def workload_name(self, workload: Workload) -> str:
        """Short: the model only where there are several; 8+16 is a prompt of 8 tokens and an answer of 16."""
        lengths = f"{workload.prompt_tokens}+{workload.new_tokens} tokens"
        return f"{short(workload.model, 28)}, {lengths}" if self._several_models else lengths

    @cached_property
    def _everything(self) -> set[Case]:
        return {
            *self.all,
            *(site.case for site in self.results.sites),
            *(each.case for each in self.results.predictions),
        }

    @cached_property
    def _several_models(self) -> bool:
        return len({case.model for case in self._everything}) > 1

    @cached_property
    def _several_workloads(self) -> bool:
        return len({Workload.of(case) for case in self._everything}) > 1

    def name(self, case: Case) -> str:
        """What tells this case from the others: its protocol, its network, its workload where there are several."""
        words = [protocol_of(case)]
        if case.protocol != PLAINTEXT:
            words.append(short(case.network, 36))
        if self._several_workloads:
            words.append(self.workload_name(Workload.of(case)))
        return ", ".join(words)


def protocol_of(case: Case) -> str:
    name = short(case.protocol, 24)
    return f"{name} (kernel's stack)" if case.forwarded else name


def line_of(case: Case) -> Profile | None:
    """The one line that all pairs of parties had; None if pairs differ, or it is not known, or there was none."""
    return None if case.protocol == PLAINTEXT or ";" in case.network else profile_of(case.network)


def _without_network(case: Case) -> Case:
    return replace(case, network="") if case.protocol == PLAINTEXT else case


def spread_over(cases: Sequence[Case], most: int) -> list[Case]:
    """So many at most, evenly taken, the first and the last among them."""
    if len(cases) <= most:
        return list(cases)
    return [cases[round(place * (len(cases) - 1) / (most - 1))] for place in range(most)]
