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


def _mmo_intrinsic(words: int) -> Any:
    """The intrinsic mmo16(src, dst, round_keys) on raw addresses, over vectors of `words` 64-bit words."""
    vec = ir.VectorType(ir.IntType(64), words)
    suffix = ".512" if words == 8 else ""
    per_group = 4 if words == 8 else 8  # vectors in flight: enough to hide the latency of a round
    groups = 2 * BLOCKS // (words * per_group)

    @intrinsic
    def mmo16(typingctx: Any, src: Any, dst: Any, keys: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            p_src, p_dst = (builder.inttoptr(a, vec.as_pointer()) for a in args[:2])
            p_key = builder.inttoptr(args[2], ir.IntType(64).as_pointer())
            fn = ir.FunctionType(vec, [vec, vec])
            enc = cgutils.get_or_insert_function(builder.module, fn, "llvm.x86.aesni.aesenc" + suffix)  # type: ignore[no-untyped-call]
            last = cgutils.get_or_insert_function(builder.module, fn, "llvm.x86.aesni.aesenclast" + suffix)  # type: ignore[no-untyped-call]

            def at(pointer: Any, index: int) -> Any:
                return builder.gep(pointer, [ir.Constant(ir.IntType(64), index)])

            def load(pointer: Any, index: int) -> Any:
                value = builder.load(at(pointer, index))
                value.align = 8
                return value

            def key(r: int) -> Any:  # round keys are stored 8 words apart, whatever the vector's width
                value = builder.load(builder.bitcast(at(p_key, 8 * r), vec.as_pointer()))
                value.align = 8
                return value

            for g in range(groups):
                x = [load(p_src, g * per_group + i) for i in range(per_group)]
                s = [builder.xor(v, key(0)) for v in x]
                for r in range(1, 11):
                    k = key(r)
                    s = [builder.call(last if r == 10 else enc, [v, k]) for v in s]
                for i in range(per_group):
                    store = builder.store(builder.xor(s[i], x[i]), at(p_dst, g * per_group + i))
                    store.align = 8
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
