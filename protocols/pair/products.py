"""Products of two secrets with kept masks: each key and value row is masked and opened once, when it is appended (DESIGN 5.4).

Beaver (CRYPTO 1991) in a ring Z_2^m: with Qh = q + b and Kh = k + a opened,

    q k^T = Qh Kh^T - Qh a^T - b Kh^T + b a^T;     b a^T is dealt, m bits an entry, in each step.

Party i computes Qh M_i^T - b_i Kh^T + (b a^T)_i with M_0 = Kh - a_0, M_1 = -a_1. A row's mask is bound to the row's value for
the session: the row is opened once, and its mask enters any number of products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...kernels.ring import bmm, bmm_nt
from ..base import Batch
from .secret import U64


class Rows:
    """Rows (S, G, D) that grow by appending; capacity doubles."""

    def __init__(self, groups: int, size: int) -> None:
        self._data = np.empty((groups, 16, size), np.uint64)
        self.length = 0

    def append(self, rows: U64) -> None:
        """rows (T, G, D)."""
        need = self.length + rows.shape[0]
        if need > self._data.shape[1]:
            grown = np.empty((self._data.shape[0], max(need, 2 * self._data.shape[1]), self._data.shape[2]), np.uint64)
            grown[:, : self.length] = self._data[:, : self.length]
            self._data = grown
        self._data[:, self.length : need] = rows.transpose(1, 0, 2)
        self.length = need

    def cut(self, length: int) -> None:
        """Forget all but the first `length` rows, for good: what is appended later may have come elsewhere before."""
        self._data[:, length : self.length] = 0
        self.length = length

    def copy(self, length: int) -> Rows:
        """The first `length` rows."""
        out = Rows(self._data.shape[0], self._data.shape[2])
        out.append(self._data[:, :length].transpose(1, 0, 2))
        return out

    @property
    def all(self) -> U64:
        """(G, S, D), a view that the ring products read in place."""
        return self._data[:, : self.length]


@dataclass(slots=True)
class KeptRows:
    """A compute peer's keys or values of one layer: what was opened and M_i."""

    opened: Rows
    m: Rows

    @classmethod
    def empty(cls, groups: int, size: int) -> KeptRows:
        """No rows yet."""
        return cls(Rows(groups, size), Rows(groups, size))

    def append(self, opened: U64, mask: U64, role: int) -> None:
        """Rows (T, G, D) just opened, with this party's part of their mask."""
        self.opened.append(opened)
        self.m.append(opened - mask if role == 0 else -mask)

    def cut(self, length: int) -> None:
        """Forget all but the first `length` rows and their masks."""
        self.opened.cut(length)
        self.m.cut(length)

    def copy(self, length: int) -> KeptRows:
        """The first `length` rows: the same values under the same masks."""
        return KeptRows(self.opened.copy(length), self.m.copy(length))


def against_rows(q_open: U64, q_mask: U64, rows: KeptRows) -> U64:
    """Qh M^T - b Kh^T: q (T, H, D) against rows (G, S, D), H a multiple of G -> (H, T, S), without the dealt term."""
    m, opened = rows.m.all, rows.opened.all
    q = grouped(q_open, m.shape[0])
    b = grouped(q_mask, m.shape[0])
    z = bmm_nt(q, m) - bmm_nt(b, opened)
    return ungrouped(z, q_open.shape[1])


def weighted_rows(e_open: U64, e_mask: U64, rows: KeptRows) -> U64:
    """Eh M - eps Vh: e (H, T, S) times rows (G, S, D) -> (H, T, D), without the dealt term."""
    m, opened = rows.m.all, rows.opened.all
    shape = (m.shape[0], -1, m.shape[1])
    z = bmm(e_open.reshape(shape), m) - bmm(e_mask.reshape(shape), opened)
    return z.reshape(e_open.shape[0], e_open.shape[1], -1)


def masks_against(q: U64, rows: U64) -> U64:
    """The dealer's b a^T: masks (T, H, D), (G, S, D) -> (H, T, S)."""
    return ungrouped(bmm_nt(grouped(q, rows.shape[0]), rows), q.shape[1])


def masks_weighted(e: U64, rows: U64) -> U64:
    """The dealer's eps a: masks (H, T, S), (G, S, D) -> (H, T, D)."""
    return bmm(e.reshape(rows.shape[0], -1, rows.shape[1]), rows).reshape(e.shape[0], e.shape[1], -1)


def grouped(x: U64, groups: int) -> U64:
    """(T, H, D) -> (G, H / G * T, D): the queries that share a key head side by side."""
    t, h, d = x.shape
    return np.ascontiguousarray(x.transpose(1, 0, 2)).reshape(groups, h // groups * t, d)


def ungrouped(z: U64, heads: int) -> U64:
    """(G, H / G * T, S) -> (H, T, S)."""
    return z.reshape(heads, -1, z.shape[2])


@dataclass(frozen=True, slots=True)
class Visible:
    """The pairs (t, s) of a step's rows and the tokens that they see, row by row: what a softmax looks at.

    A row sees its own sequence: s <= start + t in a causal model, all of it otherwise.
    """

    t: npt.NDArray[np.int64]  # (P,) row of the step
    s: npt.NDArray[np.int64]  # (P,) token of the row's sequence
    first: npt.NDArray[np.int64]  # (T,) where each row's pairs start
    rows: int
    longest: int  # S of the longest sequence after this step
    sequences: tuple[tuple[slice, slice, int], ...]  # of each: its rows, its pairs, its S after this step

    @classmethod
    def of(cls, batch: Batch, causal: bool = True) -> Visible:
        """What the rows of this batch see."""
        lengths = [
            part.start + 1 + np.arange(part.rows) if causal else np.full(part.rows, part.total) for part in batch.parts
        ]
        each = np.concatenate(lengths)
        first = np.concatenate([[0], np.cumsum(each)[:-1]]).astype(np.int64)
        t = np.repeat(np.arange(len(each)), each)
        sequences, at = [], 0
        for part, rows, seen in zip(batch.parts, batch.spans, lengths, strict=True):
            pairs = slice(at, at + int(seen.sum()))
            sequences.append((rows, pairs, part.total))
            at = pairs.stop
        s = np.arange(len(t)) - first[t]
        return cls(t, s, first, len(each), batch.longest, tuple(sequences))

    @property
    def pairs(self) -> int:
        """P."""
        return len(self.t)

    def gather(self, z: Sequence[U64]) -> U64:
        """Of each sequence (H, T_b, S_b) -> (H, P)."""
        found = [
            dense[:, self.t[pairs] - rows.start, self.s[pairs]]
            for dense, (rows, pairs, _) in zip(z, self.sequences, strict=True)
        ]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)

    def scatter(self, z: U64) -> list[U64]:
        """(H, P) -> of each sequence (H, T_b, S_b), 0 elsewhere."""
        out = []
        for rows, pairs, total in self.sequences:
            dense = np.zeros((z.shape[0], rows.stop - rows.start, total), np.uint64)
            dense[:, self.t[pairs] - rows.start, self.s[pairs]] = z[:, pairs]
            out.append(dense)
        return out

    def of_rows(self, z: U64) -> list[U64]:
        """(T, ...) -> the rows of each sequence."""
        return [z[rows] for rows, _, _ in self.sequences]

    def row_sums(self, z: U64) -> U64:
        """(H, P) -> (H, T), mod 2^64."""
        return np.add.reduceat(z, self.first, axis=1)

    def spread(self, z: U64) -> U64:
        """(H, T) -> (H, P)."""
        return z[:, self.t]
