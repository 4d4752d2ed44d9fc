"""The mesh of a fixed roster: ZeroMQ ROUTER and DEALER sockets under CURVE with the keys that cluster.json lists.

Question: [number (8 bytes), protocol, content]. Answer: [number, b"ok", content] or [number, b"error", error as JSON].
The doorkeeper lets in the listed keys only, and the key that authenticated a connection says who is asking.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import zmq

from ..checks import short_id
from ..errors import ConfigError, IdentityError, NetworkError, PeerError, TacitError
from ..members import Members, Roster, RosterMember
from ..records import error_from_json, error_to_json, parse_json, tidy
from ..zmqlink import HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS, CurveKeys, listening_failed
from .identity import Identity
from .mesh import MAX_MESSAGE, Handler, Mesh, Whereabouts
from .zap import Doorkeeper

log = logging.getLogger("tacit.party.mesh")

DOMAIN = "mesh"
CONNECT_SECONDS = 1.5  # whoever cannot be connected to within this is not there
POLL_MS = 100  # a wait looks that often whether this mesh was closed
Socket = zmq.Socket[bytes]


class RosterMesh(Mesh):
    """`listen=None` (the coordinator) asks only; a peer listens at its endpoint of the roster, or where told to."""

    def __init__(
        self,
        context: zmq.Context[Socket],
        doorkeeper: Doorkeeper | None,
        identity: Identity,
        roster: Roster,
        listen: str | None,
    ) -> None:
        self._context = context
        self._identity = identity
        self._roster = roster
        self._by_key = {member.mesh_key: member.peer_id for member in roster.members}
        self._by_key[roster.coordinator.mesh_key] = roster.coordinator.peer_id
        self._idle: dict[str, list[Socket]] = {}
        self._lock = threading.Lock()
        self._handlers: dict[str, tuple[Handler, ThreadPoolExecutor]] = {}
        self._seen: dict[str, str] = {}  # peer id -> IP address that its last question came from
        self._closed = False
        self._asking = 0  # questions on their way, each in a thread of its caller
        self._asked = threading.Condition(self._lock)
        self._answers: deque[list[bytes]] = deque()
        self._thread: threading.Thread | None = None
        if listen is not None:
            if doorkeeper is None:
                raise ConfigError("a mesh that listens needs a doorkeeper")
            for key in self._by_key:
                doorkeeper.admit(DOMAIN, key)
            self._listen(listen)

    @property
    def members(self) -> Members:
        return self._roster

    # Asking ----------------------------------------------------------------------------------------------------------

    def request(self, peer_id: str, protocol: str, question: bytes, timeout: float = 5.0) -> bytes:
        member = self._roster.member(peer_id)
        if member is None:
            raise IdentityError(f"unknown peer {short_id(peer_id)}", "is not in the roster")
        number = os.urandom(8)
        with self._borrowed(member) as socket:
            answer = self._ask(socket, member, [number, protocol.encode("ascii"), question], timeout)
        if answer[0] == b"ok":
            return answer[1]
        try:
            error = error_from_json(parse_json(answer[1]), member.display)
        except ValueError:
            error = PeerError(member.display, "reported an error in a form not understood")
        raise error

    def whereabouts(self, peer_id: str) -> Whereabouts:
        member = self._roster.member(peer_id)
        places = (place_of(member.mesh_endpoint),) if member is not None else ()
        return Whereabouts(places, self._seen.get(peer_id, ""))

    def _ask(self, socket: Socket, member: RosterMember, question: list[bytes], timeout: float) -> list[bytes]:
        deadline = time.monotonic() + timeout
        unreachable = NetworkError(f"{member.display}: no answer from {member.mesh_endpoint} within {timeout:g} s")
        try:
            self._wait(socket, zmq.POLLOUT, min(deadline, time.monotonic() + CONNECT_SECONDS), unreachable)
            socket.send_multipart(question, zmq.DONTWAIT)
            while True:
                self._wait(socket, zmq.POLLIN, deadline, unreachable)
                answer = socket.recv_multipart()
                if len(answer) != 3 or answer[1] not in (b"ok", b"error"):
                    raise PeerError(member.display, "sent an answer that is not as agreed")
                if answer[0] == question[0]:
                    return answer[1:]
        except zmq.Again:
            raise unreachable from None
        except zmq.ZMQError as error:
            raise NetworkError(f"{member.display}: cannot be asked: {error.strerror}") from None

    def _wait(self, socket: Socket, event: int, deadline: float, silence: NetworkError) -> None:
        """Until the socket can be written or read. Raises `silence` at the deadline, NetworkError once this mesh closes."""
        while not socket.poll(min(POLL_MS, max(1, int(1000 * (deadline - time.monotonic())))), event):
            if self._closed:
                raise _closed_error()
            if time.monotonic() >= deadline:
                raise silence

    @contextmanager
    def _borrowed(self, member: RosterMember) -> Iterator[Socket]:
        """A socket to `member` for one question; kept for the next one if this one was answered."""
        with self._lock:
            if self._closed:
                raise _closed_error()
            self._asking += 1
            idle = self._idle.setdefault(member.peer_id, [])
            socket = idle.pop() if idle else None
        answered = False
        try:
            if socket is None:
                socket = self._connect(member)
            yield socket
            answered = True
        finally:
            with self._lock:
                if socket is not None and answered and not self._closed:
                    self._idle[member.peer_id].append(socket)
                elif socket is not None:
                    socket.close(0)
                self._asking -= 1
                self._asked.notify_all()

    def _connect(self, member: RosterMember) -> Socket:
        socket = self._context.socket(zmq.DEALER)
        _secure(socket, self._identity.mesh)
        socket.curve_serverkey = member.mesh_key.encode("ascii")
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        socket.connect(member.mesh_endpoint)
        return socket

    # Answering -------------------------------------------------------------------------------------------------------

    def serve(self, protocol: str, handler: Handler, threads: int = 4) -> None:
        pool = ThreadPoolExecutor(threads, thread_name_prefix=f"mesh-{protocol}")
        self._handlers[protocol] = (handler, pool)

    def _listen(self, endpoint: str) -> None:
        router = self._context.socket(zmq.ROUTER)
        _secure(router, self._identity.mesh)
        router.curve_server = True
        router.zap_domain = DOMAIN.encode("ascii")
        router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        try:
            router.bind(endpoint)
        except zmq.ZMQError as error:
            router.close(0)
            raise listening_failed(endpoint, error) from None
        wake = f"inproc://tacit.mesh.{id(self):x}"
        self._waker = self._context.socket(zmq.PAIR)
        self._waker.bind(wake)
        self._wake_lock = threading.Lock()
        woken = self._context.socket(zmq.PAIR)
        woken.connect(wake)
        self._thread = threading.Thread(target=self._route, args=(router, woken), name="mesh", daemon=True)
        self._thread.start()

    def _route(self, router: Socket, woken: Socket) -> None:
        poller = zmq.Poller()
        poller.register(router, zmq.POLLIN)
        poller.register(woken, zmq.POLLIN)
        try:
            while not self._closed:
                ready = dict(poller.poll())
                if woken in ready:
                    woken.recv()
                while self._answers:
                    router.send_multipart(self._answers.popleft())
                if router in ready:
                    self._accept(router.recv_multipart(copy=False))
        finally:
            router.close(200)
            woken.close(0)

    def _accept(self, parts: list[zmq.Frame]) -> None:
        if len(parts) != 4:
            log.warning("dropped a question of %d parts", len(parts))
            return
        route, number, protocol, question = (part.bytes for part in parts)
        sender = self._by_key.get(str(parts[3].get("User-Id")))
        found = self._handlers.get(protocol.decode("ascii", "replace"))
        if sender is None:
            log.warning("dropped a question from a key that is not in the roster")
        elif found is None:
            starting = not self._handlers
            self._reply(
                [route, number],
                self._own_error(
                    "is still starting" if starting else f"does not serve {tidy(protocol.decode('latin-1'), 30)!r}"
                ),
            )
        else:
            self._seen[sender] = str(parts[3].get("Peer-Address"))
            handler, pool = found
            pool.submit(self._handle, handler, sender, [route, number], question)

    def _handle(self, handler: Handler, sender: str, route: list[bytes], question: bytes) -> None:
        try:
            answer: bytes | TacitError = handler(sender, question)
        except TacitError as error:
            answer = error
        except Exception:
            log.exception("a mesh question from %s failed", self._roster.name_of(sender))
            answer = self._own_error("failed to answer; its log says why")
        self._reply(route, answer)

    def _reply(self, route: list[bytes], answer: bytes | TacitError) -> None:
        if isinstance(answer, TacitError):
            parts = [*route, b"error", json.dumps(error_to_json(answer)).encode("ascii")]
        else:
            parts = [*route, b"ok", answer]
        self._answers.append(parts)
        with self._wake_lock:
            if not self._closed:
                self._waker.send(b"")

    def _own_error(self, reason: str) -> PeerError:
        return PeerError(self._roster.name_of(self._identity.peer_id), reason)

    def close(self) -> None:
        """Questions on their way end with a NetworkError; none of their sockets is in use afterwards."""
        with self._lock:
            if self._closed:
                return
            idle = [socket for sockets in self._idle.values() for socket in sockets]
            self._idle.clear()
            self._closed = True
            # Whoever closes the context next would close their sockets under them, and libzmq ends the process for that.
            self._asked.wait_for(lambda: self._asking == 0, timeout=10 * POLL_MS / 1000)
        for socket in idle:
            socket.close(0)
        if self._thread is not None:
            with self._wake_lock:
                self._waker.send(b"")
            self._thread.join(1.0)
        for _, pool in self._handlers.values():
            pool.shutdown(wait=False, cancel_futures=True)
        if self._thread is not None:
            with self._wake_lock:
                self._waker.close(0)


def _closed_error() -> NetworkError:
    return NetworkError("this mesh is closed")


def place_of(endpoint: str) -> tuple[str, int]:
    """Host and port of tcp://host:port."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), int(port)


def _secure(socket: Socket, keys: CurveKeys) -> None:
    socket.curve_publickey = keys.public.encode("ascii")
    socket.curve_secretkey = keys.secret.encode("ascii")
    for option, value in (
        (zmq.HEARTBEAT_IVL, HEARTBEAT_MS),
        (zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS),
        (zmq.HANDSHAKE_IVL, 5000),
        (zmq.MAXMSGSIZE, MAX_MESSAGE),
        (zmq.LINGER, 0),
    ):
        socket.setsockopt(option, value)
