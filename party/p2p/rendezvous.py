"""libp2p's rendezvous (/rendezvous/1.0.0): every node is a rendezvous point for its cluster's namespace, members only.

It is the library's own discovery beside gossip, and like it only a source of addresses: hello decides who is a member.
Of the library's two, rendezvous is what a closed cluster needs: one question to one member. Kademlia, which is made for open
networks of strangers, was not tried.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
from libp2p.discovery.rendezvous.client import RendezvousClient
from libp2p.discovery.rendezvous.config import MIN_TTL, RENDEZVOUS_PROTOCOL
from libp2p.discovery.rendezvous.service import RendezvousService

from ...errors import TacitError
from .stream import Incoming

TTL_SECONDS = max(MIN_TTL, 180)  # registrations are renewed every minute
STREAM_SECONDS = 10.0
MAX_FOUND = 64


def serve_rendezvous(host: Any, door: Callable[[Any], TacitError | None]) -> None:
    """Be a rendezvous point; `door` says of a libp2p id why its stream is not even read, or None."""
    service = RendezvousService(host)

    async def handle(words: Incoming) -> None:
        if door(words.stream.muxed_conn.peer_id) is not None:
            raise ValueError("not a member")
        await words.flush()
        with trio.move_on_after(STREAM_SECONDS):
            await service._handle_stream(Continued(words))

    host.set_stream_handler(RENDEZVOUS_PROTOCOL, handle)


async def meet(host: Any, point: Any, namespace: str) -> list[tuple[bytes, list[str]]]:
    """Register at a point (a libp2p id that there is a connection to); who else did, with their addresses."""
    client = RendezvousClient(host, point)
    await client.register(namespace, TTL_SECONDS)
    found, _ = await client.discover(namespace, MAX_FOUND)
    return [(one.peer_id.to_bytes(), [str(address) for address in one.addrs]) for one in found]


class Continued:
    """A stream whose first bytes were fetched with the negotiation already."""

    def __init__(self, words: Incoming) -> None:
        self._words = words

    async def read(self, size: int | None = None) -> bytes:
        if self._words.waiting:
            return await self._words.exactly(min(size or self._words.waiting, self._words.waiting))
        found: bytes = await self._words.stream.read(size)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._words.stream, name)
