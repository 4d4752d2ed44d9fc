"""What runs in trio: accepting and dialling connections, and the two ends of a question (see `host.py` for the why)."""

from __future__ import annotations

import functools
import logging
import threading
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import multiaddr
import trio
from libp2p.custom_types import TProtocol
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection

from ...address import from_multihash
from ...errors import NetworkError, PeerError, RefusedError, TacitError
from ..mesh import MAX_MESSAGE, Handler
from .build import listen, make_host, notice_silence, place_of, quiet
from .dial import Dialler
from .host import Door
from .ids import libp2p_id, peer_id_of
from .rendezvous import meet, serve_rendezvous
from .stream import (
    Incoming,
    Progress,
    Unheard,
    drop,
    exchange,
    negotiate,
    read_question,
    reason,
    send_answer,
    show_life,
)

log = logging.getLogger("tacit.party.p2p")

PREFIX = "/tacit/1/"
MAX_SEEN = 4096
MAX_ARRIVING = 64  # connections that have not proved yet who they are
MAX_STREAMS = 64  # that one peer may have open towards us
MAX_WAITING = 256  # questions of one protocol that wait for a thread
PATIENCE_SECONDS = 0.8  # a connection that stays silent longer is not used again
STRANGER_SECONDS = 10.0  # that somebody who is no member may stay connected

in_thread: Any = trio.to_thread.run_sync


class Engine:
    """One life of the host. `main` runs it; `ask`, `serve`, `connected` and `stop` may be called from any thread."""

    def __init__(self, seed: bytes, listen: Sequence[str], name_of: Callable[[str], str]) -> None:
        quiet()
        self._listen_on = tuple(listen)
        self._name_of = name_of
        self._announced: list[multiaddr.Multiaddr] = []
        self._welcoming = False
        self._host = make_host(seed, self._announced)
        self._own_id = peer_id_of(self._host.get_id())
        self._host.get_network().set_stream_handler(self._accept_stream)
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._stopped = trio.Event()
        self._pending: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._dialler = Dialler(self._host, name_of, self._wire)
        self._streams: Counter[str] = Counter()
        self._arriving: list[trio.CancelScope] = []
        self._wires: weakref.WeakSet[Any] = (
            weakref.WeakSet()
        )  # TCP streams: libp2p leaves them open when it is cancelled
        self._remotes: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()  # of connections that came in

    # From any thread -------------------------------------------------------------------------------------------------

    def serve(self, protocol: str, handler: Handler, threads: int, door: Door | None) -> None:
        limiter = trio.CapacityLimiter(threads)
        answer = functools.partial(self._answer, protocol, handler, limiter, door)
        self._host.set_stream_handler(TProtocol(PREFIX + protocol), answer)

    def ask(
        self,
        answer: Future[bytes],
        peer_id: str,
        addresses: tuple[str, ...],
        protocol: str,
        question: bytes,
        timeout: float,
    ) -> None:
        """`answer` gets the answer or a TacitError, within `timeout` seconds unless trio itself is held up."""
        self._submit(answer, peer_id, protocol, timeout, lambda: self._ask(peer_id, addresses, protocol, question))

    def meet(
        self, answer: Future[Any], peer_id: str, addresses: tuple[str, ...], namespace: str, timeout: float
    ) -> None:
        """`answer` gets the members that registered at this peer's rendezvous, as (id, multiaddrs)."""
        self._submit(answer, peer_id, "rendezvous", timeout, lambda: self._meet(peer_id, addresses, namespace))

    def announce(self, addresses: tuple[str, ...]) -> None:
        """Where others find this node, for rendezvous."""
        self._announced[:] = [multiaddr.Multiaddr(one) for one in addresses]

    def welcome(self, door: Door) -> None:
        """Be a rendezvous point for whom `door` lets in; once is enough."""
        if self._welcoming:
            return
        self._welcoming = True
        assert_running(self._token).run_sync_soon(self._watch, door)
        serve_rendezvous(self._host, lambda found: door(peer_id_of(found)))

    def _submit(
        self, answer: Future[Any], peer_id: str, what: str, timeout: float, call: Callable[[], Awaitable[Any]]
    ) -> None:
        with self._lock:
            self._pending.add(answer)
        try:
            assert_running(self._token).run_sync_soon(self._begin, answer, peer_id, what, timeout, call)
        except trio.RunFinishedError:
            self._settle(answer, NetworkError("this mesh is closed"))

    def connected(self) -> tuple[str, ...]:
        return tuple(peer_id_of(one) for one in list(self._host.get_network().connections))

    def seen(self, peer_id: str) -> str:
        """The IP address that a connection of this peer came from, "" if none did."""
        for connection in list(self._host.get_network().connections.get(libp2p_id(peer_id), ())):
            if remote := self._remotes.get(connection.muxed_conn):
                return remote
        return ""

    def stop(self) -> None:
        with suppress(trio.RunFinishedError):
            assert_running(self._token).run_sync_soon(self._stopped.set)

    def _settle(self, answer: Future[Any], found: Any) -> None:
        with self._lock:
            if answer not in self._pending:
                return
            self._pending.discard(answer)
        if isinstance(found, TacitError):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    # The life --------------------------------------------------------------------------------------------------------

    async def main(self, ready: Callable[[Engine, tuple[str, ...]], None]) -> None:
        """Raises NetworkError if it cannot listen; otherwise returns after `stop`."""
        self._token = trio.lowlevel.current_trio_token()
        listeners = await listen(self._listen_on)
        try:
            async with self._host.run([]), trio.open_nursery() as nursery:
                self._nursery = nursery
                self._dialler.begin(nursery)
                for listener in listeners:
                    nursery.start_soon(trio.serve_listeners, self._accept, [listener])
                ready(self, tuple(place_of(listener) for listener in listeners))
                await self._stopped.wait()
                await self._hang_up()
                nursery.cancel_scope.cancel()
        finally:
            for answer in list(self._pending):
                self._settle(answer, NetworkError("this mesh is closed"))
            for one in (*listeners, *self._wires):
                one.socket.close()

    def _watch(self, door: Door) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._show_out, door)

    async def _show_out(self, door: Door) -> None:
        """Close the connections of those who had time for a hello and are no members: places are for members."""
        since: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
        while True:
            await trio.sleep(STRANGER_SECONDS / 4)
            for connection in self._host.get_network().get_connections():
                if door(peer_id_of(connection.muxed_conn.peer_id)) is None:
                    since.pop(connection, None)
                elif trio.current_time() - since.setdefault(connection, trio.current_time()) > STRANGER_SECONDS:
                    with suppress(Exception):
                        await connection.close()

    async def _hang_up(self) -> None:
        with trio.move_on_after(0.3):
            async with trio.open_nursery() as nursery:
                for connection in self._host.get_network().get_connections():
                    nursery.start_soon(connection.close)

    def _wire(self, stream: trio.SocketStream) -> None:
        notice_silence(stream)
        self._wires.add(stream)

    async def _accept(self, stream: trio.SocketStream) -> None:
        """A connection that came in, until it ends."""
        if len(self._arriving) >= MAX_ARRIVING:  # whoever takes longest is not a member in a hurry
            self._arriving.pop(0).cancel()
        scope, muxed = trio.CancelScope(), None
        self._arriving.append(scope)
        try:
            self._wire(stream)
            raw = RawConnection(TrioTCPStream(stream), False)
            with scope:
                muxed = await self._host.upgrade_inbound_connection(raw, multiaddr.Multiaddr("/ip4/0.0.0.0/tcp/0"))
        except Exception as error:  # noqa: BLE001 - a stranger's bytes may raise anything in there
            log.info("refused a connection from %s: %s", _remote(stream), reason(error))
            return
        finally:
            with suppress(ValueError):
                self._arriving.remove(scope)
        if muxed is None:
            return
        self._remotes[getattr(muxed, "muxed_conn", muxed)] = _remote(stream)
        await muxed.event_closed.wait()

    # Asking ----------------------------------------------------------------------------------------------------------

    def _begin(self, answer: Future[Any], *question: Any) -> None:
        if self._nursery is None or self._nursery.cancel_scope.cancel_called:
            self._settle(answer, NetworkError("this mesh is closed"))
        else:
            self._nursery.start_soon(self._settled, answer, *question)

    async def _settled(
        self,
        answer: Future[Any],
        peer_id: str,
        what: str,
        timeout: float,
        call: Callable[[], Awaitable[Any]],
    ) -> None:
        found: Any = NetworkError("this mesh is closed")
        name = self._name_of(peer_id)
        try:
            with trio.fail_after(timeout):
                found = await call()
        except TacitError as error:
            found = error
        except trio.TooSlowError:
            found = NetworkError(f"{name}: no answer to {what!r} within {timeout:.3g} s")
        except Exception as error:
            log.debug("asking %s failed", name, exc_info=True)
            found = NetworkError(f"{name}: cannot be asked: {reason(error)}")
        finally:
            self._settle(answer, found)

    async def _meet(self, peer_id: str, addresses: tuple[str, ...], namespace: str) -> list[tuple[str, list[str]]]:
        if self._dialler.usable(peer_id) is None:
            await self._dialler.connect(peer_id, addresses)
        return [(from_multihash(raw), found) for raw, found in await meet(self._host, libp2p_id(peer_id), namespace)]

    async def _ask(self, peer_id: str, addresses: tuple[str, ...], protocol: str, question: bytes) -> bytes:
        connection = self._dialler.usable(peer_id)
        if connection is not None:
            try:
                return await self._exchange(connection, peer_id, protocol, question)
            except Unheard:
                self._dialler.retire(connection)  # the peer went away, perhaps to come back: dial it anew
        connection = await self._dialler.connect(peer_id, addresses)
        try:
            return await self._exchange(connection, peer_id, protocol, question)
        except Unheard as error:
            raise NetworkError(f"{self._name_of(peer_id)}: hung up: {error}") from None

    async def _exchange(self, connection: Any, peer_id: str, protocol: str, question: bytes) -> bytes:
        """Raises Unheard if the connection broke before the peer said a word."""
        begun, state = trio.current_time(), Progress()
        try:
            return await exchange(connection, state, self._name_of(peer_id), PREFIX + protocol, question)
        except trio.Cancelled:
            # Half a frame may have been sent, or the host at the other end may be gone without a word.
            if not state.sent or (not state.heard and trio.current_time() - begun >= PATIENCE_SECONDS):
                self._dialler.retire(connection)
            raise

    # Answering -------------------------------------------------------------------------------------------------------

    async def _accept_stream(self, stream: Any) -> None:
        """A stream that came in: choose its protocol and answer it. Nothing that happens here may leave it."""
        sender = ""
        try:
            sender = peer_id_of(stream.muxed_conn.peer_id)
            if self._streams[sender] >= MAX_STREAMS:
                raise RefusedError(self._name_of(sender), "has too many questions open")
            self._streams[sender] += 1
            try:
                words = Incoming(stream)
                protocol = TProtocol(await negotiate(words, self._host.get_mux().handlers))
                stream.set_protocol(protocol)
                await self._host.get_mux().handlers[protocol](words)
            finally:
                self._streams[sender] -= 1
                if not self._streams[sender]:
                    del self._streams[sender]
        except Exception as error:  # noqa: BLE001 - what leaves a stream handler ends the host
            log.debug("a stream of %s ended: %s", self._name_of(sender) if sender else "a stranger", reason(error))
            await drop(stream)

    async def _answer(
        self, protocol: str, handler: Handler, limiter: trio.CapacityLimiter, door: Door | None, words: Incoming
    ) -> None:
        sender = peer_id_of(words.stream.muxed_conn.peer_id)
        refusal = door(sender) if door is not None else None
        if refusal is None and limiter.statistics().tasks_waiting >= MAX_WAITING:
            refusal = RefusedError(self._name_of(self._own_id), "is asked too much just now; try again later")
        if refusal is not None:
            await send_answer(words, refusal)
            return
        question = await read_question(words)
        answer: bytes | TacitError = self._failed()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(show_life, words)
            answer = await in_thread(self._handle, handler, sender, question, limiter=limiter, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()
        if isinstance(answer, bytes) and len(answer) > MAX_MESSAGE:
            log.error("the answer to %s is longer than %d bytes", protocol, MAX_MESSAGE)
            answer = self._failed()
        await send_answer(words, answer)

    def _handle(self, handler: Handler, sender: str, question: bytes) -> bytes | TacitError:
        """In a thread of its own."""
        try:
            return handler(sender, question)
        except TacitError as error:
            return error
        except Exception:
            log.exception("a mesh question from %s failed", self._name_of(sender))
            return self._failed()

    def _failed(self) -> PeerError:
        return PeerError(self._name_of(self._own_id), "failed to answer; its log says why")


def assert_running(token: trio.lowlevel.TrioToken | None) -> trio.lowlevel.TrioToken:
    """Raises NetworkError before `main` has begun."""
    if token is None:
        raise NetworkError("the mesh is still starting")
    return token


def _remote(stream: trio.SocketStream) -> str:
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:
        return "nowhere"
