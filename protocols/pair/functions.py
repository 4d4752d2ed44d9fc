"""The functions behind tables and rotations, with the same bits on every machine.

numpy's and the C library's exp, tanh, pow and erf differ in the last bit between kinds of CPU, and so do products by BLAS. One
unit in one coefficient is enough: a window's two shares are uniform and cancel only if both peers multiply them by the
same number. So everything here is made of operations that IEEE 754 rounds correctly (+, -, *, /, sqrt, rint, scaling by powers
of two), one numpy call each and in a fixed order. Errors: a few units of the last place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Function = Callable[[F64], F64]

_LN2_HIGH = float.fromhex("0x1.62e42feep-1")  # k times this is exact
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_HALF_PI = (float.fromhex("0x1.921fb544p+0"), float.fromhex("0x1.0b4611a6p-34"), float.fromhex("0x1.3198a2e037073p-69"))
_TAYLOR, _SERIES = 15, 200  # terms: remainders below 2^-53 for |r| < 0.35, and for erf on |z| <= 6


def exp(x: F64) -> F64:
    """e^x for |x| < 700: x = k ln 2 + r, and the Taylor series of r by Horner's rule."""
    k = np.rint(x * 1.4426950408889634)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    y: F64 = np.ones_like(r)
    for n in range(_TAYLOR, 0, -1):
        y = 1.0 + y * r / n
    return np.ldexp(y, k.astype(np.int64))


def log(x: float) -> float:
    """ln x for x > 0: x = m 2^e, ln m = 2 artanh((m - 1) / (m + 1))."""
    m, e = math.frexp(x)
    z = (m - 1.0) / (m + 1.0)
    total = 0.0
    for n in range(41, 0, -2):
        total = 1.0 / n + total * (z * z)
    return e * _LN2_HIGH + (e * _LN2_LOW + 2.0 * z * total)


def cos_sin(x: F64) -> tuple[F64, F64]:
    """cos x and sin x for |x| < 2^19: x = k pi / 2 + r, Taylor series of r, and a turn by k quarters. Errors below 1e-15."""
    k = np.rint(x * 0.6366197723675814)
    r = ((x - k * _HALF_PI[0]) - k * _HALF_PI[1]) - k * _HALF_PI[2]
    square = r * r
    cos: F64 = np.ones_like(r)
    sin: F64 = np.ones_like(r)
    for n in range(18, 0, -2):
        cos = 1.0 - cos * square / (n * (n - 1))
        sin = 1.0 - sin * square / (n * (n + 1))
    sin = sin * r
    quarter = k.astype(np.int64) & 3
    return np.choose(quarter, [cos, -sin, -cos, sin]), np.choose(quarter, [sin, cos, -sin, -cos])


def erf(z: F64) -> F64:
    """2 z / sqrt(pi) e^(-z^2) sum_n (2 z^2)^n / (2 n + 1)!!, a sum of positive terms."""
    z = np.clip(z, -6.0, 6.0)
    square = z * z
    total: F64 = np.ones_like(z)
    for n in range(_SERIES, 0, -1):
        total = 1.0 + total * (2.0 * square) / (2 * n + 1)
    return 2.0 / math.sqrt(math.pi) * z * exp(-square) * total


def silu(x: F64) -> F64:
    """x / (1 + e^-x)."""
    y: F64 = x / (1.0 + exp(-np.clip(x, -60.0, 60.0)))
    return y


def gelu_tanh(x: F64) -> F64:
    """Hendrycks and Gimpel 2016, tanh form: (1 + tanh z) / 2 = 1 / (1 + e^-2z)."""
    z = math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))
    y: F64 = x / (1.0 + exp(-np.clip(2.0 * z, -60.0, 60.0)))
    return y


def gelu(x: F64) -> F64:
    """x times the normal distribution function."""
    y: F64 = 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))
    return y


def relu(x: F64) -> F64:
    """max(x, 0)."""
    y: F64 = np.maximum(x, 0.0)
    return y


FUNCTIONS: Mapping[str, Function] = {"silu": silu, "gelu_tanh": gelu_tanh, "gelu": gelu, "relu": relu}
