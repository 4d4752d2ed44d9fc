"""Links that behave like a line with a profile: every message is held back until that line would have delivered it.

The sender puts its time in front of every message, CLOCK_MONOTONIC in nanoseconds (8 bytes); the receiver works out when the
line would have delivered it (`shaping.ShapedLine`) and does not see it before. All else is the link as it is: this lies
between the frames and the transport, so goodbyes, aborts and credit take the line's time too, and so does the news that a
connection broke. What comes before the first message is not held back: TCP, CURVE and the hello.

No thread and no privilege is needed, but one clock: both ends must be on one machine, and both must shape. They say so in the
hello (`frames.hello`).
"""

from __future__ import annotations

import platform
import struct
import time
import uuid
from collections import deque
from functools import cache
from pathlib import Path
from typing import Any

from .link import Buffer, Link
from .shaping import WRAPPING, ShapedLine

STAMP = struct.Struct("<Q")
COARSE = 150e-6  # seconds before its time at which a sleep should end: it ends late by up to this
BACKLOG = 3.0  # seconds of what a sender left behind that are still waited for once it is gone: libzmq would give up after one
AHEAD_NS = 1_000_000  # a stamp further in the future is none of this machine's clock
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@cache
def clock() -> str:
    """Which CLOCK_MONOTONIC this is: the same text at all processes of a running machine, and nowhere else."""
    try:
        return _BOOT.read_text("ascii").strip()
    except (OSError, ValueError):
        return f"{platform.node()} {uuid.getnode():x}"


class Shaped(Link):
    """The part that makes a link a shaped one; comes before the transport's class."""

    def __init__(self, line: ShapedLine, *transport: Any) -> None:
        super().__init__(*transport)
        self._shape = line
        self._held: deque[tuple[float, memoryview, bool]] = deque()  # when it is due, part, whether more belong to it
        self._broken: float | None = None  # since when the connection is

    @property
    def clock(self) -> str:
        return clock()

    def _put(self, part: Buffer, more: bool) -> bool:
        if self._broken is not None:
            return False  # nobody is there any more, though this side is still to learn it
        if more:  # a header; its body follows
            part = STAMP.pack(time.monotonic_ns()) + bytes(part)
        return super()._put(part, more)  # type: ignore[safe-super]  # the transport, whose class comes after this one

    def _take(self, wait: bool) -> tuple[memoryview, bool] | None:
        if not self._held and not self._pull(wait):
            if wait and self._broken is not None:
                time.sleep(self._settings.tick / 10)  # a transport that is gone does not wait
            return None
        due, part, more = self._held[0]
        if time.monotonic() < due and not (wait and self._sleep(due)):
            return None
        self._held.popleft()
        return part, more

    def _pull(self, wait: bool) -> bool:
        """Take what is next off the transport, a header with the first part of its body, and see when it is due."""
        taken = super()._take(wait)  # type: ignore[safe-super]
        if taken is None:
            return False
        part, more = taken
        if not more:
            self._held.append((self._shape.go_on(part.nbytes + WRAPPING), part, False))
            return True
        sent = STAMP.unpack_from(part)[0] if part.nbytes >= STAMP.size else None
        if sent is None or sent > time.monotonic_ns() + AHEAD_NS:
            self._held.append((0.0, part, True))  # as it is: it will not be found to be a header
            return True
        part = part[STAMP.size :]
        due = self._shape.begin(1e-9 * sent, part.nbytes + WRAPPING)
        body = super()._take(True)  # type: ignore[safe-super]
        if body is not None:
            due = self._shape.go_on(body[0].nbytes + WRAPPING)
        self._held.append((due, part, True))
        if body is not None:
            self._held.append((due, *body))
        return True

    def _sleep(self, due: float) -> bool:
        """Until then, to a few microseconds, but for a tick at most; whether it is time."""
        until = min(due, time.monotonic() + self._settings.tick)
        rest = until - time.monotonic() - COARSE
        if rest > 0:
            time.sleep(rest)
        while time.monotonic() < until:
            pass
        return until == due

    def _gone(self) -> str | None:
        reason = super()._gone()  # type: ignore[safe-super]
        if reason is None:
            return None
        if self._broken is None:
            self._broken = time.monotonic()
        while self._pull(False):
            pass
        now, known = time.monotonic(), self._broken + self._shape.one_way
        last = self._held[-1][0] if self._held else known
        if now < min(max(known, last), known + BACKLOG):
            return None
        if last > now:  # the rest, the sender's last words at its end, is not waited for
            self._held = deque((0.0, part, more) for _, part, more in self._held)
        return reason

    def _reachable(self) -> bool:
        return self._gone() is None and self._broken is None

    def unread(self) -> int | None:
        found = super().unread()
        return None if found is None else found - STAMP.size * self.stats.messages_received
