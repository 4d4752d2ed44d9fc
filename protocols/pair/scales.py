"""Fixed-point plan of a model: for each site, fraction bits, ring widths and tables, from its calibrated ranges.

All numbers derive from one place so that the dealer, both peers and the tracer agree. Notation: `frac_*` are fraction bits,
`bits_*` ring widths opened, magnitudes are powers of two with MARGIN bits of room above what calibration saw. Budgets, for
residual magnitude 2^m (the residual is opened in a ring where |x| < 2^(bits - 2)):

    attention: frac_o + frac_g + weight + m + 2 <= 64        (product, reciprocal, output matrix)
    MLP:       frac_act + weight + m + 2 <= 64                (activation's output scale, down matrix)
    encoder:   frac_norm + frac_scale + m + 2 <= 64           (normalised row, the weight that puts it back into the stream)

A model that does not fit is refused (ModelError) with the site and what is missing; nothing wraps silently.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, TypeVar

import numpy as np

from ...errors import ModelError
from ..base import Spec
from .functions import FUNCTIONS, exp, relu
from .tables import Table, build

MARGIN = 2  # bits of room above the calibrated magnitude, everywhere
FRAC_X = 30  # residual stream
FRAC_IN = 12  # inputs of activations, scores
FRAC_V = 13
FRAC_E = 20  # exponentials
WINDOW = 13  # log2 of the thermometer's window at FRAC_IN: 2 nats
FRAC_LOGITS, BITS_LOGITS = 16, 32
COARSE = 4.0  # width of the windows at which an activation's tails begin
REACH = 3  # rms may leave its calibrated range by 2^REACH on either side
COUNT = 16  # bits in which the thermometer counts a row's scores and names its windows
HIDING_BITS = 2  # by which the scores' ring is wider where tokens can be hidden
CALIBRATED = 96  # tokens of a calibration sequence
SCALE_MOST, SCALE_LEAST = 24, 12  # fraction bits of a norm's weight on its way back into the stream
REVEALED_LEAST = 8  # fraction bits of an embedding's sum

Ranges = Mapping[str, Mapping[str, float]]
_T = TypeVar("_T")


def magnitude(value: float) -> int:
    """Smallest m with value < 2^m, calibrated value plus MARGIN bits."""
    return math.ceil(math.log2(max(value, 2.0**-10)) + 1e-9) + MARGIN


@dataclass(frozen=True, slots=True)
class NormPlan:
    """x -> x / rms. frac_x, bits_x: x as opened; table: sum of squares -> 1/rms; frac_inv, bits_inv: 1/rms as opened."""

    width: int
    frac_x: int
    bits_x: int
    table: Table
    frac_inv: int
    bits_inv: int

    @property
    def frac_out(self) -> int:
        """Scale of the normalised row, in Z_2^64."""
        return self.frac_x + self.frac_inv


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """Scores, softmax and weighted sum of one layer."""

    heads: int
    kv_heads: int
    head_size: int
    rope: bool
    causal: bool
    frac_raw: int  # q, k before rotation (with RoPE)
    bits_raw: int
    frac_turn: int  # cosines and sines
    frac_q: int  # q, k as multiplied
    bits_q: int  # ring of q, k and of their products
    bits_v: int  # v as lifted
    bits_s: int  # scores as opened, at FRAC_IN
    lowest: int  # thermometer: row maxima below this window count as it
    top: int  # and there is none from this window on
    hiding: int  # what is taken from a score to hide its token, at FRAC_IN; 0 where bits_s has no room for that
    exp: Table
    bits_e: int  # ring of exponentials and of their products with v, at FRAC_E
    reciprocal: Table
    frac_o: int
    bits_o: int
    frac_g: int
    bits_g: int

    @property
    def bits_m(self) -> int:
        """Ring in which the row's reference window is opened."""
        return self.bits_s - WINDOW

    @property
    def tree_bits(self) -> int:
        """Domain of the thermometer's trees: the windows of a score."""
        return self.bits_m - 1

    @property
    def thresholds(self) -> int:
        """Windows above `lowest` that are tested."""
        return self.top - 1 - self.lowest

    @property
    def frac_out(self) -> int:
        """Scale of the weighted mean, in Z_2^64."""
        return self.frac_o + self.frac_g


@dataclass(frozen=True, slots=True)
class ActivationPlan:
    """f(x), or f(g) u when frac_up is not None; dropped to frac_out bits."""

    table: Table
    frac_up: int | None
    bits_up: int
    frac_out: int


@dataclass(frozen=True, slots=True)
class ScalePlan:
    """x -> x g - x m + b: fraction bits of what comes in (over Z_2^64) and of g and m; dropped to the stream's scale."""

    frac_in: int
    frac: int


Plan: TypeAlias = NormPlan | AttentionPlan | ActivationPlan | ScalePlan


@dataclass(frozen=True, slots=True)
class Scales:
    """The whole model's plan."""

    weight: int  # fraction bits of every public matrix (its channels may hold fewer)
    frac_x: int
    sites: Mapping[str, Plan]
    frac_revealed: int = FRAC_LOGITS  # of what the client gets, in BITS_LOGITS

    def norm(self, site: str) -> NormPlan:
        """The plan of a norm."""
        return _typed(self.sites[site], NormPlan)

    def attention(self, site: str) -> AttentionPlan:
        """The plan of an attention."""
        return _typed(self.sites[site], AttentionPlan)

    def activation(self, site: str) -> ActivationPlan:
        """The plan of an activation."""
        return _typed(self.sites[site], ActivationPlan)

    def scaling(self, site: str) -> ScalePlan:
        """The plan of a row's way back into the stream, or to the client."""
        return _typed(self.sites[site], ScalePlan)


def _typed(plan: object, kind: type[_T]) -> _T:
    if not isinstance(plan, kind):
        raise TypeError(f"a {kind.__name__} was asked for, the site has a {type(plan).__name__}")
    return plan


def make_scales(spec: Spec, ranges: Ranges, hiding: bool = False) -> Scales:
    """The plan of a model with the given calibrated ranges (`tacit.models.scales.calibrate`). ModelError if it does not fit.

    `hiding`: with room below the scores, so that tokens can be hidden by what the client adds (`attention.hide`).
    """
    residual = max(magnitude(r["input"]) for site, r in ranges.items() if "norm" in site)
    if spec.encoder:  # what a sum begins with may be larger than the sum
        residual = max([residual, *(magnitude(r["output"]) for site, r in ranges.items() if "skip" in site)])
    spare = 62 - residual - (14 + 16 + 18)  # bits left when weights have 14, o 16 and 1/sum 18
    if spare < -8:
        raise ModelError(
            f"the residual stream reaches 2^{residual - MARGIN}; with {MARGIN} bits of margin only 2^{22 - MARGIN} fits the ring"
        )
    weight = min(16, 14 + max(0, spare // 3)) if spare >= 0 else 14 + math.floor(spare / 3)
    frac_g = 18 + (min(2, (spare - (weight - 14)) // 2) if spare >= 0 else math.ceil(spare / 3))
    frac_o = min(62 - residual - weight - frac_g, 18)
    sites: dict[str, Plan] = {}
    ring = residual + 2 + FRAC_X  # what the budgets leave of the residual's ring, at FRAC_X
    norms = [f"layers.{i}.norm{j}" for i in range(spec.layers) for j in (1, 2)] + ["norm"]
    rows: dict[str, int] = {}  # fraction bits of normalised rows
    for site in norms:
        cap = 28 if site.endswith("norm1") and spec.rope_theta is None else 32
        sites[site] = norm = _norm(site, spec, ranges[site], cap, ring)
        rows[site] = norm.frac_out
    for i in range(spec.layers):
        frac_in = rows[f"layers.{i}.norm1"] + weight
        site = f"layers.{i}.attention"
        sites[site] = _attention(site, spec, ranges[site], frac_in, frac_o, frac_g, hiding)
        site = f"layers.{i}.act"
        frac_in = rows[f"layers.{i}.norm2"] + weight
        sites[site] = _activation(site, spec, ranges[site], frac_in, 62 - residual - weight)
    if spec.encoder:
        scaling, revealed = _encoder(spec, ranges, rows, residual)
        return Scales(weight, FRAC_X, sites | scaling, revealed)
    logits = ranges["head"]["output"]
    _fits("head", "logits", logits, FRAC_LOGITS + magnitude(logits) + 1, BITS_LOGITS)
    return Scales(weight, FRAC_X, sites)


def _encoder(spec: Spec, ranges: Ranges, rows: Mapping[str, int], residual: int) -> tuple[dict[str, ScalePlan], int]:
    """Plans of the places that only an encoder has; fraction bits of the sum that the client gets. `rows`: those of norms."""

    def plan(site: str, norm: str, frac: int) -> ScalePlan:
        frac_in = rows[norm]
        if frac - frac_in < SCALE_LEAST:
            raise ModelError(
                f"{site}: {frac - frac_in} fraction bits are left for the norm's weight, {SCALE_LEAST} are needed"
            )
        return ScalePlan(frac_in, min(frac - frac_in, SCALE_MOST))

    sites = {
        f"layers.{i}.skip{j}": plan(f"layers.{i}.skip{j}", f"layers.{i}.norm{j}", 62 - residual)
        for i in range(spec.layers)
        for j in (1, 2)
    }
    largest = magnitude(ranges["head"]["output"] * spec.context)  # of a sum over a sequence
    revealed = min(FRAC_LOGITS, BITS_LOGITS - 1 - largest)
    if revealed < REVEALED_LEAST:
        raise ModelError(
            f"head: a sum of {spec.context} rows up to {ranges['head']['output']:.3g} leaves {revealed} fraction bits, "
            f"{REVEALED_LEAST} are needed"
        )
    sites["head"] = plan("head", "norm", 64 - BITS_LOGITS + revealed)
    return sites, revealed


def _fits(site: str, what: str, value: float, need: int, left: int) -> None:
    """ModelError unless a value's ring, its margin included, is no wider than what is left of it there."""
    if need > left:
        raise ModelError(f"{site}: {what} up to {value:.3g} needs {need} bits with {MARGIN} of margin, {left} are left")


def _norm(site: str, spec: Spec, seen: Mapping[str, float], cap: int, ring: int) -> NormPlan:
    lo, hi = seen["rms_low"] / 2**REACH, seen["rms_high"] * 2**REACH
    lo = max(lo, math.sqrt(spec.eps))
    top = magnitude(seen["input"])
    frac_x = min(20, 14 - math.floor(math.log2(max(seen["rms_low"], math.sqrt(spec.eps)))))
    frac_inv = 14 + math.ceil(math.log2(seen["rms_high"]))
    over = frac_x + frac_inv - cap
    if over > 0:  # a wide range of rms: give up the same number of bits at both ends
        frac_x -= over // 2
        frac_inv -= over - over // 2
    frac_x = min(frac_x, FRAC_X)
    squares = spec.width * 4.0**frac_x
    bits = math.ceil(math.log2(squares * (hi * hi))) + 2
    if bits > 62:
        raise ModelError(f"{site}: the sum of squares needs {bits} bits of 62 (rms up to {seen['rms_high']:.3g})")
    low = squares * max(lo * lo - spec.eps, spec.eps / 16)
    bits_x = max(frac_x + top + 2, min(28, ring - (FRAC_X - frac_x)))
    # lifted x and 1/rms must have 64 bits together: the drop from the table's scale takes at most bits_x
    frac_table = min(38 + math.ceil(math.log2(hi)), 58 + math.floor(math.log2(lo)), frac_inv + bits_x)
    table = _rsqrt(bits, max(0, math.floor(math.log2(low)) - 4), squares, spec.eps, frac_table, low)
    bits_inv = 64 - (frac_table - frac_inv)
    return NormPlan(spec.width, frac_x, bits_x, table, frac_inv, bits_inv)


def _attention(
    site: str, spec: Spec, seen: Mapping[str, float], frac_in: int, frac_o: int, frac_g: int, hiding: bool
) -> AttentionPlan:
    rope = spec.rope_theta is not None
    reach = 2.0 ** max(4, magnitude(seen["scores"]))  # |score| < reach
    bits_s = FRAC_IN + int(math.log2(reach)) + 2 + HIDING_BITS * hiding
    frac_raw, frac_turn = 16, 14
    frac_q = 14 if rope else min(14, 64 + FRAC_IN - frac_in - bits_s)
    if frac_q < 10:
        raise ModelError(
            f"{site}: scores up to {seen['scores']:.3g} leave {frac_q} fraction bits for q and k, 10 are needed"
        )
    bits_q = 2 * frac_q + bits_s - FRAC_IN
    bits_raw, bits_v = (f + magnitude(seen[name]) + 2 for f, name in ((frac_raw, "raw"), (FRAC_V, "v")))
    bits_o = 64 - (36 - FRAC_E) - (FRAC_E + FRAC_V - frac_o)
    if spec.context >> COUNT:
        raise ModelError(
            f"{site}: a row of {spec.context} scores is longer than {(1 << COUNT) - 1}, the most it can count"
        )
    _fits(site, "scores", seen["scores"], bits_s, COUNT + WINDOW)
    if rope:
        _fits(site, "q and k", seen["raw"], bits_raw, 64 - (frac_in - frac_raw))
    _fits(site, "v", seen["v"], bits_v, 64 - (frac_in - FRAC_V))
    _fits(site, "the sum of exp times v", seen["weighted"], frac_o + magnitude(seen["weighted"]) + 2, bits_o)
    weighted = seen["weighted"] * max(1.0, spec.context / CALIBRATED)  # it grows with the row; no margin on top of that
    if weighted >= 2.0 ** (bits_o - 2 - frac_o):
        raise ModelError(
            f"{site}: the sum of exp times v, {seen['weighted']:.3g} over {CALIBRATED} tokens, may exceed "
            f"2^{bits_o - 2 - frac_o} over {spec.context}"
        )
    half = int(reach) << FRAC_IN >> WINDOW
    lowest = max(-half, math.floor((seen["row_max_low"] - 8) * 2.0 ** (FRAC_IN - WINDOW)))
    longest = spec.context
    bits_r = FRAC_E + math.ceil(math.log2(longest)) + 3
    low = 2.0**-8
    frac_r = 46 - max(0, 31 - frac_o - frac_g)  # o and g lifted must have 64 bits together
    return AttentionPlan(
        heads=spec.heads,
        kv_heads=spec.kv_heads,
        head_size=spec.head_size,
        rope=rope,
        causal=spec.causal,
        frac_raw=frac_raw,
        bits_raw=bits_raw,
        frac_turn=frac_turn,
        frac_q=frac_q,
        bits_q=bits_q,
        bits_v=bits_v,
        bits_s=bits_s,
        lowest=lowest,
        top=half,
        # Hidden scores end up below -2 reach + 4, all others are above -reach, and none is below -4 reach + 4.
        hiding=(3 * int(reach) - 4) << FRAC_IN if hiding else 0,
        exp=_exp(bits_s),
        bits_e=64 - (36 - FRAC_E),
        reciprocal=_reciprocal(bits_r, low, frac_r),
        frac_o=frac_o,
        bits_o=bits_o,
        frac_g=frac_g,
        bits_g=64 - (frac_r - frac_g),
    )


def _activation(site: str, spec: Spec, seen: Mapping[str, float], frac_in: int, room: int) -> ActivationPlan:
    """`frac_in`: fraction bits of what comes in, over Z_2^64; `room`: fraction bits the output may have at most."""
    name = "gate" if spec.gated else "input"
    bits = FRAC_IN + max(magnitude(seen[name]), 4) + 1
    if (
        2.0 ** (bits - 1 - FRAC_IN) - COARSE < seen[name] * 2**MARGIN
    ):  # tables end one coarse window before the ring does
        bits += 1
    _fits(site, f"the {name}", seen[name], bits, 64 - (frac_in - FRAC_IN))
    if spec.gated:
        frac_table = min(22, room - FRAC_IN)
        frac_up = min(room - frac_table, 14)
        if frac_table < 18:
            raise ModelError(f"{site}: {room} fraction bits are left for silu(g) u, 30 are needed")
        bits_up = frac_up + magnitude(seen["up"]) + 2
        _fits(site, "up", seen["up"], bits_up, 64 - (frac_in - frac_up))
        return ActivationPlan(_gated(spec.activation, bits, frac_table), frac_up, bits_up, frac_table + frac_up)
    frac_table = min(32, room)
    if frac_table < 28:
        raise ModelError(f"{site}: {room} fraction bits are left for the activation, 28 are needed")
    table = _pointwise(spec.activation, bits, frac_table)
    return ActivationPlan(table, None, 0, min(18, table.frac_out))


@lru_cache(maxsize=64)
def _pointwise(name: str, bits: int, frac_out: int) -> Table:
    """An activation whose output leaves room for later drops: degree 2 on windows of 1/4, two levels for the tails."""
    if name == "relu":  # exact, at the scale the others are dropped to
        return relu_table(bits, FRAC_IN, min(18, frac_out))
    depth = bits - 10
    coarse = max(2, depth - 4)  # windows of 4
    edge = 2.0 ** (bits - 1 - FRAC_IN) - 2.0 ** (bits - coarse - FRAC_IN)
    return build(
        FUNCTIONS[name],
        bits=bits,
        depth=depth,
        frac_in=FRAC_IN,
        frac_out=frac_out,
        terms={depth: 3, coarse: 2} | ({depth - 6: 2} if depth >= 10 else {}),  # tails at windows of 4 and 16
        classify=(),
        tolerance=2e-4,
        domain=(-edge, edge),
    )


def _end(bits: int, frac: int) -> float:
    """Where tables with pieces from level 4 down end: one window of that level below 2^(bits-1).

    Up to the very end the top window's alias would be expanded at every level, and the windows listed would reach from one
    end of the ring to the other: 2^depth of them.
    """
    return 0.875 * 2.0 ** (bits - 1 - frac)


def relu_table(bits: int, frac: int, frac_out: int) -> Table:
    """Exact ReLU for integers in [-2^(bits-1), 7/8 2^(bits-1)), frac_out >= frac: knot at 0, leaves of one integer."""
    return build(
        relu, bits=bits, depth=bits, frac_in=frac, frac_out=frac_out, terms=dict.fromkeys(range(4, bits + 1), 2), classify=(),
        tolerance=0.0, domain=(-(2.0 ** (bits - 1 - frac)), _end(bits, frac)),
    )  # fmt: skip


def sign_table(bits: int) -> Table:
    """Exact comparison [x >= 0] of an integer in [-2^(bits-1), 7/8 2^(bits-1))."""
    return build(
        lambda x: (x >= 0).astype(np.float64), bits=bits, depth=bits, frac_in=0, frac_out=0,
        terms=dict.fromkeys(range(4, bits + 1), 1), classify=(), tolerance=0.0, domain=(-(2.0 ** (bits - 1)), _end(bits, 0)),
    )  # fmt: skip


@lru_cache(maxsize=64)
def _gated(name: str, bits: int, frac_out: int) -> Table:
    """An activation to be multiplied in the same round: degree 1, so that its output scale stays small."""
    depth = bits - 7
    coarse = max(2, depth - 7)  # windows of 4
    edge = 2.0 ** (bits - 1 - FRAC_IN) - 2.0 ** (bits - coarse - FRAC_IN)
    return build(
        FUNCTIONS[name],
        bits=bits,
        depth=depth,
        frac_in=FRAC_IN,
        frac_out=frac_out,
        # A level costs 48 bytes of payload to each peer: few levels, and the coarse ones in wide rings only.
        terms={depth: 2, depth - 2: 2}
        | {level: 2 for level, least in ((depth - 7, 4), (depth - 9, 5)) if level >= least},
        classify=(),
        tolerance=1.6e-4,
        domain=(-edge, edge),
    )


@lru_cache(maxsize=64)
def _exp(bits: int) -> Table:
    """e^z for z < 0, degree 2 on windows of 1/8; 0 below -14."""
    depth = bits - 9
    edge = 2.0 ** (bits - 1 - FRAC_IN)
    return build(
        lambda z: exp(np.clip(z, -80, 2)),
        bits=bits,
        depth=depth,
        frac_in=FRAC_IN,
        frac_out=36,
        terms={depth: 3},
        classify=tuple(range(depth % 2 + 4, depth - 2, 2)),  # the last growth, 4 levels, in order
        tolerance=4e-6,
        domain=(-edge, 0.0),
    )


@lru_cache(maxsize=64)
def _reciprocal(bits: int, low: float, frac_out: int) -> Table:
    """1/S for S at FRAC_E bits, S >= low."""
    depth = bits - max(0, FRAC_E + math.floor(math.log2(low)) - 4)
    return build(
        lambda s: 1 / np.maximum(s, low / 2),
        bits=bits,
        depth=depth,
        frac_in=FRAC_E,
        frac_out=frac_out,
        terms=dict.fromkeys(range(4, depth + 1), 3),
        classify=(),
        tolerance=1.5e-4,
        relative=True,
        keep=11,
        domain=(0.0, _end(bits, FRAC_E)),  # below `low` held, not dropped
    )


@lru_cache(maxsize=256)
def _rsqrt(bits: int, leaf: int, squares: float, eps: float, frac_out: int, low: float) -> Table:
    """1 / sqrt(ss / squares + eps) for an integer sum of squares ss >= low; leaf windows of 2^leaf."""
    depth = bits - leaf
    return build(
        lambda ss: 1 / np.sqrt(np.maximum(ss, low / 2) / squares + eps),
        bits=bits,
        depth=depth,
        frac_in=0,
        frac_out=frac_out,
        terms=dict.fromkeys(range(4, depth + 1), 3),
        classify=(),
        tolerance=1e-4,
        relative=True,
        keep=11,
        domain=(0.0, _end(bits, 0)),  # below `low` held, not dropped
    )
