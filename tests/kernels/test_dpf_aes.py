"""The AES of the tree kernels against OpenSSL and FIPS 197."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from dpf_keys import words
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.kernels.dpf.aes import mmo, round_keys, vector_words
from tacit.kernels.dpf.hashing import TreeHash, TreeKeys, sigma, tree_keys

needs_aes = pytest.mark.skipif(vector_words() == 0, reason="this CPU has no AES instructions: the trees run OpenSSL")


def encrypt(key: bytes, blocks: np.ndarray) -> np.ndarray:
    out = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(blocks.tobytes())
    return np.frombuffer(out, np.uint64).reshape(blocks.shape)


@needs_aes
def test_the_example_of_fips_197() -> None:
    """Appendix B: one block, one key."""
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    block = np.frombuffer(bytes.fromhex("3243f6a8885a308d313198a2e0370734"), np.uint64)
    src, dst = np.zeros((16, 2), np.uint64), np.zeros((16, 2), np.uint64)
    src[0] = block
    mmo(src, dst, 1, round_keys(key))
    assert (dst[0] ^ block).tobytes() == bytes.fromhex("3925841d02dc09fbdc118597196a0b32")


@needs_aes
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 31, 32, 33, 1000])
def test_blocks_equal_openssl(count: int) -> None:
    key = words(2).tobytes()
    padded = -(-count // 16) * 16
    src, dst = words(padded, 2), np.zeros((padded + 16, 2), np.uint64)
    mmo(src, dst, count, round_keys(key))
    assert np.array_equal(dst[:count], (encrypt(key, src) ^ src)[:count])
    assert not dst[padded:].any()  # nothing is written beyond the block of 16


@needs_aes
@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
@settings(max_examples=60, deadline=None)
def test_any_key_and_block(key: bytes, block: bytes) -> None:
    src, dst = np.zeros((16, 2), np.uint64), np.zeros((16, 2), np.uint64)
    src[3] = np.frombuffer(block, np.uint64)
    mmo(src, dst, 16, round_keys(key))
    assert np.array_equal(dst, encrypt(key, src) ^ src)


def test_the_tree_hash_is_what_it_says() -> None:
    keys = TreeKeys(words(2).tobytes(), words(2).tobytes())
    s = words(7, 2)
    turned = np.stack([s[:, 0] ^ s[:, 1], s[:, 0]], 1)
    assert np.array_equal(sigma(s), turned)
    assert np.array_equal(TreeHash(keys).node(s), encrypt(keys.tree, turned) ^ turned)
    pads = TreeHash(keys).words(s, 3)
    for block in range(3):
        x = turned.copy()
        x[:, 0] ^= np.uint64(block)
        assert np.array_equal(pads[:, 2 * block : 2 * block + 2], encrypt(keys.convert, x) ^ x)


def test_sessions_have_their_own_hash() -> None:
    one, other = tree_keys(bytes(16)), tree_keys(bytes(15) + b"\x01")
    assert len({one.tree, one.convert, other.tree, other.convert}) == 4
    assert one == tree_keys(bytes(16))
