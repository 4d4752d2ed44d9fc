"""`tacit peers …` and `tacit config …`: whom the user trusts, and what is set. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import Meant

config_app = typer.Typer(help="Show the settings that hold, and where each comes from.")
peers_app = typer.Typer(no_args_is_help=True, help="Pin the peers you trust, by their ids; nobody else gets a prompt.")


@config_app.callback(invoke_without_command=True)
def config(
    context: typer.Context,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the settings that hold, and where each comes from (flag, then TACIT_* variable, config.toml, default)."""
    if context.invoked_subcommand is None:
        from .show_config import run_config

        run_config(as_json=json_)


@config_app.command("path")
def config_path_() -> None:
    """Show where config.toml is, or would be."""
    from ..config import config_path

    print(config_path())


@peers_app.command("pin")
def peers_pin(
    peer_id: Annotated[list[str] | None, typer.Argument(help="Ids, as their operators tell them.")] = None,
    operator: Annotated[str, typer.Option(help="Who runs them. Your word counts, not theirs.")] = "",
    name: Annotated[str, typer.Option(help="What to call the peer; default: what it calls itself.")] = "",
    from_: Annotated[
        Path | None, typer.Option("--from", help="Pin all peers of this cluster.toml or cluster.json instead.")
    ] = None,
    cluster: Meant = None,
) -> None:
    """Pin peers: from now on they, and only they, may get your prompts of this cluster."""
    if (from_ is None) != bool(peer_id) or bool(operator) != bool(peer_id):
        raise typer.BadParameter("give ids and their --operator, or a file", param_hint="PEER_ID, --from")
    if name and len(peer_id or ()) != 1:
        raise typer.BadParameter("is for one peer at a time", param_hint="--name")
    from .peering import pin, pin_from

    if from_ is not None:
        pin_from(from_, cluster=cluster)
    else:
        pin(peer_id or [], operator=operator, name=name, cluster=cluster)


@peers_app.command("list")
def peers_list(
    cluster: Meant = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show which peers are pinned, and which are there without being pinned."""
    from .peering import show

    show(cluster=cluster, as_json=json_)


@peers_app.command("forget")
def peers_forget(
    who: Annotated[list[str], typer.Argument(help="Names or ids of pinned peers; 8 characters of an id are enough.")],
    cluster: Meant = None,
) -> None:
    """Unpin peers."""
    from .peering import forget

    forget(who, cluster=cluster)
