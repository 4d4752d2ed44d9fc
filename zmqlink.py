"""A link over a ZeroMQ PAIR socket with CURVE: what was measured to be quick, and the settings that make it strict.

- Keys are fresh for every link. The binder admits one client key (`party/zap.py`), the dialler one server key.
- No reconnection: a connection that broke is over, so nothing is ever sent twice. (By an interval of weeks: switching
  reconnection off, and IMMEDIATE on the dialling side, make libzmq drop what arrived last but was not read yet, such as
  the reason why the other side hung up.)
- Heartbeats notice a stopped process. The receive queue is generous, because a socket that is not read also stops
  hearing heartbeats; how much may lie in it is decided by credit (`frames.Ledger`).
- Waiting is a plain blocking call with a short timeout, the quickest that ZeroMQ offers; between two of them the link
  looks at its siblings. The monitor says that a connection is gone; strangers that come and go on a bound socket are
  told apart by their file descriptor.
"""

from __future__ import annotations

import errno
import secrets
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import recv_monitor_message

from .ends import Ends, LinkSettings
from .errors import NetworkError
from .frames import MAX_HEADER, PART
from .line import Line
from .link import Buffer, Circle, Link
from .shaped import Shaped
from .shaping import ShapedLine

HEARTBEAT_MS = 300
HEARTBEAT_TIMEOUT_MS = 1000
LINGER_MS = 1000
NEVER_MS = (1 << 31) - 1
QUEUE = 8192  # frames; above what credit lets through
SEND_QUEUE = 64  # parts
UNSENT = SEND_QUEUE * PART  # bytes that a link may hold for a peer that is slow to take them
SNDMORE, DONTWAIT = int(zmq.SNDMORE), int(zmq.DONTWAIT)  # plain numbers: quicker than flags of an enum
EVENTS = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_CLOSED
)


@dataclass(frozen=True, slots=True, repr=False)
class CurveKeys:
    """A CURVE key pair in z85; never shown."""

    public: str
    secret: str

    @classmethod
    def fresh(cls) -> CurveKeys:
        public, secret = zmq.curve_keypair()
        return cls(public.decode("ascii"), secret.decode("ascii"))

    def __repr__(self) -> str:
        return f"CurveKeys({self.public[:8]}…)"


def new_context() -> zmq.Context[zmq.Socket[bytes]]:
    """A ZeroMQ context with two I/O threads: the dealer's stream (affinity 2) must not delay the peers' rounds (1)."""
    return zmq.Context(io_threads=2)


class ZmqLink(Link):
    """One end of a link over TCP. Make it with `dial` or `bind`, then `open()` it."""

    def __init__(
        self, socket: zmq.Socket[bytes], endpoint: str, bound: bool, ends: Ends, circle: Circle, settings: LinkSettings
    ) -> None:
        super().__init__(ends, circle, settings)
        self.endpoint = endpoint
        self._socket = socket
        self._bound = bound
        self._descriptor: int | None = None  # of the one connection that said hello
        self._line: Line | None = None
        self._dead: str | None = None
        self._admitted = False
        self._ended: set[int | None] = set()  # descriptors of connections that ended since
        self._monitor = socket.get_monitor_socket(EVENTS)

    @staticmethod
    def dial(
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        server_key: str,
        keys: CurveKeys,
        ends: Ends,
        circle: Circle,
        settings: LinkSettings,
        *,
        affinity: int = 1,
        line: ShapedLine | None = None,
    ) -> ZmqLink:
        """Connect to a binder that already admits `keys.public`, and only if it holds the secret of `server_key`.

        `line`: what shapes what is received; the other end must shape too.
        """
        socket = _socket(context, keys, settings, affinity)
        try:
            socket.curve_serverkey = server_key.encode("ascii")
            link = _made(socket, endpoint, False, ends, circle, settings, line)
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            socket.close(0)
            raise NetworkError(f"{ends.remote_name}: cannot dial {endpoint}: {error.strerror}") from None
        return link

    @staticmethod
    def bind(
        context: zmq.Context[zmq.Socket[bytes]],
        host: str,
        domain: str,
        keys: CurveKeys,
        ends: Ends,
        circle: Circle,
        settings: LinkSettings,
        *,
        affinity: int = 1,
        line: ShapedLine | None = None,
    ) -> ZmqLink:
        """Listen on a free port of `host` for the one key that the ZAP `domain` admits. `endpoint` says where.

        `line`: as for `dial`.
        """
        socket = _socket(context, keys, settings, affinity)
        try:
            socket.curve_server = True
            socket.setsockopt(zmq.IMMEDIATE, 1)
            socket.zap_domain = domain.encode("ascii")
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
            socket.setsockopt(zmq.IPV6, int(":" in host))
            _bind(socket, f"tcp://[{host}]" if ":" in host else f"tcp://{host}", settings.ports)
            endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
            return _made(socket, endpoint, True, ends, circle, settings, line)
        except zmq.ZMQError as error:
            socket.close(0)
            raise listening_failed(host, error) from None

    def _put(self, part: Buffer, more: bool) -> bool:
        try:
            self._socket.send(part, SNDMORE if more else 0)
        except zmq.Again:
            return False
        return True

    def _take(self, wait: bool) -> tuple[memoryview, bool] | None:
        try:
            frame = self._socket.recv(0 if wait else DONTWAIT, copy=False)
        except zmq.Again:
            return None
        if self._descriptor is None:
            self._descriptor = int(frame.get(zmq.SRCFD))
            self._line = Line.of(self._descriptor, int(self.endpoint.rpartition(":")[2]))
        return frame.buffer, frame.more

    def _gone(self) -> str | None:
        while self._dead is None and self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)
            self._notice(int(event["event"]), int(event["value"]))
        if self._dead is None and self._descriptor in self._ended:
            self._dead = "went away during the session"
        return self._dead

    def _notice(self, event: int, value: int) -> None:
        if self._bound:
            # Strangers knock here too, and the kernel gives their descriptors out again. Only the admitted key gets
            # through the handshake; from then on its connection alone has its descriptor.
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._admitted = True
            elif event == zmq.EVENT_DISCONNECTED and self._admitted:
                self._ended.add(value)
        elif event in (zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL):
            self._dead = "refused our key"
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._dead = "closed the line during the CURVE handshake: another key than expected, on one side"
        elif event == zmq.EVENT_DISCONNECTED:
            self._dead = "went away during the session"
        elif event in (zmq.EVENT_CONNECT_RETRIED, zmq.EVENT_CLOSED):
            self._dead = f"nobody listens at {self.endpoint}"

    def _arrived(self) -> int | None:
        return None if self._line is None else self._line.arrived()

    def cut(self) -> None:
        if self._line is not None:
            self._line.cut()

    def _close(self) -> None:
        if self._line is not None:
            self._line.close()  # the connection ends with its last descriptor
        linger = LINGER_MS if self._dead is None and self._descriptor is not None else 0
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(linger)


class ShapedZmqLink(Shaped, ZmqLink):
    """One that behaves like a line with a profile."""


def _made(
    socket: zmq.Socket[bytes],
    endpoint: str,
    bound: bool,
    ends: Ends,
    circle: Circle,
    settings: LinkSettings,
    line: ShapedLine | None,
) -> ZmqLink:
    if line is None:
        return ZmqLink(socket, endpoint, bound, ends, circle, settings)
    return ShapedZmqLink(line, socket, endpoint, bound, ends, circle, settings)


def _socket(
    context: zmq.Context[zmq.Socket[bytes]], keys: CurveKeys, settings: LinkSettings, affinity: int
) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.PAIR)
    socket.curve_publickey = keys.public.encode("ascii")
    socket.curve_secretkey = keys.secret.encode("ascii")
    tick = int(settings.tick * 1000)
    for option, value in (
        (zmq.AFFINITY, affinity),
        (zmq.RECONNECT_IVL, NEVER_MS),
        (zmq.HEARTBEAT_IVL, HEARTBEAT_MS),
        (zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS),
        (zmq.HANDSHAKE_IVL, 5000),
        (zmq.MAXMSGSIZE, PART + MAX_HEADER),
        (zmq.SNDHWM, SEND_QUEUE),
        (zmq.RCVHWM, QUEUE),
        (zmq.RCVTIMEO, tick),
        (zmq.SNDTIMEO, tick),
        (zmq.LINGER, 0),
    ):
        socket.setsockopt(option, value)
    return socket


def _bind(socket: zmq.Socket[bytes], place: str, ports: tuple[int, int] | None) -> None:
    """To a free port, of the range if one is given. Raises ZMQError of the last attempt."""
    if ports is None:
        socket.bind(f"{place}:*")
        return
    first, last = ports
    count = last - first + 1
    start = secrets.randbelow(count)  # sessions that open at once try different ones
    for number in range(count):
        try:
            socket.bind(f"{place}:{first + (start + number) % count}")
            return
        except zmq.ZMQError as error:
            if error.errno != errno.EADDRINUSE or number == count - 1:
                raise


def listening_failed(where: str, error: zmq.ZMQError) -> NetworkError:
    """The error for an address that cannot be listened on, with the way out."""
    if error.errno == errno.EADDRINUSE:
        return NetworkError(
            f"cannot listen on {where}: the port is in use; stop the other program or choose another port"
        )
    return NetworkError(f"cannot listen on {where}: {error.strerror}")
