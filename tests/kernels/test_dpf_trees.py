"""Evaluation: fast against reference bit for bit, and both against what the trees should add up to."""

from typing import Any

import numpy as np
import pytest
from dpf_keys import KEYS, spread, tables, words
from tacit.kernels.dpf.aes import vector_words
from tacit.kernels.dpf.trees import FastTrees, ReferenceTrees, Trees, make_trees, one_of_eight, small_depth

TABLES = tables()
fast_only = pytest.mark.skipif(vector_words() == 0, reason="this CPU has no AES instructions: only the reference runs")


def inputs(n: int, count: int) -> np.ndarray:
    """x: the ends of the ring, around 0 and the powers of two, and random ones."""
    top = 1 << (n - 1)
    edge = [-top, -top + 1, -1, 0, 1, 7 * (top >> 3) - 1] + [
        s * (1 << k) + d for k in range(n - 2) for s in (-1, 1) for d in (-1, 0)
    ]
    rest = (words(max(0, count - len(edge))).view(np.int64) >> np.int64(64 - n)) * 7 // 8
    return np.concatenate([np.array(edge, np.int64), rest])


def dealt(name: str, x: np.ndarray, fused: int) -> tuple:
    """X, roots and keys for x under fresh masks r, edge masks among them; and the factors."""
    cover = TABLES[name].cover
    mask = np.uint64((1 << cover.n) - 1)
    r = words(len(x)) & mask
    r[::7], r[1::11] = 0, mask
    factors = words(len(x), fused)
    factors[:, 0] = 1
    roots = words(len(x), 2), words(len(x), 2)
    cw, pcw = make_trees(KEYS).generate(
        r >> np.uint64(cover.n - cover.depth), cover.depth, *roots, cover.payload(r, factors), cover.words(fused)
    )
    return (x.view(np.uint64) + r) & mask, roots, cw, pcw, factors


@fast_only
@pytest.mark.parametrize("fused", [1, 3])
@pytest.mark.parametrize("name", TABLES)
def test_cover_bit_for_bit(name: str, fused: int) -> None:
    cover = TABLES[name].cover
    for count in (1, 16, 17, 300):
        x = inputs(cover.n, 300)[:count]
        big_x, roots, cw, pcw, _ = dealt(name, x, fused)
        for party in (0, 1):
            second = (words(count) & np.uint64(1)).astype(np.uint8) if fused == 3 else None
            args = (cover, big_x, roots[party], cw, pcw, party, second)
            assert np.array_equal(FastTrees(KEYS).cover(*args), ReferenceTrees(KEYS).cover(*args))


@pytest.mark.parametrize("name", TABLES)
def test_cover_multiplies_each_factor(name: str) -> None:
    """The second result is the first one times the factor chosen, exactly, mod 2^64."""
    x = inputs(TABLES[name].cover.n, 200)
    big_x, roots, cw, pcw, factors = dealt(name, x, 3)
    second = (words(len(x)) & np.uint64(1)).astype(np.uint8)
    y = sum(make_trees(KEYS).cover(TABLES[name].cover, big_x, roots[i], cw, pcw, i, second) for i in (0, 1))
    chosen = factors[np.arange(len(x)), 1 + second.astype(np.int64)]
    assert np.array_equal(y[:, 1], y[:, 0] * chosen)
    assert y[:, 0].any()


def test_the_value_does_not_depend_on_the_mask() -> None:
    """ReLU on every level: for one x every mask of the ring gives the same number."""
    cover = TABLES["every level"].cover
    r = np.arange(1 << 16, dtype=np.uint64)
    for x in (5, -3, 28000):
        roots = words(len(r), 2), words(len(r), 2)
        beta = cover.payload(r, np.ones((len(r), 1), np.uint64))
        trees = make_trees(KEYS)
        cw, pcw = trees.generate(r, cover.depth, *roots, beta, cover.words(1))
        big_x = (np.uint64(x & 0xFFFF) + r) & np.uint64(0xFFFF)
        y = sum(trees.cover(cover, big_x, roots[i], cw, pcw, i) for i in (0, 1))
        assert set(np.unique(y).tolist()) == {max(x, 0)}


def small_keys(position: np.ndarray, bits: int) -> tuple:
    depth = small_depth(bits)
    roots = words(len(position), 2), words(len(position), 2)
    cw, pcw = make_trees(KEYS).generate(
        position >> np.uint64(3), depth, *roots, one_of_eight(position), spread(depth, {depth: 2}), True
    )
    return roots, cw, pcw


def forms() -> list[Trees]:
    return [ReferenceTrees(KEYS)] + ([FastTrees(KEYS)] if vector_words() else [])


def counted(trees: Trees, shape: tuple[int, int], *arguments: Any) -> np.ndarray:
    """A histogram into fresh counters, checked to add to what is there."""
    out = np.zeros(shape, np.uint16)
    trees.histogram(out, *arguments)
    twice = out.copy()
    trees.histogram(twice, *arguments)
    assert np.array_equal(twice, out + out)
    return out


@pytest.mark.parametrize("bits", [4, 5, 7, 9])
@pytest.mark.parametrize("count", [1, 15, 16, 33])
def test_histogram_counts(bits: int, count: int) -> None:
    size = 1 << bits
    r = words(count) % np.uint64(size)
    u = words(count) % np.uint64(size)
    u[:2], r[:2] = [0, size - 1][:count], [size - 1, 0][:count]
    rows = np.sort((words(count) % np.uint64(5)).astype(np.int64))
    x = (u + r) % np.uint64(size)
    roots, cw, pcw = small_keys(r, bits)
    want = np.zeros((5, size), np.uint16)
    np.add.at(want, (rows, u.astype(np.int64)), 1)
    shares = [[counted(t, (5, 1 << bits), x, rows, roots[i], cw, pcw, i) for i in (0, 1)] for t in forms()]
    for first, second in shares:
        assert np.array_equal(first + second, want)
        assert np.array_equal(first, shares[0][0])
        assert np.array_equal(second, shares[0][1])


@pytest.mark.parametrize("bits", [4, 5, 8, 11])
def test_points_are_one_at_the_key_and_zero_elsewhere(bits: int) -> None:
    size = 1 << bits
    r = np.repeat(np.array([0, 1, 7, 8, size // 2, size - 2, size - 1], np.uint64), size)
    x = np.tile(np.arange(size, dtype=np.uint64), 7)
    roots, cw, pcw = small_keys(r, bits)
    shares = [[t.points(x, roots[i], cw, pcw, i, bits) for i in (0, 1)] for t in forms()]
    for first, second in shares:
        assert np.array_equal(first + second, (x == r).astype(np.uint16))
        assert np.array_equal(first, shares[0][0])
        assert np.array_equal(second, shares[0][1])


@fast_only
@pytest.mark.parametrize("depth", [1, 2, 5, 9])
def test_one_hot_bit_for_bit_and_payload_on_the_path(depth: int) -> None:
    """Any 128-bit payload at the leaf of alpha, zero at every other leaf."""
    count = 5
    alpha = words(count) & np.uint64((1 << depth) - 1)
    alpha[0], alpha[1] = 0, (1 << depth) - 1
    roots, beta = (words(count, 2), words(count, 2)), words(count, 2)
    cw, pcw = make_trees(KEYS).generate(alpha, depth, *roots, beta, spread(depth, {depth: 2}))
    shares = [[t.one_hot(roots[i], cw, pcw, i) for i in (0, 1)] for t in forms()]
    want = np.zeros((count, 1 << depth, 2), np.uint64)
    want[np.arange(count), alpha.astype(np.int64)] = beta
    for first, second in shares:
        assert np.array_equal((first + second).reshape(want.shape), want)
        assert np.array_equal(first, shares[0][0])


def test_shares_alone_are_not_the_payload() -> None:
    """Off the path the two parties hold opposite numbers that look random, not zeros."""
    roots, cw, pcw = small_keys(np.full(1, 9, np.uint64), 8)
    alone = counted(make_trees(KEYS), (1, 256), np.zeros(1, np.uint64), np.zeros(1, np.int64), roots[0], cw, pcw, 0)
    assert len(np.unique(alone)) > 200
