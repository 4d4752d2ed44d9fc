"""`tacit embed`: texts to vectors. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_options import FirstUse, Meant


def embed(
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT...", help="Texts; '-' takes each line of standard input for one."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Each line of this file is a text, behind those given as words.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Which encoder, if the cluster serves several; or the one to start a cluster with."),
    ] = None,
    truncate: Annotated[
        bool,
        typer.Option("--truncate", help="Cut texts that are longer than the model takes, instead of refusing them."),
    ] = False,
    protocol: Annotated[
        str,
        typer.Option(
            help="[bold]pair[/]: private, two peers and a dealer. [bold]plain[/]: in the clear, on this machine."
        ),
    ] = "pair",
    cluster: Meant = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object, with tokens and costs.")] = False,
    operator: Annotated[
        list[str] | None,
        typer.Option(help="Accept peers of this operator only; give it again for more (three needed)."),
    ] = None,
    max_price: Annotated[
        str | None, typer.Option(help="The most that a million tokens may cost, as in '3 EUR'. Default: any price")
    ] = None,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds that one step may take. Default: 60")] = None,
    trust_on_first_use: FirstUse = False,
) -> None:
    """Turn texts into vectors, privately: a line of JSON numbers for each; for search and comparison."""
    if protocol not in ("pair", "plain"):
        raise typer.BadParameter(f"{protocol!r} embeds nothing; choose pair or plain", param_hint="--protocol")
    from .show_embed import read_texts, run_embed

    policy: dict[str, Any] = {"operators": operator, "max_price": max_price}
    rules: dict[str, Any] = {"timeout": timeout, "trust_on_first_use": trust_on_first_use}
    run_embed(
        read_texts(texts or [], file),
        model=model,
        protocol=protocol,
        cluster=cluster,
        as_json=json_,
        truncate=truncate,
        policy=policy,
        rules=rules,
    )
