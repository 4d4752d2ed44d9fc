"""Bit packing: the format against Python's own integers, and the two twins against each other."""

import secrets
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tacit.kernels import bits as plain
from tacit.kernels import bits_numba as fast

WORD = st.integers(0, 2**64 - 1)
TWINS = pytest.mark.parametrize("twin", [plain, fast], ids=["numpy", "numba"])


def as_integer(values: list[int], bits: int) -> bytes:
    """The format in one line of arithmetic: the values are the digits of one number to the base 2^bits."""
    total: int = sum((v % 2**bits) << (bits * j) for j, v in enumerate(values))
    size = (bits * len(values) + 7) // 8
    return total.to_bytes(size, "little")


@TWINS
@given(values=st.lists(WORD, max_size=40), bits=st.integers(1, 64))
def test_bytes_are_the_digits_of_one_number(twin: ModuleType, values: list[int], bits: int) -> None:
    x = np.array(values, np.uint64)
    packed = twin.pack(x, bits)
    assert packed.dtype == np.uint8
    assert packed.tobytes() == as_integer(values, bits)
    back = twin.unpack(packed, bits, len(values))
    assert back.dtype == np.uint64
    assert back.tolist() == [v % 2**bits for v in values]


@pytest.mark.parametrize("bits", range(1, 65))
def test_twins_agree_on_long_arrays_from_any_address(bits: int) -> None:
    x = np.frombuffer(secrets.token_bytes(8 * 1003), np.uint64)  # read-only, as the wire hands it over
    packed = fast.pack(x, bits)
    assert np.array_equal(packed, plain.pack(x, bits))
    shifted = memoryview(b"..." + packed.tobytes())[3:]  # not aligned
    assert np.array_equal(fast.unpack(shifted, bits, x.size), plain.unpack(shifted, bits, x.size))


@TWINS
@pytest.mark.parametrize("bits", [8, 24, 37, 64])
def test_the_result_is_a_copy(twin: ModuleType, bits: int) -> None:
    x = np.zeros(16, np.uint64)
    packed = twin.pack(x, bits)
    back = twin.unpack(packed, bits, 16)
    x[:] = 255
    assert not packed.any()
    packed[:] = 255
    assert not back.any()


@TWINS
def test_strided_input(twin: ModuleType) -> None:
    x = np.arange(20, dtype=np.uint64)[::2]
    for bits in (6, 16, 64):
        assert twin.unpack(twin.pack(x, bits), bits, 10).tolist() == x.tolist()


@TWINS
@pytest.mark.parametrize("bits", [0, 65, -1])
def test_impossible_widths_are_refused(twin: ModuleType, bits: int) -> None:
    with pytest.raises(ValueError, match=f"not {bits}"):
        twin.pack(np.zeros(3, np.uint64), bits)
    with pytest.raises(ValueError, match=f"not {bits}"):
        twin.unpack(bytes(3), bits, 3)


@TWINS
@pytest.mark.parametrize("size", [0, 6, 8])
@pytest.mark.parametrize("bits", [7, 16])
def test_a_buffer_of_another_size_is_refused(twin: ModuleType, size: int, bits: int) -> None:
    count = 8 if bits == 7 else 3
    right = plain.packed_bytes(bits, count)
    if size == right:
        size += 1
    with pytest.raises(ValueError, match=f"not {size}"):
        twin.unpack(bytes(size), bits, count)


@TWINS
@pytest.mark.parametrize("x", [np.zeros(3), np.zeros(3, np.int64), np.zeros((2, 2), np.uint64)])
def test_only_flat_words_are_packed(twin: ModuleType, x: NDArray[np.generic]) -> None:
    with pytest.raises(TypeError):
        twin.pack(x, 8)
