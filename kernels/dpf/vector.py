"""Whole steps of the trees in vector registers: 16 nodes a call, on raw addresses, inlined into the kernels of `fast`.

`grow16` takes 16 seeds one level down; `leaf16` converts 16 dense leaves and multiplies them with their coefficients. Both use
the widest AES the CPU has (`aes.vector_words`), 4 seeds or 1 to a vector; LLVM chooses the rest of the instructions.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .aes import BLOCKS, I32, I64, Emitter, vector_words


def _grow_intrinsic(words: int) -> Any:
    seeds = words // 2
    flight = 4 if words == 8 else 8

    @intrinsic
    def grow16(typingctx: Any, src: Any, dst: Any, cw: Any, keys: Any) -> Any:
        """dst[2 i], dst[2 i + 1] = children of src[i] with correction word cw[i], for 16 seeds."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            e = Emitter(builder, words)
            src, dst, cw, keys = args
            for start in range(0, BLOCKS // seeds, flight):
                at = [(start + i) * words for i in range(flight)]
                v = [e.load(src, w) for w in at]
                h = e.mmo([e.sigma(x) for x in v], keys)
                for x, y, w in zip(v, h, at, strict=True):
                    left = builder.xor(y, builder.and_(e.load(cw, w), e.control(x)))
                    right = builder.xor(left, x)
                    for half in range(2):
                        order = []
                        for s in range(seeds // 2 * half, seeds // 2 * (half + 1)) if seeds > 1 else []:
                            order += [2 * s, 2 * s + 1, words + 2 * s, words + 2 * s + 1]
                        out = e.shuffle(left, right, order) if seeds > 1 else (left, right)[half]
                        e.store(out, dst, 2 * w + half * words)
            return context.get_dummy_value()

        return types.void(types.uint64, types.uint64, types.uint64, types.uint64), codegen

    return grow16


def _leaf_intrinsic(words: int, products: int) -> Any:
    seeds = words // 2
    flight = 4 if words == 8 else 8

    @intrinsic
    def leaf16(typingctx: Any, src: Any, tweak: Any, pcw: Any, keys: Any, coef: Any, stride: Any, acc: Any) -> Any:
        """acc[r] += sum over 16 leaves of words * coefficients r; words = G(seed, tweak) + t pcw, two words a leaf.

        pcw: 2 words; coef: address of (16, 2) words, coefficients r at `stride` bytes further each; acc: vectors of 8 words.
        """

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            e = Emitter(builder, words)
            src, tweak, pcw, keys, coef, stride, acc = args
            zero = ir.Constant(ir.VectorType(I64, words), [0] * words)
            pair = ir.VectorType(I64, 2)
            loaded = builder.load(builder.inttoptr(pcw, pair.as_pointer()))
            loaded.align = 8
            k = builder.shuffle_vector(loaded, loaded, ir.Constant(ir.VectorType(I32, words), [0, 1] * seeds))
            j = builder.insert_element(zero, tweak, ir.Constant(I32, 0))
            j = e.shuffle(j, zero, [0, words] * seeds)
            sums = [e.load(acc, 8 * r) for r in range(products)]
            for start in range(0, BLOCKS // seeds, flight):
                at = [(start + i) * words for i in range(flight)]
                v = [e.load(src, w) for w in at]
                g = e.mmo([builder.xor(e.sigma(x), j) for x in v], keys)
                for x, y, w in zip(v, g, at, strict=True):
                    value = builder.add(y, builder.and_(k, e.control(x)))
                    for r in range(products):
                        where = builder.add(coef, builder.mul(stride, ir.Constant(I64, r)))
                        sums[r] = builder.add(sums[r], builder.mul(value, e.load(where, w)))
            for r, total in enumerate(sums):
                e.store(total, acc, 8 * r)
            return context.get_dummy_value()

        return types.void(*[types.uint64] * 7), codegen

    return leaf16


def _short_leaf_intrinsic(words: int, leaves: int, factors: int) -> Any:
    seeds = words // 2
    flight = min(4 if words == 8 else 8, leaves // seeds)  # vectors, each of `factors` blocks at once

    @intrinsic
    def leaf(typingctx: Any, src: Any, second: Any, v: Any, pcw: Any, keys: Any, coef: Any, acc: Any) -> Any:
        """acc[f] += sum over `leaves` leaves of (c_0 + v c_1) w_0, c_1 w_1, with the words w of factor 0, and of factor `second`.

        `second` is the tweak of its block, and where its words are in pcw; nobody reads it where there is one factor. coef:
        address of (leaves, 2) words (c_0, c_1); v, c_1 below 2^31 in size. acc: vectors of 8 words, even lanes the first sum.
        """

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            e = Emitter(builder, words)
            src, second, v, pcw, keys, coef, acc = args
            zero = ir.Constant(e.vec, [0] * words)
            pair = ir.VectorType(I64, 2)

            def first_lanes(word: Any) -> Any:
                """(word, 0) for each seed."""
                one = builder.insert_element(zero, word, ir.Constant(I32, 0))
                return e.shuffle(one, zero, [0, words] * seeds)

            def corrections(block: Any) -> Any:
                address = builder.add(pcw, builder.mul(block, ir.Constant(I64, 16)))
                loaded = builder.load(builder.inttoptr(address, pair.as_pointer()))
                loaded.align = 8
                return builder.shuffle_vector(loaded, loaded, ir.Constant(ir.VectorType(I32, words), [0, 1] * seeds))

            tweaks = (zero, first_lanes(second))[:factors]
            words_of = (corrections(ir.Constant(I64, 0)), corrections(second))[:factors]
            shift = first_lanes(v)
            half = ir.Constant(e.vec, [32] * words)
            sums = [e.load(acc, 8 * f) for f in range(factors)]
            for start in range(0, 2 * leaves, flight * words):
                places = range(start, start + flight * words, words)
                nodes = [e.load(src, at) for at in places]
                plain = [e.sigma(x) for x in nodes]
                g = e.mmo([builder.xor(x, tweak) for x in plain for tweak in tweaks], keys)
                for number, (x, at) in enumerate(zip(nodes, places, strict=True)):
                    control = e.control(x)
                    c = e.load(coef, at)
                    slope = e.pairs(c, (1, 1))  # of 32 bits with sign: one short product
                    slope = builder.ashr(builder.shl(slope, half), half)
                    c = builder.add(c, builder.mul(slope, builder.ashr(builder.shl(shift, half), half)))
                    for f in range(factors):
                        value = builder.add(g[factors * number + f], builder.and_(words_of[f], control))
                        sums[f] = builder.add(sums[f], builder.mul(value, c))
            for f, total in enumerate(sums):
                e.store(total, acc, 8 * f)
            return context.get_dummy_value()

        return types.void(*[types.uint64] * 7), codegen

    return leaf


def _move_intrinsic(words: int, same: bool) -> Any:
    seeds = words // 2

    @intrinsic
    def move4(typingctx: Any, src: Any, dst: Any) -> Any:
        """Four seeds from src to dst; with `same` the one seed at src, four times."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            e = Emitter(builder, words)
            src, dst = args
            if same:
                pair = builder.load(builder.inttoptr(src, ir.VectorType(I64, 2).as_pointer()))
                pair.align = 8
                every = builder.shuffle_vector(pair, pair, ir.Constant(ir.VectorType(I32, words), [0, 1] * seeds))
            for at in range(0, 8, words):
                e.store(every if same else e.load(src, at), dst, at)
            return context.get_dummy_value()

        return types.void(types.uint64, types.uint64), codegen

    return move4


def _sum_intrinsic(first: int) -> Any:
    @intrinsic
    def lane_sum(typingctx: Any, src: Any) -> Any:
        """Of the eight words at src, the sum of every second one, from word `first` on."""

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            e = Emitter(builder, 8)
            loaded = e.load(args[0])
            half = e.shuffle(loaded, loaded, [first, first + 2, first + 4, first + 6])
            two = builder.add(e.shuffle(half, half, [0, 1]), e.shuffle(half, half, [2, 3]))
            return builder.add(*(builder.extract_element(two, ir.Constant(I32, i)) for i in range(2)))

        return types.uint64(types.uint64), codegen

    return lane_sum


@intrinsic
def clear8(typingctx: Any, dst: Any) -> Any:
    """Eight words of 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        e = Emitter(builder, 8)
        e.store(ir.Constant(e.vec, [0] * 8), args[0])
        return context.get_dummy_value()

    return types.void(types.uint64), codegen


_WORDS = vector_words() or 2
grow16 = _grow_intrinsic(_WORDS)
leaf16_1, leaf16_2, leaf16_3 = (_leaf_intrinsic(_WORDS, n) for n in (1, 2, 3))
one4, one16 = (_short_leaf_intrinsic(_WORDS, n, 1) for n in (4, 16))
two4, two8, two16 = (_short_leaf_intrinsic(_WORDS, n, 2) for n in (4, 8, 16))
copy4, fill4 = _move_intrinsic(_WORDS, False), _move_intrinsic(_WORDS, True)
even_sum, odd_sum = _sum_intrinsic(0), _sum_intrinsic(1)
