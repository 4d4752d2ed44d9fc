"""The pseudorandom generator behind every mask and root: AES-128 in counter mode, by OpenSSL.

Two parties that hold the same seed produce the same words without talking. A stream is named by (purpose, step, gate),
and no name gives words twice: the same mask on two values would tell their difference.

Key: the first 16 bytes of HKDF-SHA256(seed, info = "tacit prg"). First counter block, all fields big-endian:

    purpose (1 byte) | step (4) | gate (4) | zeros (3) | block (4, starts at 0)

Block b of the stream is AES(key, first + b), NIST SP 800-38A section 6.5; words are read little-endian.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

SEED_BYTES = 32
GATES = 1 << 20  # per step and purpose; bounds the memory of what has been used
_CHUNK = bytes(1 << 16)  # plaintext zeros; small enough to stay in the second-level cache
_WORDS = 1 << 33  # per stream: 2^32 blocks of two words


class Purpose(IntEnum):
    """What a stream is for; streams of different purposes never meet."""

    MASK = 1
    PAD = 2
    ROOT = 3


class Prg:
    """The streams of one seed. Each can be drawn once. Not for use by two threads at a time."""

    def __init__(self, seed: bytes) -> None:
        """ValueError unless `seed` has 32 bytes, fresh for this pair of parties and this session."""
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
        key = HKDF(hashes.SHA256(), length=16, salt=None, info=b"tacit prg").derive(seed)
        self._cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        self._used: dict[tuple[int, int], bytearray] = {}  # (purpose, step) -> one bit per gate

    def words(self, purpose: Purpose, step: int, gate: int, count: int) -> NDArray[np.uint64]:
        """The first `count` words of stream (purpose, step, gate): uniform uint64 (count,).

        One call for a whole gate is cheaper than many: a call costs about 2 us, a word under 1 ns.
        ValueError for a name out of range (step below 2^32, gate below GATES) and for a name used before.
        """
        if not 0 <= count <= _WORDS:
            raise ValueError(f"count must be 0 to 2^33, not {count}")
        self._claim(purpose, step, gate)
        self._cipher.reset_nonce(struct.pack(">BIIxxxI", purpose, step, gate, 0))
        size = 16 * ((count + 1) // 2)
        out = np.empty(size, np.uint8)
        view = out.data
        for start in range(0, size, len(_CHUNK)):
            part = view[start : start + len(_CHUNK)]
            self._cipher.update_into(_CHUNK[: len(part)], part)
        return out.view("<u8")[:count]

    def _claim(self, purpose: Purpose, step: int, gate: int) -> None:
        """Note that this stream is spent, or refuse."""
        if not isinstance(purpose, Purpose) or not 0 <= step < 1 << 32 or not 0 <= gate < GATES:
            raise ValueError(f"no stream has purpose {purpose}, step {step}, gate {gate}")
        used = self._used.setdefault((purpose, step), bytearray())
        byte, bit = gate >> 3, 1 << (gate & 7)
        if byte >= len(used):
            used.extend(bytes(byte + 1 - len(used)))
        if used[byte] & bit:
            raise ValueError(f"stream (purpose {purpose}, step {step}, gate {gate}) was used before")
        used[byte] |= bit

    def __repr__(self) -> str:
        return f"Prg({len(self._used)} purposes and steps used)"

    def __reduce__(self) -> str:
        raise TypeError("a Prg holds a key and must not be pickled or copied")
