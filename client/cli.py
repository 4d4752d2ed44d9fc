"""The command line, a thin shell over the library: every heavy import happens inside the command that needs it."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import TacitError

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
identity_app = typer.Typer(no_args_is_help=True, help="Make and show the identity of a peer or coordinator.")
app.add_typer(identity_app, name="identity")
config_app = typer.Typer(help="Show the settings that hold, and where each comes from.")
app.add_typer(config_app, name="config")
peers_app = typer.Typer(no_args_is_help=True, help="Pin the peers you trust, by their ids; nobody else gets a prompt.")
app.add_typer(peers_app, name="peers")

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
) -> None:
    """Run a cluster on this machine: a coordinator and three or more peers, until Ctrl-C."""
    from .commands import run_up

    run_up(peers=peers, models=model, port=port, host=host)


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
    protocol: Annotated[
        str,
        typer.Option(
            help="[bold]pair[/]: private, two peers and a dealer. [bold]plain[/]: in the clear, on this machine."
        ),
    ] = "pair",
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
) -> None:
    """Ask a running cluster, privately; without one, start a cluster for this question."""
    if protocol not in ("pair", "plain"):
        raise typer.BadParameter(f"{protocol!r} is not a protocol; choose pair or plain", param_hint="--protocol")
    from .commands import run_ask

    settings: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "stop": tuple(stop or ()),
    }
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
    )


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="A Hugging Face folder or a shipped name.")],
) -> None:
    """Check that a model fits into fixed-point numbers, and show the room every gate has."""
    from .commands import run_check

    run_check(model)


@app.command()
def status(cluster: Meant = None, trust_on_first_use: FirstUse = False) -> None:
    """Show the peers, sessions and models of a cluster."""
    from .commands import run_status

    run_status(cluster, trust_on_first_use)


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
    from .audited import run_verify

    run_verify(cluster=cluster, as_json=json_, trust_on_first_use=trust_on_first_use)


@app.command()
def peer(
    identity: Annotated[Path, typer.Option(help="Identity file of this peer (see: tacit identity new).")],
    roster: Annotated[Path, typer.Option(help="The cluster.json that lists this peer and the others.")],
    model: Annotated[list[str], typer.Option(help="A Hugging Face folder or a shipped name; may be given again.")],
    host: Annotated[str, typer.Option(help="Address that links listen on.")] = "127.0.0.1",
    advertise: Annotated[str | None, typer.Option(help="Address under which others reach --host, if not that.")] = None,
    max_sessions: Annotated[int, typer.Option(min=1, help="Decline further sessions beyond this many.")] = 8,
    max_memory: Annotated[
        str | None, typer.Option(help="Memory that sessions may take, like 2GB; default: half of what is free.")
    ] = None,
    max_session_memory: Annotated[str | None, typer.Option(help="Memory that a single session may take.")] = None,
    client_timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds that a client may take between two tokens.")
    ] = 120.0,
    price_compute: Annotated[str, typer.Option(help="For a million tokens as a compute peer.")] = "0",
    price_dealer: Annotated[str, typer.Option(help="For a million tokens as the dealer.")] = "0",
    currency: Annotated[str, typer.Option(help="Of both prices: three capital letters.")] = "EUR",
) -> None:
    """Run one peer of a cluster, in the foreground."""
    from .commands import run_server

    arguments = ["--identity", str(identity), "--roster", str(roster), "--host", host]
    arguments += ["--max-sessions", str(max_sessions), "--client-timeout", str(client_timeout)]
    for option, value in (("--max-memory", max_memory), ("--max-session-memory", max_session_memory)):
        arguments += [option, value] if value is not None else []
    arguments += ["--price-compute", price_compute, "--price-dealer", price_dealer, "--currency", currency]
    if advertise is not None:
        arguments += ["--advertise", advertise]
    for one in model:
        arguments += ["--model", one]
    run_server("party", arguments)


@app.command()
def coordinator(
    identity: Annotated[Path, typer.Option(help="Identity file of the coordinator.")],
    roster: Annotated[Path, typer.Option(help="The cluster.json that lists the peers.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 7440,
    state: Annotated[Path | None, typer.Option(help="File for what outlives it; default: beside the identity.")] = None,
) -> None:
    """Run the coordinator of a cluster, in the foreground."""
    from .commands import run_server

    arguments = ["--identity", str(identity), "--roster", str(roster), "--host", host, "--port", str(port)]
    if state is not None:
        arguments += ["--state", str(state)]
    run_server("coordinator", arguments)


@config_app.callback(invoke_without_command=True)
def config(
    context: typer.Context,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the settings that hold, and where each comes from (flag, then TACIT_* variable, config.toml, default)."""
    if context.invoked_subcommand is None:
        from .configured import run_config

        run_config(as_json=json_)


@config_app.command("path")
def config_path_() -> None:
    """Show where config.toml is, or would be."""
    from .config import config_path

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


@identity_app.command("new")
def identity_new(
    file: Annotated[Path, typer.Argument(help="Where to write it; only you will be able to read it.")],
    name: Annotated[str, typer.Option(help="What the peer is called in its cluster.")] = "",
    operator: Annotated[str, typer.Option(help="Who runs it: clients want three different operators.")] = "",
    mesh_endpoint: Annotated[str, typer.Option(help="Of a peer: tcp://host:port where the others find it.")] = "",
    url: Annotated[str, typer.Option(help="Of a coordinator: http://host:port where clients find it.")] = "",
) -> None:
    """Make a new identity and show its public half; given the other facts, as an entry for cluster.json."""
    from .commands import new_identity

    if url and (operator or mesh_endpoint):
        raise typer.BadParameter("is for a coordinator, --operator and --mesh-endpoint for a peer", param_hint="--url")
    if not url and len({bool(name), bool(operator), bool(mesh_endpoint)}) != 1:
        raise typer.BadParameter("a peer's entry needs all three", param_hint="--name, --operator, --mesh-endpoint")
    new_identity(file, name=name, operator=operator, mesh_endpoint=mesh_endpoint, url=url)


@identity_app.command("show")
def identity_show(file: Annotated[Path, typer.Argument(help="An identity file.")]) -> None:
    """Show the public half of an identity: what others pin. And the ids it had before."""
    from .commands import show_identity

    show_identity(file)


@identity_app.command("rotate")
def identity_rotate(file: Annotated[Path, typer.Argument(help="The identity file of a peer.")]) -> None:
    """Give an identity a new key, signed for by the old one, which is thrown away; pins follow."""
    from .commands import rotate_identity

    rotate_identity(file)


if __name__ == "__main__":
    main()
