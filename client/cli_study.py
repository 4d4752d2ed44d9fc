"""`tacit study …`: measuring protocols, networks, models and lengths. Heavy imports happen inside."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

study_app = typer.Typer(
    invoke_without_command=True,
    help="Measure what an answer takes, for protocols, networks, models and lengths; compare; draw the report.",
)
_PROTOCOL = "pair, plain (in the clear on this machine) or crypten (docs/crypten.md); give it again for more. Default: the first two"
_NETWORK = (
    "lan, metro, wan, sigma-wan, global, or rtt=40ms,bandwidth=100mbit,jitter=2ms,loss=0.1%; 'wan; peer-0:peer-2=global' for "
    "one pair that differs. Give it again for more. Default: the five named ones"
)
_QUICK = "Begin no repetition that would take the measuring beyond two minutes."
_RESUME = "Go on with the study that --out holds, with the same options."
_CLUSTER = "Measure a cluster that runs already, with the network that it has; named as elsewhere."
_PREDICT = "Say beside every case what was to be expected; measures this machine's kernels once, in half a minute."
_CHECK = "Compare single transfers over shaped links with the kernel's network stack, where that is allowed."
_FORWARD = "Measure pair over the kernel's network stack too, as the profile says; needs privileges."


@study_app.callback()
def study(
    context: typer.Context,
    protocol: Annotated[list[str] | None, typer.Option(help=_PROTOCOL)] = None,
    network: Annotated[list[str] | None, typer.Option(help=_NETWORK)] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A folder or a shipped name; give it again for more. Default: stories")
    ] = None,
    prompt: Annotated[str, typer.Option(help="Lengths of prompts in tokens, as in 8,64.")] = "8",
    new: Annotated[str, typer.Option(help="Lengths of answers in tokens, as in 8,64.")] = "8",
    repeat: Annotated[int, typer.Option(min=1, help="Measure every answer this often.")] = 5,
    warmup: Annotated[
        int, typer.Option(min=0, help="Answers of a protocol and length before that, which do not count.")
    ] = 1,
    quick: Annotated[bool, typer.Option("--quick", help=_QUICK)] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; default: a new one here.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help=_RESUME)] = False,
    cluster: Annotated[str | None, typer.Option(help=_CLUSTER)] = None,
    predict: Annotated[bool, typer.Option("--predict/--no-predict", help=_PREDICT)] = True,
    check: Annotated[bool, typer.Option("--check/--no-check", help=_CHECK)] = True,
    forward: Annotated[bool, typer.Option("--forward", help=_FORWARD)] = False,
) -> None:
    """Measure what an answer takes; write results.json, results.csv and report.html."""
    if context.invoked_subcommand is not None:
        return
    if resume and out is None:
        raise typer.BadParameter("needs --out, the folder of the study to go on with", param_hint="--resume")
    from ..coordinator.study.commands import run_study
    from ..coordinator.study.plan import parse_lengths

    run_study(
        out or Path(time.strftime("study-%Y%m%d-%H%M%S")),
        protocols=protocol,
        networks=network,
        models=model,
        prompts=parse_lengths([prompt], "--prompt"),
        new=parse_lengths([new], "--new"),
        repetitions=repeat,
        warmup=warmup,
        quick=quick,
        resume=resume,
        cluster=cluster,
        forwarded=forward,
        predict=predict,
        check=check,
    )


@study_app.command("compare")
def study_compare(
    first: Annotated[Path, typer.Argument(help="A study's folder, or its results.json.")],
    second: Annotated[Path, typer.Argument(help="Another.")],
) -> None:
    """Show two studies side by side: the same cases, and whether the difference is more than chance."""
    from ..coordinator.study.commands import run_compare

    run_compare(first, second)


@study_app.command("report")
def study_report(
    folder: Annotated[Path, typer.Argument(help="A study's folder, or its results.json.")],
) -> None:
    """Draw the report of a study again, from results.json alone."""
    from ..coordinator.study.commands import run_report

    run_report(folder)
