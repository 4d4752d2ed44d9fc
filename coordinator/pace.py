"""What peers do a second, from the totals that they report: over the last WINDOW seconds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ..wire import Totals

WINDOW = 10.0


@dataclass(frozen=True, slots=True)
class Rates:
    """A second. Rounds as a compute peer, bytes sent to the other compute peer, bytes sent as the dealer."""

    rounds: float = 0.0
    online_bytes: float = 0.0
    offline_bytes: float = 0.0

    def __add__(self, other: Rates) -> Rates:
        return Rates(
            self.rounds + other.rounds,
            self.online_bytes + other.online_bytes,
            self.offline_bytes + other.offline_bytes,
        )


STILL = Rates()


class Pace:
    """Of one peer. For one thread at a time."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Totals]] = deque()

    def heard(self, at: float, totals: Totals) -> Rates:
        """A report that came at time `at`, in seconds. Totals that fall are those of a peer that was started anew."""
        samples = self._samples
        if samples and (at <= samples[-1][0] or any(new < old for new, old in _pairs(totals, samples[-1][1]))):
            samples.clear()
        samples.append((at, totals))
        while len(samples) > 2 and at - samples[1][0] >= WINDOW:
            samples.popleft()
        since, before = samples[0]
        if at <= since:
            return STILL
        return Rates(*((new - old) / (at - since) for new, old in _pairs(totals, before)))


def _pairs(new: Totals, old: Totals) -> tuple[tuple[int, int], ...]:
    return (
        (new.rounds, old.rounds),
        (new.online_bytes, old.online_bytes),
        (new.offline_bytes, old.offline_bytes),
    )
