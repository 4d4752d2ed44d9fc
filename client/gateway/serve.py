"""`tacit serve`, from its options to Ctrl-C."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from ...config import Config
from ...errors import UsageError
from ...httpserver import HttpServer, listen
from ..api import Client
from ..commands import connected, interrupt_on_signals
from ..policy import configured_policy
from ..resolve import find
from .app import make_app
from .asking import Limits
from .cluster import ClusterOffers
from .listening import only_here, rules_of, token_of

_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Door:
    """Where the gateway listens and whom it lets in."""

    host: str
    port: int
    token_file: Path | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()


def run_serve(
    door: Door,
    *,
    model: str | None,
    cluster: str | None,
    max_tokens: int,
    sharing: dict[str, Any],
    rules: dict[str, Any],
) -> None:
    """Serve until Ctrl-C (or SIGTERM, SIGHUP). `sharing`: how requests share sessions, as for `Client.batcher`. `rules`
    are those of `Client`. Raises ConfigError, UsageError, NetworkError."""
    _keep_content_out_of_logs()
    interrupt_on_signals()
    config = Config.load()
    token = token_of(door.token_file, config.get("variable.serve_token"))
    allowed = rules_of(door.host, door.hosts, door.origins, token)
    meant = find(cluster, config)
    name = meant.name if meant else None
    model = config.get("client.model", model, name)
    rules |= {"policy": configured_policy(config, name), "trace": None}
    with ExitStack() as stack:
        listener = stack.enter_context(listen(door.host, door.port))  # before a cluster is started for nothing
        client, only = stack.enter_context(connected(cluster if meant else None, meant is not None, model, rules))
        offers = ClusterOffers(client, only, **sharing)
        stack.callback(offers.close)
        _check(client, only)
        server = HttpServer(
            make_app(offers, allowed, Limits(max_tokens=max_tokens)),
            listener,
            grace=3.0,
            limit_concurrency=None,
            proxy_headers=False,
            server_header=False,
        )
        stack.callback(server.close)
        server.await_start()
        _say(door, listener, client, only, bool(token))
        try:
            while True:
                time.sleep(0.5)
                server.check()
        except KeyboardInterrupt:
            _err.print("stopping")  # the ordinary end
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave anything behind
            offers.close()  # answers in progress fail, and so their streams end before the server does


def _keep_content_out_of_logs() -> None:
    """Warnings and errors are logged; of the libraries below, none that is about what passes through them."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for name in ("sse_starlette", "uvicorn", "asyncio", "fastapi"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _check(client: Client, only: str | None) -> None:
    """Raises NetworkError if nobody is there, UsageError if the model is not."""
    served = client.models()
    if not served:
        raise UsageError("this cluster serves no model at the moment: its peers are not connected")
    if only is not None and only not in served:
        raise UsageError(f"this cluster does not serve {only!r}; it serves: {', '.join(served)}")


def _say(door: Door, listener: socket.socket, client: Client, only: str | None, token: bool) -> None:
    port = listener.getsockname()[1]
    host = "127.0.0.1" if door.host in ("", "0.0.0.0", "::") else door.host
    url = f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"
    key = "$(cat TOKEN-FILE)" if door.token_file is None else f"$(cat {door.token_file})"
    names = [only] if only else client.models()
    shown = escape(url)
    _out.print(f"[bold]{shown}[/] answers programs that speak the OpenAI API. Models: {escape(', '.join(names))}")
    _out.print(
        f"  python: client = openai.OpenAI(base_url={url!r}, api_key={'TOKEN' if token else '-'!r})", markup=False
    )
    _out.print(f"  shell:  export OPENAI_BASE_URL={url} OPENAI_API_KEY={key if token else '-'}", markup=False)
    _out.print(
        "Private: prompts and answers are in the clear between your program and this process only; peers get shares, of which "
        "no one of them can read anything. Not hidden: the model, how many tokens, when."
    )
    if not only_here(door.host):
        _err.print(
            f"[yellow]warning: other machines can reach this on {escape(door.host)}; what they ask and are answered, and the "
            "token, cross the network in the clear unless something in front of this adds TLS[/]"
        )
    _err.print("[dim]Ctrl-C stops it[/]")
    sys.stdout.flush()
