"""AES-128 in the form the trees need, inlined into numba kernels: 16 blocks at a time, dst = AES_K(src) xor src.

The rounds are LLVM intrinsics: VAES on 512-bit vectors (4 blocks each) where the CPU has it, AES-NI otherwise. A CPU without
either runs the OpenSSL form (`reference`), bit for bit the same. Key expansion follows FIPS 197, section 5.2.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .hashing import U64

I64 = ir.IntType(64)
I32 = ir.IntType(32)
BLOCKS = 16  # blocks a call of mmo16 transforms; buffers are padded to a multiple of it


@cache
def vector_words() -> int:
    """64-bit words in the widest AES vector of this CPU: 8 (VAES-512), 2 (AES-NI) or 0 (none: use `reference`)."""
    features = llvm.get_host_cpu_features()
    if features.get("vaes") and features.get("avx512f"):
        return 8
    return 2 if features.get("aes") else 0


def round_keys(key: bytes) -> U64:
    """The 11 round keys, each repeated to fill a 512-bit vector: (11, 8)."""
    sbox = _sbox()
    w = [list(key[4 * i : 4 * i + 4]) for i in range(4)]
    rcon = 1
    for i in range(4, 44):
        t = list(w[-1])
        if i % 4 == 0:
            t = [sbox[a] for a in t[1:] + t[:1]]
            t[0] ^= rcon
            rcon = (rcon << 1) ^ (0x11B if rcon & 0x80 else 0)
        w.append([a ^ b for a, b in zip(w[i - 4], t, strict=True)])
    rk = np.array(w, np.uint8).reshape(11, 16)
    return np.ascontiguousarray(np.tile(rk, (1, 4))).view(np.uint64)


@cache
def _sbox() -> tuple[int, ...]:
    """The S-box: inverse in GF(2^8), walked by the generator 3 and its inverse, then the affine map."""
    table, p, q = [0x63] * 256, 1, 1
    while True:
        p ^= ((p << 1) & 0xFF) ^ (0x1B if p & 0x80 else 0)
        for shift in (1, 2, 4):
            q ^= (q << shift) & 0xFF
        q ^= 0x09 if q & 0x80 else 0
        table[p] = q ^ 0x63
        for shift in (1, 2, 3, 4):
            table[p] ^= ((q << shift) | (q >> (8 - shift))) & 0xFF
        if p == 1:
            return tuple(table)


class Emitter:
    """Emits vector code over `words` 64-bit lanes; seeds are pairs of lanes (a, b)."""

    def __init__(self, builder: Any, words: int) -> None:
        self.b = builder
        self.words = words
        self.vec = ir.VectorType(I64, words)
        suffix = ".512" if words == 8 else ""
        fn = ir.FunctionType(self.vec, [self.vec, self.vec])
        insert: Any = cgutils.get_or_insert_function
        self._enc = insert(builder.module, fn, "llvm.x86.aesni.aesenc" + suffix)
        self._last = insert(builder.module, fn, "llvm.x86.aesni.aesenclast" + suffix)

    def pointer(self, address: Any, words: int = 0) -> Any:
        """A vector pointer `words` 64-bit words behind a raw address."""
        moved = self.b.add(address, ir.Constant(I64, 8 * words))
        return self.b.inttoptr(moved, self.vec.as_pointer())

    def load(self, address: Any, words: int = 0) -> Any:
        value = self.b.load(self.pointer(address, words))
        value.align = 8
        return value

    def store(self, value: Any, address: Any, words: int = 0) -> None:
        self.b.store(value, self.pointer(address, words)).align = 8

    def constant(self, pair: tuple[int, int]) -> Any:
        return ir.Constant(self.vec, [ir.Constant(I64, v) for _ in range(self.words // 2) for v in pair])

    def shuffle(self, x: Any, y: Any, order: list[int]) -> Any:
        return self.b.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(order)), order))

    def pairs(self, x: Any, order: tuple[int, int]) -> Any:
        """Reorder inside each seed."""
        return self.shuffle(x, x, [2 * s + o for s in range(self.words // 2) for o in order])

    def sigma(self, v: Any) -> Any:
        """(a, b) -> (a xor b, a)."""
        swapped = self.pairs(v, (1, 0))
        return self.b.xor(swapped, self.b.and_(v, self.constant((-1, 0))))

    def control(self, v: Any) -> Any:
        """All ones where the seed's control bit is 1: both lanes."""
        bit = self.b.and_(self.pairs(v, (0, 0)), self.constant((1, 1)))
        return self.b.sub(self.constant((0, 0)), bit)

    def mmo(self, inputs: list[Any], keys: Any) -> list[Any]:
        """AES(x) xor x for several vectors side by side."""
        s = [self.b.xor(x, self.load(keys)) for x in inputs]
        for r in range(1, 11):
            k = self.load(keys, 8 * r)
            s = [self.b.call(self._last if r == 10 else self._enc, [v, k]) for v in s]
        return [self.b.xor(v, x) for v, x in zip(s, inputs, strict=True)]


def _mmo_intrinsic(words: int) -> Any:
    """The intrinsic mmo16(src, dst, round_keys) on raw addresses, over vectors of `words` 64-bit words."""
    flight = 4 if words == 8 else 8  # vectors side by side: enough to hide the latency of a round

    @intrinsic
    def mmo16(typingctx: Any, src: Any, dst: Any, keys: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            e = Emitter(builder, words)
            src, dst, keys = args
            for start in range(0, 2 * BLOCKS, flight * words):
                at = range(start, start + flight * words, words)
                for w, y in zip(at, e.mmo([e.load(src, w) for w in at], keys), strict=True):
                    e.store(y, dst, w)
            return context.get_dummy_value()

        return types.void(types.uint64, types.uint64, types.uint64), codegen

    return mmo16


mmo16 = _mmo_intrinsic(vector_words() or 2)


@njit(nogil=True, cache=True)
def mmo(src: U64, dst: U64, n: int, keys: U64) -> None:
    """The first n blocks of dst = AES(src) xor src, for contiguous (m, 2) arrays with m >= n rounded up to 16."""
    a, d, k = np.uint64(src.ctypes.data), np.uint64(dst.ctypes.data), np.uint64(keys.ctypes.data)
    for i in range((n + 15) // 16):
        mmo16(a + np.uint64(256 * i), d + np.uint64(256 * i), k)
