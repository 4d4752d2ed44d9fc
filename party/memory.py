"""Ask the C library to keep freed memory, since a session frees and takes the same few megabytes hundreds of times a second.

glibc gives large blocks back to the kernel as soon as they are freed and faults every page in again at the next use. On
virtual machines a page fault costs up to a microsecond: an array that is written once and dropped then runs at 1 GB/s instead
of 6. So a peer's memory stays at the peak of its sessions while it has any; once it has been idle for a while `give_back` returns
what is free in whole pages. To be set up before there are threads: each would keep a heap of its own, never given back.
Elsewhere than on glibc nothing is changed.
"""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_LARGEST = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Take large blocks from the heap, never shrink it, share one heap among threads. False where this is not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _LARGEST), (_M_TOP_PAD, 16 << 20), (_M_ARENA_MAX, 1))
    accepted = [mallopt(name, value) == 1 for name, value in settings]  # every one is set, whatever came before
    return all(accepted)


def give_back() -> bool:
    """Return all free memory to the kernel, now: some tens of milliseconds, and 3 ms for the next session (measured).

    False where this is not glibc, or nothing was free.
    """
    return platform.libc_ver()[0] == "glibc" and ctypes.CDLL(None).malloc_trim(0) == 1
