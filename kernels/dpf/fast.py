"""The tree kernels of a party and of the dealer, fused in numba: seeds stay in the first-level cache.

Same signatures and the same bits as `reference`. All arrays are C-contiguous; AES works on 16 blocks at a time, so several
trees run side by side where one tree has fewer nodes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .aes import mmo




@njit(nogil=True, cache=True)
def generate(alpha, depth, roots0, roots1, beta, levels, lane16, tree, convert, cw, pcw):  # type: ignore[no-untyped-def]
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
def cover(  # type: ignore[no-untyped-def]
    x, roots, cw, pcw, party, n, depth, classify, low, offset, length, actions, terms, kept, coefficients, words, fused, width, tree, convert, out
):
    """out (B, fused) = this party's share of sum over the cover of P_u(v) times each fused secret. See `Cover`."""
    one = np.uint64(1)
    tile = 16
    size = tile * width + 16
    s = np.empty((size, 2), np.uint64)
    s2 = np.empty((size, 2), np.uint64)
    node = np.empty(size, np.uint64)
    node2 = np.empty(size, np.uint64)
    tree_of = np.empty(size, np.int64)
    tree_of2 = np.empty(size, np.int64)
    sg = np.zeros((size, 2), np.uint64)
    hg = np.empty((size, 2), np.uint64)
    ps = np.empty((size, 2), np.uint64)
    pt = np.empty(size, np.int64)
    pa = np.empty(size, np.int64)
    pads = np.empty((5, size, 2), np.uint64)
    acc = np.empty((tile, fused), np.uint64)
    for base in range(0, len(x), tile):
        m = min(tile, len(x) - base)
        for i in range(m):
            s[i, 0] = (roots[base + i, 0] & ~one) | np.uint64(party)
            s[i, 1] = roots[base + i, 1]
            node[i] = 0
            tree_of[i] = i
            for f in range(fused):
                acc[i, f] = 0
        count = m
        at = 0
        for level in range(1, depth + 1):
            for i in range(count):
                sg[i, 0] = s[i, 0] ^ s[i, 1]
                sg[i, 1] = s[i, 0]
            mmo(sg, hg, count, tree)
            if classify[level] == 0:
                for i in range(count):
                    e = tree_of[i]
                    t = np.uint64(0) - (s[i, 0] & one)
                    l0 = hg[i, 0] ^ (cw[base + e, level - 1, 0] & t)
                    l1 = hg[i, 1] ^ (cw[base + e, level - 1, 1] & t)
                    s2[2 * i, 0] = l0
                    s2[2 * i, 1] = l1
                    s2[2 * i + 1, 0] = l0 ^ s[i, 0]
                    s2[2 * i + 1, 1] = l1 ^ s[i, 1]
                    node2[2 * i] = node[i] << one
                    node2[2 * i + 1] = (node[i] << one) | one
                    tree_of2[2 * i] = e
                    tree_of2[2 * i + 1] = e
                count *= 2
                s, s2 = s2, s
                node, node2 = node2, node
                tree_of, tree_of2 = tree_of2, tree_of
                continue
            shift = np.uint64(n - level)
            wrap = np.int64(64 - level)
            lo, off, end = low[level], offset[level], length[level]
            k = 0
            c = 0
            for i in range(count):
                e = tree_of[i]
                t = np.uint64(0) - (s[i, 0] & one)
                l0 = hg[i, 0] ^ (cw[base + e, level - 1, 0] & t)
                l1 = hg[i, 1] ^ (cw[base + e, level - 1, 1] & t)
                top = x[base + e] >> shift
                for child in range(2):
                    nd = (node[i] << one) | np.uint64(child)
                    u = (np.int64(top - nd) << wrap) >> wrap  # signed, `level` bits
                    j = u - lo
                    a = np.int64(-2)
                    if 0 <= j < end:
                        a = actions[off + j]
                    if a >= 0:
                        ps[c, 0] = l0
                        ps[c, 1] = l1
                        pt[c] = e
                        pa[c] = a
                        c += 1
                    elif a == -1:
                        s2[k, 0] = l0
                        s2[k, 1] = l1
                        node2[k] = nd
                        tree_of2[k] = e
                        k += 1
                    l0 ^= s[i, 0]
                    l1 ^= s[i, 1]
            d1 = terms[level]
            if c > 0:
                blocks = words[level] // 2
                for b in range(blocks):
                    for i in range(c):
                        sg[i, 0] = ps[i, 0] ^ ps[i, 1] ^ np.uint64(b)
                        sg[i, 1] = ps[i, 0]
                    mmo(sg, pads[b], c, convert)
                w = n - level
                q = kept[level]
                for i in range(c):
                    e = pt[i]
                    v = x[base + e] & ((one << np.uint64(w)) - one)
                    if w >= q:
                        v >>= np.uint64(w - q)
                    else:
                        v <<= np.uint64(q - w)
                    t = np.uint64(0) - (ps[i, 0] & one)
                    a = pa[i]
                    # P_u(v_X - rho) = d0 + d1 (-rho) + d2 rho^2, a Taylor shift by the public part
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
            count = k
            s, s2 = s2, s
            node, node2 = node2, node
            tree_of, tree_of2 = tree_of2, tree_of
            if count == 0:
                break
        for i in range(m):
            for f in range(fused):
                out[base + i, f] = np.uint64(0) - acc[i, f] if party == 1 else acc[i, f]


@njit(nogil=True, cache=True)
def histogram(x, rows, roots, cw, pcw, party, bits, tree, convert, out):  # type: ignore[no-untyped-def]
    """out[row, u] += share (mod 2^16) of [x - r = u mod 2^bits], for x public tops; rows (B,) names each tree's row.

    Trees of depth bits - 3 with eight 16-bit lanes a leaf: cw (B, bits - 3, 2), pcw (B, 2). `out` (R, 2^bits) uint16.
    """
    one = np.uint64(1)
    tile = 16
    depth = bits - 3
    mask = (1 << bits) - 1
    size = tile << depth
    s = np.empty((size, 2), np.uint64)
    s2 = np.empty((size, 2), np.uint64)
    sg = np.zeros((max(size, 16), 2), np.uint64)
    hg = np.empty((max(size, 16), 2), np.uint64)
    for base in range(0, len(x), tile):
        m = min(tile, len(x) - base)
        for i in range(m):
            s[i, 0] = (roots[base + i, 0] & ~one) | np.uint64(party)
            s[i, 1] = roots[base + i, 1]
        for level in range(depth):
            per = 1 << level
            for i in range(m * per):
                sg[i, 0] = s[i, 0] ^ s[i, 1]
                sg[i, 1] = s[i, 0]
            mmo(sg, hg, m * per, tree)
            for e in range(m):
                c0, c1 = cw[base + e, level, 0], cw[base + e, level, 1]
                for i in range(e * per, (e + 1) * per):
                    t = np.uint64(0) - (s[i, 0] & one)
                    l0 = hg[i, 0] ^ (c0 & t)
                    l1 = hg[i, 1] ^ (c1 & t)
                    s2[2 * i, 0] = l0
                    s2[2 * i, 1] = l1
                    s2[2 * i + 1, 0] = l0 ^ s[i, 0]
                    s2[2 * i + 1, 1] = l1 ^ s[i, 1]
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
def points(x, roots, cw, pcw, party, bits, tree, convert, out):  # type: ignore[no-untyped-def]
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
def one_hot(roots, cw, pcw, party, depth, tree, convert, out):  # type: ignore[no-untyped-def]
    """out (B, 2^(depth + 1)) = share of the one-hot row of each key, two entries a leaf: cw (B, depth, 2), pcw (B, 2)."""
    one = np.uint64(1)
    size = max(16, 1 << depth)
    s = np.empty((size, 2), np.uint64)
    s2 = np.empty((size, 2), np.uint64)
    sg = np.zeros((size, 2), np.uint64)
    hg = np.empty((size, 2), np.uint64)
    for e in range(len(roots)):
        s[0, 0] = (roots[e, 0] & ~one) | np.uint64(party)
        s[0, 1] = roots[e, 1]
        for level in range(depth + 1):
            per = 1 << level
            for i in range(per):
                sg[i, 0] = s[i, 0] ^ s[i, 1]
                sg[i, 1] = s[i, 0]
            if level == depth:
                break
            mmo(sg, hg, per, tree)
            c0, c1 = cw[e, level, 0], cw[e, level, 1]
            for i in range(per):
                t = np.uint64(0) - (s[i, 0] & one)
                l0 = hg[i, 0] ^ (c0 & t)
                l1 = hg[i, 1] ^ (c1 & t)
                s2[2 * i, 0] = l0
                s2[2 * i, 1] = l1
                s2[2 * i + 1, 0] = l0 ^ s[i, 0]
                s2[2 * i + 1, 1] = l1 ^ s[i, 1]
            s, s2 = s2, s
        mmo(sg, hg, 1 << depth, convert)
        for i in range(1 << depth):
            t = np.uint64(0) - (s[i, 0] & one)
            for w in range(2):
                value = hg[i, w] + (pcw[e, w] & t)
                out[e, 2 * i + w] = np.uint64(0) - value if party == 1 else value
