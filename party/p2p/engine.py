"""What runs in trio: accepting and dialling connections, and the two ends of a question (see `host.py` for the why)."""

from __future__ import annotations

import functools
import json
import logging
import socket
import struct
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NoReturn

import multiaddr
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.config import ConnectionConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.rcmgr import ResourceManager
from libp2p.rcmgr.connection_limits import ConnectionLimits
from libp2p.rcmgr.manager import ResourceLimits
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.utils import encode_delim

from ...errors import IdentityError, NetworkError, PeerError, RefusedError, TacitError
from ...records import MAX_RECORD_BYTES, error_from_json, error_to_json, parse_json
from ..mesh import MAX_MESSAGE, Handler
from .address import Address, from_multihash, to_libp2p

log = logging.getLogger("tacit.party.p2p")

MULTISTREAM = "/multistream/1.0.0"
NOT_SERVED = "na"
MAX_CHOICES = 4  # protocols that a stream may ask for before it is ended
PREFIX = "/tacit/1/"
OK, ERROR = 0, 1
MAX_QUESTION = MAX_RECORD_BYTES
MAX_CONNECTIONS = 1024
MAX_ARRIVING = 64  # connections that have not proved yet who they are
MAX_STREAMS = 64  # that one peer may have open towards us
MAX_WAITING = 256  # questions of one protocol that wait for a thread
CONNECT_SECONDS = 1.5  # whoever cannot be connected to within this is not there
STAGGER_SECONDS = 0.2  # between the addresses of a peer that are tried at once
ARRIVE_SECONDS = 5.0  # for a connection to prove who it is, and for a question to arrive
WRITE_SECONDS = 30.0
LIFE_SECONDS = 0.02
PIECE = 1 << 20
PATIENCE_SECONDS = 1.0  # a connection that stays silent longer is not used again
RETIRE_SECONDS = 10.0  # what is under way on such a connection may go on for this long
SILENT_MILLISECONDS = 15_000  # the kernel ends a connection whose bytes stay unacknowledged for this long


class Broken(Exception):  # noqa: N818 - not an error of its own: it becomes a NetworkError or another attempt
    """The stream ended before the peer had heard of the question."""


class Engine:
    """One life of the host. `main` runs it; `ask`, `serve`, `connected` and `stop` may be called from any thread."""

    def __init__(self, seed: bytes, listen: Sequence[str], name_of: Callable[[str], str]) -> None:
        _quiet()
        self._listen_on = tuple(listen)
        self._name_of = name_of
        keys = create_new_key_pair(seed)
        self._own_id = from_multihash(ID.from_pubkey(keys.public_key).to_bytes())
        self._host = new_host(
            key_pair=keys,
            sec_opt={NOISE: Noise(keys, create_new_x25519_key_pair().private_key)},
            muxer_opt={TProtocol(YAMUX): Yamux},
            connection_config=ConnectionConfig(
                max_connections=MAX_CONNECTIONS,
                min_connections=0,
                low_watermark=0,
                high_watermark=MAX_CONNECTIONS,
                max_connections_per_peer=8,  # of two that dial each other at once both stay: neither's question breaks
                inbound_upgrade_timeout=ARRIVE_SECONDS,
                outbound_upgrade_timeout=CONNECT_SECONDS,
            ),
            resource_manager=ResourceManager(
                limits=ResourceLimits(max_connections=MAX_CONNECTIONS),
                connection_limits=ConnectionLimits(
                    max_established_inbound=MAX_CONNECTIONS, max_established_per_peer=16
                ),
                enable_metrics=False,
                enable_memory_limits=False,
                enable_circuit_breaker=False,
                enable_graceful_degradation=False,
                enable_rate_limiting=False,
            ),
            disable_identify_address_discovery=True,
        )
        network: Any = self._host.get_network()
        network.set_stream_handler(self._accept_stream)
        # Neither identify nor ping: strangers would fill libp2p's address book, and it dials what stands there.
        network.notifees.clear()
        self._host.get_mux().handlers.clear()
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._stopped = trio.Event()
        self._pending: set[Future[bytes]] = set()
        self._lock = threading.Lock()
        self._dialling: weakref.WeakValueDictionary[str, trio.Lock] = weakref.WeakValueDictionary()
        self._retired: weakref.WeakSet[Any] = weakref.WeakSet()
        self._streams: Counter[str] = Counter()
        self._arriving = 0

    # From any thread -------------------------------------------------------------------------------------------------

    def serve(self, protocol: str, handler: Handler, threads: int, door: Callable[[str], TacitError | None] | None) -> None:
        limiter = trio.CapacityLimiter(threads)
        answer = functools.partial(self._answer, protocol, handler, limiter, door)
        self._host.set_stream_handler(TProtocol(PREFIX + protocol), answer)

    def ask(
        self, answer: Future[bytes], peer_id: str, addresses: tuple[str, ...], protocol: str, question: bytes, timeout: float
    ) -> None:
        """`answer` gets the answer or a TacitError, within `timeout` seconds unless trio itself is held up."""
        with self._lock:
            self._pending.add(answer)
        try:
            assert_running(self._token).run_sync_soon(self._begin, answer, peer_id, addresses, protocol, question, timeout)
        except trio.RunFinishedError:
            self._settle(answer, NetworkError("this mesh is closed"))

    def connected(self) -> tuple[str, ...]:
        return tuple(_peer_id(one) for one in list(self._host.get_network().connections))

    def stop(self) -> None:
        with suppress(trio.RunFinishedError):
            assert_running(self._token).run_sync_soon(self._stopped.set)

    def _settle(self, answer: Future[bytes], found: bytes | TacitError) -> None:
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
        listeners = await _listen(self._listen_on)
        try:
            async with self._host.run([]), trio.open_nursery() as nursery:
                self._nursery = nursery
                for listener in listeners:
                    nursery.start_soon(trio.serve_listeners, self._accept, [listener])
                ready(self, tuple(_place(listener) for listener in listeners))
                await self._stopped.wait()
                await self._hang_up()
                nursery.cancel_scope.cancel()
        finally:
            for answer in list(self._pending):
                self._settle(answer, NetworkError("this mesh is closed"))
            for listener in listeners:
                listener.socket.close()

    async def _hang_up(self) -> None:
        with trio.move_on_after(0.3):
            async with trio.open_nursery() as nursery:
                for connection in self._host.get_network().get_connections():
                    nursery.start_soon(connection.close)

    async def _accept(self, stream: trio.SocketStream) -> None:
        """A connection that came in, until it ends."""
        if self._arriving >= MAX_ARRIVING:
            return
        self._arriving += 1
        try:
            _notice_silence(stream)
            raw = RawConnection(TrioTCPStream(stream), False)
            muxed: Any = await self._host.upgrade_inbound_connection(raw, multiaddr.Multiaddr("/ip4/0.0.0.0/tcp/0"))
        except Exception as error:  # noqa: BLE001 - a stranger's bytes may raise anything in there
            log.info("refused a connection from %s: %s", _remote(stream), _reason(error))
            return
        finally:
            self._arriving -= 1
        await muxed.event_closed.wait()

    # Asking ----------------------------------------------------------------------------------------------------------

    def _begin(self, answer: Future[bytes], *question: Any) -> None:
        if self._nursery is None or self._nursery.cancel_scope.cancel_called:
            self._settle(answer, NetworkError("this mesh is closed"))
        else:
            self._nursery.start_soon(self._settled, answer, *question)

    async def _settled(
        self, answer: Future[bytes], peer_id: str, addresses: tuple[str, ...], protocol: str, question: bytes, timeout: float
    ) -> None:
        found: bytes | TacitError = NetworkError("this mesh is closed")
        name = self._name_of(peer_id)
        try:
            with trio.fail_after(timeout):
                found = await self._ask(peer_id, addresses, protocol, question)
        except TacitError as error:
            found = error
        except trio.TooSlowError:
            found = NetworkError(f"{name}: no answer to {protocol!r} within {timeout:g} s")
        except Exception as error:  # noqa: BLE001 - foreign errors are mapped here, once
            log.debug("asking %s failed", name, exc_info=True)
            found = NetworkError(f"{name}: cannot be asked: {_reason(error)}")
        finally:
            self._settle(answer, found)

    async def _ask(self, peer_id: str, addresses: tuple[str, ...], protocol: str, question: bytes) -> bytes:
        connection = self._usable(peer_id)
        if connection is not None:
            try:
                return await self._exchange(connection, peer_id, protocol, question)
            except Broken:
                self._retire(connection)  # the peer went away, perhaps to come back: dial it anew
        connection = await self._connect(peer_id, addresses)
        try:
            return await self._exchange(connection, peer_id, protocol, question)
        except Broken as error:
            raise NetworkError(f"{self._name_of(peer_id)}: hung up: {error}") from None

    def _usable(self, peer_id: str) -> Any:
        for connection in self._host.get_network().get_connections(_libp2p_id(peer_id)):
            if not connection.is_closed and not connection.muxed_conn.is_closed and connection not in self._retired:
                return connection
        return None

    def _retire(self, connection: Any) -> None:
        """Ask nothing more on this connection; what is under way on it may end."""
        if connection not in self._retired and self._nursery is not None:
            self._retired.add(connection)
            self._nursery.start_soon(self._end, connection)

    async def _end(self, connection: Any) -> None:
        await trio.sleep(RETIRE_SECONDS)
        with suppress(Exception):
            await connection.close()

    async def _connect(self, peer_id: str, addresses: tuple[str, ...]) -> Any:
        lock = self._dialling.setdefault(peer_id, trio.Lock())
        async with lock:
            found = self._usable(peer_id)  # somebody dialled while we waited
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
            _notice_silence(stream)
            raw = RawConnection(TrioTCPStream(stream), True)
            return await self._host.upgrade_outbound_connection(raw, _libp2p_id(peer_id))
        except Exception as error:  # noqa: BLE001 - foreign errors are mapped here, once
            if "mismatch" in _chain(error).lower():
                raise IdentityError(name, f"somebody else answers at {address.place}") from None
            raise NetworkError(f"{name}: no connection to {address.place}: {_reason(error)}") from None

    async def _exchange(self, connection: Any, peer_id: str, protocol: str, question: bytes) -> bytes:
        """One stream. Raises Broken if it ended before the peer said a word."""
        asked = heard = False
        stream: Any = None
        begun = trio.current_time()
        try:
            stream = await connection.new_stream()
            opening = encode_delim(MULTISTREAM.encode()) + encode_delim((PREFIX + protocol).encode())
            await stream.write(opening + struct.pack(">I", len(question)) + question)
            asked = True
            words = Incoming(stream)
            greeting = await words.line()
            heard = True
            chosen = await words.line()
            if greeting != MULTISTREAM or chosen not in (PREFIX + protocol, NOT_SERVED):
                raise PeerError(self._name_of(peer_id), "does not speak this mesh's protocol")
            if chosen == NOT_SERVED:
                raise PeerError(self._name_of(peer_id), f"does not serve {protocol!r}")
            status, size = struct.unpack(">BI", await words.exactly(5))
            if status not in (OK, ERROR) or size > (MAX_MESSAGE if status == OK else MAX_QUESTION):
                raise PeerError(self._name_of(peer_id), "sent an answer that is not as agreed")
            answer = await words.exactly(size)
            await stream.close()
        except trio.Cancelled:
            # Half a frame may have been sent, or the host at the other end may be gone without a word.
            if not asked or (not heard and trio.current_time() - begun >= PATIENCE_SECONDS):
                self._retire(connection)
            await _drop(stream)
            raise
        except (BaseLibp2pError, ValueError, OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            await _drop(stream)
            if not heard:
                raise Broken(_reason(error)) from None
            raise NetworkError(f"{self._name_of(peer_id)}: went away while asked: {_reason(error)}") from None
        except TacitError:
            await _drop(stream)
            raise
        if status == OK:
            return answer
        try:
            error = error_from_json(parse_json(answer), self._name_of(peer_id))
        except ValueError:
            error = PeerError(self._name_of(peer_id), "reported an error in a form not understood")
        raise error

    # Answering -------------------------------------------------------------------------------------------------------

    async def _accept_stream(self, stream: Any) -> None:
        """A stream that came in: choose its protocol and answer it. Nothing that happens here may leave it."""
        sender = ""
        try:
            sender = _peer_id(stream.muxed_conn.peer_id)
            if self._streams[sender] >= MAX_STREAMS:
                raise RefusedError(self._name_of(sender), "has too many questions open")
            self._streams[sender] += 1
            try:
                words = Incoming(stream)
                with trio.fail_after(ARRIVE_SECONDS):
                    protocol = await self._negotiate(words)
                stream.set_protocol(protocol)
                await self._host.get_mux().handlers[protocol](words)
            finally:
                self._streams[sender] -= 1
                if not self._streams[sender]:
                    del self._streams[sender]
        except Exception as error:  # noqa: BLE001 - what leaves a stream handler ends the host
            log.debug("a stream of %s ended: %s", self._name_of(sender) if sender else "a stranger", _reason(error))
            await _drop(stream)

    async def _negotiate(self, words: Incoming) -> TProtocol:
        """multistream-select, the answering side. What is left to say waits in `words.reply`, to leave with the answer."""
        if await words.line() != MULTISTREAM:
            raise ValueError("not multistream-select")
        words.reply = encode_delim(MULTISTREAM.encode())
        for _ in range(MAX_CHOICES):
            if not words.waiting:
                await words.flush()
            wanted = TProtocol(await words.line())
            if wanted in self._host.get_mux().handlers:
                words.reply += encode_delim(wanted.encode())
                return wanted
            words.reply += encode_delim(NOT_SERVED.encode())
            await words.flush()
        raise ValueError("asked for nothing that is served")

    async def _answer(
        self,
        protocol: str,
        handler: Handler,
        limiter: trio.CapacityLimiter,
        door: Callable[[str], TacitError | None] | None,
        words: Incoming,
    ) -> None:
        stream = words.stream
        sender = _peer_id(stream.muxed_conn.peer_id)
        answer: bytes | TacitError | None = door(sender) if door is not None else None
        if answer is None and limiter.statistics().tasks_waiting >= MAX_WAITING:
            answer = RefusedError(self._name_of(self._own_id), "is asked too much just now; try again later")
        if answer is None:
            with trio.fail_after(ARRIVE_SECONDS):
                (size,) = struct.unpack(">I", await words.exactly(4))
                if size > MAX_QUESTION:
                    raise ValueError(f"a question of {size} bytes")
                question = await words.exactly(size)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_show_life, words)
                answer = await trio.to_thread.run_sync(
                    self._handle, handler, sender, question, limiter=limiter, abandon_on_cancel=True
                )
                nursery.cancel_scope.cancel()
        if isinstance(answer, bytes) and len(answer) > MAX_MESSAGE:
            log.error("the answer to %s is longer than %d bytes", protocol, MAX_MESSAGE)
            answer = self._failed()
        status = OK if isinstance(answer, bytes) else ERROR
        body = answer if isinstance(answer, bytes) else json.dumps(error_to_json(answer)).encode("ascii")
        with trio.fail_after(WRITE_SECONDS):
            await words.flush(struct.pack(">BI", status, len(body)) + body)
            await stream.close()

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


class Incoming:
    """The bytes of a stream, fetched as they come: yamux sends a window update for every read, however small."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.reply = b""  # of the negotiation, not yet sent
        self._buffer = bytearray()

    @property
    def waiting(self) -> int:
        return len(self._buffer)

    async def exactly(self, size: int) -> bytes:
        """Raises ValueError if the stream ends before."""
        while len(self._buffer) < size:
            piece = await self.stream.read(PIECE)
            if not piece:
                raise ValueError("the stream ended")
            self._buffer += piece
        found = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return found

    async def flush(self, more: bytes = b"") -> None:
        """Send what is left of the negotiation, and `more`."""
        reply, self.reply = self.reply + more, b""
        if reply:
            await self.stream.write(reply)

    async def line(self) -> str:
        """One message of multistream-select: length (one byte suffices for ours), text, newline."""
        (size,) = await self.exactly(1)
        if not 0 < size < 128:
            raise ValueError("not multistream-select")
        return (await self.exactly(size)).rstrip(b"\n").decode("ascii", "replace")


async def _show_life(words: Incoming) -> None:
    """An answer that takes a while is announced, so that the asker knows a slow handler from a dead host."""
    await trio.sleep(LIFE_SECONDS)
    with trio.CancelScope(shield=True, deadline=trio.current_time() + ARRIVE_SECONDS), suppress(Exception):
        await words.flush()  # never half of it: that would break the connection


def assert_running(token: trio.lowlevel.TrioToken | None) -> trio.lowlevel.TrioToken:
    """Raises NetworkError before `main` has begun."""
    if token is None:
        raise NetworkError("the mesh is still starting")
    return token


def _quiet() -> None:
    """libp2p logs strangers' mistakes as errors, and to stderr where no handler is set: only when debugging."""
    logger = logging.getLogger("libp2p")
    logger.propagate = True
    level = logging.WARNING if log.isEnabledFor(logging.DEBUG) else logging.CRITICAL
    for one in (logger, logging.getLogger("libp2p.network.auto_connector")):  # which has a level of its own
        one.setLevel(level)


async def _listen(addresses: Sequence[str]) -> list[trio.SocketListener]:
    found: list[trio.SocketListener] = []
    for text in addresses:
        address = Address.parse(text)
        try:
            found += await trio.open_tcp_listeners(address.port, host=address.host)
        except OSError as error:
            for listener in found:
                listener.socket.close()
            _cannot_listen(address, error)
    return found


def _cannot_listen(address: Address, error: OSError) -> NoReturn:
    import errno

    cause: BaseException | None = error
    while cause is not None and getattr(cause, "errno", None) is None:
        cause = cause.__cause__
    if getattr(cause, "errno", None) == errno.EADDRINUSE:
        raise NetworkError(
            f"cannot listen on {address.place}: the port is in use; stop the other program or choose another --listen"
        ) from None
    raise NetworkError(f"cannot listen on {address.place}: {getattr(cause, 'strerror', None) or error}") from None


def _place(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return Address.at(host, port).place


def _notice_silence(stream: trio.SocketStream) -> None:
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_MILLISECONDS)


def _remote(stream: trio.SocketStream) -> str:
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:
        return "nowhere"


def _libp2p_id(peer_id: str) -> ID:
    return ID.from_base58(to_libp2p(peer_id))


def _peer_id(found: ID) -> str:
    """Raises ValueError for a key that is not Ed25519."""
    return from_multihash(found.to_bytes())


async def _drop(stream: Any) -> None:
    """Reset a stream, even while being cancelled."""
    if stream is not None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 0.2), suppress(Exception):
            await stream.reset()


def _chain(error: BaseException) -> str:
    words = []
    cause: BaseException | None = error
    while cause is not None:
        words.append(f"{type(cause).__name__} {cause}")
        cause = cause.__cause__ or cause.__context__
    return "; ".join(words)


def _reason(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__
