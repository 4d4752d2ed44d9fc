"""The command line, a thin shell over the library: every heavy import happens inside the command that needs it."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import TacitError
from .cli_estimate import calibrate, estimate
from .cli_options import FirstUse, Meant
from .cli_peers import config_app, peers_app

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
_NAME = "What this node is called in its cluster; default: the host name."
_JOIN = "Multiaddr of any member, as it printed it (/ip4/…/tcp/…/p2p/12D3…); give it again for more."
_INVITE = "NAME:SECRET as the first node printed it; kept after the first start. Or TACIT_INVITE."
_ADVERTISE = "Host or address under which others reach this node, if not that of --listen."
_IDENTITY = "Identity file; default: one in your data folder, made on the first start."
_CLUSTER_NAME = "What to call the cluster, if this node founds it."
_CLUSTER_FILE = "A cluster.toml: its members and no others, and this node's settings."
_OWN = "All peers are mine: a session may take several of one operator."
_NO_MDNS = "Do not look for members on the local network."
_ROSTER = "A cluster.json instead: a fixed cluster on one machine, without libp2p (needs --identity)."

identity_app = typer.Typer(no_args_is_help=True, help="Make and show the identity of a peer or coordinator.")
app.add_typer(identity_app, name="identity")
app.add_typer(config_app, name="config")
app.add_typer(peers_app, name="peers")
app.command()(calibrate)
app.command()(estimate)


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


@app.command()
def peer(
    model: Annotated[
        list[str] | None,
        typer.Option(help="A Hugging Face folder or a shipped name to serve; give it again for more."),
    ] = None,
    operator: Annotated[
        str | None, typer.Option(help="Who runs this peer; a session takes three different ones. Or TACIT_OPERATOR.")
    ] = None,
    name: Annotated[str | None, typer.Option(help=_NAME)] = None,
    join: Annotated[list[str] | None, typer.Option(help=_JOIN)] = None,
    invite: Annotated[str | None, typer.Option(help=_INVITE)] = None,
    listen: Annotated[
        str | None, typer.Option(help="Multiaddr that the mesh listens on; default: /ip4/0.0.0.0/tcp/7450.")
    ] = None,
    advertise: Annotated[str | None, typer.Option(help=_ADVERTISE)] = None,
    host: Annotated[
        str | None, typer.Option(help="Address that the links of sessions listen on; default: that of --listen.")
    ] = None,
    link_ports: Annotated[
        str | None,
        typer.Option(help="Ports for those links, such as 7460-7499, to be opened in a firewall; default: any."),
    ] = None,
    identity: Annotated[Path | None, typer.Option(help=_IDENTITY)] = None,
    cluster_name: Annotated[str | None, typer.Option(help=_CLUSTER_NAME)] = None,
    cluster_file: Annotated[Path | None, typer.Option(help=_CLUSTER_FILE)] = None,
    own: Annotated[bool, typer.Option("--own", help=_OWN)] = False,
    no_mdns: Annotated[bool, typer.Option("--no-mdns", help=_NO_MDNS)] = False,
    roster: Annotated[Path | None, typer.Option(help=_ROSTER)] = None,
    max_sessions: Annotated[int, typer.Option(min=1, help="Decline further sessions beyond this many.")] = 16,
    max_memory: Annotated[
        str | None, typer.Option(help="Memory that sessions may take, like 2GB; default: half of what is free.")
    ] = None,
    max_session_memory: Annotated[str | None, typer.Option(help="Memory that a single session may take.")] = None,
    client_timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds that a client may take between two tokens.")
    ] = 120.0,
    price_compute: Annotated[
        str | None, typer.Option(help="For a million tokens as a compute peer; default: 0.")
    ] = None,
    price_dealer: Annotated[str | None, typer.Option(help="For a million tokens as the dealer; default: 0.")] = None,
    currency: Annotated[str | None, typer.Option(help="Of both prices, three capital letters; default: EUR.")] = None,
) -> None:
    """Run one peer of a cluster, in the foreground. The first one founds it and prints what the others type."""
    from .commands import run_server
    from .nodes import with_configured

    options: dict[str, Any] = {
        "model": model, "operator": operator, "name": name, "join": join, "invite": invite, "listen": listen,
        "advertise": advertise, "host": host, "link-ports": link_ports, "identity": identity,
        "cluster-name": cluster_name, "cluster-file": cluster_file, "own": own, "no-mdns": no_mdns, "roster": roster,
        "max-sessions": max_sessions, "max-memory": max_memory, "max-session-memory": max_session_memory,
        "client-timeout": client_timeout, "price-compute": price_compute, "price-dealer": price_dealer, "currency": currency,
    }  # fmt: skip
    run_server("party", with_configured(_arguments(options)))


@app.command()
def coordinator(
    join: Annotated[list[str] | None, typer.Option(help=_JOIN)] = None,
    invite: Annotated[str | None, typer.Option(help=_INVITE)] = None,
    name: Annotated[str | None, typer.Option(help=_NAME)] = None,
    operator: Annotated[str | None, typer.Option(help="Who runs it; default: its name. Or TACIT_OPERATOR.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port for clients (HTTP); 0: any free one.")] = 7440,
    client_sessions: Annotated[int, typer.Option(min=1, help="Sessions at once that one client address may have.")] = 8,
    client_rate: Annotated[
        float, typer.Option(min=0.001, help="Requests for sessions a minute that one client address may make.")
    ] = 30.0,
    host: Annotated[
        str | None, typer.Option(help="Address that clients (HTTP) are served on; default: that of --listen.")
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="Multiaddr that the mesh listens on; default: /ip4/0.0.0.0/tcp/7449.")
    ] = None,
    advertise: Annotated[str | None, typer.Option(help=_ADVERTISE)] = None,
    identity: Annotated[Path | None, typer.Option(help=_IDENTITY)] = None,
    cluster_name: Annotated[str | None, typer.Option(help=_CLUSTER_NAME)] = None,
    cluster_file: Annotated[Path | None, typer.Option(help=_CLUSTER_FILE)] = None,
    own: Annotated[bool, typer.Option("--own", help=_OWN)] = False,
    no_mdns: Annotated[bool, typer.Option("--no-mdns", help=_NO_MDNS)] = False,
    roster: Annotated[Path | None, typer.Option(help=_ROSTER)] = None,
    state: Annotated[Path | None, typer.Option(help="File for what outlives it; default: beside the identity.")] = None,
) -> None:
    """Run a coordinator of a cluster, in the foreground: it finds the peers and proposes them to clients."""
    from .commands import run_server
    from .nodes import with_configured

    options: dict[str, Any] = {
        "join": join, "invite": invite, "name": name, "operator": operator, "port": port, "host": host, "listen": listen,
        "client-sessions": client_sessions, "client-rate": client_rate,
        "advertise": advertise, "identity": identity, "cluster-name": cluster_name, "cluster-file": cluster_file,
        "own": own, "no-mdns": no_mdns, "roster": roster, "state": state,
    }  # fmt: skip
    run_server("coordinator", with_configured(_arguments(options), coordinator=True))


def _arguments(options: dict[str, Any]) -> list[str]:
    """What the server's own command line takes; options not given are left to it."""
    found: list[str] = []
    for name, value in options.items():
        if value is True:
            found.append(f"--{name}")
        elif isinstance(value, list):
            found += [word for one in value for word in (f"--{name}", str(one))]
        elif value is not None and value is not False:
            found += [f"--{name}", str(value)]
    return found


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
