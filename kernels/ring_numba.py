"""The loops of ``ring``: digits of shares, sums of digit products, batched products; shapes are checked there."""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

_BALANCE = np.uint64(0x8080808080808080)
_EIGHT = np.uint64(8)
_MATRIX = "Array(uint64, 2, 'C', readonly=True)"
_BATCH = "Array(uint64, 3, 'C', readonly=True)"


@nb.njit(f"int8[:, ::1]({_MATRIX}, int64, int64)", cache=True, nogil=True)
def digits(x: NDArray[np.uint64], count: int, limbs: int) -> NDArray[np.int8]:
    """Row s M + m is [X_s[m] | X_{s-1}[m] | ...], `limbs` parts: (M, K) -> (count M, limbs K).

    Adding 0x80 to every byte, with carries, and taking 0x80 from every byte, without, turns bytes into balanced digits.
    A single column gets another beside it, to meet zero weights: torch's int8 product reads its leading dimension from
    the strides, which are ambiguous when there is one column, and then writes no output (pytorch issue 195066).
    """
    rows, width = x.shape
    out = np.empty((count * rows, max(2, limbs * width)), np.int8)
    for m in range(rows):
        for s in range(count):
            line = out[s * rows + m]
            shift = np.uint64(s) * _EIGHT
            for k in range(width):
                line[k] = np.int8(((x[m, k] + _BALANCE) ^ _BALANCE) >> shift)
            for j in range(1, limbs):
                part = line[j * width : (j + 1) * width]
                if s >= j:
                    part[:] = out[(s - j) * rows + m, :width]
                else:
                    part[:] = 0
    return out


@nb.njit("void(int32[:, ::1], int64, int64, uint64[:, ::1])", cache=True, nogil=True)
def join_rows(product: NDArray[np.int32], count: int, start: int, y: NDArray[np.uint64]) -> None:
    """y[m, start + n] = sum_s product[s M + m, n] 256^s."""
    rows, width = y.shape[0], product.shape[1]
    for m in range(rows):
        line = y[m, start : start + width]
        first = product[m]
        for n in range(width):
            line[n] = np.uint64(np.int64(first[n]))
        for s in range(1, count):
            digit = product[s * rows + m]
            shift = np.uint64(s) * _EIGHT
            for n in range(width):
                line[n] += np.uint64(np.int64(digit[n])) << shift


@nb.njit("void(int32[:, ::1], int64, int64, uint64[:, ::1])", cache=True, nogil=True)
def join_columns(product: NDArray[np.int32], count: int, start: int, y: NDArray[np.uint64]) -> None:
    """y[m, start + n] = sum_s product[n, s M + m] 256^s."""
    rows = y.shape[0]
    for n in range(product.shape[0]):
        line = product[n]
        for m in range(rows):
            total = np.uint64(0)
            for s in range(count):
                total += np.uint64(np.int64(line[s * rows + m])) << (np.uint64(s) * _EIGHT)
            y[m, start + n] = total


@nb.njit(f"void({_MATRIX}, int64[:, ::1], uint64[:, ::1])", cache=True, nogil=True)
def add_extremes(x: NDArray[np.uint64], places: NDArray[np.int64], y: NDArray[np.uint64]) -> None:
    """Weights stored 2^16 too small at places (k, n): put it back."""
    for m in range(x.shape[0]):
        for i in range(places.shape[0]):
            y[m, places[i, 1]] += x[m, places[i, 0]] << np.uint64(16)


@nb.njit(f"void({_MATRIX}, Array(int16, 2, 'C', readonly=True), uint64[:, ::1])", cache=True, nogil=True)
def plain_product(x: NDArray[np.uint64], w: NDArray[np.int16], y: NDArray[np.uint64]) -> None:
    """y = x @ w in 64-bit words, for CPUs whose int8 product saturates."""
    for m in range(x.shape[0]):
        line = y[m]
        line[:] = 0
        for k in range(x.shape[1]):
            value, row = x[m, k], w[k]
            for n in range(row.size):
                line[n] += value * np.uint64(np.int64(row[n]))


@nb.njit(f"void({_MATRIX}, {_MATRIX}, uint64[:, ::1])", cache=True, nogil=True)
def _product(a: NDArray[np.uint64], b: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """out = a @ b, four rows of b at a time: each pass over a row of out does four multiplications per element."""
    rows, width = a.shape
    columns = b.shape[1]
    whole = width - width % 4
    for m in range(rows):
        line = out[m]
        line[:] = 0
        for k in range(0, whole, 4):
            a0, a1, a2, a3 = a[m, k], a[m, k + 1], a[m, k + 2], a[m, k + 3]
            b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
            for n in range(columns):
                line[n] += a0 * b0[n] + a1 * b1[n] + a2 * b2[n] + a3 * b3[n]
        for k in range(whole, width):
            a0, b0 = a[m, k], b[k]
            for n in range(columns):
                line[n] += a0 * b0[n]


@nb.njit(f"void({_BATCH}, {_BATCH}, uint64[:, :, ::1])", cache=True, nogil=True)
def bmm(a: NDArray[np.uint64], b: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """out = a @ b: (B, M, K) x (B, K, N); rows of b past K are not read."""
    for i in range(a.shape[0]):
        _product(a[i], b[i], out[i])


@nb.njit(f"void({_BATCH}, {_BATCH}, uint64[:, :, ::1])", cache=True, nogil=True)
def bmm_nt(a: NDArray[np.uint64], b: NDArray[np.uint64], out: NDArray[np.uint64]) -> None:
    """out = a @ b^T: (B, M, K) x (B, N, K); rows of b past N are not read.

    Few rows: dot products; many: worth turning b first.
    """
    batch, rows, width = a.shape
    columns = out.shape[2]
    if rows < 4:
        for i in range(batch):
            for m in range(rows):
                for n in range(columns):
                    total = np.uint64(0)
                    for k in range(width):
                        total += a[i, m, k] * b[i, n, k]
                    out[i, m, n] = total
        return
    turned = np.empty((width, columns), np.uint64)
    for i in range(batch):
        for n in range(columns):
            for k in range(width):
                turned[k, n] = b[i, n, k]
        _product(a[i], turned, out[i])
