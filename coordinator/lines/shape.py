"""What a profile means for packets, in numbers that a forwarder and `tc netem` take.

A packet of IP weighs 14 bytes more on the line, the header of its Ethernet frame, as `tc` counts and as shaped links do.
With the MTU of 1500 a segment of TCP carries 1448 bytes in 1514: 95.6 % of the bandwidth.
In front of the line is a queue that holds what the line carries in one round trip, or 256 full packets if that is more; what
finds it full is dropped, as on any router. A packet that is lost is lost after it has used the line.
"""

from __future__ import annotations

import math

from ...errors import UsageError
from ...network import Profile

MTU = 1500
OVERHEAD = 14  # bytes of a packet on the line besides IP
FULL = MTU + OVERHEAD
QUEUE_PACKETS = 256
MOST_HELD = 64 << 20  # bytes on one line and in its queue, in one direction


def queue_bytes(profile: Profile) -> int:
    """What waits in front of the line at most; nothing ever does if the bandwidth is unlimited."""
    if profile.bandwidth == math.inf:
        return 0
    return max(int(profile.bandwidth * profile.rtt / 8), QUEUE_PACKETS * FULL)


def held_bytes(profile: Profile) -> int:
    """What is on the line and in its queue at most, as far as the bandwidth bounds it."""
    if profile.bandwidth == math.inf:
        return 0
    return queue_bytes(profile) + int(profile.bandwidth * (profile.one_way + profile.jitter) / 8)


def check_held(profile: Profile) -> None:
    """Raises UsageError for a line too long and fast to be held in memory."""
    if held_bytes(profile) > MOST_HELD:
        raise UsageError(
            f"the line {profile.text} holds {held_bytes(profile) >> 20} MiB in each direction, more than the"
            f" {MOST_HELD >> 20} MiB that are kept for one: choose a shorter round trip or less bandwidth"
        )
