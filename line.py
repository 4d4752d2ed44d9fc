"""A TCP connection that somebody else (a ZeroMQ I/O thread) reads: how much it has brought, and how to stop it.

Linux only, by TCP_INFO; elsewhere `Line.of` finds none, and what comes is bounded by credit alone.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from contextlib import suppress

_RECEIVED = 128  # offset of tcpi_bytes_received in struct tcp_info (linux/tcp.h, since 4.1)
_HEARTBEATS = 1024  # bytes a second that keep a line alive, and more


class Line:
    """A second descriptor of a connection. Threads may share it; `close` it before the connection is to end."""

    def __init__(self, own: socket.socket) -> None:
        self._socket = own
        self._since = time.monotonic()

    @classmethod
    def of(cls, descriptor: int, port: int) -> Line | None:
        """The connection behind `descriptor`, if it is one, of this `port` at either end."""
        if sys.platform != "linux":
            return None
        try:
            own = socket.socket(fileno=os.dup(descriptor))
        except OSError:
            return None
        try:
            if port in (own.getsockname()[1], own.getpeername()[1]):
                line = cls(own)
                if line.arrived() is not None:
                    return line
        except (OSError, IndexError):
            pass  # closed meanwhile, or not TCP
        own.close()
        return None

    def arrived(self) -> int | None:
        """Bytes received so far, less what heartbeats may have been; None once it is closed."""
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED + 8)
            found: int = struct.unpack_from("@Q", info, _RECEIVED)[0]
        except (OSError, struct.error):
            return None
        return max(0, found - int(_HEARTBEATS * (time.monotonic() - self._since)))

    def cut(self) -> None:
        """End the connection, in both directions, now."""
        with suppress(OSError):  # it is over
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()
