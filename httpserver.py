"""An HTTP server in a thread of its process, so that signals stay with the process. Imports uvicorn."""

from __future__ import annotations

import errno
import socket
import threading
import time
from typing import Any

import uvicorn

from .errors import ConfigError, NetworkError


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises NetworkError saying that the port is in use, or what else is wrong."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, number)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(128)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise NetworkError(
                f"cannot listen on {host}:{port}: the port is in use; stop the other program or choose another --port"
            ) from None
        raise NetworkError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    except OverflowError:
        raise ConfigError(f"--port {port} is not a port (0 to 65535)") from None
    return found


class HttpServer:
    """uvicorn in a thread. It logs no requests."""

    def __init__(self, app: Any, listener: socket.socket, *, grace: float = 0.8, **settings: Any) -> None:
        """`app`: an ASGI application. `grace`: seconds that requests have to end once it is closed. `settings`: uvicorn's."""
        settings = {"limit_concurrency": 256, "timeout_graceful_shutdown": 1, "timeout_keep_alive": 30} | settings
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", **settings)
        self._grace = grace
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="http", daemon=True)
        self._thread.start()

    def await_start(self, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not self._server.started:
            self.check()
            if time.monotonic() > deadline:
                raise NetworkError(f"the HTTP server did not start within {seconds:g} s")
            time.sleep(0.005)

    def check(self) -> None:
        if not self._thread.is_alive():
            raise NetworkError("the HTTP server ended; the log says why")

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(self._grace)
