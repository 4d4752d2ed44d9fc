"""The fast twin of ``bits``: the same two functions, the same bytes, one pass over the words without unpacked bits."""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from .bits import WHOLE, WORD_BITS, Octets, check_words, checked_buffer, packed_bytes

__all__ = ["pack", "packed_bytes", "unpack"]


def pack(x: NDArray[np.uint64], bits: int) -> NDArray[np.uint8]:
    """The low `bits` of each word of x (count,) -> (packed_bytes(bits, count),). Higher bits are ignored."""
    check_words(x)
    size = packed_bytes(bits, x.size)
    if bits in WHOLE:
        return x.astype(WHOLE[bits]).view(np.uint8)
    words = np.empty((size + 7) // 8, np.uint64)
    _pack(np.ascontiguousarray(x), np.uint64(bits), words)
    return words.view(np.uint8)[:size]


def unpack(buf: Octets, bits: int, count: int) -> NDArray[np.uint64]:
    """The inverse of `pack`: `count` words below 2^bits. ValueError unless buf has packed_bytes(bits, count)."""
    data = checked_buffer(buf, bits, count)
    if bits in WHOLE:
        return data.view(WHOLE[bits]).astype(np.uint64)
    # One word more than needed, so that the kernel may always read the next word; the copy also aligns a wire buffer.
    words = np.zeros(data.size // 8 + 2, np.uint64)
    words.view(np.uint8)[: data.size] = data
    out = np.empty(count, np.uint64)
    _unpack(words, np.uint64(bits), out)
    return out


_LAST = np.uint64(WORD_BITS - 1)
_ONE = np.uint64(1)
_SIX = np.uint64(6)


@nb.njit("void(Array(uint64, 1, 'C', readonly=True), uint64, uint64[::1])", cache=True, nogil=True)
def _pack(x: NDArray[np.uint64], bits: np.uint64, words: NDArray[np.uint64]) -> None:
    mask = ~np.uint64(0) >> (_LAST + _ONE - bits)
    held, fill, at = np.uint64(0), np.uint64(0), 0  # `fill` bits wait in `held`
    for i in range(x.size):
        value = x[i] & mask
        held |= value << fill
        fill += bits
        if fill > _LAST:
            words[at] = held
            at += 1
            fill -= _LAST + _ONE
            held = (value >> _ONE) >> (bits - fill - _ONE)  # the `fill` high bits of value, also when there are none
    if fill > 0:
        words[at] = held


@nb.njit("void(uint64[::1], uint64, uint64[::1])", cache=True, nogil=True)
def _unpack(words: NDArray[np.uint64], bits: np.uint64, out: NDArray[np.uint64]) -> None:
    mask = ~np.uint64(0) >> (_LAST + _ONE - bits)
    for i in range(out.size):
        bit = np.uint64(i) * bits
        at, shift = bit >> _SIX, bit & _LAST
        # Two shifts, because a shift by 64 is undefined: for shift = 0 the next word must not contribute.
        out[i] = ((words[at] >> shift) | ((words[at + _ONE] << _ONE) << (_LAST - shift))) & mask
