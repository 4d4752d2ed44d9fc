"""Ring products against Python's own integers, on edge values and at every boundary of the blocking."""

import secrets
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tacit.kernels import ring, ring_numba
from tacit.kernels.ring import LARGEST_WEIGHT, PublicMatrix

EDGES = [0, 1, 2**64 - 1, 2**63, 2**63 - 1, 2**64 - 2**32, 0x80, 0x7F, 0xFF, 0x8000, 0x7F80]
EDGES += [0x00FF00FF00FF00FF, 0xFF00FF00FF00FF00, 0x8080808080808080, 0x7F7F7F7F7F7F7F7F, 0x7F80808080808080]
WEIGHTS = [0, 1, -1, 127, 128, -128, -129, 255, 256, -32768, 32767, LARGEST_WEIGHT, LARGEST_WEIGHT + 1]


def words(*shape: int) -> NDArray[np.uint64]:
    """Uniform words, about a third of them replaced by edge values."""
    x = np.frombuffer(secrets.token_bytes(8 * int(np.prod(shape))), np.uint64).copy()
    for i in range(0, x.size, 3):
        x[i] = EDGES[secrets.randbelow(len(EDGES))]
    return x.reshape(shape)


def weights(rows: int, columns: int, dtype: type[np.signedinteger]) -> NDArray[np.signedinteger]:
    return np.frombuffer(secrets.token_bytes(np.dtype(dtype).itemsize * rows * columns), dtype).reshape(rows, columns)


def exact(x: NDArray[np.generic], w: NDArray[np.generic], bits: int = 64) -> list[list[int]]:
    """x @ w by Python's unbounded integers."""
    result: list[list[int]] = ((x.astype(object) @ w.astype(object)) % 2**bits).tolist()
    return result


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 12),
    k=st.integers(1, 9),
    n=st.integers(1, 9),
    bits=st.integers(1, 64),
    dtype=st.sampled_from([np.int8, np.int16]),
    data=st.data(),
)
def test_matmul_is_exact(m: int, k: int, n: int, bits: int, dtype: type, data: st.DataObject) -> None:
    word = st.one_of(st.sampled_from(EDGES), st.integers(0, 2**64 - 1))
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    value = st.one_of(st.sampled_from([v for v in WEIGHTS if low <= v <= high]), st.integers(low, high))
    x = np.array(data.draw(st.lists(word, min_size=m * k, max_size=m * k)), np.uint64).reshape(m, k)
    w: NDArray[np.signedinteger] = np.array(data.draw(st.lists(value, min_size=k * n, max_size=k * n)), dtype).reshape(
        k, n
    )
    y = ring.matmul(x, PublicMatrix(w), bits)
    assert y.dtype == np.uint64
    assert y.tolist() == exact(x, w, bits)


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("rows", [1, 9])
def test_edge_times_edge(edge: int, weight: int, rows: int) -> None:
    x, w = np.full((rows, 5), edge, np.uint64), np.full((5, 2), weight, np.int16)
    assert ring.matmul(x, PublicMatrix(w)).tolist() == [[5 * edge * weight % 2**64] * 2] * rows


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
@pytest.mark.parametrize("rows", [1, 7, 8, 64, 65, 130])
@pytest.mark.parametrize("columns", [1, 255, 256, 257, 1030])
def test_every_block_boundary(dtype: type[np.signedinteger], rows: int, columns: int) -> None:
    x, w = words(rows, 3), weights(3, columns, dtype)
    # The same product by numpy's own wrap-around, which the tests above tie to Python's integers.
    assert np.array_equal(ring.matmul(x, PublicMatrix(w)), x @ w.astype(np.int64).view(np.uint64))


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_where_int8_products_saturate_plain_loops_take_over(
    monkeypatch: pytest.MonkeyPatch, dtype: type[np.signedinteger]
) -> None:
    monkeypatch.setattr(ring, "int8_is_exact", lambda: False)
    x, w = words(9, 7), weights(7, 5, dtype)
    public = PublicMatrix(w)
    monkeypatch.delattr(torch, "_int_mm")  # must not be needed
    for bits in (64, 20):
        assert ring.matmul(x, public, bits).tolist() == exact(x, w, bits)


def test_a_saturating_int8_product_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What CPUs without VNNI do: pairs of products are added in 16 bits, with saturation."""

    def saturating(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        pairs = (a.int()[:, None, :] * b.T.int()[None]).reshape(a.shape[0], b.shape[1], -1, 2).sum(-1)
        return pairs.clamp(-(2**15), 2**15 - 1).sum(-1).int()

    monkeypatch.setattr(torch, "_int_mm", saturating)
    assert ring.int8_is_exact.__wrapped__() is False


@pytest.mark.parametrize("rows", [2, 9])
def test_the_tallest_matrix_does_not_overflow(rows: int) -> None:
    """Every digit product at its largest, (-128)(-128), 2 x 65535 times: the closest that int32 sums come to 2^31."""
    k = 65535
    x = np.full((rows, k), 2**64 - 0x8080808080808080, np.uint64)  # all digits -128
    w = np.full((k, 3), 32640, np.int16)  # digits -128 and 128; the latter is stored as -128 and corrected
    assert ring.matmul(x, PublicMatrix(w)).tolist() == [[int(x[0, 0]) * int(w[0, 0]) * k % 2**64] * 3] * rows


def test_read_only_and_strided_shares() -> None:
    x = words(6, 10)
    w = weights(5, 4, np.int16)
    half = x[:, ::2]
    half.flags.writeable = False
    assert ring.matmul(half, PublicMatrix(w)).tolist() == exact(half, w)


@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (3, 1, 7, 5), (2, 3, 4, 6), (2, 4, 5, 3), (2, 9, 16, 17), (1, 5, 130, 2)]
)
def test_batched_products_are_exact(shape: tuple[int, int, int, int]) -> None:
    b, m, k, n = shape
    left, right = words(b, m, k), words(b, k, n)
    expected = [exact(left[i], right[i]) for i in range(b)]
    assert ring.bmm(left, right).tolist() == expected
    assert ring.bmm_nt(left, np.ascontiguousarray(right.transpose(0, 2, 1))).tolist() == expected
    assert ring.bmm_nt(left, right.transpose(0, 2, 1)).tolist() == expected  # a view


@pytest.mark.parametrize("m", [1, 5])
@pytest.mark.parametrize(
    "part",
    [
        (slice(None), slice(0, 7)),  # a growing cache: read in place
        (slice(None), slice(2, 9)),
        (slice(1, 3), slice(0, 7)),
        (slice(0, 2), slice(0, 7)),
        (slice(None), slice(0, 14, 2)),
        (slice(None, None, -1), slice(0, 7)),
    ],
)
def test_batched_products_with_parts_of_a_buffer(m: int, part: tuple[slice, slice]) -> None:
    buffer = words(3, 16, 6).copy()  # owns its memory
    b = buffer[part]
    a = words(b.shape[0], m, 6)
    assert ring.bmm_nt(a, b).tolist() == [exact(a[i], b[i].T) for i in range(len(b))]
    a = words(b.shape[0], m, 7)
    assert ring.bmm(a, b).tolist() == [exact(a[i], b[i]) for i in range(len(b))]


def test_a_growing_buffer_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer, a = words(3, 16, 6).copy(), words(3, 1, 6)  # owns its memory
    seen: list[NDArray[np.uint64]] = []
    monkeypatch.setattr(ring_numba, "bmm_nt", lambda a, b, out: seen.append(b))
    ring.bmm_nt(a, buffer[:, :7])
    assert seen[0] is buffer


def test_batched_products_of_nothing() -> None:
    empty = np.zeros((2, 0, 4), np.uint64)
    assert ring.bmm(empty, words(2, 4, 3)).shape == (2, 0, 3)
    assert ring.bmm_nt(words(2, 3, 4), empty).shape == (2, 3, 0)
    assert ring.bmm(words(2, 3, 0), words(2, 0, 4)).tolist() == [[[0] * 4] * 3] * 2


@pytest.mark.parametrize("weight", [np.zeros((2, 2)), np.zeros((2, 2), np.int32), np.zeros((2, 2), np.uint8)])
def test_other_weight_types_are_refused(weight: NDArray[np.int16]) -> None:
    with pytest.raises(TypeError, match="int8 or int16"):
        PublicMatrix(weight)


@pytest.mark.parametrize("shape", [(0, 2), (2, 0), (65536, 1), (4,), (1, 2, 3)])
def test_other_weight_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        PublicMatrix(np.zeros(shape, np.int16))


def test_shapes_and_types_that_do_not_fit_are_refused() -> None:
    w = PublicMatrix(weights(3, 4, np.int16))
    wrong: list[NDArray[Any]] = [words(2, 4), words(3), np.zeros((2, 3)), np.zeros((2, 3), np.int64)]
    for x in wrong:
        with pytest.raises(TypeError, match="expected uint64"):
            ring.matmul(x, w)
    for bits in (0, 65):
        with pytest.raises(ValueError, match="bits"):
            ring.matmul(words(2, 3), w, bits)
    for a, b in ((words(2, 3, 4), words(2, 3, 4)), (words(2, 3, 4), words(1, 4, 3)), (words(3, 4), words(4, 3))):
        with pytest.raises(TypeError, match="cannot multiply"):
            ring.bmm(a, b)
    with pytest.raises(TypeError, match="cannot multiply"):
        ring.bmm_nt(words(2, 3, 4), words(2, 4, 3))


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (5, 300), (40, 7)])
def test_a_public_matrix_gives_its_values_back(dtype: type[np.signedinteger], shape: tuple[int, int]) -> None:
    w = weights(*shape, dtype).copy()
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    edges = [v for v in WEIGHTS if low <= v <= high][: w.size]
    w.reshape(-1)[: len(edges)] = edges
    assert np.array_equal(PublicMatrix(w).values(), w)
