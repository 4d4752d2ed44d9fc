"""The coordinator as a process: `python -P -m tacit.coordinator.server --port N …` (`party/start.py` has the options).

Ready means one JSON line {"ready": …} on standard output (peers may still be on their way); a failure to start one line
{"error": …} and exit status 1. SIGTERM and SIGINT end it within a second. Running sessions do not need it.
"""

from __future__ import annotations

import argparse
import errno
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from ..errors import ConfigError, NetworkError
from ..party.dialback import DialBack
from ..party.mesh import DIALBACK
from ..party.process import ReportFailure, announce, await_signal, end_context, harden, leave, start_logging, tell
from ..party.start import Started, add_options, start_coordinator
from ..zmqlink import new_context
from .app import make_app
from .quota import Quota
from .registry import Registry
from .sessions import Sessions
from .statuspage.metrics import Allowed
from .store import Store

DEFAULT_PORT = 7440
DEFAULT_MESH_PORT = 7449


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tacit coordinator", description="Propose committees of peers to clients.")
    add_options(parser, DEFAULT_MESH_PORT, "HTTP, for clients,")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="port, 0 for any free one (%(default)s)")
    parser.add_argument("--state", type=Path, help="file for what outlives it (default: beside the identity, .sqlite)")
    parser.add_argument("--client-sessions", type=int, default=8, help="at once for one address (%(default)s)")
    parser.add_argument(
        "--client-rate", type=float, default=30.0, help="requests a minute of one address (%(default)s)"
    )
    parser.add_argument(
        "--metrics-from", action="append", default=[], help="network that may read /metrics (this machine); repeatable"
    )
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a coordinator until a signal comes."""
    options = arguments().parse_args(argv)
    start_logging(options.log_level)
    harden()
    with ReportFailure() as report, ExitStack() as stack:
        metrics_for = Allowed(options.metrics_from)
        context = new_context()
        stack.callback(end_context, context)
        started = start_coordinator(options, context, stack)
        mesh = started.mesh
        store = Store(options.state or started.path.with_suffix(".sqlite"))
        stack.callback(store.close)
        listener = stack.enter_context(listen(started.host, options.port))
        registry = Registry(mesh, store)
        stack.callback(registry.close)
        quota = Quota(registry, options.client_sessions, options.client_rate)
        registry.start()
        mesh.serve(DIALBACK, DialBack(mesh), threads=2)
        with await_signal() as wait:
            app = make_app(mesh.members, registry, Sessions(mesh, registry), quota=quota, metrics_for=metrics_for)
            server = HttpServer(app, listener)
            stack.callback(server.close)
            server.await_start()
            url = f"http://[{started.advertised}]" if ":" in started.advertised else f"http://{started.advertised}"
            url += f":{listener.getsockname()[1]}"
            mesh.set_url(url)
            announce({"name": started.name, "peer_id": started.identity.peer_id, "url": url, **started.facts})
            tell((*started.hints, *client_hints(started, url)))
            while not wait(0.5):
                server.check()
    return report.status


def client_hints(started: Started, url: str) -> tuple[str, ...]:
    """What a client types. Of a roster's coordinator nothing: its clients hold the cluster.json."""
    if not started.hints:
        return ()
    return (
        "a client first pins the peers, by the ids that their operators tell it, then asks:",
        f"tacit peers pin PEER_ID --operator NAME --cluster {url}",
        f"tacit ask 'Once upon a time' --cluster {url}",
    )


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
    """uvicorn in a thread, so that signals stay with the process."""

    def __init__(self, app: FastAPI, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            limit_concurrency=256,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=1,
        )
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
        self._thread.join(0.8)


if __name__ == "__main__":
    leave(main())
