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
from .vector import copy4, fill4, grow16, leaf16_1, leaf16_2, leaf16_3, two4, two8, two16


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
def _grow(s, s2, cwx, stretches, trees, lengths, gap, cw, base, level, tree):
    """One level down for stretches of lengths[k] << gap neighbouring nodes, each of one tree: s -> s2."""
    words, per_tree = np.uint64(cwx.ctypes.data), np.uint64(16 * cw.shape[1])
    first = np.uint64(cw.ctypes.data) + np.uint64(16 * level)
    nodes = 0
    for k in range(stretches):
        count = lengths[k] << gap
        source, target = first + np.uint64(base + trees[k]) * per_tree, words + np.uint64(16 * nodes)
        for i in range((count + 3) >> 2):
            fill4(source, target + np.uint64(64 * i))
        nodes += count
    source, target, keys = np.uint64(s.ctypes.data), np.uint64(s2.ctypes.data), np.uint64(tree.ctypes.data)
    for i in range((nodes + 15) >> 4):
        step = np.uint64(256 * i)
        grow16(source + step, target + np.uint64(512 * i), words + step, keys)


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
    m00, m10, m20 = np.uint64(0), np.uint64(0), np.uint64(0)
    m11, m21, m22 = np.uint64(0), np.uint64(0), np.uint64(0)
    for lane in range(0, 8, 2):  # even lanes: sums of c_r w_0; odd lanes: of c_(r+1) w_1 = c_(r+1) (-rho)
        m00 += acc[lane]
        m11 += acc[lane + 1]
        m10 += acc[8 + lane]
        m21 += acc[9 + lane]
        if d1 == 3:
            m20 += acc[16 + lane]
            m22 += acc[24 + lane]
    for i in range(32):
        acc[i] = 0
    return m00 + v * (m10 + v * m20) + m11 + two * v * m21 + m22


@njit(nogil=True, cache=True)
def _leaves_of_two(leaves, count, second, v, coef, rest, words, keys, acc):
    """acc += the values of degree 1 at `count` leaves of one tree, times factor 0 and factor `second`: 8 words each.

    Addresses: leaves, coef (the first leaf's), words, keys, acc; rest (4, 2) is room for the last leaves' coefficients.
    """
    start = 0
    while start + 16 <= count:
        step = np.uint64(16 * start)
        two16(leaves + step, second, v, words, keys, coef + step, acc)
        start += 16
    if start + 8 <= count:
        step = np.uint64(16 * start)
        two8(leaves + step, second, v, words, keys, coef + step, acc)
        start += 8
    if start + 4 <= count:
        step = np.uint64(16 * start)
        two4(leaves + step, second, v, words, keys, coef + step, acc)
        start += 4
    if start < count:  # the others count nothing
        step, room = np.uint64(16 * start), np.uint64(rest.ctypes.data)
        copy4(coef + step, room)
        for i in range(count - start, 4):
            rest[i, 0] = 0
            rest[i, 1] = 0
        two4(leaves + step, second, v, words, keys, room, acc)


@njit(nogil=True, cache=True)
def _flush_two(acc, out, tree):
    """out[tree] += the sums of `_leaves_of_two`; clears acc."""
    for f in range(2):
        total = np.uint64(0)
        for lane in range(8 * f, 8 * f + 8):
            total += acc[lane]
            acc[lane] = 0
        out[tree, f] += total


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
    s, s2, hg, sg, ps = _aligned(size), _aligned(size), _aligned(size), _aligned(size), _aligned(size)
    trees, trees2 = np.empty(size, np.int64), np.empty(size, np.int64)  # of each stretch
    nodes, nodes2 = np.empty(size, np.uint64), np.empty(size, np.uint64)  # its first node
    lengths, lengths2 = np.empty(size, np.int64), np.empty(size, np.int64)
    pt = np.empty(size, np.int64)
    pa = np.empty(size, np.int64)
    pads = np.empty((4, size, 2), np.uint64)
    acc = np.empty((tile, evaluated), np.uint64)
    lanes, rest = _aligned(16).reshape(32), _aligned(4)
    for i in range(32):
        lanes[i] = 0
    sums, keys = np.uint64(lanes.ctypes.data), np.uint64(convert.ctypes.data)
    stride, table = np.uint64(16 * dense.shape[1]), np.uint64(dense.ctypes.data)
    key_words, per_key = np.uint64(pcw.ctypes.data), np.uint64(8 * pcw.shape[1])
    for base in range(0, len(x), tile):
        m = min(tile, len(x) - base)
        for i in range(m):
            s[i, 0] = (roots[base + i, 0] & ~one) | np.uint64(party)
            s[i, 1] = roots[base + i, 1]
            trees[i], nodes[i], lengths[i] = i, 0, 1
            for f in range(evaluated):
                acc[i, f] = 0
        stretches = m
        gap = 0
        at = 0
        for level in range(1, depth + 1):
            _grow(s, s2, hg, stretches, trees, lengths, gap, cw, base, level - 1, tree)
            s, s2 = s2, s
            gap += 1
            if classify[level] == 0:
                continue
            seeds, seeds2, pieces = np.uint64(s.ctypes.data), np.uint64(s2.ctypes.data), np.uint64(ps.ctypes.data)
            shift, wrap, half = np.uint64(n - level), np.int64(64 - level), np.int64(1) << (level - 1)
            d1 = terms[level]
            blocks = (d1 + 1) >> 1  # of one factor
            w, q = n - level, kept[level]
            lo, off, end = low[level], offset[level], length[level]
            quick = factors == 3 and short[level] == 1
            v, block2, words = np.uint64(0), np.uint64(0), np.uint64(0)
            current = np.int64(-1)  # the tree whose leaves are being added up in `lanes`
            first = 0  # where the stretch begins
            k2 = 0  # nodes that live on, and their stretches
            stretches2 = 0
            c = 0
            for k in range(stretches):
                e, count = trees[k], lengths[k] << gap
                node = nodes[k] << np.uint64(gap)
                top = x[base + e]
                if e != current:
                    if current >= 0:
                        if quick:
                            _flush_two(lanes, acc, current)
                        elif factors == 1:
                            acc[current, 0] += _flush(lanes, d1, v)
                    current = e
                    v = _kept(top, w, q)
                    words = key_words + np.uint64(base + e) * per_key + np.uint64(8 * at)
                    if factors == 3:
                        block2 = one + np.uint64(second[base + e])
                i = 0
                while i < count:
                    u = (np.int64((top >> shift) - node - np.uint64(i)) << wrap) >> wrap  # signed, `level` bits
                    row = u - lo
                    if row >= end:  # not listed: ZERO
                        i += row - end + 1
                        continue
                    if row < 0:  # from the lowest window on to the highest
                        i += u + half + 1 + half - lo - end
                        continue
                    a = actions[off + row]
                    run = min(runs[off + row], count - i)
                    here = seeds + np.uint64(16 * (first + i))
                    if a == -1:
                        _copy(here, seeds2 + np.uint64(16 * k2), run)
                        trees2[stretches2], nodes2[stretches2], lengths2[stretches2] = e, node + np.uint64(i), run
                        stretches2 += 1
                        k2 += run
                    elif a >= 0:
                        coef = table + np.uint64(16 * a)
                        if quick:
                            _leaves_of_two(here, run, block2, v, coef, rest, words, keys, sums)
                        elif factors == 1 and run & 15 == 0:
                            _leaves(here, run, d1, coef, stride, words, keys, sums)
                        else:
                            _copy(here, pieces + np.uint64(16 * c), run)
                            for j in range(run):
                                pt[c] = e
                                pa[c] = a + j
                                c += 1
                    i += run
                first += count
            if current >= 0:
                if quick:
                    _flush_two(lanes, acc, current)
                elif factors == 1:
                    acc[current, 0] += _flush(lanes, d1, v)
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
            s, s2 = s2, s
            trees, trees2 = trees2, trees
            nodes, nodes2 = nodes2, nodes
            lengths, lengths2 = lengths2, lengths
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
    trees, lengths = np.arange(tile), np.ones(tile, np.int64)
    for base in range(0, len(x), tile):
        m = min(tile, len(x) - base)
        for i in range(m):
            s[i, 0] = (roots[base + i, 0] & ~one) | np.uint64(party)
            s[i, 1] = roots[base + i, 1]
        for level in range(depth):
            _grow(s, s2, cwx, m, trees, lengths, level, cw, base, level, tree)
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
    trees, lengths = np.zeros(1, np.int64), np.ones(1, np.int64)
    for e in range(len(roots)):
        s[0, 0] = (roots[e, 0] & ~one) | np.uint64(party)
        s[0, 1] = roots[e, 1]
        for level in range(depth):
            _grow(s, s2, cwx, 1, trees, lengths, level, cw, e, level, tree)
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
