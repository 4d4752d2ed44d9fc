"""`tacit peer`, `tacit coordinator` and `tacit identity …`: the nodes of a cluster across machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

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
    trace: Annotated[
        Path | None, typer.Option(help="Folder for what sessions spend their time on here (no content); default: none.")
    ] = None,
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
        "trace": trace,
    }  # fmt: skip
    run_server("party", with_configured(_arguments(options)))


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
    metrics_from: Annotated[
        list[str] | None,
        typer.Option(help="Network that may read /metrics besides this machine (192.0.2.0/24); repeatable."),
    ] = None,
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
        "client-sessions": client_sessions, "client-rate": client_rate, "metrics-from": metrics_from,
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
