"""Two studies side by side: the same cases, how much the second differs, and whether that is more than chance.

The difference is of the means over answers, in percent of the first. Its interval comes from the bootstrap: answers of both
sides are drawn anew, with replacement, RESAMPLES times, and the interval holds the middle 95 % of the differences. Whole
answers are drawn because the tokens of one answer are not independent of each other. From few answers the interval comes out
too narrow, and from one there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import metrics
from .records import Answer, Case, Provenance, Results

METRICS = ("ttft", "tpot", "e2e")
RESAMPLES = 4000
FEW = 5
_SEED = 2026  # the same studies give the same intervals


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of one case; times in milliseconds, the rest in percent of the first."""

    case: Case
    metric: str
    first_ms: float
    second_ms: float
    first_n: int
    second_n: int
    percent: float
    low: float | None  # None: a side has one answer only
    high: float | None

    @property
    def clear(self) -> bool:
        """Whether chance alone would hardly do it: the interval leaves zero out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, slots=True)
class Comparison:
    differences: tuple[Difference, ...]
    only_first: tuple[Case, ...]
    only_second: tuple[Case, ...]
    warnings: tuple[str, ...]


def compare(first: Results, second: Results) -> Comparison:
    """What both measured, in the order of the first."""
    of_first, of_second = first.cases(), second.cases()
    generator = np.random.default_rng(_SEED)
    both = [case for case in of_first if case in set(of_second)]
    found = [
        difference
        for case in both
        for metric in METRICS
        if (difference := _difference(case, metric, list(first.of(case)), list(second.of(case)), generator))
    ]
    return Comparison(
        tuple(found),
        tuple(case for case in of_first if case not in set(both)),
        tuple(case for case in of_second if case not in set(both)),
        tuple(_warnings(first, second, found)),
    )


def _difference(
    case: Case, metric: str, one: list[Answer], other: list[Answer], generator: np.random.Generator
) -> Difference | None:
    a, b = (np.array(metrics.samples(answers, metric)) for answers in (one, other))
    if not len(a) or not len(b) or not a.mean():
        return None
    low, high = _interval(a, b, generator) if min(len(a), len(b)) > 1 else (None, None)
    first, second = float(a.mean()), float(b.mean())
    return Difference(case, metric, first, second, len(a), len(b), 100 * (second / first - 1), low, high)


def _interval(a: np.ndarray, b: np.ndarray, generator: np.random.Generator) -> tuple[float, float]:
    """The middle 95 % of the differences of means drawn anew, in percent."""
    means = [generator.choice(side, (RESAMPLES, len(side))).mean(axis=1) for side in (a, b)]
    low, high = np.percentile(100 * (means[1] / means[0] - 1), (2.5, 97.5))
    return float(low), float(high)


def _warnings(first: Results, second: Results, found: Sequence[Difference]) -> list[str]:
    words = [
        f"different {what}: {shown[0]} and {shown[1]}"
        for what, shown in _conditions(first.provenance, second.provenance)
        if shown[0] != shown[1]
    ]
    if "" in (first.provenance.commit, second.provenance.commit):
        words.append("the commit of a study is not known")
    if first.provenance.commit.endswith("+") or second.provenance.commit.endswith("+"):
        words.append("a study was made from a checkout with changes: its commit does not say all")
    if any(min(one.first_n, one.second_n) < FEW for one in found):
        words.append(f"some cases have fewer than {FEW} answers: their intervals are too narrow, or missing")
    return words


def _conditions(one: Provenance, other: Provenance) -> list[tuple[str, tuple[str, str]]]:
    names = ("processor", "cores", "memory_bytes", "system", "tacit", "commit", "python")
    packages = sorted(one.packages.keys() | other.packages.keys())
    return [
        *((name, (str(getattr(one, name)), str(getattr(other, name)))) for name in names),
        *((name, (one.packages.get(name, "none"), other.packages.get(name, "none"))) for name in packages),
    ]
