"""How this process and its machine are doing, for the status: processor load and memory."""

from __future__ import annotations

import os
import resource


def load_thousandths() -> int:
    """The machine's load of the last minute per core, in thousandths: 1000 is a thread ready to run on every core."""
    return int(1000 * os.getloadavg()[0] / (os.cpu_count() or 1))


def resident_bytes() -> int:
    """Memory of this process that is in RAM; where the kernel does not tell (no /proc), its highest value so far."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
