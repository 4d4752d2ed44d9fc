"""The peer as a process: `python -P -m tacit.party.server --model PATH …` (see `start.py` for the two forms of the mesh).

Ready means one JSON line {"ready": …} on standard output; a failure to start one line {"error": …} and exit status 1.
SIGTERM and SIGINT end it tidily within a second. Logs go to standard error and hold no content.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, cast

from ..ends import LinkSettings
from ..errors import ConfigError
from ..livenetwork import LiveNetwork
from ..records import tidy
from ..tracing.recorder import Traces
from ..zmqlink import new_context
from .limits import add_limits, limits
from .memory import keep_freed_memory
from .node import Node
from .process import ReportFailure, announce, await_signal, end_context, harden, leave, start_logging, tell
from .quoting import DEFAULT_CURRENCY, Quoting
from .session import Engines, Model, Surroundings
from .start import Started, add_options, port_range, start_peer
from .zap import Doorkeeper

DEFAULT_MESH_PORT = 7450


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tacit peer", description="Serve models on shares, as one peer of a cluster.")
    add_options(parser, DEFAULT_MESH_PORT, "the links of sessions")
    parser.add_argument("--model", action="append", default=[], help="folder or name of a model to serve; repeatable")
    parser.add_argument("--link-ports", help="range of ports for the links of sessions, such as 7460-7499 (any)")
    parser.add_argument("--mesh-listen", help="tcp://address:port to listen on instead of the roster's mesh endpoint")
    parser.add_argument("--max-sessions", type=int, default=16, help="sessions at once (%(default)s)")
    parser.add_argument("--price-compute", help="for a million tokens as a compute peer, or TACIT_PRICE_COMPUTE (0)")
    parser.add_argument("--price-dealer", help="for a million tokens as the dealer, or TACIT_PRICE_DEALER (0)")
    parser.add_argument("--currency", help=f"of both prices, or TACIT_CURRENCY ({DEFAULT_CURRENCY})")
    parser.add_argument(
        "--timeout", type=float, default=30.0, help="seconds a session waits for a message (%(default)s)"
    )
    add_limits(parser)
    parser.add_argument(
        "--trace",
        metavar="FOLDER",
        help="leave there what each session spends its time on (no content); default: nowhere",
    )
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser


def main(argv: Sequence[str] | None = None, engines: Engines | None = None, models: list[Model] | None = None) -> int:
    """Run a peer until a signal comes. `engines` and `models` replace the real ones (tests)."""
    options = arguments().parse_args(argv)
    start_logging(options.log_level)
    harden()
    keep_freed_memory()  # before there are threads: the heaps of those that are there stay apart, and are never given back
    with ReportFailure() as report, ExitStack() as stack:
        if options.max_sessions < 1 or not 0 < options.timeout < 1e6:
            raise ConfigError("--max-sessions and --timeout must be positive")
        account, patience = limits(options)
        traces = None if options.trace is None else Traces(options.trace)
        context = new_context()
        stack.callback(end_context, context)
        doorkeeper = stack.enter_context(Doorkeeper(context))
        started = start_peer(options, context, doorkeeper, stack)
        quoting = _quoting(options, started)
        around = Surroundings(
            context=context,
            doorkeeper=doorkeeper,
            identity=started.identity,
            mesh=started.mesh,
            host=started.host,
            advertised=started.advertised,
            settings=LinkSettings(timeout=options.timeout, ports=port_range(started.link_ports)),
            engines=engines if engines is not None else load_engines(),
            account=account,
            patience=patience,
            network=LiveNetwork.beside(options.roster, started.name) if options.roster is not None else None,
            traces=traces,
        )
        served = models if models is not None else load_models(options.model or list(started.models))
        node = Node(around, served, options.max_sessions, quoting)
        stack.callback(node.close)
        with await_signal() as wait:
            node.serve()
            announce(
                {
                    "name": started.name,
                    "peer_id": started.identity.peer_id,
                    **started.facts,
                    "models": [model.name for model in served],
                }
            )
            tell(started.hints)
            wait(None)
    return report.status


def _quoting(options: argparse.Namespace, started: Started) -> Quoting:
    """Flag, then TACIT_* variable, then cluster.toml, then free. Raises ConfigError."""
    said = started.prices
    return Quoting.parsed(
        started.identity,
        options.price_compute or os.environ.get("TACIT_PRICE_COMPUTE") or (said.compute if said else "0"),
        options.price_dealer or os.environ.get("TACIT_PRICE_DEALER") or (said.dealer if said else "0"),
        options.currency or os.environ.get("TACIT_CURRENCY") or (said.currency if said else DEFAULT_CURRENCY),
    )


def load_engines() -> Engines:
    """The real engines; imported here because they bring torch and numba. Kernels are compiled by then (cached: 0.05 s),
    or the first client of a new installation would wait for it (20 s, measured)."""
    from ..kernels.warm import warm
    from .engine import serve_compute, serve_dealer

    warm()
    return Engines(serve_compute, serve_dealer)


def load_models(names: list[str]) -> list[Model]:
    """Load what was asked for. Raises ModelError, or ConfigError for a name given twice."""
    from .served import load_model

    if not names:
        raise ConfigError("nothing to serve: give --model at least once")
    models = [cast(Model, load_model(cast(Any, name))) for name in names]
    seen: set[str] = set()
    for model in models:
        if model.name in seen:
            raise ConfigError(f"two models are called {tidy(model.name, 130)}; serve one of them")
        seen.add(model.name)
    return models


if __name__ == "__main__":
    leave(main())
