"""Two link ends in one process, joined by queues: the same frames and rules as on sockets, without a network."""

from __future__ import annotations

import queue
import threading
from dataclasses import replace

from .ends import Ends, LinkSettings
from .link import Buffer, Circle, Link
from .shaped import Shaped
from .shaping import ShapedLine

Part = tuple[bytes, bool]


class Pipe:
    """One direction: parts in order, and whether their sender has hung up."""

    def __init__(self) -> None:
        self.parts: queue.SimpleQueue[Part] = queue.SimpleQueue()
        self.over = threading.Event()


class MemoryLink(Link):
    """One end of an in-memory pair; `memory_pair` makes both."""

    def __init__(self, ends: Ends, circle: Circle, settings: LinkSettings, inbox: Pipe, outbox: Pipe) -> None:
        super().__init__(ends, circle, settings)
        self._inbox = inbox
        self._outbox = outbox

    def _put(self, part: Buffer, more: bool) -> bool:
        self._outbox.parts.put((bytes(part), more))
        return True

    def _take(self, wait: bool) -> tuple[memoryview, bool] | None:
        block = wait and not self._inbox.over.is_set()
        try:
            body, more = self._inbox.parts.get(block, self._settings.tick if block else None)
        except queue.Empty:
            return None
        return memoryview(body), more

    def _gone(self) -> str | None:
        return "hung up during the session" if self._inbox.over.is_set() else None

    def _close(self) -> None:
        self._outbox.over.set()


class ShapedMemoryLink(Shaped, MemoryLink):
    """One that behaves like a line with a profile."""


def memory_pair(
    ends: Ends,
    circles: tuple[Circle, Circle],
    settings: LinkSettings,
    names: tuple[str, str],
    lines: tuple[ShapedLine | None, ShapedLine | None] = (None, None),
) -> tuple[MemoryLink, MemoryLink]:
    """Both ends of one link, not opened yet (each side calls open() in its own thread).

    `lines`: what shapes what the first and the second end receive."""
    ab, ba = Pipe(), Pipe()
    return (
        _made(replace(ends, remote_name=names[1]), circles[0], settings, ba, ab, lines[0]),
        _made(ends.mirrored(names[0]), circles[1], settings, ab, ba, lines[1]),
    )


def _made(
    ends: Ends, circle: Circle, settings: LinkSettings, inbox: Pipe, outbox: Pipe, line: ShapedLine | None
) -> MemoryLink:
    if line is None:
        return MemoryLink(ends, circle, settings, inbox, outbox)
    return ShapedMemoryLink(line, ends, circle, settings, inbox, outbox)
