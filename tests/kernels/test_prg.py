"""The generator against a reading of its own documentation, block by block; names are spent once."""

import hashlib
import hmac
import pickle
import secrets

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from tacit.kernels.prg import GATES, Prg, Purpose


def expected(seed: bytes, purpose: int, step: int, gate: int, count: int) -> list[int]:
    """HKDF by hmac alone (RFC 5869), then single AES blocks (ECB) of hand-made counters."""
    extracted = hmac.new(bytes(32), seed, hashlib.sha256).digest()
    key = hmac.new(extracted, b"tacit prg" + b"\x01", hashlib.sha256).digest()[:16]
    words: list[int] = []
    for block in range((count + 1) // 2):
        counter = (purpose << 120) | (step << 88) | (gate << 56) | block
        out = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(counter.to_bytes(16, "big"))
        words += [int.from_bytes(out[:8], "little"), int.from_bytes(out[8:], "little")]
    return words[:count]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 64])
@pytest.mark.parametrize(("purpose", "step", "gate"), [(1, 0, 0), (2, 7, 300), (3, 2**32 - 1, GATES - 1)])
def test_words_are_aes_of_the_documented_counter(purpose: int, step: int, gate: int, count: int) -> None:
    seed = secrets.token_bytes(32)
    words = Prg(seed).words(Purpose(purpose), step, gate, count)
    assert words.dtype == np.uint64
    assert words.tolist() == expected(seed, purpose, step, gate, count)


def test_long_streams_have_no_seam() -> None:
    seed = secrets.token_bytes(32)
    count = 20_001  # several chunks and half a block
    words = Prg(seed).words(Purpose.MASK, 1, 2, count)
    assert words.shape == (count,)
    assert words.tolist() == expected(seed, 1, 1, 2, count)


def test_order_of_draws_does_not_matter() -> None:
    seed = secrets.token_bytes(32)
    names = [(p, s, g) for p in Purpose for s in (0, 1) for g in (0, 1, 9)]
    one, other = Prg(seed), Prg(seed)
    forward = {n: one.words(*n, 5).tolist() for n in names}
    backward = {n: other.words(*n, 5).tolist() for n in reversed(names)}
    assert forward == backward
    assert len({tuple(w) for w in forward.values()}) == len(names)


def test_a_stream_is_drawn_once() -> None:
    prg = Prg(secrets.token_bytes(32))
    prg.words(Purpose.MASK, 3, 17, 4)
    prg.words(Purpose.PAD, 3, 17, 4)
    prg.words(Purpose.MASK, 4, 17, 4)
    prg.words(Purpose.MASK, 3, 16, 4)
    for count in (4, 1, 0):
        with pytest.raises(ValueError, match="used before"):
            prg.words(Purpose.MASK, 3, 17, count)


@pytest.mark.parametrize(("step", "gate"), [(-1, 0), (2**32, 0), (0, -1), (0, GATES)])
def test_names_out_of_range_are_refused(step: int, gate: int) -> None:
    with pytest.raises(ValueError, match="no stream"):
        Prg(secrets.token_bytes(32)).words(Purpose.MASK, step, gate, 1)


@pytest.mark.parametrize("purpose", [0, 1, 4])
def test_purposes_are_named_not_numbered(purpose: Purpose) -> None:
    with pytest.raises(ValueError, match="no stream"):
        Prg(secrets.token_bytes(32)).words(purpose, 0, 0, 1)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_seeds_have_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match=f"not {size}"):
        Prg(bytes(size))


def test_a_generator_is_neither_shown_nor_copied() -> None:
    seed = secrets.token_bytes(32)
    prg = Prg(seed)
    assert seed.hex() not in repr(prg)
    with pytest.raises(TypeError, match="must not"):
        pickle.dumps(prg)
