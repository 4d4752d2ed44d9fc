# mypy: ignore-errors
# (compiled functions: numba infers their types)
"""Packets on lines, compiled: what happens to a packet of a line, and the loop that moves them between TUN devices.

For line d, a packet of `size` bytes of IP that is read at `now`:

    departure = max(now, departure of the one before) + frame bits / bandwidth     (dropped if that queue is full)
    delivery  = max(delivery of the one before, departure + rtt / 2 + uniform(-jitter, jitter))       (unless it is lost)

Times are nanoseconds of CLOCK_MONOTONIC. Packets lie in slots of one pool; those of a line are a list in order of delivery.
The descriptor that line d reads from is number d; it delivers to that of line d ^ 1, the same pair's other direction.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from .pool import POLLIN, SLOT
from .shape import OVERHEAD

BATCH = 32  # packets read from one device before others are looked at
LATE_NS = 1_000_000  # a packet delivered later than this after its time counts as late
IDLE_NS = 1_000_000_000

# columns of `lines`
PS_PER_BYTE, DELAY, JITTER, QUEUE, DEPARTED, REMAINDER, DELIVERED, HEAD, TAIL = range(9)
CARRIED, LOST, DROPPED, OVERRUN, REFUSED, LATE, LATEST = range(9, 16)
COLUMNS = 16

_read = types.ExternalFunction("read", types.int64(types.int32, types.uintp, types.uintp))
_write = types.ExternalFunction("write", types.int64(types.int32, types.uintp, types.uintp))
_ppoll = types.ExternalFunction("ppoll", types.int32(types.uintp, types.uintp, types.uintp, types.uintp))
_gettime = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.uintp))
_CLOCK_MONOTONIC = 1
_NONE = -1


@njit(nogil=True, cache=True)
def _now(clock):
    _gettime(_CLOCK_MONOTONIC, clock.ctypes.data)
    return clock[0] * 1_000_000_000 + clock[1]


@njit(nogil=True, cache=True)
def _draw(seeds, d):
    """Uniform in [0, 1): splitmix64, one stream for each line."""
    seeds[d] += np.uint64(0x9E3779B97F4A7C15)
    z = seeds[d]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.float64(z >> np.uint64(11)) * 1.1102230246251565e-16  # 2^-53


@njit(nogil=True, cache=True)
def offer(lines, losses, seeds, d, size, now):
    """When a packet that comes to line d now is delivered; -1 if it never is."""
    line = lines[d]
    start = max(now, line[DEPARTED])
    if start - now > line[QUEUE]:
        line[DROPPED] += 1
        return _NONE
    work = (size + OVERHEAD) * line[PS_PER_BYTE] + line[REMAINDER]
    line[DEPARTED] = start + work // 1000
    line[REMAINDER] = work % 1000
    if losses[d] > 0 and _draw(seeds, d) < losses[d]:
        line[LOST] += 1
        return _NONE
    due = line[DEPARTED] + line[DELAY]
    if line[JITTER] > 0:
        due += np.int64(line[JITTER] * (2 * _draw(seeds, d) - 1))
    line[DELIVERED] = max(line[DELIVERED], due)
    return line[DELIVERED]


@njit(nogil=True, cache=True)
def _take_in(lines, losses, seeds, fds, d, slots, clock):
    """Read what has come to line d."""
    memory, sizes, dues, following, free = slots
    line = lines[d]
    for _ in range(BATCH):
        if free[0] == 0:  # nowhere to put it: it is read away, or the device would be polled for ever
            if _read(fds[d, 0], memory.ctypes.data, SLOT) <= 0:  # slot 0 is kept for this
                return
            line[OVERRUN] += 1
            continue
        slot = free[free[0]]
        size = _read(fds[d, 0], memory.ctypes.data + slot * SLOT, SLOT)
        if size <= 0:
            return
        due = offer(lines, losses, seeds, d, size, _now(clock))
        if due < 0:
            continue
        free[0] -= 1
        sizes[slot] = size
        dues[slot] = due
        following[slot] = _NONE
        if line[HEAD] == _NONE:
            line[HEAD] = slot
        else:
            following[line[TAIL]] = slot
        line[TAIL] = slot


@njit(nogil=True, cache=True)
def _give_out(lines, fds, d, slots, clock):
    """Deliver what is due on line d; when the next one is, 0 if there is none."""
    memory, sizes, dues, following, free = slots
    line = lines[d]
    now = _now(clock)
    while line[HEAD] != _NONE:
        slot = line[HEAD]
        if dues[slot] > now:
            now = _now(clock)  # writing took its time
            if dues[slot] > now:
                return dues[slot]
        late = now - dues[slot]
        line[LATEST] = max(line[LATEST], late)
        if late > LATE_NS:
            line[LATE] += 1
        if _write(fds[d ^ 1, 0], memory.ctypes.data + slot * SLOT, sizes[slot]) < 0:
            line[REFUSED] += 1
        else:
            line[CARRIED] += 1
        line[HEAD] = following[slot]
        free[0] += 1
        free[free[0]] = slot
    return 0


@njit(nogil=True, cache=True)
def carry(lines, losses, seeds, fds, slots):
    """Move packets until the last descriptor, which belongs to no line, can be read, or a signal comes: True then.

    False if a device is gone.
    """
    clock = np.zeros(2, np.int64)
    wait = np.zeros(2, np.int64)
    count = len(lines)
    while True:
        soonest = np.int64(0)
        for d in range(count):
            due = _give_out(lines, fds, d, slots, clock)
            if due and (not soonest or due < soonest):
                soonest = due
        left = min(max(soonest - _now(clock), 0), IDLE_NS) if soonest else IDLE_NS
        wait[0] = left // 1_000_000_000
        wait[1] = left % 1_000_000_000
        ready = _ppoll(fds.ctypes.data, len(fds), wait.ctypes.data, 0)
        if ready < 0 or (ready > 0 and fds[count, 1] >> 16):
            return True
        if ready:
            for d in range(count):
                happened = fds[d, 1] >> 16
                if happened & ~POLLIN:
                    return False
                if happened:
                    _take_in(lines, losses, seeds, fds, d, slots, clock)
