"""Options that several commands take, in the same words."""

from __future__ import annotations

from typing import Annotated

import typer

Meant = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        help="A cluster.json or cluster.toml, a name in config.toml, or a coordinator's address. Default: the one that is "
        "set, else the one that runs on this machine.",
    ),
]
FirstUse = Annotated[
    bool,
    typer.Option(
        "--trust-on-first-use",
        help="Where no peer is pinned yet, pin all that the coordinator shows now, at its word; later changes are refused.",
    ),
]
