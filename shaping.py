"""A line between two parties as a profile describes it: when what was sent at a time arrives. No clock and no socket.

For a message handed over at time t, of n bytes with all that carries them:

    segments   = ceil(n / SEGMENT), each with FRAMING bytes of headers, as `tc` counts: 1514 bytes carry 1448 (95.6 %)
    lost       each segment with the profile's probability; noticed and sent again a round trip later, which may be lost too
    departure  = the first moment at which the line has been free, after t, for the bits of all segments (also those sent
                 again) at the profile's bandwidth: a token bucket that holds nothing, so that there are no bursts
    delivery   = max(delivery of the message before, departure + rtt / 2 + jitter + rtt for each time in a row that a
                 segment was lost); jitter is uniform from -jitter to +jitter, drawn once for a message

The bits of a direction are one line for all sessions between two peers; a client has lines of its own. What is not here: TCP's slow start
and congestion window, acknowledgements, queues that overflow. docs/study.md has what that makes of a difference.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING

from .network import Profile

if TYPE_CHECKING:
    from numpy.random import Generator

SEGMENT = 1448  # bytes of a link that a packet carries: 1500 less IP and TCP headers with time stamps
FRAMING = 66  # bytes of a packet besides: Ethernet, IP, TCP
WRAPPING = 42  # bytes around a part on the line, at most: ZMTP's length, CURVE's name, nonce and tag
GAPS = 256  # idle times that a line remembers


def line_bytes(size: int) -> int:
    """What `size` bytes of a link are on a line."""
    return size + FRAMING * -(-size // SEGMENT)


def line_seconds(size: int, profile: Profile) -> float:
    """How long a line is busy with `size` bytes of a link."""
    return 8 * line_bytes(size) / profile.bandwidth


class Bandwidth:
    """The time of one direction of a line, which all sessions between two parties share. Threads may.

    A message takes the first free time after it was sent, in pieces if need be. So it does not matter in which order
    several receivers get to look at what they were sent.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._starts: list[float] = []  # of the times at which it is busy, disjoint and in order
        self._ends: list[float] = []

    def take(self, sent: float, seconds: float) -> float:
        """When a message is through that was `sent` and needs the line for so long."""
        if seconds <= 0:
            return sent
        starts, ends = self._starts, self._ends
        with self._lock:
            first = last = bisect_right(ends, sent)  # busy times from here on end after it was sent
            at = sent
            if first and ends[first - 1] == sent:  # it follows without a gap
                first -= 1
            while last < len(starts):
                free = starts[last] - at
                if free >= seconds:
                    break
                seconds -= max(0.0, free)
                at = ends[last]
                last += 1
            through = at + seconds
            begin = min(sent, starts[first]) if first < last else sent
            if last < len(starts) and starts[last] == through:
                last += 1
            end = max(through, ends[last - 1]) if first < last else through
            starts[first:last] = [begin]
            ends[first:last] = [end]
            if len(starts) > GAPS:
                del starts[0], ends[0]
        return through


class ShapedLine:
    """One direction of one session's link. One thread at a time."""

    def __init__(
        self, profile: Callable[[], Profile], generator: Generator, bandwidth: Bandwidth | None = None
    ) -> None:
        """`profile` is asked for every message, so that it may change; `bandwidth` is shared with other sessions."""
        self._profile = profile
        self._generator = generator
        self._bandwidth = bandwidth or Bandwidth()
        self._now = Profile()  # of the message that is under way
        self._sent = self._extra = 0.0
        self._bytes = self._segments = 0
        self._delivered = -math.inf

    @property
    def one_way(self) -> float:
        """Mean delay in seconds, now."""
        return self._profile().one_way

    def begin(self, sent: float, size: int) -> float:
        """When the first `size` bytes of a message, sent at the time `sent`, are delivered. Times in seconds."""
        self._now = profile = self._profile()
        self._sent = sent
        self._bytes = self._segments = 0
        self._extra = profile.one_way
        if profile.jitter:
            self._extra += self._generator.uniform(-profile.jitter, profile.jitter)
        return self.go_on(size)

    def go_on(self, size: int) -> float:
        """When the next `size` bytes of the same message are delivered."""
        self._bytes += size
        segments = -(-self._bytes // SEGMENT) - self._segments
        self._segments += segments
        profile = self._now
        again, times = self._lost(segments) if profile.loss and segments else (0, 0)
        bits = 8 * (size + FRAMING * segments + again * (SEGMENT + FRAMING))
        departure = self._bandwidth.take(self._sent, bits / profile.bandwidth)
        self._delivered = max(self._delivered, departure + self._extra + times * profile.rtt)
        return self._delivered

    def _lost(self, segments: int) -> tuple[int, int]:
        """Segments sent again, and how often in a row at most."""
        again = times = 0
        while segments := int(self._generator.binomial(segments, self._now.loss)):
            again += segments
            times += 1
        return again, times
