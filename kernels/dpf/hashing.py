"""The tree hash of every DPF: fixed-key AES-128 in the circular-correlation-robust MMO form.

    H_K(s) = AES_K(sigma(s)) xor sigma(s),      sigma(a, b) = (a xor b, a)

on 128-bit blocks held as two uint64 words (a, b), little endian (C. Guo, J. Katz, X. Wang, Y. Yu: Efficient and secure
multiparty computation from fixed-key block ciphers, IEEE S&P 2020, section 7.3). sigma is a linear orthomorphism, which is
what half-trees need (the two parties' seeds on the path differ by one secret constant). Leaves are converted to payload
words under a second key, block j with j xored into sigma(s). Both keys are fresh for each session (`tree_keys`) and public.

Errors raised: none; sizes are the caller's business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class TreeKeys:
    """The two public AES keys of a session's trees: `tree` expands nodes, `convert` turns them into payload words."""

    tree: bytes
    convert: bytes


def tree_keys(session: bytes) -> TreeKeys:
    """Both AES keys, by HKDF-SHA256 over the session id (16 random bytes), so that no two sessions share a hash."""
    okm = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"tacit tree hash").derive(session)
    return TreeKeys(okm[:16], okm[16:])


def sigma(s: U64) -> U64:
    """sigma on blocks: (..., 2) -> (..., 2)."""
    out = np.empty_like(s)
    out[..., 0] = s[..., 0] ^ s[..., 1]
    out[..., 1] = s[..., 0]
    return out


class TreeHash:
    """H and the payload conversion through OpenSSL, for whole arrays at once: the portable form of the numba kernels."""

    def __init__(self, keys: TreeKeys) -> None:
        self._tree = Cipher(algorithms.AES(keys.tree), modes.ECB()).encryptor()
        self._convert = Cipher(algorithms.AES(keys.convert), modes.ECB()).encryptor()

    def node(self, s: U64) -> U64:
        """H(s): (..., 2) -> (..., 2)."""
        x = np.ascontiguousarray(sigma(s))
        y = np.frombuffer(self._tree.update(x.tobytes()), np.uint64).reshape(x.shape)
        return x ^ y

    def words(self, s: U64, blocks: int) -> U64:
        """Payload pads of `blocks` blocks: (..., 2) -> (..., 2 blocks)."""
        x = np.repeat(sigma(s)[..., None, :], blocks, axis=-2)
        x[..., 0] ^= np.arange(blocks, dtype=np.uint64)
        y = np.frombuffer(self._convert.update(np.ascontiguousarray(x).tobytes()), np.uint64).reshape(x.shape)
        return (x ^ y).reshape(*s.shape[:-1], 2 * blocks)
