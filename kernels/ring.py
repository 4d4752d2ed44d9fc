"""Matrix products in the ring of integers mod 2^64 (or mod 2^bits), exact for every input.

`matmul` multiplies shares by a public matrix. The share is written in balanced base 256, x = sum_s X_s 256^s with
digits in -128 ... 127, the weight likewise, w = W_0 + 256 W_1. Digit s of the product (before carries) is

    P_s = X_s W_0 + X_{s-1} W_1 = [X_s | X_{s-1}] [W_0 ; W_1]

so one int8 x int8 -> int32 product of (digits * M, 2 K) by (2 K, N), for which CPUs have instructions (VNNI, AMX),
gives all digits at once, and x w = sum_s P_s 256^s mod 2^64: whatever lies above drops out by itself. Cost: 16 int8
multiplications per int16 weight, 8 per int8 weight, fewer for fewer bits.

The int8 product comes from oneDNN. On CPUs older than VNNI its sums saturate (pytorch issue 136746): it is tried once
on the values that would show that, and where it is not exact plain 64-bit loops take over, several times slower.

`bmm` and `bmm_nt` multiply two shared (or masked) operands, 64 by 64 bits.

All of it runs without the interpreter lock, and on the calling thread alone if torch was told so
(``torch.set_num_threads(1)``, the process's own choice).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from . import ring_numba as loops

LARGEST_WEIGHT = (
    127 * 256 + 127
)  # quantise to at most this; larger int16 weights are exact too, but corrected one by one
_LARGEST_K = 1 << 16  # digits' products stay inside int32: 2 K 2^14 < 2^31, at K = 2^16 - 1
_FEW_ROWS = 8  # below, the weights are the left operand: fewer passes over them
_ROWS = 64  # of x at a time, so that its digits stay in the second-level cache
_COLUMNS = 256  # of w at a time, so that the int32 products do
_COLUMNS_FEW = 1024


class PublicMatrix:
    """A public weight matrix (K, N) of int8 or int16 in the form that `matmul` wants: 1 or 2 bytes per weight."""

    def __init__(self, weight: NDArray[np.int8] | NDArray[np.int16]) -> None:
        """TypeError for another dtype, ValueError for a shape that is empty, not a matrix or too tall (K >= 65536)."""
        if weight.dtype not in (np.int8, np.int16):
            raise TypeError(f"public weights are int8 or int16, not {weight.dtype}")
        if weight.ndim != 2 or 0 in weight.shape or weight.shape[0] >= _LARGEST_K:
            raise ValueError(f"a public matrix has shape (1 to {_LARGEST_K - 1}, 1 or more), not {weight.shape}")
        self.rows, self.columns = weight.shape
        self.limbs = weight.dtype.itemsize
        self._plain = None if int8_is_exact() else np.ascontiguousarray(weight, np.int16)
        if self._plain is not None:
            return
        # Row n holds [W_0[:, n] | W_1[:, n]], and at least two entries (see loops.digits).
        digits = np.zeros((self.columns, max(2, self.limbs * self.rows)), np.int8)
        self._extremes = np.zeros((0, 2), np.int64)
        digits[:, : self.rows] = weight.T.astype(np.int8)  # the low byte, balanced
        if self.limbs == 2:
            high = (weight.astype(np.int32) - weight.astype(np.int8)) >> 8  # -128 ... 128, stored as -128 ... 127, -128
            digits[:, self.rows :] = high.T.astype(np.int8)
            self._extremes = np.ascontiguousarray(np.argwhere(high == 128), np.int64)
        whole = torch.from_numpy(digits)
        self._blocks = [whole[n : n + _COLUMNS] for n in range(0, self.columns, _COLUMNS)]
        self._blocks_few = [whole[n : n + _COLUMNS_FEW] for n in range(0, self.columns, _COLUMNS_FEW)]

    @property
    def shape(self) -> tuple[int, int]:
        """(K, N)."""
        return self.rows, self.columns

    def values(self) -> NDArray[np.int16]:
        """The weights themselves, (K, N)."""
        if self._plain is not None:
            return self._plain
        whole = torch.cat(self._blocks).numpy().T.astype(np.int16)
        if self.limbs == 1:
            return whole[: self.rows]
        return whole[: self.rows] + (whole[self.rows : 2 * self.rows] << np.int16(8))  # mod 2^16: 128 and -128 are one

    def __repr__(self) -> str:
        return f"PublicMatrix({self.rows} x {self.columns}, int{8 * self.limbs})"


def matmul(x: NDArray[np.uint64], w: PublicMatrix, bits: int = 64) -> NDArray[np.uint64]:
    """x @ w mod 2^bits: (M, K) x (K, N) -> (M, N). With fewer bits (rounded up to bytes) there is less to multiply.

    TypeError or ValueError for a wrong dtype, shape or number of bits.
    """
    if x.dtype != np.uint64 or x.ndim != 2 or x.shape[1] != w.rows:
        raise TypeError(f"expected uint64 of shape (M, {w.rows}), got {x.dtype} of shape {x.shape}")
    if not 1 <= bits <= 64:
        raise ValueError(f"bits must be 1 to 64, not {bits}")
    x = np.ascontiguousarray(x)
    count = (bits + 7) // 8
    y = np.empty((x.shape[0], w.columns), np.uint64)
    if w._plain is not None:
        loops.plain_product(x, w._plain, y)
    else:
        if x.shape[0] < _FEW_ROWS:
            _few_rows(x, w, count, y)
        else:
            for start in range(0, x.shape[0], _ROWS):
                _many_rows(x[start : start + _ROWS], w, count, y[start : start + _ROWS])
        if len(w._extremes):
            loops.add_extremes(x, w._extremes, y)
    if bits < 64:
        y &= np.uint64((1 << bits) - 1)
    return y


def _few_rows(x: NDArray[np.uint64], w: PublicMatrix, count: int, y: NDArray[np.uint64]) -> None:
    """Weights on the left: (N, J K) x (J K, count M) -> (N, count M)."""
    right = torch.from_numpy(loops.digits(x, count, w.limbs)).T
    start = 0
    for block in w._blocks_few:
        loops.join_columns(torch._int_mm(block, right).numpy(), count, start, y)
        start += _COLUMNS_FEW


def _many_rows(x: NDArray[np.uint64], w: PublicMatrix, count: int, y: NDArray[np.uint64]) -> None:
    """Weights on the right: (count M, J K) x (J K, N) -> (count M, N)."""
    left = torch.from_numpy(loops.digits(x, count, w.limbs))
    product = torch.empty((left.shape[0], min(_COLUMNS, w.columns)), dtype=torch.int32)
    start = 0
    for block in w._blocks:
        if block.shape[0] != product.shape[1]:
            product = torch.empty((left.shape[0], block.shape[0]), dtype=torch.int32)
        torch._int_mm(left, block.T, out=product)
        loops.join_rows(product.numpy(), count, start, y)
        start += _COLUMNS


@cache
def int8_is_exact() -> bool:
    """Whether this CPU's int8 product adds up without saturating, in both of the forms used here."""
    a = np.full((64, 256), -128, np.int8)
    b = np.full((64, 256), -128, np.int8)
    a[1::2], b[2::3], a[:, 5::7], b[:, 3::5] = 127, 127, 1, -1
    want = b.astype(np.int64) @ a.astype(np.int64).T
    left, right = torch.from_numpy(a), torch.from_numpy(b)
    few = torch._int_mm(right, left.T).numpy()
    many = torch._int_mm(left, right.T).numpy()
    return bool(np.array_equal(few, want) and np.array_equal(many, want.T))


def bmm(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """a @ b mod 2^64 for each of B: (B, M, K) x (B, K, N) -> (B, M, N). TypeError for other dtypes or shapes.

    b may be the first K rows of a longer buffer (buffer[:, :K]): it is read in place
    if the buffer owns its memory.
    """
    _check_pair(a, b, a.ndim == b.ndim == 3 and a.shape[0] == b.shape[0] and a.shape[2] == b.shape[1])
    out = np.empty((a.shape[0], a.shape[1], b.shape[2]), np.uint64)
    loops.bmm(np.ascontiguousarray(a), _whole_rows(b), out)
    return out


def bmm_nt(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """a @ b^T mod 2^64 for each of B: (B, M, K) x (B, N, K) -> (B, M, N). TypeError for other dtypes or shapes.

    b may be the first N rows of a longer buffer (buffer[:, :N]): it is read in place
    if the buffer owns its memory.
    """
    _check_pair(a, b, a.ndim == b.ndim == 3 and a.shape[0] == b.shape[0] and a.shape[2] == b.shape[2])
    out = np.empty((a.shape[0], a.shape[1], b.shape[1]), np.uint64)
    loops.bmm_nt(np.ascontiguousarray(a), _whole_rows(b), out)
    return out


def _whole_rows(b: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """b contiguous: itself, or the buffer whose first rows it is (a growing cache is not copied), or a copy."""
    base = b.base
    if (
        not b.flags.c_contiguous
        and isinstance(base, np.ndarray)
        and base.flags.c_contiguous
        and (base.ndim, base.dtype, base.strides) == (3, b.dtype, b.strides)
        and (base.shape[0], base.shape[2]) == (b.shape[0], b.shape[2])
        and base.__array_interface__["data"][0] == b.__array_interface__["data"][0]
    ):
        return base
    return np.ascontiguousarray(b)


def _check_pair(a: NDArray[np.uint64], b: NDArray[np.uint64], fits: bool) -> None:
    if a.dtype != np.uint64 or b.dtype != np.uint64 or not fits:
        raise TypeError(f"cannot multiply {a.dtype} of shape {a.shape} by {b.dtype} of shape {b.shape}")
