"""Questions of the mesh that a client may ask a peer through the coordinator, which can withhold the answer and no more."""

from __future__ import annotations

import threading
from collections.abc import Collection

from ..errors import NetworkError, RefusedError, UsageError
from ..records import tidy
from .registry import Registry

MAX_QUESTION = 4 << 10
MAX_ANSWER = 64 << 10
SECONDS = 5.0
AT_ONCE = 8


class Relay:
    """Passes questions on, a few at a time: they must not take the threads that seat sessions."""

    def __init__(self, registry: Registry, protocols: Collection[str]) -> None:
        self._registry = registry
        self._protocols = tuple(protocols)
        self._free = threading.BoundedSemaphore(AT_ONCE)

    def check(self, peer_id: str, protocol: str) -> None:
        """Raises UsageError for a peer that is no member, or a protocol that is not passed on."""
        if protocol not in self._protocols:
            passed_on = ", ".join(self._protocols) or "none"
            raise UsageError(f"unknown protocol {tidy(protocol, 30)!r}; passed on to peers: {passed_on}")
        if self._registry.members.member(peer_id) is None:
            raise UsageError(f"unknown peer {tidy(peer_id, 43)!r}")

    def ask(self, peer_id: str, protocol: str, question: bytes) -> bytes:
        """The peer's answer as it came. Raises what the peer said, NetworkError, or RefusedError if too many ask."""
        self.check(peer_id, protocol)
        if not self._free.acquire(blocking=False):
            raise RefusedError("coordinator", f"is passing on {AT_ONCE} questions already; try again in a moment")
        try:
            answer = self._registry.request(peer_id, protocol, question, SECONDS)
        finally:
            self._free.release()
        if len(answer) > MAX_ANSWER:
            raise NetworkError(
                f"{self._registry.members.name_of(peer_id)}: answered with {len(answer)} bytes, too many"
            )
        return answer
