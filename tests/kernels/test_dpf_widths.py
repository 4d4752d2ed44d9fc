"""The vector kernels give the same words whatever the width of the CPU's AES: 4 seeds to a vector (VAES) or 1 (AES-NI)."""

import secrets

import numpy as np
import pytest
from numba import njit
from tacit.kernels.dpf import vector
from tacit.kernels.dpf.aes import round_keys, vector_words
from tacit.kernels.dpf.hashing import TreeHash, TreeKeys

pytestmark = pytest.mark.skipif(
    not vector_words(), reason="this CPU has no AES instructions: numpy and OpenSSL run instead"
)
WIDTHS = [2, 8] if vector_words() == 8 else [2]
KEYS = TreeKeys(secrets.token_bytes(16), secrets.token_bytes(16))


def words(*shape: int) -> np.ndarray:
    return np.frombuffer(secrets.token_bytes(8 * int(np.prod(shape))), np.uint64).reshape(shape).copy()


@pytest.mark.parametrize("width", WIDTHS)
def test_sixteen_nodes_grow_as_the_reference_says(width: int) -> None:
    grow16 = vector._grow_intrinsic(width)

    @njit
    def run(s, cw, keys, out):
        grow16(
            np.uint64(s.ctypes.data), np.uint64(out.ctypes.data), np.uint64(cw.ctypes.data), np.uint64(keys.ctypes.data)
        )

    seeds, cw, out = words(16, 2), words(16, 2), np.zeros((32, 2), np.uint64)
    run(seeds, cw, round_keys(KEYS.tree), out)
    left = TreeHash(KEYS).node(seeds) ^ (cw * (seeds[:, :1] & np.uint64(1)))
    assert np.array_equal(out[0::2], left)
    assert np.array_equal(out[1::2], left ^ seeds)


def leaf_words(seeds: np.ndarray, pcw: np.ndarray, block: int) -> np.ndarray:
    pads = TreeHash(KEYS).words(seeds, block + 1)[:, 2 * block :]
    return pads + pcw[2 * block : 2 * block + 2] * (seeds[:, :1] & np.uint64(1))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("products", [1, 2, 3])
def test_sixteen_leaves_add_up(width: int, products: int) -> None:
    leaf16 = vector._leaf_intrinsic(width, products)

    @njit
    def run(s, tweak, pcw, keys, coef, stride, acc):
        leaf16(
            np.uint64(s.ctypes.data), tweak, np.uint64(pcw.ctypes.data), np.uint64(keys.ctypes.data),
            np.uint64(coef.ctypes.data), stride, np.uint64(acc.ctypes.data),
        )  # fmt: skip

    seeds, pcw, coef, acc = words(16, 2), words(4), words(products, 20, 2), np.zeros(24, np.uint64)
    run(seeds, np.uint64(1), pcw[2:], round_keys(KEYS.convert), coef, np.uint64(20 * 16), acc)
    value = leaf_words(seeds, pcw, 1)
    for r in range(products):
        lanes = acc[8 * r : 8 * r + 8].reshape(-1, 2).sum(0, dtype=np.uint64)
        assert np.array_equal(lanes, (value * coef[r, :16]).sum(0, dtype=np.uint64))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("leaves", [4, 8, 16])
@pytest.mark.parametrize("factors", [(0,), (0, 1), (0, 2)])
def test_leaves_of_degree_one_add_up(width: int, leaves: int, factors: tuple[int, ...]) -> None:
    """Slopes of either sign and v, up to 31 bits."""
    leaf = vector._short_leaf_intrinsic(width, leaves, len(factors))

    @njit
    def run(s, second, v, pcw, keys, coef, acc):
        leaf(
            np.uint64(s.ctypes.data), second, v, np.uint64(pcw.ctypes.data), np.uint64(keys.ctypes.data),
            np.uint64(coef.ctypes.data), np.uint64(acc.ctypes.data),
        )  # fmt: skip

    seeds, pcw, coef, acc = words(leaves, 2), words(6), words(leaves, 2), np.zeros(16, np.uint64)
    coef[:, 1] = (words(leaves).view(np.int64) >> np.int64(32)).view(np.uint64)
    coef[:2, 1] = np.array([-(1 << 31) + 1, (1 << 31) - 1], np.int64).view(np.uint64)
    v = np.uint64((1 << 31) - 1) - (words(1)[0] >> np.uint64(60))
    run(seeds, np.uint64(factors[-1]), v, pcw, round_keys(KEYS.convert), coef, acc)
    for f, block in enumerate(factors):
        value = leaf_words(seeds, pcw, block)
        lanes = acc[8 * f : 8 * f + 8].reshape(-1, 2).sum(0, dtype=np.uint64)
        assert lanes[0] == (value[:, 0] * (coef[:, 0] + v * coef[:, 1])).sum(dtype=np.uint64)
        assert lanes[1] == (value[:, 1] * coef[:, 1]).sum(dtype=np.uint64)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("same", [False, True])
def test_four_seeds_move(width: int, same: bool) -> None:
    move4 = vector._move_intrinsic(width, same)

    @njit
    def run(source, target):
        move4(np.uint64(source.ctypes.data), np.uint64(target.ctypes.data))

    source, target = words(4, 2), np.zeros((5, 2), np.uint64)
    run(source, target)
    assert np.array_equal(target[:4], source[[0] * 4] if same else source)
    assert not target[4].any()
