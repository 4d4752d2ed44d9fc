"""Words of a few bits, packed without gaps: what goes on the wire when only the low `bits` of each share matter.

Format: value j occupies bits j * bits ... (j + 1) * bits - 1 of the stream, bit b of the stream is bit b % 8 of byte
b // 8, the last byte is filled up with zeros. For 8, 16, 32 and 64 bits that is the little-endian array itself.

This twin needs numpy alone (the client has nothing else); ``bits_numba`` gives the same bytes faster.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 64
Octets: TypeAlias = bytes | bytearray | memoryview | NDArray[np.uint8]
WHOLE: dict[int, np.dtype[np.unsignedinteger]] = {n: np.dtype(f"<u{n // 8}") for n in (8, 16, 32, 64)}


def packed_bytes(bits: int, count: int) -> int:
    """Bytes that `count` values of `bits` bits take. ValueError unless 1 <= bits <= 64 and count >= 0."""
    if not 1 <= bits <= WORD_BITS:
        raise ValueError(f"bits must be 1 to {WORD_BITS}, not {bits}")
    if count < 0:
        raise ValueError(f"count must not be negative, not {count}")
    return (count * bits + 7) // 8


def pack(x: NDArray[np.uint64], bits: int) -> NDArray[np.uint8]:
    """The low `bits` of each word of x (count,) -> (packed_bytes(bits, count),). Higher bits are ignored."""
    check_words(x)
    size = packed_bytes(bits, x.size)
    if bits in WHOLE:
        return x.astype(WHOLE[bits]).view(np.uint8)
    octets = np.ascontiguousarray(x, dtype="<u8").view(np.uint8).reshape(-1, 8)
    if bits % 8 == 0:
        return np.ascontiguousarray(octets[:, : bits // 8]).reshape(size)
    single = np.unpackbits(octets, axis=1, bitorder="little")[:, :bits]
    return np.packbits(single, axis=None, bitorder="little")


def unpack(buf: Octets, bits: int, count: int) -> NDArray[np.uint64]:
    """The inverse of `pack`: `count` words below 2^bits. ValueError unless buf has packed_bytes(bits, count)."""
    data = checked_buffer(buf, bits, count)
    if bits in WHOLE:
        return data.view(WHOLE[bits]).astype(np.uint64)
    octets = np.zeros((count, 8), np.uint8)
    if bits % 8 == 0:
        octets[:, : bits // 8] = data.reshape(count, bits // 8)
    elif count:
        width = (bits + 7) // 8
        single = np.unpackbits(data, count=count * bits, bitorder="little").reshape(count, bits)
        octets[:, :width] = np.packbits(single, axis=1, bitorder="little")
    return octets.view("<u8").reshape(count).astype(np.uint64, copy=False)


def check_words(x: NDArray[np.uint64]) -> None:
    """TypeError unless x is a flat uint64 array (a silent conversion could round a share)."""
    if x.dtype != np.uint64 or x.ndim != 1:
        raise TypeError(f"expected a flat uint64 array, got {x.dtype} of shape {x.shape}")


def checked_buffer(buf: Octets, bits: int, count: int) -> NDArray[np.uint8]:
    """buf as bytes without a copy, refused unless its size is exactly what `bits` and `count` call for."""
    data = np.frombuffer(buf, np.uint8)
    size = packed_bytes(bits, count)
    if data.size != size:
        raise ValueError(f"{count} values of {bits} bits take {size} bytes, not {data.size}")
    return data
