"""One libp2p host in a thread of its own (libp2p runs on trio), and a facade that any thread may use.

A question is one stream: /tacit/1/PROTOCOL, then length and bytes; the answer is a status byte, length and bytes.

What py-libp2p 0.8.1 does by itself that a cluster cannot live with, and what is done about it here:

| left alone                                                           | here                                          |
| -------------------------------------------------------------------- | --------------------------------------------- |
| plaintext dialers are accepted, under anyone's peer id               | Noise is the only security offered            |
| an exception in a stream handler, or undecodable bytes from a        | `_accept_stream` catches and reports all;     |
| stranger during negotiation, end the whole host                      | a host that falls all the same is restarted   |
| each accepted connection holds one of 250 places until the host ends | connections are accepted here (`_accept`)     |
| listening twice on a port succeeds (SO_REUSEPORT)                    | listening sockets are made here               |
| a failed dial bars a peer for 60 s; five failures bar everyone       | `dial_addr` instead of `dial_peer`; no breaker|
| opening a stream takes three round trips                             | negotiation and question leave together       |
| dials peers on its own to reach 50 connections                       | switched off                                  |
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, TypeVar

from ...errors import NetworkError, TacitError, UsageError
from ...records import MAX_RECORD_BYTES
from ..mesh import Handler

if TYPE_CHECKING:
    from .engine import Engine

log = logging.getLogger("tacit.party.p2p")

MAX_QUESTION = MAX_RECORD_BYTES
START_SECONDS = 10.0
STOP_SECONDS = 0.9
RESTART_SECONDS = 0.5  # between a fall of the host and the next attempt
SLACK = 0.5  # seconds that a question's own deadline is given to arrive here before the caller stops waiting

T = TypeVar("T")
Door = Callable[[str], TacitError | None]
"""peer id -> why its question is not even read, or None."""


class Host:
    """Ask peers by id and address, and be asked. Start it once; every method may be called from any thread."""

    def __init__(self, seed: bytes, listen: Sequence[str], name_of: Callable[[str], str]) -> None:
        """`seed`: the Ed25519 identity. `listen`: multiaddrs, port 0 for any. `name_of`: how messages call a peer."""
        self._settings = (seed, tuple(listen), name_of)
        self._engine: Engine | None = None
        self._served: dict[str, tuple[Handler, int, Door | None]] = {}
        self._welcome: tuple[tuple[str, ...], Door] | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="libp2p", daemon=True)
        self._first: Future[tuple[str, ...]] = Future()
        self.addresses: tuple[str, ...] = ()

    def start(self) -> None:
        """Listen. Raises NetworkError for an address that cannot be listened on; `addresses` says where it does."""
        self._thread.start()
        try:
            self.addresses = self._first.result(START_SECONDS)
        except FutureTimeout:
            raise NetworkError(f"the mesh did not start within {START_SECONDS:g} s") from None

    def serve(self, protocol: str, handler: Handler, threads: int = 4, door: Door | None = None) -> None:
        """Answer questions of `protocol` with `handler`, up to `threads` at a time, in threads of its own."""
        with self._lock:
            self._served[protocol] = (handler, threads, door)
            if self._engine is not None:
                self._engine.serve(protocol, handler, threads, door)

    def ask(self, peer_id: str, addresses: Sequence[str], protocol: str, question: bytes, timeout: float) -> bytes:
        """The answer of a peer, found at one of `addresses` unless it is connected already. `timeout` in seconds.

        Raises the peer's TacitError, IdentityError if somebody else answers at the address, or NetworkError.
        """
        if len(question) > MAX_QUESTION:
            raise UsageError(f"a question of {len(question)} bytes is longer than the {MAX_QUESTION} that a mesh takes")
        answer: Future[bytes] = Future()
        self._running().ask(answer, peer_id, tuple(addresses), protocol, question, timeout)
        return _result(answer, timeout)

    def welcome(self, addresses: Sequence[str], door: Door) -> None:
        """Be a rendezvous point for whom `door` lets in, and go by `addresses` (multiaddrs) at those of others."""
        with self._lock:
            self._welcome = (tuple(addresses), door)
            if self._engine is not None:
                self._engine.announce(self._welcome[0])
                self._engine.welcome(door)

    def meet(
        self, peer_id: str, addresses: Sequence[str], namespace: str, timeout: float
    ) -> list[tuple[str, list[str]]]:
        """Register at a peer's rendezvous; who else did: (peer id, multiaddrs). Raises NetworkError, IdentityError."""
        answer: Future[list[tuple[str, list[str]]]] = Future()
        self._running().meet(answer, peer_id, tuple(addresses), namespace, timeout)
        return _result(answer, timeout)

    def connected(self) -> tuple[str, ...]:
        """Ids of the peers there is a connection to."""
        engine = self._engine
        return () if engine is None else engine.connected()

    def seen(self, peer_id: str) -> str:
        """The IP address at the other end of a connection to this peer, "" if there is none."""
        engine = self._engine
        return "" if engine is None else engine.seen(peer_id)

    def close(self) -> None:
        """Stop asking and answering, within a second."""
        with self._lock:
            self._closed = True
            engine = self._engine
        if engine is not None:
            engine.stop()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _running(self) -> Engine:
        with self._lock:
            engine = None if self._closed else self._engine
        if engine is None:
            raise NetworkError("this mesh is closed" if self._closed else "the mesh is starting again")
        return engine

    def _run(self) -> None:
        import trio

        from .engine import Engine

        while not self._closed:
            engine = Engine(*self._settings)
            for protocol, served in self._served.items():
                engine.serve(protocol, *served)
            try:
                trio.run(engine.main, self._ready)
            except NetworkError as error:
                if not self._first.done():
                    self._first.set_exception(error)
                    return
                log.error("%s", error)
            except Exception:
                if not self._first.done():
                    self._first.set_exception(NetworkError("libp2p failed to start; the log says why"))
                    log.exception("libp2p failed to start")
                    return
                log.exception("libp2p failed; starting it again")
            finally:
                with self._lock:
                    self._engine = None
            if not self._closed:
                time.sleep(RESTART_SECONDS)

    def _ready(self, engine: Engine, addresses: tuple[str, ...]) -> None:
        """Called from trio's thread when `engine` listens. Ports of the first start stay."""
        seed, _, name_of = self._settings
        self._settings = (seed, addresses or self._settings[1], name_of)
        with self._lock:
            self._engine = engine
            for protocol, served in self._served.items():
                engine.serve(protocol, *served)
            if self._welcome is not None:
                engine.announce(self._welcome[0])
                engine.welcome(self._welcome[1])
            closed = self._closed
        if not self._first.done():
            self._first.set_result(addresses)
        if closed:
            engine.stop()


def _result(answer: Future[T], timeout: float) -> T:
    try:
        return answer.result(timeout + SLACK)
    except FutureTimeout:
        raise NetworkError(f"no answer within {timeout:.3g} s") from None
    except CancelledError:
        raise NetworkError("this mesh is closed") from None
