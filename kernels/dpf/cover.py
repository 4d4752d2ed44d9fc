"""Covers: what a party does with the nodes of a gate's tree, given the public X.

The tree is over r, the mask, n bits, most significant first. A node of level j stands for all r with the same top j bits; as
X = x + r is public, it also stands for the window u = (X >> (n - j)) - node (signed, j bits) of x:

    x = u W + v,   W = 2^(n - j),   v = (X mod W) - (r mod W)  in (-W, W),

so every window is read with double, overlapping width, and needs no comparison and no borrow. A cover says of each window of
each level: EXPAND it, drop it (ZERO: the function is 0 there), or evaluate piece p: a polynomial in v, good on the whole
double window. Pieces are evaluated with the payload (1, -rho, rho^2 ...) of their level, rho = r mod W (its top q bits where
n - j > q; v is then in units of W 2^-q). The nodes evaluated are a prefix-free cover of r's path, so exactly one of them is on it.

Range: -2^(n-1) <= x < 2^(n-1) - W_leaf; the top window aliases the bottom one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .hashing import U64

EXPAND, ZERO = -1, -2
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """A gate's table in the form the kernels read. Levels run from 0 (root) to `depth` (leaves)."""

    n: int  # bits of x, X and r
    depth: int
    classify: (
        I64  # (depth + 1,) 0: every node is expanded; 1: windows are looked up; 2: dense leaves, all pieces, in order
    )
    low: I64  # (depth + 1,) first window listed; windows outside the list are ZERO
    offset: I64  # (depth + 1,) where the level's list starts in `actions`
    length: I64  # (depth + 1,)
    actions: I64  # EXPAND, ZERO or a row of `coefficients`; a level's rows run from its highest window down
    terms: I64  # (depth + 1,) degree + 1 of the level's pieces, 0 where the level has no payload
    kept: I64  # (depth + 1,) q: bits of v kept at the level
    coefficients: U64  # (pieces, 3), two's complement at the gate's output scale
    width: int  # most nodes of one tree alive at once, for buffers
    dense: U64 = field(init=False)  # (3, pieces, 2) the coefficients as pairs (c_r, c_r+1), for the vector kernels
    runs: I64 = field(
        init=False
    )  # as `actions`: from here down, how many windows have this action, or the pieces that follow
    short: I64 = field(init=False)  # (depth + 1,) 1: pieces of degree 1, v and every c_1 below 2^31 in size

    def __post_init__(self) -> None:
        padded = np.concatenate([self.coefficients, np.zeros((len(self.coefficients), 1), np.uint64)], 1)
        object.__setattr__(self, "dense", np.ascontiguousarray(np.stack([padded[:, r : r + 2] for r in range(3)])))
        object.__setattr__(self, "runs", self._runs())
        short = ((self.terms == 2) & (self.kept < 32)).astype(np.int64)
        for level in np.flatnonzero(short):
            rows = self.actions[self.offset[level] : self.offset[level] + self.length[level]]
            slopes = self.coefficients[rows[rows >= 0], 1].view(np.int64)
            short[level] = slopes.size == 0 or int(np.abs(slopes).max()) < 1 << 31
        object.__setattr__(self, "short", short)

    def _runs(self) -> I64:
        runs = np.ones(len(self.actions), np.int64)
        for level in np.flatnonzero(self.classify):
            for row in range(self.offset[level] + 1, self.offset[level] + self.length[level]):
                here, below = self.actions[row], self.actions[row - 1]
                if below == (here + 1 if here >= 0 else here):
                    runs[row] = runs[row - 1] + 1
        return runs

    def words(self, factors: int) -> I64:
        """Payload words at each level when the terms are multiplied by `factors` secrets, each one's even: (depth + 1,)."""
        return (self.terms + (self.terms & 1)) * factors

    def payload_words(self, factors: int = 1) -> int:
        """Payload words of one key, all levels together."""
        return int(self.words(factors).sum())

    def key_bytes(self, factors: int = 1) -> int:
        """Bytes of correction words of one key: 16 a level and 8 a payload word."""
        return 16 * self.depth + 8 * self.payload_words(factors)

    def rho(self, r: U64, level: int) -> U64:
        """rho = r mod W at `level`, its top `kept` bits (shifted up where W has fewer)."""
        w, q = self.n - level, int(self.kept[level])
        low = r & np.uint64((1 << w) - 1)
        return low >> np.uint64(w - q) if w >= q else low << np.uint64(q - w)

    def payload(self, r: U64, factors: U64) -> U64:
        """beta of every key: r (B,), factors (B, F) multiply (1, -rho, rho^2): (B, payload_words)."""
        out = np.zeros((len(r), self.payload_words(factors.shape[1])), np.uint64)
        at = 0
        for level in np.flatnonzero(self.terms):
            minus_rho = -self.rho(r, int(level))
            d1 = int(self.terms[level])
            for f in range(factors.shape[1]):
                power = factors[:, f].copy()
                for i in range(d1):
                    out[:, at + i] = power
                    power *= minus_rho
                at += d1 + (d1 & 1)
        return out
