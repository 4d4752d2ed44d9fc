"""`tacit network …`: what the links of a running cluster are made to be like. Heavy imports happen inside."""

from __future__ import annotations

from typing import Annotated

import typer

from .cli_options import Meant

PROFILES = "lan, metro, wan, sigma-wan, global, or like rtt=40ms,bandwidth=1gbit (and jitter=2ms, loss=1%)"

network_app = typer.Typer(
    no_args_is_help=True, help="See and change what the links of a cluster started with --network are made to be like."
)


@network_app.command("show")
def network_show(
    cluster: Meant = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show which profile each pair of parties has."""
    from .show_network import run_show

    run_show(cluster, as_json=json_)


@network_app.command("set")
def network_set(
    words: Annotated[
        list[str], typer.Argument(metavar="[A:B] PROFILE", help=f"{PROFILES}. With A:B: for that pair alone.")
    ],
    cluster: Meant = None,
) -> None:
    """Change the links of a running cluster, within 0.1 s and without losing a session."""
    if len(words) > 2:
        raise typer.BadParameter("give a profile, or a pair of parties and a profile", param_hint="[A:B] PROFILE")
    from .show_network import run_set

    run_set(words, cluster)
