"""From a function and the error wanted to a `Cover`: every nonlinearity of `pair` is one table, made at load.

Levels are tried from coarse to fine. A window whose polynomial (degree terms - 1, least squares at Chebyshev nodes of the
double window, coefficients rounded to the output scale, the rounding's mean folded back into the constant) stays within the
tolerance becomes a piece; one where the function is 0 within the tolerance is dropped; any other is expanded; leaves are
always pieces, and the worst error seen is the table's declared error. So tails, geometric knots (rsqrt, reciprocal) and
plain splines are one construction (splines by windows: DESIGN 5.5; K. Storrier, A. Vadapalli, A. Lyons, R. Henry: Grotto,
CCS 2023, for piecewise polynomials on DPF trees).

The dealer and both peers build the same tables, to the last bit: the manifest's hash covers the parameters, and fits and
functions use only what IEEE 754 rounds correctly, in a fixed order (`functions`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from ...kernels.dpf.cover import EXPAND, ZERO, Cover
from .functions import F64, Function

DENSE = 1 << 14  # leaf windows listed in order, at most
NODES = np.rint(np.cos(np.pi * (np.arange(24) + 0.5) / 24) * 2.0**30) / 2.0**30  # rounded: the same on every machine


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A cover and its fixed-point scales: x at `frac_in` bits in, f(x) at `frac_out` bits out, in Z_2^64."""

    cover: Cover
    frac_in: int
    frac_out: int
    error: float  # largest |P - f|, in units of the tolerance function's reference (absolute unless relative=True)

    @property
    def digest(self) -> str:
        """SHA-256 over the table's content."""
        h = hashlib.sha256()
        c = self.cover
        h.update(repr((c.n, c.depth, self.frac_in, self.frac_out)).encode())
        for a in (c.classify, c.low, c.length, c.actions, c.terms, c.kept, c.coefficients):
            h.update(np.ascontiguousarray(a).tobytes())
        return h.hexdigest()


def build(
    f: Function,
    *,
    bits: int,
    depth: int,
    frac_in: int,
    frac_out: int,
    terms: Mapping[int, int],
    classify: tuple[int, ...],
    tolerance: float,
    relative: bool = False,
    keep: int = 64,
    domain: tuple[float, float] | None = None,
) -> Table:
    """The table of f on x in [-2^(bits-1), 2^(bits-1) - W), x at `frac_in` bits, W the leaf's window.

    terms: level -> degree + 1 of pieces there (1 to 3; the leaf level must be among them). classify: the other levels where
    nodes are dropped or kept one by one. tolerance: absolute, or relative to |f|. keep: bits of v used (rho is cut to them).
    domain: promise that x stays inside; windows outside cost nothing (f must still be finite one
    window beyond it), and where its end stays one coarse window below
    2^(bits-1) no node has to be expanded for the top window's alias.
    """
    limit = 2.0 ** (bits - 1 - frac_in)
    first, last = domain or (-limit, limit)
    levels = sorted(set(classify) | set(terms))
    classified = np.zeros(depth + 1, np.int64)
    low, offset, length = (np.zeros(depth + 1, np.int64) for _ in range(3))
    term_count, kept = np.zeros(depth + 1, np.int64), np.zeros(depth + 1, np.int64)
    actions: list[npt.NDArray[np.int64]] = []
    pieces: list[npt.NDArray[np.uint64]] = []
    count, worst, start, piece_count = 1, 0.0, 0, 0
    width = 2
    alive, previous = np.array([0], np.int64), 0
    for level in levels:
        gap = level - previous
        count <<= gap
        width = max(width, count)
        reach = (
            np.arange(-(1 << gap) + 1, 1 << gap)
            if level > levels[0]
            else np.arange(-(1 << (level - 1)), 1 << (level - 1))
        )
        half = 1 << (level - 1)
        window = 2.0 ** (bits - level - frac_in)
        u = ((alive[:, None] << gap) + reach if level > levels[0] else reach).reshape(-1)
        u = np.unique(((u + half) & (2 * half - 1)) - half)  # signed, `level` bits: windows wrap at the top
        alias = (u == -half) & (level < depth) & (last > (half - 1) * window)
        u = u[(((u + 1) * window > first) & ((u - 1) * window < last)) | alias]
        alias = (u == -half) & (level < depth) & (last > (half - 1) * window)
        action = np.full(len(u), EXPAND, np.int64)
        near, far = _extremes(f, u, window)
        zero = (np.maximum(np.abs(near), np.abs(far)) <= (0.0 if relative else tolerance / 4)) & ~alias
        action[zero] = ZERO
        classified[level] = 1
        if terms.get(level):
            term_count[level] = terms[level]
            kept[level] = min(bits - level, keep)
            todo = ~zero & ~alias if level < depth else ~zero
            c, err = _fit(f, u[todo], window, terms[level], int(kept[level]), frac_out, relative)
            good = (err <= tolerance) if level < depth else np.ones(len(err), bool)
            where = np.flatnonzero(todo)[good]
            action[where[::-1]] = piece_count + np.arange(len(where))  # neighbouring nodes have falling windows
            piece_count += len(where)
            pieces.append(c[good][::-1])
            worst = max(worst, float(err[good].max(initial=0.0)))
        low[level], offset[level], length[level] = (u[0] if len(u) else 0), start, len(u)
        if len(u) and int(u[-1] - u[0]) + 1 != len(u):  # fill holes so that a list is one stretch of windows
            full = np.full(int(u[-1] - u[0]) + 1, ZERO, np.int64)
            full[u - u[0]] = action
            action = full
            length[level] = len(full)
        if level == depth and gap > 1 and len(action) <= DENSE:
            # Dense leaves: every window has a row, in order (0 where the function is), so that the kernel need not look.
            # The list reaches from the lowest to the highest leaf of any expanded node, so that no row lies outside.
            reached = (alive[:, None] << gap) + np.array([-(1 << gap) + 1, (1 << gap) - 1])
            lowest, highest = (
                min(int(reached.min()), int(low[level])),
                max(int(reached.max()), int(low[level]) + len(action) - 1),
            )
            if lowest >= -half and highest < half:
                dense = np.zeros((highest - lowest + 1, 3), np.uint64)
                listed = np.flatnonzero(action >= 0)
                mine = action[listed] - (piece_count - len(pieces[-1]))
                dense[highest - (listed + int(low[level]))] = pieces[-1][mine]
                action = piece_count - len(pieces[-1]) + np.arange(len(dense))[::-1]
                piece_count += len(dense) - len(pieces[-1])
                pieces[-1] = dense
                classified[level], low[level], length[level] = 2, lowest, len(dense)
        actions.append(action)
        start += len(action)
        alive = u[action[u - low[level]] == EXPAND] if len(u) else u
        count = min(count, len(alive))
        previous = level
    coefficients = np.concatenate(pieces) if pieces else np.zeros((0, 3), np.uint64)
    cover = Cover(
        bits,
        depth,
        classified,
        low,
        offset,
        length,
        np.concatenate(actions),
        term_count,
        kept,
        coefficients,
        width,
    )
    return Table(cover, frac_in, frac_out, worst)


def _extremes(f: Function, u: npt.NDArray[np.int64], window: float) -> tuple[F64, F64]:
    """Smallest and largest f over each double window, on 17 points: decides what is 0."""
    t: F64 = np.linspace(-1, 1, 17)
    y = f((u[:, None] + t) * window)
    return y.min(1), y.max(1)


def _fit(
    f: Function, u: npt.NDArray[np.int64], window: float, terms: int, q: int, frac_out: int, relative: bool
) -> tuple[npt.NDArray[np.uint64], F64]:
    """Rounded coefficients in v (units of window 2^-q) of each double window, and the error reached: (U, 3), (U,)."""
    if len(u) == 0:
        return np.zeros((0, 3), np.uint64), np.zeros(0)
    if q == 0:  # windows of one integer: v is 0
        terms = 1
    nodes: F64 = NODES if q else np.zeros(1)
    real = _least_squares(nodes, f((u[:, None] + nodes) * window), terms)
    scale = np.ldexp(1.0, frac_out - q * np.arange(terms))
    c = np.rint(real * scale)
    check: F64 = np.linspace(-1, 1, 33) if q else nodes
    want = f((u[:, None] + check) * window)
    residual = _values(c / scale, check) - want
    c[:, 0] -= np.rint((residual.max(1) + residual.min(1)) / 2 * 2.0**frac_out)
    residual = _values(c / scale, check) - want
    error = np.abs(residual)
    error = (error / np.maximum(np.abs(want), 1e-300)).max(1) if relative else error.max(1)
    if np.abs(c).max() >= 2.0**63:
        raise ModelError(
            f"a table's coefficient needs more than 63 bits at {frac_out} fraction bits; lower the output scale"
        )
    out = np.zeros((len(u), 3), np.uint64)
    out[:, :terms] = c.astype(np.int64).view(np.uint64)
    return out, error


def _least_squares(t: F64, y: F64, terms: int) -> F64:
    """Coefficients of 1, t, t^2 that fit y (U, K) best at nodes t (K,) symmetric about 0, sums in order: (U, terms)."""
    s2, s4 = math.fsum(t * t), math.fsum(t * t * t * t)
    moments = [np.zeros(len(y)) for _ in range(3)]  # sums of y t^i
    for k, node in enumerate(t.tolist()):
        for i in range(terms):
            moments[i] = moments[i] + y[:, k] * (1.0, node, node * node)[i]
    m0, m1, m2 = moments
    if terms < 3:
        return np.stack([m0 / len(t), m1 / (s2 or 1.0)][:terms], 1)
    determinant = len(t) * s4 - s2 * s2
    return np.stack([(s4 * m0 - s2 * m2) / determinant, m1 / s2, (len(t) * m2 - s2 * m0) / determinant], 1)


def _values(c: F64, t: F64) -> F64:
    """The polynomials c (U, terms) at t (K,), by Horner's rule: (U, K)."""
    value = np.repeat(c[:, -1:], len(t), axis=1)
    for i in range(c.shape[1] - 2, -1, -1):
        value = value * t + c[:, i : i + 1]
    return value
