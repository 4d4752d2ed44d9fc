"""How large the numbers inside the model get: what a fixed-point protocol has to hold."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from .net import Llama


class Ranges:
    """Remembers extremes of what it observes: `max_abs` by quantity, and the mean squares that the norms see."""

    def __init__(self) -> None:
        self.max_abs: dict[str, float] = {}
        self.mean_square = (math.inf, 0.0)

    def __call__(self, quantity: str, x: Tensor) -> None:
        self.max_abs[quantity] = max(self.max_abs.get(quantity, 0.0), float(x.abs().max()))
        if quantity == "residual":
            squares = x.square().mean(-1)
            low, high = self.mean_square
            self.mean_square = (min(low, float(squares.min())), max(high, float(squares.max())))

    def summary(self) -> dict[str, object]:
        low, high = self.mean_square
        return {
            "max_abs": {name: round(value, 4) for name, value in self.max_abs.items()},
            "norm_input_mean_square": {"min": round(low, 6), "max": round(high, 6)},
        }


@torch.no_grad()
def measure(model: Llama, token_rows: Iterable[list[int]]) -> dict[str, object]:
    """Extremes over every token of `token_rows`, each read from its start."""
    ranges = Ranges()
    for row in token_rows:
        model(torch.tensor([row]), ranges)
    return ranges.summary()
