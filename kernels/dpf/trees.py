"""One session's trees: key generation and the four evaluations, behind one interface with two forms.

`FastTrees` runs the fused numba kernels; `ReferenceTrees` is numpy and OpenSSL, for CPUs without AES instructions and for
the tests, which hold the two bit for bit against each other. B keys; roots (B, 2), cw (B, depth, 2), pcw (B, words).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from .cover import Cover
from .hashing import U64, TreeHash, TreeKeys
from .keygen import generate

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
LANES = 8  # 16-bit lanes in the one payload block of `histogram` and `points` trees


def small_depth(bits: int) -> int:
    """Levels of a tree over 2^bits entries with eight 16-bit lanes a leaf; domains below 16 are not worth a tree."""
    return bits - 3


def one_of_eight(position: U64) -> U64:
    """Payload of such a leaf: lane `position` mod 8 is 1: (B,) -> (B, 2)."""
    lane = position & np.uint64(7)
    bit = np.uint64(1) << (np.uint64(16) * (lane & np.uint64(3)))
    out = np.zeros((len(position), 2), np.uint64)
    out[np.arange(len(position)), (lane >> np.uint64(2)).astype(np.int64)] = bit
    return out


class Trees(ABC):
    """The operations on trees that gates and the dealer need."""

    def __init__(self, keys: TreeKeys) -> None:
        self.keys = keys

    @abstractmethod
    def generate(
        self,
        alpha: U64,
        depth: int,
        roots0: U64,
        roots1: U64,
        beta: U64,
        words: npt.NDArray[np.int64],
        lane16: bool = False,
    ) -> tuple[U64, U64]:
        """Keys at `alpha`; words[j] = payload words of level j, beta (B, sum words) level by level -> cw, pcw."""

    @abstractmethod
    def cover(self, table: Cover, x: U64, roots: U64, cw: U64, pcw: U64, party: int, second: U8 | None = None) -> U64:
        """Share of the covered polynomial times the keys' one factor: (B, 1).

        With `second` (B,), for keys of three factors: times factor 0, and times factor 1 + second (0 or 1): (B, 2).
        """

    @abstractmethod
    def histogram(
        self, out: U16, x: U64, rows: npt.NDArray[np.int64], roots: U64, cw: U64, pcw: U64, party: int
    ) -> None:
        """Add to out (R, 2^bits) the share, mod 2^16, of how many x - r of each row equal u."""

    @abstractmethod
    def points(self, x: U64, roots: U64, cw: U64, pcw: U64, party: int, bits: int) -> U16:
        """Share, mod 2^16, of [x = r]: (B,)."""

    @abstractmethod
    def one_hot(self, roots: U64, cw: U64, pcw: U64, party: int) -> U64:
        """Share of each key's one-hot row, two entries a leaf: (B, 2^(depth + 1))."""


class FastTrees(Trees):
    """numba with AES instructions."""

    def __init__(self, keys: TreeKeys) -> None:
        super().__init__(keys)
        from . import fast
        from .aes import round_keys

        self._k = fast
        self._tree, self._convert = round_keys(keys.tree), round_keys(keys.convert)

    def generate(
        self,
        alpha: U64,
        depth: int,
        roots0: U64,
        roots1: U64,
        beta: U64,
        words: npt.NDArray[np.int64],
        lane16: bool = False,
    ) -> tuple[U64, U64]:
        cw, pcw = np.empty((len(alpha), depth, 2), np.uint64), np.empty_like(beta)
        self._k.generate(alpha, depth, roots0, roots1, beta, words, lane16, self._tree, self._convert, cw, pcw)
        return cw, pcw

    def cover(self, table: Cover, x: U64, roots: U64, cw: U64, pcw: U64, party: int, second: U8 | None = None) -> U64:
        out = np.empty((len(x), 1 if second is None else 2), np.uint64)
        t, choice = table, np.zeros(0, np.uint8) if second is None else second
        self._k.cover(
            x, roots, cw, pcw, party, t.n, t.depth, t.classify, t.low, t.offset, t.length, t.actions, t.runs,
            t.terms, t.kept, t.coefficients, t.dense, t.short, choice, t.width, self._tree, self._convert, out,
        )  # fmt: skip
        return out

    def histogram(
        self, out: U16, x: U64, rows: npt.NDArray[np.int64], roots: U64, cw: U64, pcw: U64, party: int
    ) -> None:
        bits = out.shape[1].bit_length() - 1
        self._k.histogram(x, rows, roots, cw, pcw, party, bits, self._tree, self._convert, out)

    def points(self, x: U64, roots: U64, cw: U64, pcw: U64, party: int, bits: int) -> U16:
        out = np.empty(len(x), np.uint16)
        self._k.points(x, roots, cw, pcw, party, bits, self._tree, self._convert, out)
        return out

    def one_hot(self, roots: U64, cw: U64, pcw: U64, party: int) -> U64:
        depth = cw.shape[1]
        out = np.empty((len(roots), 2 << depth), np.uint64)
        self._k.one_hot(roots, cw, pcw, party, depth, self._tree, self._convert, out)
        return out


class ReferenceTrees(Trees):
    """numpy and OpenSSL: level by level over the nodes of all trees together."""

    def __init__(self, keys: TreeKeys) -> None:
        super().__init__(keys)
        self._hash = TreeHash(keys)

    def generate(
        self,
        alpha: U64,
        depth: int,
        roots0: U64,
        roots1: U64,
        beta: U64,
        words: npt.NDArray[np.int64],
        lane16: bool = False,
    ) -> tuple[U64, U64]:
        ends = np.cumsum(words)
        payloads = {j: beta[:, ends[j] - words[j] : ends[j]] for j in range(1, depth + 1) if words[j]}
        k = generate(self._hash, alpha, depth, roots0, roots1, payloads, 16 if lane16 else 64)
        return k.cw, np.concatenate([k.pcw[j] for j in payloads], axis=1)

    def _roots(self, roots: U64, party: int) -> U64:
        s = roots.copy()
        s[:, 0] = (s[:, 0] & ~np.uint64(1)) | np.uint64(party)
        return s

    def _children(self, s: U64, cw: U64) -> tuple[U64, U64]:
        left = self._hash.node(s) ^ (cw * (s[:, :1] & np.uint64(1)))
        return left, left ^ s

    def _all(self, roots: U64, cw: U64, party: int) -> U64:
        """Every leaf seed: (B 2^depth, 2)."""
        s = self._roots(roots, party)
        for level in range(cw.shape[1]):
            left, right = self._children(s, np.repeat(cw[:, level], 1 << level, axis=0))
            s = np.stack([left, right], 1).reshape(-1, 2)
        return s

    def _values(self, s: U64, pcw: U64, party: int, lane16: bool) -> U64:
        """(-1)^party (G(s) + t PCW), in lanes: (N, 2) -> (N, lanes)."""
        dtype = np.uint16 if lane16 else np.uint64
        t = ((s[:, :1] & np.uint64(1)) != 0).astype(dtype)
        blocks = pcw.shape[1] // 2
        value = np.ascontiguousarray(self._hash.words(s, blocks)).view(dtype)
        value = value + t * np.ascontiguousarray(pcw).view(dtype)
        signed: U64 = -value if party == 1 else value
        return signed

    def cover(self, table: Cover, x: U64, roots: U64, cw: U64, pcw: U64, party: int, second: U8 | None = None) -> U64:
        factors = [np.zeros(len(x), np.int64)] + ([] if second is None else [1 + second.astype(np.int64)])
        out = np.zeros((len(x), len(factors)), np.uint64)
        words = table.words(1 if second is None else 3)
        ends = np.cumsum(words)
        s, node, tree = self._roots(roots, party), np.zeros(len(x), np.uint64), np.arange(len(x))
        for level in range(1, table.depth + 1):
            left, right = self._children(s, cw[tree, level - 1])
            s = np.stack([left, right], 1).reshape(-1, 2)
            node = np.stack([node * np.uint64(2), node * np.uint64(2) + np.uint64(1)], 1).reshape(-1)
            tree = np.repeat(tree, 2)
            if not table.classify[level]:
                continue
            w = table.n - level
            wrap = 64 - level
            u = (((x[tree] >> np.uint64(w)) - node) << np.uint64(wrap)).view(np.int64) >> wrap
            j = u - table.low[level]
            listed = (j >= 0) & (j < table.length[level])
            action = np.full(len(u), -2, np.int64)
            action[listed] = table.actions[table.offset[level] + j[listed]]
            piece = np.flatnonzero(action >= 0)
            if len(piece):
                value = self._values(s[piece], pcw[tree[piece], ends[level] - words[level] : ends[level]], party, False)
                c = table.coefficients[action[piece]]
                v = table.rho(x[tree[piece]], level)
                c0, c1, c2 = c[:, 0], c[:, 1], c[:, 2]
                shifted = [c0 + v * (c1 + v * c2), c1 + np.uint64(2) * v * c2, c2]
                d1 = int(table.terms[level])
                each = np.arange(len(piece))
                for f, factor in enumerate(factors):
                    first = (d1 + (d1 & 1)) * factor[tree[piece]]
                    y = sum((shifted[i] * value[each, first + i] for i in range(d1)), np.zeros(len(piece), np.uint64))
                    np.add.at(out[:, f], tree[piece], y)
            keep = action == -1
            s, node, tree = s[keep], node[keep], tree[keep]
        return out

    def histogram(
        self, out: U16, x: U64, rows: npt.NDArray[np.int64], roots: U64, cw: U64, pcw: U64, party: int
    ) -> None:
        leaves, windows = 1 << cw.shape[1], out.shape[1]
        value = self._values(self._all(roots, cw, party), np.repeat(pcw, leaves, axis=0), party, True)
        u = (x.astype(np.int64)[:, None] - np.arange(windows)) & (windows - 1)
        np.add.at(out, (np.broadcast_to(rows[:, None], u.shape), u), value.reshape(len(x), -1).astype(np.uint16))

    def points(self, x: U64, roots: U64, cw: U64, pcw: U64, party: int, bits: int) -> U16:
        value = self._values(self._all(roots, cw, party), np.repeat(pcw, 1 << small_depth(bits), axis=0), party, True)
        return value.reshape(len(x), -1)[np.arange(len(x)), x.astype(np.int64)].astype(np.uint16)

    def one_hot(self, roots: U64, cw: U64, pcw: U64, party: int) -> U64:
        value = self._values(self._all(roots, cw, party), np.repeat(pcw, 1 << cw.shape[1], axis=0), party, False)
        return value.reshape(len(roots), -1)


def make_trees(keys: TreeKeys) -> Trees:
    """The fastest form this CPU can run."""
    from .aes import vector_words

    return FastTrees(keys) if vector_words() else ReferenceTrees(keys)
