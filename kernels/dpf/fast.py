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
from .vector import grow16, leaf4, leaf8, leaf16_1, leaf16_2, leaf16_3


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
def _grow(s, s2, cwx, groups, per, tree_of, cw, base, level, tree):
    """One level down for `groups` groups of `per` neighbouring nodes each, one tree a group: s -> s2."""
    for k in range(groups):
        c0, c1 = cw[base + tree_of[k], level, 0], cw[base + tree_of[k], level, 1]
        for i in range(k * per, (k + 1) * per):
            cwx[i, 0] = c0
            cwx[i, 1] = c1
    source, target = np.uint64(s.ctypes.data), np.uint64(s2.ctypes.data)
    words, keys = np.uint64(cwx.ctypes.data), np.uint64(tree.ctypes.data)
    for i in range((groups * per + 15) // 16):
        step = np.uint64(256 * i)
        grow16(source + step, target + np.uint64(512 * i), words + step, keys)


@njit(nogil=True, cache=True)
def _leaves(s, first, per, d1, fused, row, dense, pcw, convert, acc):
    """acc += sums of coefficients times words of the leaves s[first : first + per] of one tree, `row` the first leaf's.

    per is a multiple of 16, or of 4 for products with three factors. `_flush` makes the tree's value of it.
    """
    leaves, keys = np.uint64(s.ctypes.data) + np.uint64(16 * first), np.uint64(convert.ctypes.data)
    stride = np.uint64(16 * dense.shape[1])
    coef, sums = np.uint64(dense.ctypes.data) + np.uint64(16 * row), np.uint64(acc.ctypes.data)
    words = np.uint64(pcw.ctypes.data)
    if fused == 3:
        for start in range(0, per - 7, 8):
            step = np.uint64(16 * start)
            leaf8(leaves + step, words, keys, coef + step, stride, sums)
        if per % 8:
            step = np.uint64(16 * (per - 4))
            leaf4(leaves + step, words, keys, coef + step, stride, sums)
        return
    zero = np.uint64(0)
    for start in range(0, per, 16):
        step = np.uint64(16 * start)
        if d1 == 3:  # the second block holds rho^2 alone, times c_2
            leaf16_3(leaves + step, zero, words, keys, coef + step, stride, sums)
            last = coef + step + np.uint64(2) * stride
            leaf16_1(leaves + step, np.uint64(1), words + np.uint64(16), keys, last, stride, sums + np.uint64(192))
        elif d1 == 2:
            leaf16_2(leaves + step, zero, words, keys, coef + step, stride, sums)
        else:
            leaf16_1(leaves + step, zero, words, keys, coef + step, stride, sums)


@njit(nogil=True, cache=True)
def _flush(acc, d1, fused, v, out):
    """out (fused,) += the polynomials' values from the sums of `_leaves`, the powers of the public v put in; clears acc."""
    two = np.uint64(2)
    for f in range(fused):
        i = 16 * f
        m00, m10, m20 = np.uint64(0), np.uint64(0), np.uint64(0)
        m11, m21, m22 = np.uint64(0), np.uint64(0), np.uint64(0)
        for lane in range(0, 8, 2):  # even lanes: sums of c_r w_0; odd lanes: of c_(r+1) w_1 = c_(r+1) (-rho)
            m00 += acc[i + lane]
            m11 += acc[i + lane + 1]
            m10 += acc[i + 8 + lane]
            m21 += acc[i + 9 + lane]
            if d1 == 3:
                m20 += acc[16 + lane]
                m22 += acc[24 + lane]
        out[f] += m00 + v * (m10 + v * m20) + m11 + two * v * m21 + m22
    for i in range(48):
        acc[i] = 0


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
    terms,
    kept,
    coefficients,
    dense,
    words,
    fused,
    width,
    tree,
    convert,
    out,
):
    """out (B, fused) = this party's share of sum over the cover of P_u(v) times each fused secret. See `Cover`.

    Between two classified levels whole subtrees are grown, node by node in order and without bookkeeping; at a dense leaf
    level (classify = 2) every leaf is a piece and its coefficients lie in order, so nothing is looked up or moved.
    """
    one = np.uint64(1)
    tile = 16
    size = tile * width + 32
    s = _aligned(size)
    s2 = _aligned(size)
    node = np.empty(size, np.uint64)
    node2 = np.empty(size, np.uint64)
    tree_of = np.empty(size, np.int64)
    tree_of2 = np.empty(size, np.int64)
    sg = _aligned(size)
    hg = _aligned(size)
    ps = _aligned(size)
    pt = np.empty(size, np.int64)
    pa = np.empty(size, np.int64)
    pads = np.empty((5, size, 2), np.uint64)
    acc = np.empty((tile, fused), np.uint64)
    lanes = _aligned(24).reshape(48)
    for i in range(48):
        lanes[i] = 0
    for base in range(0, len(x), tile):
        m = min(tile, len(x) - base)
        for i in range(m):
            s[i, 0] = (roots[base + i, 0] & ~one) | np.uint64(party)
            s[i, 1] = roots[base + i, 1]
            node[i] = 0
            tree_of[i] = i
            for f in range(fused):
                acc[i, f] = 0
        groups = m
        gap = 0
        at = 0
        for level in range(1, depth + 1):
            _grow(s, s2, hg, groups, 1 << gap, tree_of, cw, base, level - 1, tree)
            s, s2 = s2, s
            gap += 1
            if classify[level] == 0:
                continue
            per = 1 << gap
            shift = np.uint64(n - level)
            d1 = terms[level]
            fours = fused == 3 and d1 == 2
            w = n - level
            q = kept[level]
            lo, off, end = low[level], offset[level], length[level]
            wrap = np.int64(64 - level)
            current = np.int64(-1)  # the tree whose leaves are being added up in `lanes`
            v = np.uint64(0)
            dense_leaves = classify[level] == 2 and ((per % 16 == 0 and fused == 1) or (per % 4 == 0 and fours))
            if dense_leaves:
                k = 0
                while k < groups:
                    e = tree_of[k]
                    if e != current:
                        if current >= 0:
                            _flush(lanes, d1, fused, v, acc[current])
                        current = e
                        v = _kept(x[base + e], w, q)
                    run = 1  # groups whose leaves follow each other: one stretch
                    while k + run < groups and tree_of[k + run] == e and node[k + run] == node[k] + np.uint64(run):
                        run += 1
                    u = (np.int64((x[base + e] >> shift) - (node[k] << np.uint64(gap))) << wrap) >> wrap
                    row = np.int64(actions[off]) - (u - lo)  # the next leaf's window is one lower, its row one higher
                    mine = pcw[base + e, at : at + words[level]]
                    _leaves(s, k * per, run * per, d1, fused, row, dense, mine, convert, lanes)
                    k += run
                _flush(lanes, d1, fused, v, acc[current])
                break
            k2 = 0
            c = 0
            k = 0
            while k < groups:
                e = tree_of[k]
                first_node = node[k] << np.uint64(gap)
                u0 = np.int64((x[base + e] >> shift) - first_node)
                if per == 4 and fours:  # four neighbours that are all pieces, and those that follow: in vectors
                    row = ((u0 << wrap) >> wrap) - lo
                    if 3 <= row < end and actions[off + row] >= 0 and actions[off + row - 3] == actions[off + row] + 3:
                        run = 1
                        while (
                            k + run < groups
                            and tree_of[k + run] == e
                            and node[k + run] == node[k] + np.uint64(run)
                            and row >= 4 * run + 3
                            and actions[off + row - 4 * run] == actions[off + row] + 4 * run
                            and actions[off + row - 4 * run - 3] == actions[off + row] + 4 * run + 3
                        ):
                            run += 1
                        if e != current:
                            if current >= 0:
                                _flush(lanes, d1, fused, v, acc[current])
                            current = e
                            v = _kept(x[base + e], w, q)
                        mine = pcw[base + e, at : at + words[level]]
                        _leaves(s, k * per, run * per, d1, fused, actions[off + row], dense, mine, convert, lanes)
                        k += run
                        continue
                for j in range(per):
                    row = (((u0 - j) << wrap) >> wrap) - lo  # signed, `level` bits
                    a = np.int64(-2)
                    if 0 <= row < end:
                        a = actions[off + row]
                    i = k * per + j
                    if a == -1:
                        s2[k2, 0] = s[i, 0]
                        s2[k2, 1] = s[i, 1]
                        node2[k2] = first_node | np.uint64(j)
                        tree_of2[k2] = e
                        k2 += 1
                    elif a >= 0:
                        ps[c, 0] = s[i, 0]
                        ps[c, 1] = s[i, 1]
                        pt[c] = e
                        pa[c] = a
                        c += 1
                k += 1
            if current >= 0:
                _flush(lanes, d1, fused, v, acc[current])
            if c > 0:
                for b in range(words[level] // 2):
                    for i in range(c):
                        sg[i, 0] = ps[i, 0] ^ ps[i, 1] ^ np.uint64(b)
                        sg[i, 1] = ps[i, 0]
                    mmo(sg, pads[b], c, convert)
                for i in range(c):
                    e = pt[i]
                    v = _kept(x[base + e], w, q)
                    t = np.uint64(0) - (ps[i, 0] & one)
                    a = pa[i]
                    # P_u(v_X - rho) = e0 + e1 (-rho) + c2 rho^2, a Taylor shift by the public part
                    c0, c1, c2 = coefficients[a, 0], coefficients[a, 1], coefficients[a, 2]
                    e0 = c0 + v * (c1 + v * c2)
                    e1 = c1 + np.uint64(2) * v * c2
                    for f in range(fused):
                        p = f * d1
                        y = e0 * (pads[p >> 1, i, p & 1] + (pcw[base + e, at + p] & t))
                        if d1 > 1:
                            p += 1
                            y += e1 * (pads[p >> 1, i, p & 1] + (pcw[base + e, at + p] & t))
                        if d1 > 2:
                            p += 1
                            y += c2 * (pads[p >> 1, i, p & 1] + (pcw[base + e, at + p] & t))
                        acc[e, f] += y
            at += words[level]
            groups = k2
            gap = 0
            s, s2 = s2, s
            node, node2 = node2, node
            tree_of, tree_of2 = tree_of2, tree_of
            if groups == 0:
                break
        for i in range(m):
            for f in range(fused):
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
    tree_of = np.arange(tile)
    for base in range(0, len(x), tile):
        m = min(tile, len(x) - base)
        for i in range(m):
            s[i, 0] = (roots[base + i, 0] & ~one) | np.uint64(party)
            s[i, 1] = roots[base + i, 1]
        for level in range(depth):
            _grow(s, s2, cwx, m, 1 << level, tree_of, cw, base, level, tree)
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
    tree_of = np.zeros(1, np.int64)
    for e in range(len(roots)):
        s[0, 0] = (roots[e, 0] & ~one) | np.uint64(party)
        s[0, 1] = roots[e, 1]
        for level in range(depth):
            _grow(s, s2, cwx, 1, 1 << level, tree_of, cw, e, level, tree)
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
