"""Public weights in the form the ring wants: int16 with a power-of-two exponent for every output channel.

A channel o of a matrix keeps e_o = min(scale, as many bits as its largest weight leaves in int16) fraction bits; products are
shifted up to the common `scale` afterwards, which costs nothing and no accuracy elsewhere. The embedding is stored the same
way by column, at the residual stream's scale. Biases are added by party 0 at the product's full scale.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from ...kernels.ring import LARGEST_WEIGHT, PublicMatrix, matmul
from ..base import Spec
from .scales import ScalePlan, Scales
from .secret import U64, fixed
from .tables import Table

SPLIT = 1 << 15  # rows of a PublicMatrix at most: a larger vocabulary is multiplied in parts


@dataclass(frozen=True, slots=True)
class Matrix:
    """Quantised weights (K, N), in row blocks, and their channels' shifts."""

    blocks: tuple[PublicMatrix, ...]
    shift: U64  # (N,)
    digest: str  # SHA-256 of the integers

    def times(self, x: U64, bits: int = 64) -> U64:
        """x @ w at the common scale, mod 2^bits: (M, K) -> (M, N)."""
        y = matmul(x[:, :SPLIT], self.blocks[0], bits)
        for i, block in enumerate(self.blocks[1:], 1):
            y += matmul(x[:, i * SPLIT : (i + 1) * SPLIT], block, bits)
        return y << self.shift


def quantise(w: npt.NDArray[np.float64], scale: int) -> Matrix:
    """int16 weights with at most `scale` fraction bits a column: (K, N)."""
    largest = np.maximum(np.abs(w).max(0), 2.0**-40)
    exponent = np.minimum(np.floor(np.log2(LARGEST_WEIGHT / largest)), scale)
    if exponent.min() < scale - 40:
        raise ValueError(f"a weight of {largest.max():.3g} is out of range")
    q = np.rint(np.ldexp(w, exponent.astype(np.int64))).astype(np.int16)
    blocks = tuple(PublicMatrix(np.ascontiguousarray(q[i : i + SPLIT])) for i in range(0, len(q), SPLIT))
    shift = (scale - exponent).astype(np.uint64)
    return Matrix(blocks, shift, hashlib.sha256(shift.tobytes() + q.tobytes()).hexdigest())


@dataclass(frozen=True, slots=True)
class Vectors:
    """Public vectors of a `scale` site (C,): g and m at the plan's fraction bits, b at the product's."""

    scale: U64
    mean: U64 | None
    bias: U64

    @classmethod
    def of(cls, plan: ScalePlan, folded: Mapping[str, npt.NDArray[np.float64]], site: str) -> Vectors:
        """Rounded, from folded weights."""
        mean = folded.get(f"{site}.mean")
        return cls(
            fixed(folded[f"{site}.scale"], plan.frac),
            None if mean is None else fixed(mean, plan.frac),
            fixed(folded[f"{site}.bias"], plan.frac_in + plan.frac),
        )

    @property
    def digest(self) -> str:
        """SHA-256 of what shares are multiplied with."""
        return hashlib.sha256(self.scale.tobytes() + (b"" if self.mean is None else self.mean.tobytes())).hexdigest()


@dataclass(frozen=True, slots=True)
class Weights:
    """Everything public that a compute peer multiplies with, shared by its sessions."""

    spec: Spec
    scales: Scales
    matrices: Mapping[str, Matrix]  # by site, and "embed"
    biases: Mapping[str, U64]
    vectors: Mapping[str, Vectors]
    positions: U64 | None  # (context, C) at the residual scale
    digest: str  # SHA-256 over all that both peers multiply shares with: one unit of difference, and all is noise

    def planned(self, scales: Scales) -> Weights:
        """The same matrices under another plan of the same matrix scales."""
        if (scales.weight, scales.frac_x) != (self.scales.weight, self.scales.frac_x):
            raise ValueError("another plan's matrices have other scales")
        return replace(self, scales=scales, digest=_digest(self.matrices, self.vectors, scales))


def prepare(spec: Spec, scales: Scales, folded: Mapping[str, npt.NDArray[np.float64]]) -> Weights:
    """Quantise folded float64 weights (`tacit.models.fold`)."""
    matrices, biases, vectors = {}, {}, {}
    for name, w in folded.items():
        site, _, part = name.rpartition(".")
        if part == "scale":
            vectors[site] = Vectors.of(scales.scaling(site), folded, site)
        elif part == "weight":
            matrices[site] = quantise(w, scales.weight)
        elif part == "bias" and f"{site}.weight" in folded:
            biases[site] = fixed(w, input_scale(scales, site) + scales.weight)
    matrices["embed"] = quantise(folded["embed"], scales.frac_x)
    positions = folded.get("positions")
    return Weights(
        spec,
        scales,
        matrices,
        biases,
        vectors,
        None if positions is None else fixed(positions, scales.frac_x),
        _digest(matrices, vectors, scales),
    )


def _digest(matrices: Mapping[str, Matrix], vectors: Mapping[str, Vectors], scales: Scales) -> str:
    lines = [f"{site} {matrix.digest}" for site, matrix in sorted(matrices.items())]
    lines += [f"{site} {vector.digest}" for site, vector in sorted(vectors.items())]
    for site, plan in sorted(scales.sites.items()):
        values = [(f.name, getattr(plan, f.name)) for f in fields(plan)]
        lines.append(f"{site} {[(name, v.digest if isinstance(v, Table) else v) for name, v in values]}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def input_scale(scales: Scales, site: str) -> int:
    """Fraction bits of what enters a linear site."""
    layer, _, kind = site.rpartition(".")
    match kind:
        case "qkv":
            return scales.norm(f"{layer}.norm1").frac_out
        case "out":
            return scales.attention(f"{layer}.attention").frac_out
        case "up" | "gate_up":
            return scales.norm(f"{layer}.norm2").frac_out
        case "down":
            return scales.activation(f"{layer}.act").frac_out
        case "head":
            return scales.norm("norm").frac_out
        case _:
            raise ValueError(f"no linear site is called {site}")
