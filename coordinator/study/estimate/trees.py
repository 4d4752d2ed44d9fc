"""How often the tree kernels' inner loops run for a table and a number of keys: from the table alone, nothing is expanded.

Which nodes a party visits depends on the opened value X alone, and X is uniform: the walk of `Cover` is done for a sample of X
without seeds. The kernels work on tiles of 16 keys, and on 16 nodes at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
import numpy.typing as npt

from ....kernels.dpf.cover import Cover
from ....kernels.dpf.hashing import U64
from ....protocols.pair.spline import PORTION

TILE = 16
SAMPLE = 48


@dataclass(frozen=True, slots=True)
class Visits:
    """Means over X of what one key's evaluation does."""

    grown: tuple[float, ...]  # nodes taken one level down, by level
    runs: float  # stretches of neighbouring nodes with one action
    pieces: float  # nodes evaluated one by one
    blocks: float  # AES blocks these are converted with
    dense: float  # AES blocks of leaves evaluated in order
    fours: float  # groups of up to four nodes evaluated together, times the factors


@lru_cache(maxsize=512)
def visits(cover: Cover, factors: int) -> Visits:
    """Walk `cover` for a sample of X, as `kernels.dpf.fast.cover` does; keys with `factors` factors."""
    drawn: U64 = np.random.default_rng(1).integers(0, 1 << 63, SAMPLE, np.uint64)
    x: U64 = drawn >> np.uint64(63 - cover.n)
    node: U64 = np.zeros(SAMPLE, np.uint64)
    tree: npt.NDArray[np.int64] = np.arange(SAMPLE)
    grown: list[float] = []
    runs = pieces = blocks = dense = fours = 0.0
    gap = 0
    for level in range(1, cover.depth + 1):
        grown.append(len(node) * (1 << gap) / SAMPLE)
        gap += 1
        if not cover.classify[level]:
            continue
        node = np.add.outer(node << np.uint64(gap), np.arange(1 << gap, dtype=np.uint64)).reshape(-1)
        tree = np.repeat(tree, 1 << gap)
        gap = 0
        wrap = 64 - level
        u = (((x[tree] >> np.uint64(cover.n - level)) - node) << np.uint64(wrap)).view(np.int64) >> wrap
        at = u - cover.low[level]
        listed = (at >= 0) & (at < cover.length[level])
        action = np.full(len(u), -2, np.int64)
        action[listed] = cover.actions[cover.offset[level] + at[listed]]
        together = np.where(action[:-1] >= 0, action[1:] == action[:-1] + 1, action[1:] == action[:-1])
        together &= (tree[1:] == tree[:-1]) & (node[1:] == node[:-1] + np.uint64(1))
        first = np.flatnonzero(np.concatenate([[True], ~together]))  # of each run
        runs += len(first)
        sizes = np.diff(np.append(first, len(u)))[action[first] >= 0]
        each = (1 + int(cover.terms[level])) // 2  # AES blocks of a node and factor
        if cover.short[level]:
            fours += float(((sizes + 3) // 4).sum()) * min(2, factors)
        else:
            whole = int(sizes[sizes % 16 == 0].sum()) if factors == 1 else 0
            one_by_one = int(sizes.sum()) - whole
            dense += whole * each
            pieces += one_by_one
            blocks += one_by_one * each * min(2, factors)
        keep = action == -1
        node, tree = node[keep], tree[keep]
        if not len(node):
            break
    return Visits(tuple(grown), runs / SAMPLE, pieces / SAMPLE, blocks / SAMPLE, dense / SAMPLE, fours / SAMPLE)


def evaluated(cover: Cover, count: int, factors: int = 1) -> dict[str, float]:
    """A compute peer's side of `count` keys: `Trees.cover`, portion by portion."""
    if not count:
        return {}
    seen = visits(cover, factors)
    tiles, rest = divmod(count, TILE)
    grows = tiles * sum(ceil(nodes) for nodes in seen.grown)
    if rest:
        grows += sum(ceil(rest * nodes / TILE) for nodes in seen.grown)
    return {
        "cover.call": ceil(count / PORTION),
        "cover.key": count,
        "cover.grow": grows,
        "cover.run": count * seen.runs,
        "cover.piece": count * seen.pieces,
        "cover.block": count * seen.blocks,
        "cover.leaf": count * seen.dense,
        "cover.four": count * seen.fours,
    }


def small_evaluated(kind: str, count: int, depth: int) -> dict[str, float]:
    """The same for small trees: `histogram` looks at every leaf, `points` at one path."""
    if not count:
        return {}
    calls = ceil(count / PORTION)
    if kind == "histogram":
        return {"histogram.call": calls, "histogram.leaf": count << depth}
    return {"points.call": calls, "points.level": count * (depth + 1)}


def generated(count: int, depth: int, words: int) -> dict[str, float]:
    """The dealer's side: keys of `depth` levels with `words` payload words."""
    if not count:
        return {}
    tiles = sum(ceil(min(PORTION, count - at) / TILE) for at in range(0, count, PORTION))
    return {
        "generate.call": ceil(count / PORTION),
        "generate.level": tiles * depth,
        "generate.block": tiles * words / 2,
        "generate.byte": count * (16 * depth + 8 * words),
    }


def payloads(cover: Cover, count: int, factors: int = 1) -> dict[str, float]:
    """The dealer's payloads (1, -rho, rho^2) times each factor, made level by level in numpy."""
    passes = sum(3 + factors * (1 + 2 * int(terms)) for terms in cover.terms if terms)
    return {"payload.pass": passes * ceil(count / PORTION), "payload.element": passes * count}


def dealt(cover: Cover, count: int, factors: int = 1) -> dict[str, float]:
    """Everything the dealer does for `count` keys of a table."""
    return generated(count, cover.depth, cover.payload_words(factors)) | payloads(cover, count, factors)
