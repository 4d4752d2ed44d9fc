"""Where CrypTen's approximations hold, and the public constants that bring a model's calibrated ranges there.

CrypTen's functions are made for small numbers: exp(x) is (1 + x / n)^n and explodes below -2 n, the Newton steps of the inverse
square root converge from its first guess on a few powers of two only. Scaling by public constants and more iterations are
CrypTen's own settings; whatever they cannot bring into range is refused with the site's name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...errors import ModelError
from ..base import Spec
from ..pair.scales import Ranges

ROOM = 1.25  # a range may be exceeded by this factor
TOP = 160.0  # largest argument of CrypTen's inverse square root
ITERATIONS = range(3, 17)  # of the inverse square root
ROOT_ERROR = 2e-3  # relative, that its approximation may have
EXP_ITERATIONS = range(8, 12)  # n = 2^iterations; precision is lost with each
HIDDEN = 12.0  # nats below the row's maximum at which an exponential is 0 in CrypTen's 16 bits
NO_ENCODERS = "crypten is there to compare answers with: it runs no encoders"
STEEPEST = 18.0  # largest |x| for which tanh-GELU's exponential stays in range


@dataclass(frozen=True, slots=True)
class Norm:
    """x -> x / rms: x is scaled by 2^shift first, the inverse square root takes `iterations`."""

    shift: int
    iterations: int


@dataclass(frozen=True, slots=True)
class Attention:
    """`hide` is taken off the scores that a row must not see; exp takes `iterations`."""

    hide: float
    iterations: int


@dataclass(frozen=True, slots=True)
class Activation:
    """Whether the input is clamped before tanh."""

    clamped: bool


Plan = Norm | Attention | Activation


def plans(spec: Spec, ranges: Ranges) -> dict[str, Plan]:
    """The plan of each site. ModelError for a model whose ranges CrypTen's functions cannot take, and for an encoder."""
    if spec.encoder:
        raise ModelError(f"{NO_ENCODERS}; use pair")
    out: dict[str, Plan] = {}
    for i in range(spec.layers):
        for site in (f"layers.{i}.norm1", f"layers.{i}.norm2"):
            out[site] = _norm(site, ranges)
        out[f"layers.{i}.attention"] = _attention(f"layers.{i}.attention", ranges)
        out[f"layers.{i}.act"] = _activation(spec, f"layers.{i}.act", ranges)
    out["norm"] = _norm("norm", ranges)
    return out


def inverse_root(x: float, iterations: int) -> float:
    """CrypTen's approximation of 1 / sqrt(x), in the clear."""
    y = 2.2 * math.exp(-(x / 2 + 0.2)) + 0.2 - x / 1024
    for _ in range(iterations):
        y = y * (3 - x * y * y) / 2
    return y


def _norm(site: str, ranges: Ranges) -> Norm:
    low, high = ranges[site]["rms_low"] / ROOM, ranges[site]["rms_high"] * ROOM
    shift = math.floor(math.log2(math.sqrt(TOP) / high))
    steps = math.ceil(8 * math.log2(high / low)) + 1
    points = [((2.0**shift) * low * (high / low) ** (i / steps)) ** 2 for i in range(steps + 1)]
    for iterations in ITERATIONS:
        if all(abs(inverse_root(x, iterations) * math.sqrt(x) - 1) < ROOT_ERROR for x in points):
            return Norm(shift, iterations)
    raise ModelError(
        f"{site}: its rms spans {low:.3g} to {high:.3g}, more than CrypTen's inverse square root converges on"
    )


def _attention(site: str, ranges: Ranges) -> Attention:
    span = 2 * ROOM * ranges[site]["scores"]  # between two scores of a row, at most
    hide = span + HIDDEN  # hidden scores may be the largest
    for iterations in EXP_ITERATIONS:
        if span + hide <= 2 << iterations:
            return Attention(hide, iterations)
    raise ModelError(f"{site}: its scores differ by up to {span:.3g}, more than CrypTen's exponential takes")


def _activation(spec: Spec, site: str, ranges: Ranges) -> Activation:
    if spec.gated:
        largest = ROOM * ranges[site]["gate"]
        if largest > 2 << EXP_ITERATIONS[0]:
            raise ModelError(f"{site}: gates of up to {largest:.3g} are more than CrypTen's sigmoid takes")
        return Activation(False)
    return Activation(ROOM * ranges[site]["input"] > STEEPEST)
