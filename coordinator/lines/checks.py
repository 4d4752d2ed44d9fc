"""Shaped links against the kernel's stack: the same transfers over both, with the same profile."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from ...network import Network, Profile
from ..study.records import LineCheck
from .counts import Counts
from .lay import CONGESTION, KernelLines
from .transfers import KINDS, Near, measure

_NEAR, _FAR = "near", "far"
_LOOPBACK = "127.0.0.1"


def measure_lines(
    network: Network,
    repeat: int = 3,
    progress: Callable[[str], None] = lambda what: None,
    congestion: str = CONGESTION,
) -> list[LineCheck]:
    """Every transfer of `KINDS` over a shaped link and over a link as it is through TCP, for every profile of `network`.

    Medians, milliseconds; about 10 s for each `repeat` of a profile with 100 Mbit/s. `congestion`: of TCP, as the kernel
    calls it. Raises ConfigError where lines cannot be laid (it takes root on Linux), UsageError for a profile that cannot
    be carried as it says, NetworkError if an end fails.
    """
    found: list[LineCheck] = []
    for profile in dict.fromkeys((network.default, *network.pairs.values())):
        found += _check(profile, repeat, lambda what, name=profile.text: progress(f"{name}: {what}"), congestion)  # type: ignore[misc]
    return found


def _check(profile: Profile, repeat: int, progress: Callable[[str], None], congestion: str) -> list[LineCheck]:
    with KernelLines(Network(profile), (_NEAR, _FAR), congestion) as lines, lines.inside(_NEAR):
        there = ("ip", "netns", "exec", lines.namespaces[_FAR])
        with Near(lines.address[_NEAR], None, there) as near:
            kernel = measure(near, repeat, lambda what: progress(f"{lines.how}, {what}"))
        how = f"{lines.how}, {congestion}{_doubts(lines.counts())}"
    with Near(_LOOPBACK, profile) as near:
        shaped = measure(near, repeat, lambda what: progress(f"shaped links, {what}"))
    return [
        LineCheck(
            network=profile.text,
            what=name,
            bytes=kind.size,
            expected_ms=kind.expected_ms(profile),
            shaped_ms=statistics.median(shaped[name]),
            kernel_ms=statistics.median(kernel[name]),
            how=how,
        )
        for kind in KINDS
        for name in kind.names
    ]


def _doubts(counts: Sequence[Counts]) -> str:
    """What must be said of figures from a forwarder that could not keep up; nothing of others."""
    doubtful = [one for one in counts if not one.faithful]
    if not doubtful:
        return ""
    late = max(one.late / max(1, one.carried) for one in doubtful)
    return f" (not in time: {100 * late:.0f} % of the packets of a direction were late)"
