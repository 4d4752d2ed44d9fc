"""Connections to other peers: one that is there already, or a new one to whichever address answers as the peer."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection

from ...address import Address
from ...errors import IdentityError, NetworkError, TacitError
from .build import CONNECT_SECONDS
from .ids import libp2p_id
from .stream import reason

STAGGER_SECONDS = 0.2  # between the addresses of a peer that are tried at once
RETIRE_SECONDS = 10.0  # what is under way on a connection that is not used again may go on for this long


class Dialler:
    """For trio's thread. `begin` it with the nursery that its work runs in."""

    def __init__(self, host: Any, name_of: Callable[[str], str], wire: Callable[[trio.SocketStream], None]) -> None:
        """`wire` is told of every TCP connection that was made."""
        self._host = host
        self._name_of = name_of
        self._wire = wire
        self._nursery: trio.Nursery | None = None
        self._dialling: weakref.WeakValueDictionary[str, trio.Lock] = weakref.WeakValueDictionary()
        self._retired: weakref.WeakSet[Any] = weakref.WeakSet()

    def begin(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def usable(self, peer_id: str) -> Any:
        """A connection to this peer that questions may go over, None without one."""
        for connection in self._host.get_network().get_connections(libp2p_id(peer_id)):
            if not connection.is_closed and not connection.muxed_conn.is_closed and connection not in self._retired:
                return connection
        return None

    def retire(self, connection: Any) -> None:
        """Ask nothing more on this connection; what is under way on it may end."""
        if connection not in self._retired and self._nursery is not None:
            self._retired.add(connection)
            self._nursery.start_soon(self._end, connection)

    async def _end(self, connection: Any) -> None:
        await trio.sleep(RETIRE_SECONDS)
        with suppress(Exception):
            await connection.close()

    async def connect(self, peer_id: str, addresses: tuple[str, ...]) -> Any:
        """A connection that answers as this peer; one at a time is made. Raises NetworkError or IdentityError."""
        lock = self._dialling.setdefault(peer_id, trio.Lock())
        async with lock:
            found = self.usable(peer_id)  # somebody dialled while we waited
            return found if found is not None else await self._dial(peer_id, addresses)

    async def _dial(self, peer_id: str, addresses: tuple[str, ...]) -> Any:
        """Try all addresses, each a little later than the one before; the first that answers as the peer is taken."""
        name = self._name_of(peer_id)
        if not addresses:
            raise NetworkError(f"{name}: no address is known")
        connections: list[Any] = []
        errors: list[TacitError] = []

        async def attempt(number: int, address: str) -> None:
            await trio.sleep(number * STAGGER_SECONDS)
            try:
                connections.append(await self._dial_one(peer_id, address))
                nursery.cancel_scope.cancel()
            except TacitError as error:
                errors.append(error)

        with trio.move_on_after(CONNECT_SECONDS + STAGGER_SECONDS * (len(addresses) - 1)):
            async with trio.open_nursery() as nursery:
                for number, address in enumerate(addresses):
                    nursery.start_soon(attempt, number, address)
        if connections:
            return connections[0]
        for error in sorted(errors, key=lambda one: not isinstance(one, IdentityError)):
            raise error
        raise NetworkError(f"{name}: nothing at {', '.join(addresses)} within {CONNECT_SECONDS:g} s")

    async def _dial_one(self, peer_id: str, text: str) -> Any:
        name, address = self._name_of(peer_id), Address.parse(text)
        try:
            stream = await trio.open_tcp_stream(address.host, address.port)
        except OSError as error:
            raise NetworkError(f"{name}: cannot reach {address.place}: {error.strerror or error}") from None
        try:
            self._wire(stream)
            raw = RawConnection(TrioTCPStream(stream), True)
            return await self._host.upgrade_outbound_connection(raw, libp2p_id(peer_id))
        except Exception as error:  # noqa: BLE001 - foreign errors are mapped here, once
            if "mismatch" in _chain(error).lower():
                raise IdentityError(name, f"somebody else answers at {address.place}") from None
            raise NetworkError(f"{name}: no connection to {address.place}: {reason(error)}") from None


def _chain(error: BaseException) -> str:
    words = []
    cause: BaseException | None = error
    while cause is not None:
        words.append(f"{type(cause).__name__} {cause}")
        cause = cause.__cause__ or cause.__context__
    return "; ".join(words)
