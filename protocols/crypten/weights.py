"""The weights of `pair`, decoded, in CrypTen's fixed point: 16 fraction bits, cut off as its encoder does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ..base import Spec
from ..pair import weights as pair
from ..pair.scales import Ranges
from .plans import Plan, plans

FRAC = 16  # CrypTen's precision_bits


@dataclass(frozen=True, slots=True)
class Weights:
    """What a compute peer multiplies with. Encoded once, where CrypTen would do it at each product."""

    spec: Spec
    plans: Mapping[str, Plan]
    embed: pair.Matrix  # (V, C) at FRAC
    matrices: Mapping[str, torch.Tensor]  # int64 (K, N) at FRAC, by linear site
    biases: Mapping[str, torch.Tensor]  # float64
    positions: torch.Tensor | None  # float64 (context, C)


def encoded(weights: pair.Weights, ranges: Ranges) -> Weights:
    """The same weights for CrypTen. ModelError if its functions cannot take the model's ranges."""
    found = plans(weights.spec, ranges)
    scales = weights.scales
    matrices = {
        site: torch.from_numpy(np.trunc(np.ldexp(decoded(matrix, scales.weight), FRAC)).astype(np.int64))
        for site, matrix in weights.matrices.items()
        if site != "embed"
    }
    biases = {
        site: _real(bias, pair.input_scale(scales, site) + scales.weight) for site, bias in weights.biases.items()
    }
    positions = None if weights.positions is None else _real(weights.positions, scales.frac_x)
    embed = pair.quantise(decoded(weights.matrices["embed"], scales.frac_x), FRAC)
    return Weights(weights.spec, found, embed, matrices, biases, positions)


def decoded(matrix: pair.Matrix, scale: int) -> npt.NDArray[np.float64]:
    """The real numbers (K, N) that a quantised matrix stands for."""
    whole = np.concatenate([block.values() for block in matrix.blocks]).astype(np.float64)
    return np.ldexp(whole, matrix.shift.astype(np.int64) - scale)


def _real(x: npt.NDArray[np.uint64], frac: int) -> torch.Tensor:
    return torch.from_numpy(np.ldexp(x.view(np.int64).astype(np.float64), -frac))
