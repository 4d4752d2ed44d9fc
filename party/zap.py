"""The doorkeeper: which CURVE keys may connect to which of this process's sockets (ZeroMQ's ZAP, RFC 27).

libzmq asks it for every connection to a socket that has a ZAP domain. It admits a key to a domain only if that very key
was admitted to that very domain; everything else (other mechanisms, unknown domains, no key) is refused. A socket must
set ZAP_ENFORCE_DOMAIN, and the doorkeeper must be there before the socket binds, or libzmq lets everyone in.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from types import TracebackType
from typing import Self

import zmq
import zmq.utils.z85

log = logging.getLogger("tacit.party.zap")

ADDRESS = "inproc://zeromq.zap.01"
VERSION = b"1.0"


class Doorkeeper:
    """Answers ZAP requests of one ZeroMQ context, in a thread of its own. Its methods may be called from any thread."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._admitted: dict[str, set[str]] = {}
        self._lock = threading.Lock()
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(ADDRESS)
        self._stop_address = f"inproc://tacit.zap.stop.{id(self):x}"
        self._stopped = context.socket(zmq.PAIR)
        self._stopped.bind(self._stop_address)
        self._stopper = context.socket(zmq.PAIR)
        self._stopper.connect(self._stop_address)
        self._thread = threading.Thread(target=self._run, name="zap", daemon=True)
        self._thread.start()

    def admit(self, domain: str, key: str) -> None:
        """Let the holder of CURVE key `key` (z85) connect to sockets of `domain`, from now on."""
        with self._lock:
            self._admitted.setdefault(domain, set()).add(key)

    def forget(self, domain: str) -> None:
        """Let nobody connect to `domain` any more; connections that are there stay."""
        with self._lock:
            self._admitted.pop(domain, None)

    def close(self) -> None:
        """Stop answering; from then on every connection attempt of this context is refused or waits."""
        if self._thread.is_alive():
            self._stopper.send(b"")
            self._thread.join()
        self._stopper.close(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._stopped, zmq.POLLIN)
        with contextlib.closing(self._socket), contextlib.closing(self._stopped):
            while True:
                ready = dict(poller.poll())
                if self._stopped in ready:
                    return
                self._socket.send_multipart(self._answer(self._socket.recv_multipart()))

    def _answer(self, request: list[bytes]) -> list[bytes]:
        """request = [version, request id, domain, address, routing id, mechanism, CURVE public key (32 bytes)]."""
        if len(request) < 6 or request[0] != VERSION:
            return [VERSION, request[1] if len(request) > 1 else b"", b"500", b"not understood", b"", b""]
        number, domain, address, mechanism = request[1], request[2], request[3], request[5]
        key = ""
        if mechanism == b"CURVE" and len(request) == 7 and len(request[6]) == 32:
            key = zmq.utils.z85.encode(request[6]).decode("ascii")
            with self._lock:
                if key in self._admitted.get(domain.decode("utf-8", "replace"), ()):
                    return [VERSION, number, b"200", b"OK", key.encode("ascii"), b""]
        log.warning(
            "refused a stranger from %s at %s", address.decode("ascii", "replace"), domain.decode("utf-8", "replace")
        )
        return [VERSION, number, b"400", b"not admitted", b"", b""]
