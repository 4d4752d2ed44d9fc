"""Two link ends in one process, joined by queues: the same frames and rules as on sockets, without a network."""

from __future__ import annotations

import queue

from .link import Buffer, Circle, Ends, Link, LinkSettings

Part = tuple[bytes, bool]


class MemoryLink(Link):
    """One end of an in-memory pair; `memory_pair` makes both."""

    def __init__(
        self,
        ends: Ends,
        circle: Circle,
        settings: LinkSettings,
        inbox: queue.SimpleQueue[Part | None],
        outbox: queue.SimpleQueue[Part | None],
    ) -> None:
        super().__init__(ends, circle, settings)
        self._inbox = inbox
        self._outbox = outbox
        self._hung_up = False

    def _put(self, part: Buffer, more: bool) -> bool:
        self._outbox.put((bytes(part), more))
        return True

    def _take(self, wait: bool) -> tuple[memoryview, bool] | None:
        try:
            found = self._inbox.get(wait, self._settings.tick if wait and not self._hung_up else 0.001)
        except queue.Empty:
            return None
        if found is None:
            self._hung_up = True
            return None
        return memoryview(found[0]), found[1]

    def _gone(self) -> str | None:
        return "hung up during the session" if self._hung_up else None

    def _close(self) -> None:
        self._outbox.put(None)


def memory_pair(
    ends: Ends, circles: tuple[Circle, Circle], settings: LinkSettings, names: tuple[str, str]
) -> tuple[MemoryLink, MemoryLink]:
    """Both ends of one link, not opened yet (each side calls open() in its own thread)."""
    ab: queue.SimpleQueue[Part | None] = queue.SimpleQueue()
    ba: queue.SimpleQueue[Part | None] = queue.SimpleQueue()
    first = Ends(
        ends.session, ends.own_role, ends.own_id, ends.remote_role, ends.remote_id, names[1], ends.manifest_hash
    )
    second = Ends(
        ends.session, ends.remote_role, ends.remote_id, ends.own_role, ends.own_id, names[0], ends.manifest_hash
    )
    return (
        MemoryLink(first, circles[0], settings, ba, ab),
        MemoryLink(second, circles[1], settings, ab, ba),
    )
