"""The options that say what sessions may take of a peer: memory, and time of a client that says nothing."""

from __future__ import annotations

import argparse

from ..errors import ConfigError
from .budget import Account, default_allowance, parse_size
from .links import Patience


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
