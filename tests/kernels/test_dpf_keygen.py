"""Key generation: both forms bit for bit, one-hot keys of any size, and what a key alone looks like."""

import math

import numpy as np
import pytest
from dpf_keys import KEYS, spread, words
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.kernels.dpf.aes import vector_words
from tacit.kernels.dpf.keygen import one_hot_depth, one_hot_key_bytes, one_hot_keys
from tacit.kernels.dpf.trees import FastTrees, ReferenceTrees, Trees, make_trees

SIZES = [1, 2, 3, 4, 5, 17, 512, 50257]
FORMS = [
    ReferenceTrees,
    pytest.param(FastTrees, marks=pytest.mark.skipif(vector_words() == 0, reason="no AES instructions")),
]


@pytest.mark.skipif(vector_words() == 0, reason="this CPU has no AES instructions")
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 40])
@pytest.mark.parametrize(
    ("depth", "levels", "lane16"),
    [(1, {1: 2}, False), (4, {4: 2}, True), (10, {6: 2, 10: 4}, False), (13, {5: 6, 8: 6, 11: 6, 13: 10}, False)],
)
def test_both_forms_make_the_same_keys(count: int, depth: int, levels: dict[int, int], lane16: bool) -> None:
    counts = spread(depth, levels)
    alpha = words(count) & np.uint64((1 << depth) - 1)
    alpha[:2] = [0, (1 << depth) - 1][: len(alpha)]
    r0, r1, beta = words(count, 2), words(count, 2), words(count, int(counts.sum()))
    fast = FastTrees(KEYS).generate(alpha, depth, r0, r1, beta, counts, lane16)
    slow = ReferenceTrees(KEYS).generate(alpha, depth, r0, r1, beta, counts, lane16)
    for a, b in zip(fast, slow, strict=True):
        assert np.array_equal(a, b)


def opened(trees: Trees, keys: tuple[bytes, bytes], size: int) -> np.ndarray:
    """The row that two keys share."""
    total = np.zeros(1, np.uint64)
    for party, key in enumerate(keys):
        k = np.frombuffer(key, np.uint64).reshape(1, one_hot_depth(size) + 2, 2)
        parts = (np.ascontiguousarray(a) for a in (k[:, 0], k[:, 1:-1], k[:, -1]))
        total = total + trees.one_hot(*parts, party)[0]
    return total


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", SIZES)
def test_one_hot_keys_add_up_to_the_row(size: int, form: type[Trees]) -> None:
    trees = form(KEYS)
    for index in sorted({0, 1, size // 2, size - 2, size - 1} & set(range(size))):
        keys = one_hot_keys(index, size, KEYS)
        assert {len(k) for k in keys} == {one_hot_key_bytes(size)}
        row = opened(trees, keys, size)
        assert len(row) >= size
        want = np.zeros(len(row), np.uint64)
        want[index] = 1
        assert np.array_equal(row, want)


@given(st.integers(1, 700), st.data())
@settings(max_examples=60, deadline=None)
def test_one_hot_keys_of_any_size(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    row = opened(make_trees(KEYS), one_hot_keys(index, size, KEYS), size)
    assert np.flatnonzero(row).tolist() == [index]
    assert row[index] == 1


def test_key_sizes() -> None:
    assert [one_hot_depth(s) for s in (1, 2, 3, 4, 5, 512, 50257)] == [1, 1, 1, 1, 2, 8, 15]
    assert one_hot_key_bytes(50257) == 272  # "some 300 bytes for 50,257 entries" (design, section 5.9)


@pytest.mark.parametrize("index", [-1, 777, 10**9])
def test_an_index_outside_is_refused_without_naming_it(index: int) -> None:
    with pytest.raises(ValueError, match="outside the vocabulary of 512") as caught:
        one_hot_keys(index, 512, KEYS)
    assert str(index) not in str(caught.value)


def test_a_key_alone_looks_uniform_whatever_the_index() -> None:
    """Every bit of either party's key is 1 half of the time, for both of two indices, and the party's bit is fixed.

    A bit's count over N keys is normal: |z| < 6.5 has probability 1 - 8e-11; 2 x 2 x 2816 bits are tested (Bonferroni: 1e-6).
    """
    size, count = 50257, 1500
    for index in (0, 50256):
        for party in (0, 1):
            keys = b"".join(one_hot_keys(index, size, KEYS)[party] for _ in range(count))
            bits = np.unpackbits(np.frombuffer(keys, np.uint8).reshape(count, -1), axis=1, bitorder="little")
            assert (bits[:, 0] == party).all()  # the control bit
            z = (bits[:, 1:].sum(0) - count / 2) / math.sqrt(count / 4)
            assert np.abs(z).max() < 6.5


def test_two_keys_of_one_index_have_nothing_in_common() -> None:
    one, other = (np.frombuffer(one_hot_keys(7, 512, KEYS)[0], np.uint64) for _ in range(2))
    assert not np.isin(one, other).any()
