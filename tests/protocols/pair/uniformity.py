"""Tests of uniformity with thresholds fixed beforehand, in plain numpy.

Every test gives a p-value; a family of tests fails when its smallest p is below ALPHA / (number of tests), Bonferroni's
bound, so a family raises a false alarm with probability below ALPHA, whatever the tests' dependence.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
ALPHA = 1e-6
NIBBLE = 4  # bits looked at, at either end of a value
ENOUGH = 640  # values at least: 40 expected in each of 16 bins


def chi2_tail(x: float, dof: int) -> float:
    """P[chi-square with an odd number of degrees of freedom > x] (Abramowitz and Stegun 26.4.4)."""
    if dof % 2 == 0:
        raise ValueError("an even number of degrees of freedom has another formula")
    total = math.erfc(math.sqrt(x / 2))
    for i in range(1, (dof - 1) // 2 + 1):
        total += math.exp(-x / 2 + (i - 0.5) * math.log(x / 2) - math.lgamma(i + 0.5)) if x > 0 else 0.0
    return total


def flat_p(bins: NDArray[np.int64]) -> float:
    """Goodness of fit to equal bins."""
    expected = bins.sum() / len(bins)
    return chi2_tail(float(((bins - expected) ** 2).sum() / expected), len(bins) - 1)


def same_p(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Two histograms from one distribution (2 x k contingency)."""
    n, m = a.sum(), b.sum()
    both = a + b
    used = both > 0
    if used.sum() < 2:
        return 1.0
    ea, eb = both[used] * n / (n + m), both[used] * m / (n + m)
    x = float(((a[used] - ea) ** 2 / ea).sum() + ((b[used] - eb) ** 2 / eb).sum())
    dof = int(used.sum()) - 1
    return chi2_tail(x, dof | 1)  # an even dof rounded up: conservative


def ends(x: U64, bits: int) -> dict[str, NDArray[np.int64]]:
    """Histograms of the lowest and the highest NIBBLE bits of values in a ring of `bits`."""
    k = min(NIBBLE, bits)
    size = 1 << k
    lowest = np.bincount((x & np.uint64(size - 1)).astype(np.int64), minlength=size)
    highest = np.bincount(((x >> np.uint64(bits - k)) & np.uint64(size - 1)).astype(np.int64), minlength=size)
    return {"low": lowest, "high": highest}


def repeats_p(x: U64, bits: int) -> float:
    """Too many equal values: pairs are about Poisson with mean N (N - 1) / 2^(bits + 1). Chernoff's bound of the tail."""
    count = len(x)
    mean = count * (count - 1) / 2.0 ** (bits + 1)
    _, times = np.unique(x, return_counts=True)
    found = float((times * (times - 1) // 2).sum())
    if found <= mean:
        return 1.0
    return math.exp(found - mean - found * math.log(found / mean))


@dataclass
class Family:
    """Named p-values that are judged together."""

    p: dict[str, float] = field(default_factory=dict)

    def uniform(self, name: str, x: U64, bits: int) -> None:
        """x is uniform in Z_2^bits, at both ends."""
        if len(x) < ENOUGH:
            raise ValueError(f"{name}: {len(x)} values are too few for a test, {ENOUGH} are needed")
        for end, bins in ends(x, bits).items():
            self.p[f"{name} {end} bits"] = flat_p(bins)

    def alike(self, name: str, x: U64, y: U64, bits: int) -> None:
        """x and y have one distribution, at both ends."""
        for (end, a), b in zip(ends(x, bits).items(), ends(y, bits).values(), strict=True):
            self.p[f"{name} {end} bits, two inputs"] = same_p(a, b)

    def fresh(self, name: str, x: U64, bits: int) -> None:
        """No value comes back more often than chance allows (wide rings only: narrow ones repeat all the time)."""
        if bits >= 40:
            self.p[f"{name} repeats"] = repeats_p(x, bits)

    @property
    def threshold(self) -> float:
        """Bonferroni's."""
        return ALPHA / max(1, len(self.p))

    def failures(self) -> list[str]:
        """What is not uniform."""
        return [f"{name}: p = {p:.2g}" for name, p in self.p.items() if p < self.threshold]

    @property
    def smallest(self) -> float:
        return min(self.p.values())

    def merge(self, others: Iterable["Family"]) -> "Family":
        for other in others:
            self.p |= other.p
        return self
