"""The peer as a process: `python -P -m tacit.party.server --identity FILE --roster FILE --model PATH …`.

Ready means one JSON line {"ready": …} on standard output; a failure to start one line {"error": …} and exit status 1.
SIGTERM and SIGINT end it tidily within a second. Logs go to standard error and hold no content.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from ..checks import short_id
from ..ends import LinkSettings
from ..errors import ConfigError
from ..members import Roster
from ..records import tidy
from ..succession import read_chain
from ..zmqlink import new_context
from .budget import Account, default_allowance, parse_size
from .identity import Identity
from .links import Patience
from .node import Node
from .process import ReportFailure, announce, await_signal, end_context, harden, leave, start_logging
from .quoting import DEFAULT_CURRENCY, Quoting
from .roster import RosterMesh
from .session import Engines, Model, Surroundings
from .zap import Doorkeeper


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tacit peer", description="Serve models on shares, as one peer of a cluster.")
    parser.add_argument("--identity", type=Path, required=True, help="this peer's identity file (mode 0600)")
    parser.add_argument("--roster", type=Path, required=True, help="cluster.json: who belongs to the cluster")
    parser.add_argument("--model", action="append", default=[], help="folder or name of a model to serve; repeatable")
    parser.add_argument("--host", default="127.0.0.1", help="address that session links listen on (%(default)s)")
    parser.add_argument("--advertise", help="address under which others reach --host, if it differs")
    parser.add_argument("--mesh-listen", help="tcp://address:port to listen on instead of the roster's mesh endpoint")
    parser.add_argument("--max-sessions", type=int, default=8, help="sessions at once (%(default)s)")
    parser.add_argument("--price-compute", default="0", help="for a million tokens as a compute peer (%(default)s)")
    parser.add_argument("--price-dealer", default="0", help="for a million tokens as the dealer (%(default)s)")
    parser.add_argument("--currency", default=DEFAULT_CURRENCY, help="of both prices (%(default)s)")
    parser.add_argument(
        "--timeout", type=float, default=30.0, help="seconds a session waits for a message (%(default)s)"
    )
    add_limits(parser)
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser


def add_limits(parser: argparse.ArgumentParser) -> None:
    """What sessions may take of this peer."""
    parser.add_argument("--max-memory", help="memory that sessions may take, like 2GB (half of what is free at start)")
    parser.add_argument("--max-session-memory", help="memory that a single session may take (--max-memory)")
    parser.add_argument(
        "--client-timeout",
        type=float,
        default=Patience().between,
        help="seconds a client may take between two tokens; for its prompt it has %(default)s or 15, if that is less "
        "(%(default)s)",
    )


def limits(options: argparse.Namespace) -> tuple[Account | None, Patience]:
    """The account and the patience that the options ask for. ConfigError for what is not a size or not positive."""
    allowed = default_allowance()
    if options.max_memory is not None:
        allowed = parse_size(options.max_memory, "--max-memory")
    most = options.max_session_memory
    most = None if most is None else parse_size(most, "--max-session-memory")
    if not 0 < options.client_timeout < 1e6:
        raise ConfigError("--client-timeout must be positive")
    if allowed is None and most is not None:
        raise ConfigError("--max-session-memory needs --max-memory where free memory cannot be read")
    patience = Patience(min(Patience().first, options.client_timeout), options.client_timeout)
    return (None if allowed is None else Account(allowed, most)), patience


def main(argv: Sequence[str] | None = None, engines: Engines | None = None, models: list[Model] | None = None) -> int:
    """Run a peer until a signal comes. `engines` and `models` replace the real ones (tests)."""
    options = arguments().parse_args(argv)
    start_logging(options.log_level)
    harden()
    with ReportFailure() as report, ExitStack() as stack:
        identity, roster = Identity.load(options.identity), Roster.load(options.roster)
        member = roster.member(identity.peer_id)
        if member is None or member.mesh_key != identity.mesh_key:
            raise ConfigError(_not_listed(options.roster, options.identity, roster, identity))
        if options.max_sessions < 1 or not 0 < options.timeout < 1e6:
            raise ConfigError("--max-sessions and --timeout must be positive")
        account, patience = limits(options)
        quoting = Quoting.parsed(identity, options.price_compute, options.price_dealer, options.currency)
        context = new_context()
        stack.callback(end_context, context)
        doorkeeper = stack.enter_context(Doorkeeper(context))
        mesh = RosterMesh(context, doorkeeper, identity, roster, options.mesh_listen or member.mesh_endpoint)
        stack.callback(mesh.close)
        around = Surroundings(
            context=context,
            doorkeeper=doorkeeper,
            identity=identity,
            mesh=mesh,
            host=options.host,
            advertised=options.advertise or options.host,
            settings=LinkSettings(timeout=options.timeout),
            engines=engines if engines is not None else load_engines(),
            account=account,
            patience=patience,
        )
        served = models if models is not None else load_models(options.model)
        node = Node(around, served, options.max_sessions, quoting)
        stack.callback(node.close)
        with await_signal() as wait:
            node.serve()
            announce(
                {
                    "name": member.name,
                    "peer_id": identity.peer_id,
                    "mesh": member.mesh_endpoint,
                    "models": [model.name for model in served],
                }
            )
            wait(None)
    return report.status


def _not_listed(roster_path: Path, path: Path, roster: Roster, identity: Identity) -> str:
    for link in read_chain(identity.successions, str(path)):
        if (before := roster.member(link.old)) is not None:
            return (
                f"{roster_path}: lists {before.name} under the id {short_id(link.old)}, which it gave up; replace its peer_id "
                f"by {identity.peer_id} and its mesh_key by {identity.mesh_key} in every copy of the file"
            )
    return f"{roster_path}: does not list the identity of {path}"


def load_engines() -> Engines:
    """The real engines; imported here because they bring torch and numba."""
    from .engine import serve_compute, serve_dealer

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
