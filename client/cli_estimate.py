"""`tacit calibrate` and `tacit estimate`: predictions from shapes alone. Heavy imports happen inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError


def calibrate(
    force: Annotated[bool, typer.Option("--force", help="Measure again what was measured before.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the rates as one JSON object.")] = False,
) -> None:
    """Measure once what this machine's kernels and links take, for `tacit estimate`; half a minute."""
    from .show_estimate import run_calibrate

    run_calibrate(force=force, as_json=json_)


def estimate(
    model: Annotated[
        str,
        typer.Option(help="A config.json, a folder with one, or a shipped name. Without weights, shapes are enough."),
    ],
    prompt: Annotated[int, typer.Option(min=1, help="Tokens of the prompt, or of a text to embed.")] = 128,
    new: Annotated[int, typer.Option(min=1, help="New tokens of the answer; none of an encoder's.")] = 64,
    network: Annotated[
        list[str] | None,
        typer.Option(
            help="lan, metro, wan, sigma-wan, global, or rtt=40ms,bandwidth=100mbit; peer-0:peer-1=PROFILE for one "
            "pair (roles 0, 1, dealer are peer-0, peer-1, peer-2). Give it again for more. Default: lan"
        ),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="[bold]pair[/], or [bold]plain[/]: in the clear, on this machine.")
    ] = "pair",
    machines: Annotated[
        int, typer.Option(help="1: all processes share one machine, as with `tacit up`; 4: each has its own.")
    ] = 1,
    cores: Annotated[
        int | None, typer.Option(min=1, help="Of each machine, all as quick as this one's. Default: as many as here.")
    ] = None,
    sweep: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Draw a page too: time over round trips and bandwidths, by gate and by layer, rounds and bytes.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="What the kernels run on; only cpu so far.")] = "cpu",
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Predict what an answer takes on any network, for any model's shape; nothing is executed."""
    if device != "cpu":
        raise UsageError(f"--device {device}: there are kernels for cpu only so far")
    if machines not in (1, 4):
        raise typer.BadParameter("must be 1 or 4", param_hint="--machines")
    from .show_estimate import run_estimate

    run_estimate(
        model=model,
        prompt=prompt,
        new=new,
        network=network or ["lan"],
        protocol=protocol,
        machines=machines,
        cores=cores,
        as_json=json_,
        sweep=sweep,
    )
