# mypy: ignore-errors
# (compiled functions: numba infers their types)
"""The tree kernels of a party and of the dealer, fused in numba: seeds stay in the first-level cache.

Same signatures and the same bits as `reference`. All arrays are C-contiguous; AES works on 16 blocks at a time, so several
trees run side by side where one tree has fewer nodes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .aes import mmo
from .vector import (
    clear8,
    copy4,
    even_sum,
    fill4,
    grow16,
    leaf16_1,
    leaf16_2,
    leaf16_3,
    odd_sum,
    one4,
    one16,
    two4,
    two8,
    two16,
)


@njit(nogil=True, cache=True)
def generate(alpha, depth, roots0, roots1, beta, levels, lane16, tree, convert, cw, pcw):
    """Fill cw (B, depth, 2) and pcw (B, words) of keys at `alpha`; levels[j] = payload words of level j (even), in order."""
    one = np.uint64(1)
    sg = np.empty((32, 2), np.uint64)
    hg = np.empty((32, 2), np.uint64)
    s = np.empty((32, 2), np.uint64)  # 0..15 party 0, 16..31 party 1
    for base in range(0, len(alpha), 16):
        m = min(16, len(alpha) - base)
        for i in range(m):
            s[i, 0] = roots0[base + i, 0] & ~one
            s[i, 1] = roots0[base + i, 1]
            s[16 + i, 0] = roots1[base + i, 0] | one
            s[16 + i, 1] = roots1[base + i, 1]
        for i in range(m, 16):
            s[i] = 0
            s[16 + i] = 0
        at = 0
        for level in range(depth):
            for i in range(32):
                sg[i, 0] = s[i, 0] ^ s[i, 1]
                sg[i, 1] = s[i, 0]
            mmo(sg, hg, 32, tree)
            for i in range(m):
                bit = (alpha[base + i] >> np.uint64(depth - 1 - level)) & one
                full = np.uint64(0) - bit
                t0 = np.uint64(0) - (s[i, 0] & one)
                t1 = np.uint64(0) - (s[16 + i, 0] & one)
                for w in range(2):
                    delta = s[i, w] ^ s[16 + i, w]
                    # Delta is the same at every level of the path, so this is the root's
                    c = hg[i, w] ^ hg[16 + i, w] ^ (delta & ~full)
                    cw[base + i, level, w] = c
                    s[i, w] = hg[i, w] ^ (s[i, w] & full) ^ (c & t0)
                    s[16 + i, w] = hg[16 + i, w] ^ (s[16 + i, w] & full) ^ (c & t1)
            words = levels[level + 1]
            for block in range(words // 2):
                for i in range(32):
                    sg[i, 0] = s[i, 0] ^ s[i, 1] ^ np.uint64(block)
                    sg[i, 1] = s[i, 0]
                mmo(sg, hg, 32, convert)
                for i in range(m):
                    negate = (s[16 + i, 0] & one) == one
                    for w in range(2):
                        b, g0, g1 = beta[base + i, at + 2 * block + w], hg[i, w], hg[16 + i, w]
                        if lane16:
                            f = np.uint64(0)
                            for lane in range(4):
                                sh = np.uint64(16 * lane)
                                x = (b >> sh) - (g0 >> sh) + (g1 >> sh)
                                if negate:
                                    x = np.uint64(0) - x
                                f |= (x & np.uint64(0xFFFF)) << sh
                        else:
                            f = b - g0 + g1
                            if negate:
                                f = np.uint64(0) - f
                        pcw[base + i, at + 2 * block + w] = f
            at += words


@njit(nogil=True, cache=True)
def _aligned(size):
    """An uninitialised (size, 2) array on a cache line's border: vectors that straddle two lines take twice as long."""
    raw = np.empty(2 * size + 8, np.uint64)
    skip = (64 - raw.ctypes.data % 64) % 64 // 8
    return raw[skip : skip + 2 * size].reshape(size, 2)


@njit(nogil=True, cache=True)
def _copy(src, dst, count):
    """`count` seeds between raw addresses; up to three more are written."""
    for i in range((count + 3) >> 2):
        step = np.uint64(64 * i)
        copy4(src + step, dst + step)


@njit(nogil=True, cache=True)
def _spread(cw, target, count):
    """The correction word at address cw beside each of `count` seeds; up to three more are written."""
    for i in range((count + 3) >> 2):
        fill4(cw, target + np.uint64(64 * i))


@njit(nogil=True, cache=True)
def _grow(seeds, children, words, nodes, keys):
    """One level down for `nodes` nodes, with the correction words beside them. All are addresses."""
    for i in range((nodes + 15) >> 4):
        step = np.uint64(256 * i)
        grow16(seeds + step, children + np.uint64(512 * i), words + step, keys)


@njit(nogil=True, cache=True)
def _grow_whole(s, s2, cwx, trees, cw, base, level, tree):
    """Whole trees from level `level` to the next: s -> s2."""
    per_level, words = np.uint64(16), np.uint64(cwx.ctypes.data)
    first, per_tree = np.uint64(cw.ctypes.data) + per_level * np.uint64(level), per_level * np.uint64(cw.shape[1])
    for k in range(trees):
        _spread(first + np.uint64(base + k) * per_tree, words + np.uint64((16 * k) << level), 1 << level)
    _grow(np.uint64(s.ctypes.data), np.uint64(s2.ctypes.data), words, trees << level, np.uint64(tree.ctypes.data))


@njit(nogil=True, cache=True)
def _leaves(leaves, count, d1, coef, stride, words, keys, acc):
    """acc += sums of coefficients times words of `count` leaves of one tree, a multiple of 16; `_flush` makes its value of it.

    Addresses: leaves, coef (the first leaf's, those of higher terms at `stride`), words, keys, acc.
    """
    zero = np.uint64(0)
    for start in range(0, count, 16):
        step = np.uint64(16 * start)
        if d1 == 3:  # the second block holds rho^2 alone, times c_2
            leaf16_3(leaves + step, zero, words, keys, coef + step, stride, acc)
            last = coef + step + np.uint64(2) * stride
            leaf16_1(leaves + step, np.uint64(1), words + np.uint64(16), keys, last, stride, acc + np.uint64(192))
        elif d1 == 2:
            leaf16_2(leaves + step, zero, words, keys, coef + step, stride, acc)
        else:
            leaf16_1(leaves + step, zero, words, keys, coef + step, stride, acc)


@njit(nogil=True, cache=True)
def _flush(acc, d1, v):
    """The polynomials' values from the sums of `_leaves`, the powers of the public v put in; clears acc."""
    two = np.uint64(2)
    second = acc + np.uint64(64)
    # even lanes: sums of c_r w_0; odd lanes: of c_(r+1) w_1 = c_(r+1) (-rho)
    m00, m11, m10, m21 = even_sum(acc), odd_sum(acc), even_sum(second), odd_sum(second)
    clear8(acc)
    clear8(second)
    if d1 < 3:
        return m00 + v * m10 + m11
    third, fourth = acc + np.uint64(128), acc + np.uint64(192)
    m20, m22 = even_sum(third), even_sum(fourth)
    clear8(third)
    clear8(fourth)
    return m00 + v * (m10 + v * m20) + m11 + two * v * m21 + m22


@njit(nogil=True, cache=True)
def _short_leaves(leaves, count, factors, second, v, coef, rest, words, keys, acc):
    """acc += the values of degree 1 at `count` leaves of one tree, times one factor or (of 3) factor 0 and `second`.

    Addresses: leaves, coef (the first leaf's), words, keys, acc (8 words a factor); rest, room for eight leaves' coefficients.
    """
    start = 0
    while start + 16 <= count:
        step = np.uint64(16 * start)
        if factors == 3:
            two16(leaves + step, second, v, words, keys, coef + step, acc)
        else:
            one16(leaves + step, second, v, words, keys, coef + step, acc)
        start += 16
    if factors == 3 and start + 8 <= count:
        step = np.uint64(16 * start)
        two8(leaves + step, second, v, words, keys, coef + step, acc)
        start += 8
    while start < count:
        step = np.uint64(16 * start)
        source = coef + step
        if start + 4 > count:  # the seeds behind the last one count nothing
            copy4(source, rest)
            clear8(rest + np.uint64(16 * (count - start)))
            source = rest
        if factors == 3:
            two4(leaves + step, second, v, words, keys, source, acc)
        else:
            one4(leaves + step, second, v, words, keys, source, acc)
        start += 4


@njit(nogil=True, cache=True)
def _kept(x, w, q):
    """The top q of the low w bits of x (shifted up where w < q): the public part of v."""
    v = x & ((np.uint64(1) << np.uint64(w)) - np.uint64(1))
    return v >> np.uint64(w - q) if w >= q else v << np.uint64(q - w)


@njit(nogil=True, cache=True)
def cover(
    x,
    roots,
    cw,
    pcw,
    party,
    n,
    depth,
    classify,
    low,
    offset,
    length,
    actions,
    runs,
    terms,
    kept,
    coefficients,
    dense,
    short,
    second,
    width,
    tree,
    convert,
    out,
):
    """out = this party's share of sum over the cover of P_u(v) times a secret factor. See `Cover`.

    `second` empty: out (B, 1), keys with one factor. Otherwise keys with factors 0, 1 and 2, and out (B, 2) is for factor
    0 and for factor 1 + second[i]: the third one's words lie in the key and are not looked at.

    Neighbouring nodes of a tree are neighbours in memory, a stretch, and so are their windows: actions are read for a run of
    nodes at a time, and between two classified levels whole subtrees are grown without bookkeeping.
    """
    one = np.uint64(1)
    tile = 16
    factors = 3 if len(second) else 1
    evaluated = out.shape[1]
    size = tile * width + 32
    # One block of memory: `s`, which is used to the end, keeps the rest of it alive, of which only addresses are held.
    room = _aligned(5 * size + 32)
    s, sg, ps = room[:size], room[size : 2 * size], room[2 * size : 3 * size]
    seeds, per_array = np.uint64(room.ctypes.data), np.uint64(16 * size)
    pieces, seeds2 = seeds + np.uint64(2) * per_array, seeds + np.uint64(3) * per_array
    beside, sums = seeds + np.uint64(4) * per_array, seeds + np.uint64(5) * per_array
    # stretches, in turn now and after the next classified level: the tree, the first node, how many nodes
    trees, nodes, lengths = np.empty((2, size), np.int64), np.empty((2, size), np.uint64), np.empty((2, size), np.int64)
    pt = np.empty(size, np.int64)
    pa = np.empty(size, np.int64)
    pads = np.empty((4, size, 2), np.uint64)
    acc = np.empty((tile, evaluated), np.uint64)
    sums2, rest = sums + np.uint64(64), sums + np.uint64(256)
    for i in range(4):
        clear8(sums + np.uint64(64 * i))
    expand, keys = np.uint64(tree.ctypes.data), np.uint64(convert.ctypes.data)
    stride, table = np.uint64(16 * dense.shape[1]), np.uint64(dense.ctypes.data)
    corrections, per_tree = np.uint64(cw.ctypes.data), np.uint64(16 * depth)
    key_words, per_key = np.uint64(pcw.ctypes.data), np.uint64(8 * pcw.shape[1])
    for base in range(0, len(x), tile):
        m = min(tile, len(x) - base)
        s_now, s_next = seeds, seeds2
        now = 0
        for i in range(m):
            s[i, 0] = (roots[base + i, 0] & ~one) | np.uint64(party)
            s[i, 1] = roots[base + i, 1]
            trees[now, i], nodes[now, i], lengths[now, i] = i, 0, 1
            for f in range(evaluated):
                acc[i, f] = 0
        stretches = m
        gap = 0
        at = 0
        for level in range(1, depth + 1):
            total = 0
            for k in range(stretches):
                count = lengths[now, k] << gap
                word = corrections + np.uint64(base + trees[now, k]) * per_tree + np.uint64(16 * (level - 1))
                _spread(word, beside + np.uint64(16 * total), count)
                total += count
            _grow(s_now, s_next, beside, total, expand)
            s_now, s_next = s_next, s_now
            gap += 1
            if classify[level] == 0:
                continue
            shift, wrap, half = np.uint64(n - level), np.int64(64 - level), np.int64(1) << (level - 1)
            d1 = terms[level]
            blocks = (d1 + 1) >> 1  # of one factor
            w, q = n - level, kept[level]
            lo, off, end = low[level], offset[level], length[level]
            quick = short[level] == 1
            v, block2, words = np.uint64(0), np.uint64(0), np.uint64(0)
            current = np.int64(-1)  # the tree whose leaves are being added up in `sums`
            here = s_now  # where the stretch begins
            then = 1 - now
            k2 = 0  # nodes that live on, and their stretches
            stretches2 = 0
            c = 0
            for k in range(stretches + 1):
                e = trees[now, k] if k < stretches else np.int64(-2)
                if e != current:
                    if current >= 0:
                        if quick:
                            acc[current, 0] += even_sum(sums) + odd_sum(sums)
                            clear8(sums)
                            if factors == 3:
                                acc[current, 1] += even_sum(sums2) + odd_sum(sums2)
                                clear8(sums2)
                        elif factors == 1:
                            acc[current, 0] += _flush(sums, d1, v)
                    if k == stretches:
                        break
                    current = e
                    v = _kept(x[base + e], w, q)
                    words = key_words + np.uint64(base + e) * per_key + np.uint64(8 * at)
                    if factors == 3:
                        block2 = one + np.uint64(second[base + e])
                node, count = nodes[now, k] << np.uint64(gap), lengths[now, k] << gap
                top = np.int64((x[base + e] >> shift) - node)
                i = 0
                while i < count:
                    u = ((top - i) << wrap) >> wrap  # signed, `level` bits
                    row = u - lo
                    if row >= end:  # not listed: ZERO
                        i += row - end + 1
                        continue
                    if row < 0:  # from the lowest window on to the highest
                        i += u + half + 1 + half - lo - end
                        continue
                    a = actions[off + row]
                    run = min(runs[off + row], count - i)
                    first = here + np.uint64(16 * i)
                    if a == -1:
                        _copy(first, s_next + np.uint64(16 * k2), run)
                        trees[then, stretches2], lengths[then, stretches2] = e, run
                        nodes[then, stretches2] = node + np.uint64(i)
                        stretches2 += 1
                        k2 += run
                    elif a >= 0:
                        coef = table + np.uint64(16 * a)
                        if quick:
                            _short_leaves(first, run, factors, block2, v, coef, rest, words, keys, sums)
                        elif factors == 1 and run & 15 == 0:
                            _leaves(first, run, d1, coef, stride, words, keys, sums)
                        else:
                            _copy(first, pieces + np.uint64(16 * c), run)
                            for j in range(run):
                                pt[c] = e
                                pa[c] = a + j
                                c += 1
                    i += run
                here += np.uint64(16 * count)
            for f in range(evaluated if c > 0 else 0):
                for b in range(blocks):
                    for i in range(c):
                        tweak = blocks * (1 + np.int64(second[base + pt[i]])) + b if f else b
                        sg[i, 0] = ps[i, 0] ^ ps[i, 1] ^ np.uint64(tweak)
                        sg[i, 1] = ps[i, 0]
                    mmo(sg, pads[2 * f + b], c, convert)
            for i in range(c):
                e = pt[i]
                v = _kept(x[base + e], w, q)
                t = np.uint64(0) - (ps[i, 0] & one)
                a = pa[i]
                # P_u(v_X - rho) = e0 + e1 (-rho) + c2 rho^2, a Taylor shift by the public part
                c0, c1, c2 = coefficients[a, 0], coefficients[a, 1], coefficients[a, 2]
                e0 = c0 + v * (c1 + v * c2)
                e1 = c1 + np.uint64(2) * v * c2
                for f in range(evaluated):
                    p = at + 2 * blocks * (1 + np.int64(second[base + e])) if f else at
                    y = e0 * (pads[2 * f, i, 0] + (pcw[base + e, p] & t))
                    if d1 > 1:
                        y += e1 * (pads[2 * f, i, 1] + (pcw[base + e, p + 1] & t))
                    if d1 > 2:
                        y += c2 * (pads[2 * f + 1, i, 0] + (pcw[base + e, p + 2] & t))
                    acc[e, f] += y
            at += 2 * blocks * factors
            stretches = stretches2
            gap = 0
            s_now, s_next = s_next, s_now
            now = then
            if stretches == 0:
                break
        for i in range(m):
            for f in range(evaluated):
                out[base + i, f] = np.uint64(0) - acc[i, f] if party == 1 else acc[i, f]


@njit(nogil=True, cache=True)
def histogram(x, rows, roots, cw, pcw, party, bits, tree, convert, out):
    """out[row, u] += share (mod 2^16) of [x - r = u mod 2^bits], for x public tops; rows (B,) names each tree's row.

    Trees of depth bits - 3 with eight 16-bit lanes a leaf: cw (B, bits - 3, 2), pcw (B, 2). `out` (R, 2^bits) uint16.
    """
    one = np.uint64(1)
    tile = 16
    depth = bits - 3
    mask = (1 << bits) - 1
    size = (tile << depth) + 32
    s, s2, cwx = _aligned(size), _aligned(size), _aligned(size)
    sg, hg = _aligned(size), _aligned(size)
    for base in range(0, len(x), tile):
        m = min(tile, len(x) - base)
        for i in range(m):
            s[i, 0] = (roots[base + i, 0] & ~one) | np.uint64(party)
            s[i, 1] = roots[base + i, 1]
        for level in range(depth):
            _grow_whole(s, s2, cwx, m, cw, base, level, tree)
            s, s2 = s2, s
        per = 1 << depth
        for i in range(m * per):
            sg[i, 0] = s[i, 0] ^ s[i, 1]
            sg[i, 1] = s[i, 0]
        mmo(sg, hg, m * per, convert)
        for e in range(m):
            top = np.int64(x[base + e])
            row = rows[base + e]
            for i in range(per):
                t = np.uint64(0) - (s[e * per + i, 0] & one)
                for w in range(2):
                    g, c = hg[e * per + i, w], pcw[base + e, w] & t
                    for lane in range(4):
                        sh = np.uint64(16 * lane)
                        value = ((g >> sh) + (c >> sh)) & np.uint64(0xFFFF)
                        if party == 1:
                            value = np.uint64(0) - value
                        u = (top - (8 * i + 4 * w + lane)) & mask
                        out[row, u] += np.uint16(value & np.uint64(0xFFFF))


@njit(nogil=True, cache=True)
def points(x, roots, cw, pcw, party, bits, tree, convert, out):
    """out (B,) uint16 = share of [x = r] for public x < 2^bits: one path of each tree. Shapes as in `histogram`."""
    one = np.uint64(1)
    depth = bits - 3
    s = np.zeros((16, 2), np.uint64)
    sg = np.zeros((16, 2), np.uint64)
    hg = np.empty((16, 2), np.uint64)
    for base in range(0, len(x), 16):
        m = min(16, len(x) - base)
        for i in range(m):
            s[i, 0] = (roots[base + i, 0] & ~one) | np.uint64(party)
            s[i, 1] = roots[base + i, 1]
        for level in range(depth):
            for i in range(m):
                sg[i, 0] = s[i, 0] ^ s[i, 1]
                sg[i, 1] = s[i, 0]
            mmo(sg, hg, m, tree)
            for i in range(m):
                t = np.uint64(0) - (s[i, 0] & one)
                right = np.uint64(0) - ((x[base + i] >> np.uint64(bits - 1 - level)) & one)
                for w in range(2):
                    s[i, w] = hg[i, w] ^ (cw[base + i, level, w] & t) ^ (s[i, w] & right)
        for i in range(m):
            sg[i, 0] = s[i, 0] ^ s[i, 1]
            sg[i, 1] = s[i, 0]
        mmo(sg, hg, m, convert)
        for i in range(m):
            lane = x[base + i] & np.uint64(7)
            w = np.int64(lane >> np.uint64(2))
            sh = np.uint64(16) * (lane & np.uint64(3))
            t = np.uint64(0) - (s[i, 0] & one)
            value = (hg[i, w] >> sh) + ((pcw[base + i, w] & t) >> sh)
            if party == 1:
                value = np.uint64(0) - value
            out[base + i] = np.uint16(value & np.uint64(0xFFFF))


@njit(nogil=True, cache=True)
def one_hot(roots, cw, pcw, party, depth, tree, convert, out):
    """out (B, 2^(depth + 1)) = share of the one-hot row of each key, two entries a leaf: cw (B, depth, 2), pcw (B, 2)."""
    one = np.uint64(1)
    size = (1 << depth) + 32
    s, s2, cwx = _aligned(size), _aligned(size), _aligned(size)
    sg, hg = _aligned(size), _aligned(size)
    for e in range(len(roots)):
        s[0, 0] = (roots[e, 0] & ~one) | np.uint64(party)
        s[0, 1] = roots[e, 1]
        for level in range(depth):
            _grow_whole(s, s2, cwx, 1, cw, e, level, tree)
            s, s2 = s2, s
        for i in range(1 << depth):
            sg[i, 0] = s[i, 0] ^ s[i, 1]
            sg[i, 1] = s[i, 0]
        mmo(sg, hg, 1 << depth, convert)
        for i in range(1 << depth):
            t = np.uint64(0) - (s[i, 0] & one)
            for w in range(2):
                value = hg[i, w] + (pcw[e, w] & t)
                out[e, 2 * i + w] = np.uint64(0) - value if party == 1 else value
