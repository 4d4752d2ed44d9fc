"""The command line, a thin shell over the library: every heavy import happens inside the command that needs it."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import TacitError
from .cli_chat import chat
from .cli_embed import embed
from .cli_estimate import calibrate, estimate
from .cli_network import PROFILES, network_app
from .cli_nodes import coordinator, identity_app, peer
from .cli_options import FirstUse, Meant
from .cli_peers import config_app, peers_app
from .cli_study import study_app

app = typer.Typer(
    name="tacit",
    help="Ask a language model a question that none of the machines running it can read.",
    epilog="Start with: tacit ask 'Once upon a time'",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(identity_app, name="identity")
app.add_typer(config_app, name="config")
app.add_typer(peers_app, name="peers")
app.command()(embed)
app.command()(calibrate)
app.command()(estimate)
app.add_typer(network_app, name="network")
app.add_typer(study_app, name="study")


def main() -> None:
    """Entry point: errors of Tacit become one line on stderr and exit status 1."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the prompt
    try:
        app()
    except TacitError as error:
        _fail(error)
    except BrokenPipeError:  # `tacit ask … | head`: the reader has had enough
        from .commands import discard_stdout

        discard_stdout()
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(error: TacitError) -> None:
    sys.stdout.flush()
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"tacit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def up(
    peers: Annotated[int, typer.Option(min=3, help="How many peers; each session takes three of them.")] = 3,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A Hugging Face folder or a shipped name; give it again for more models. Default: stories"),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the coordinator; 0: any free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    network: Annotated[
        list[str] | None, typer.Option(help=f"Make the links like lines: {PROFILES}, or A:B=PROFILE for one pair.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Folder for what sessions spend their time on, by party (no content).")
    ] = None,
) -> None:
    """Run a cluster on this machine: a coordinator and three or more peers, until Ctrl-C."""
    from .commands import run_up

    run_up(peers=peers, models=model, port=port, host=host, network=network, trace=trace)


@app.command()
def ask(
    prompt: Annotated[str, typer.Argument(help="The text to go on from; '-' reads it from standard input.")],
    model: Annotated[
        str | None, typer.Option(help="Which model, if the cluster serves several; or the one to start a cluster with.")
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Stop after this many tokens. Default: 128")] = None,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0 takes the most likely token each time; 1 samples as the model says.")
    ] = 0.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="Sample from the k most likely tokens only.")] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Sample from the fewest tokens with this probability.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="End the answer before this text; may be given several times.")
    ] = None,
    json_schema: Annotated[
        Path | None,
        typer.Option(
            help="Hold the answer to the JSON schema in this file. It ends as such, or is cut off by --max-new-tokens."
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="[bold]pair[/]: private, two peers and a dealer. [bold]plain[/]: in the clear, on this machine. "
            "[bold]crypten[/]: to compare with; protects less (docs/crypten.md)."
        ),
    ] = "pair",
    pad_prompt: Annotated[
        bool, typer.Option("--pad-prompt", help="Hide how long the prompt is: the peers see 16, 32, 64 ... tokens.")
    ] = False,
    cluster: Meant = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of streaming text.")] = False,
    operator: Annotated[
        list[str] | None,
        typer.Option(help="Accept peers of this operator only; give it again for more (three needed)."),
    ] = None,
    max_resumes: Annotated[
        int | None, typer.Option(min=0, max=3, help="Go on with other peers this often when one is lost. Default: 3")
    ] = None,
    any_operator: Annotated[
        bool,
        typer.Option("--any-operator", help="Go on with peers of other operators than the answer began with, too."),
    ] = False,
    max_price: Annotated[
        str | None, typer.Option(help="The most that a million tokens may cost, as in '3 EUR'. Default: any price")
    ] = None,
    receipt: Annotated[
        bool | None,
        typer.Option("--receipt/--no-receipt", help="Keep what the peers sign (see: tacit receipts). Default: yes"),
    ] = None,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds that one step may take. Default: 60")] = None,
    trust_on_first_use: FirstUse = False,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="File for what the answer spends its time on, for Perfetto; of all parties of one's own cluster."
        ),
    ] = None,
) -> None:
    """Ask a running cluster, privately; without one, start a cluster for this question."""
    if protocol not in ("pair", "plain", "crypten"):
        raise typer.BadParameter(
            f"{protocol!r} is not a protocol; choose pair, plain or crypten", param_hint="--protocol"
        )
    from .commands import run_ask

    settings: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "stop": tuple(stop or ()),
    }
    if json_schema is not None:
        from .commands import read_schema

        settings["json_schema"] = read_schema(json_schema)
    if pad_prompt:
        if protocol == "plain":
            raise typer.BadParameter("in the clear there is nobody to hide it from", param_hint="--pad-prompt")
        settings["pad_prompt"] = True
    text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape") if prompt == "-" else prompt
    policy: dict[str, Any] = {
        "operators": operator,
        "max_resumes": max_resumes,
        "same_operators": not any_operator,
        "max_price": max_price,
    }
    rules: dict[str, Any] = {"keep_receipts": receipt, "timeout": timeout, "trust_on_first_use": trust_on_first_use}
    run_ask(
        text,
        model=model,
        protocol=protocol,
        cluster=cluster,
        as_json=json_,
        settings=settings,
        policy=policy,
        rules=rules,
        trace=trace,
    )


app.command()(chat)


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="A Hugging Face folder or a shipped name.")],
) -> None:
    """Check that a model fits into fixed-point numbers, and show the room every gate has."""
    from .commands import run_check

    run_check(model)


@app.command()
def status(
    cluster: Meant = None,
    trust_on_first_use: FirstUse = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object; with --watch one a line.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every two seconds, until Ctrl-C.")] = False,
) -> None:
    """Show a cluster's peers with load, price and round trips between them, its models and latest sessions."""
    from .commands import run_status

    run_status(cluster, trust_on_first_use, json_, watch)


@app.command()
def receipts(
    last: Annotated[int, typer.Option(min=1, help="Show this many, the newest.")] = 20,
    cluster: Annotated[
        str | None,
        typer.Option(help="A cluster, named as elsewhere: check that the peers that signed are pinned for it."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
) -> None:
    """Show what peers signed about past answers, and verify it."""
    from .ledger import run_receipts

    run_receipts(last=last, cluster=cluster, as_json=json_)


@app.command()
def verify(
    cluster: Meant = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    trust_on_first_use: FirstUse = False,
) -> None:
    """Ask every pinned peer to sign, now, who it is and what it runs; exit status 1 if anything is not as it should be."""
    from .show_audit import run_verify

    run_verify(cluster=cluster, as_json=json_, trust_on_first_use=trust_on_first_use)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def doctor(
    context: typer.Context,
    cluster: Meant = None,
    model: Annotated[str | None, typer.Option(help="Which model is to be asked.")] = None,
    node: Annotated[
        bool,
        typer.Option("--node", help="Examine a peer on this machine; then all options of `tacit peer` may follow."),
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look for what stands between this machine and an answer, and say what to do about it."""
    from .doctor.report import run_doctor, run_node_doctor

    if node:
        run_node_doctor([*context.args, *(("--model", model) if model else ())], as_json=json_)
        return
    if context.args:
        raise typer.BadParameter(f"unknown without --node: {' '.join(context.args)}")
    run_doctor(cluster=cluster, model=model, as_json=json_)


app.command()(peer)
app.command()(coordinator)

if __name__ == "__main__":
    main()
