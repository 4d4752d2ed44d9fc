"""What a gate's kernels are called with, counted: `Amounts` by the name of a rate, and what a second of them holds.

A rate's name is `<where>.<what>`: `norm.element` is an element that passes through a norm at a compute peer. The seconds of a
piece of work are the sum of amounts times rates; both sides of that product are made in this package and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

Amounts: TypeAlias = Mapping[str, float]


def total(parts: Iterable[Amounts]) -> dict[str, float]:
    """All of them together."""
    out: dict[str, float] = {}
    for part in parts:
        for name, amount in part.items():
            out[name] = out.get(name, 0.0) + amount
    return out


def seconds(amounts: Amounts, rates: Mapping[str, float]) -> float:
    """How long it takes one thread. KeyError for a rate that nobody measured."""
    return sum(amount * rates[name] for name, amount in amounts.items())


def fit(measured: Sequence[tuple[Amounts, float]], known: Mapping[str, float]) -> dict[str, float]:
    """Rates, none negative, that come closest to the measured seconds in relative terms; `known` ones are kept.

    Least squares over relative errors; a rate that would come out negative is taken as zero and the rest fitted again, so a
    cost that the measurements cannot tell apart from the others is not made up.
    """
    names = sorted({name for amounts, _ in measured for name in amounts if name not in known})
    rows = np.array([[amounts.get(name, 0.0) / spent for name in names] for amounts, spent in measured])
    wanted = np.array(
        [
            1.0 - sum(amount * known[name] for name, amount in amounts.items() if name in known) / spent
            for amounts, spent in measured
        ]
    )
    scale = np.maximum(np.abs(rows).max(0), 1e-300)
    kept = list(range(len(names)))
    while kept:
        found = np.linalg.lstsq(rows[:, kept] / scale[kept], wanted, rcond=None)[0] / scale[kept]
        if found.min() >= 0:
            return dict.fromkeys(names, 0.0) | {names[i]: float(v) for i, v in zip(kept, found, strict=True)}
        kept.pop(int(np.argmin(found * scale[kept])))
    return dict.fromkeys(names, 0.0)


def misfit(measured: Sequence[tuple[Amounts, float]], rates: Mapping[str, float]) -> float:
    """The median relative error of rates on what they were fitted to."""
    return float(np.median([abs(seconds(amounts, rates) / spent - 1) for amounts, spent in measured]))
