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
@pytest.mark.parametrize("leaves", [4, 8])
def test_leaves_of_a_fused_product_add_up(width: int, leaves: int) -> None:
    leaf = vector._fused_leaf_intrinsic(width, leaves)

    @njit
    def run(s, pcw, keys, coef, stride, acc):
        leaf(
            np.uint64(s.ctypes.data), np.uint64(pcw.ctypes.data), np.uint64(keys.ctypes.data),
            np.uint64(coef.ctypes.data), stride, np.uint64(acc.ctypes.data),
        )  # fmt: skip

    seeds, pcw, coef, acc = words(leaves, 2), words(6), words(2, 9, 2), np.zeros(48, np.uint64)
    run(seeds, pcw, round_keys(KEYS.convert), coef, np.uint64(9 * 16), acc)
    for f in range(3):
        value = leaf_words(seeds, pcw, f)
        for r in range(2):
            i = 8 * (2 * f + r)
            lanes = acc[i : i + 8].reshape(-1, 2).sum(0, dtype=np.uint64)
            assert np.array_equal(lanes, (value * coef[r, :leaves]).sum(0, dtype=np.uint64))
