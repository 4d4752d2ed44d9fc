"""The arrays that `carrier` works on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

SLOT = 2048  # bytes of memory for a packet
POLLIN = 1

Array = np.ndarray[Any, np.dtype[Any]]


def slots(packets: int) -> tuple[Array, Array, Array, Array, Array]:
    """For so many packets: memory, sizes, times, which follows which, and the stack of free ones (its height first).

    Slot 0 is nobody's.
    """
    memory = np.empty((packets + 1) * SLOT, np.uint8)  # touched, and so taken from the machine, only where it is used
    sizes, dues, following = (np.zeros(packets + 1, np.int64) for _ in range(3))
    free = np.arange(
        packets + 1, 0, -1, dtype=np.int64
    )  # the lowest on top: a quiet line uses few slots again and again
    free[0] = packets
    return memory, sizes, dues, following, free


def descriptors(numbers: Sequence[int]) -> Array:
    """struct pollfd for each, waiting for something to read."""
    found = np.zeros((len(numbers), 2), np.int32)
    found[:, 0] = numbers
    found[:, 1] = POLLIN  # the upper half is what the kernel answers
    return found
