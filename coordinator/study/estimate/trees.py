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
    lookups: float  # windows looked up one by one
    pieces: float  # nodes evaluated one by one
    blocks: float  # AES blocks these are converted with
    dense: float  # AES blocks of leaves evaluated in order
    fours: float  # groups of four nodes evaluated together with three factors


@lru_cache(maxsize=512)
def visits(cover: Cover, fused: int) -> Visits:
    """Walk `cover` for a sample of X, as `kernels.dpf.fast.cover` does."""
    drawn: U64 = np.random.default_rng(1).integers(0, 1 << 63, SAMPLE, np.uint64)
    x: U64 = drawn >> np.uint64(63 - cover.n)
    words = cover.words(fused)
    node: U64 = np.zeros(SAMPLE, np.uint64)
    tree: npt.NDArray[np.int64] = np.arange(SAMPLE)
    grown: list[float] = []
    lookups = pieces = blocks = dense = fours = 0.0
    gap = 0
    for level in range(1, cover.depth + 1):
        grown.append(len(node) * (1 << gap) / SAMPLE)
        gap += 1
        if not cover.classify[level]:
            continue
        per, last = 1 << gap, len(node)
        node = np.add.outer(node << np.uint64(gap), np.arange(per, dtype=np.uint64)).reshape(-1)
        tree = np.repeat(tree, per)
        gap = 0
        in_fours = fused == 3 and cover.terms[level] == 2
        if cover.classify[level] == 2 and ((per % 16 == 0 and fused == 1) or (per % 4 == 0 and in_fours)):
            if in_fours:
                fours += len(node) / 4
            else:
                dense += len(node) * (2 if cover.terms[level] == 3 else 1)
            break
        wrap = 64 - level
        u = (((x[tree] >> np.uint64(cover.n - level)) - node) << np.uint64(wrap)).view(np.int64) >> wrap
        at = u - cover.low[level]
        listed = (at >= 0) & (at < cover.length[level])
        action = np.full(len(u), -2, np.int64)
        action[listed] = cover.actions[cover.offset[level] + at[listed]]
        piece = action >= 0
        if in_fours and per == 4:
            whole = piece.reshape(last, 4).all(1)
            fours += float(whole.sum())
            piece = piece & ~np.repeat(whole, 4)
            lookups -= 3.0 * float(whole.sum())
        lookups += len(u)
        pieces += float(piece.sum())
        blocks += float(piece.sum()) * int(words[level]) / 2
        keep = action == -1
        node, tree = node[keep], tree[keep]
        if not len(node):
            break
    return Visits(
        tuple(grown), lookups / SAMPLE, pieces / SAMPLE, blocks / SAMPLE, dense / SAMPLE, fours / SAMPLE
    )  # fmt: skip


def evaluated(cover: Cover, count: int, fused: int = 1) -> dict[str, float]:
    """A compute peer's side of `count` keys: `Trees.cover`, portion by portion."""
    if not count:
        return {}
    seen = visits(cover, fused)
    tiles, rest = divmod(count, TILE)
    grows = tiles * sum(ceil(nodes) for nodes in seen.grown)
    if rest:
        grows += sum(ceil(rest * nodes / TILE) for nodes in seen.grown)
    return {
        "cover.call": ceil(count / PORTION),
        "cover.key": count,
        "cover.grow": grows,
        "cover.lookup": count * seen.lookups,
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


def payloads(cover: Cover, count: int, fused: int = 1) -> dict[str, float]:
    """The dealer's payloads (1, -rho, rho^2) times each factor, made level by level in numpy."""
    passes = sum(3 + fused * (1 + 2 * int(terms)) for terms in cover.terms if terms)
    return {"payload.pass": passes * ceil(count / PORTION), "payload.element": passes * count}


def dealt(cover: Cover, count: int, fused: int = 1) -> dict[str, float]:
    """Everything the dealer does for `count` keys of a table."""
    return generated(count, cover.depth, cover.payload_words(fused)) | payloads(cover, count, fused)
