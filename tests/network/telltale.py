"""What a process has in use, told by itself: its resident memory alone would not show a leak, since peers keep what they
freed for a while (`party/memory.py`), nor the absence of one."""

from __future__ import annotations

import ctypes
import gc
import sys


class Mallinfo(ctypes.Structure):
    """struct mallinfo2 of glibc."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


def in_use() -> dict[str, int]:
    """`heap`: bytes that malloc has given out (arrays, tensors, sockets' queues); `blocks`: objects of Python."""
    gc.collect()
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Mallinfo
    found = libc.mallinfo2()
    return {"heap": found.uordblks + found.hblkhd, "blocks": sys.getallocatedblocks()}
