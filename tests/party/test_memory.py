"""What a peer keeps of the memory that its sessions took, and when it gives it back."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about the C library glibc")
PROGRAM = """
import numpy as np
from pathlib import Path
from tacit.party.memory import give_back, keep_freed_memory

def resident():
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) // 1024 for row in rows if row.startswith("VmRSS:"))

assert keep_freed_memory()
before = resident()
held = [np.ones(1 << 18) for _ in range(64)]  # 128 MiB, in blocks of 2
pin = [bytearray(64) for _ in range(1000)]    # on top, so that the heap cannot just be cut off
taken = resident()
del held
kept = resident()
assert give_back()
print(before, taken, kept, resident())
"""


@needs_glibc
def test_freed_memory_is_kept_until_it_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    before, taken, kept, after = map(int, done.stdout.split())
    assert taken - before > 120
    assert kept - before > 120
    assert after - before < 20
