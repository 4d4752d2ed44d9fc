"""What the lines of a study vary in, round-trip time and bandwidth, and the cases as points over either."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ....network import Profile
from ..records import Case
from .cases import Spread, protocol_of
from .scales import RATE, TIME
from .words import delay, megabits


@dataclass(frozen=True, slots=True)
class Axis:
    """What is varied: its value for a line, and how it is written. A value that no log scale can hold is drawn at its edge."""

    name: str
    title: str
    of: Callable[[Profile], float]
    other: Callable[[Profile], float]
    other_name: str
    shown: Callable[[float], str]
    label: str
    edge: str  # its value there, and with its name
    edge_named: str
    fixed: str  # what is said when the other quantity changes too


RTT = Axis(
    "round-trip time",
    "Round-trip time",
    lambda line: 1e3 * line.rtt,
    lambda line: line.bandwidth / 1e6,
    "bandwidth",
    delay,
    TIME,
    "none",
    "no round-trip time",
    "their bandwidths differ too",
)
BANDWIDTH = Axis(
    "bandwidth",
    "Bandwidth, each way",
    lambda line: line.bandwidth / 1e6,
    lambda line: 1e3 * line.rtt,
    "round trip",
    megabits,
    RATE,
    "unlimited",
    "unlimited bandwidth",
    "their round trips differ too",
)


@dataclass(frozen=True, slots=True)
class Point:
    """A case that was measured, or predicted, or both."""

    case: Case
    line: Profile
    measured: Spread | None
    predicted: float | None

    @property
    def value(self) -> float:
        """The measured median where there is one."""
        return self.measured.p50 if self.measured is not None else self.predicted or 0.0


def sweeps(points: Sequence[Point], axis: Axis) -> bool:
    """Whether the study varied one quantity while the other stood still: then lines join only what is alike."""
    still: dict[tuple[str, float], set[float]] = defaultdict(set)
    for point in points:
        still[protocol_of(point.case), axis.other(point.line)].add(axis.of(point.line))
    return len({other for _, other in still}) > 1 and any(len(found) > 1 for found in still.values())


def other_of(axis: Axis, point: Point) -> str:
    """What does not change along the axis, of this point, with its name where a number alone would not tell."""
    value = axis.other(point.line)
    return megabits(value) if axis is RTT else f"round trip {delay(value)}"
