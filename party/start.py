"""How a node starts: which form of the mesh its options ask for, and what follows from them for its links.

With --roster the members are those of a cluster.json and the mesh is ZeroMQ (one machine, tests). Without it the mesh
is libp2p (across machines): `p2p/start.py`.
"""

from __future__ import annotations

import argparse
import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from ..checks import short_id
from ..clusterfile import Prices
from ..errors import ConfigError
from ..members import Roster
from ..succession import read_chain
from .identity import Identity
from .mesh import Mesh
from .roster import RosterMesh
from .zap import Doorkeeper

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Started:
    """A node on its mesh. `host` is listened on (links of a peer, HTTP of a coordinator), `advertised` is where others
    find it; `facts` go into the ready line, `hints` to standard error once it is ready."""

    path: Path  # of the identity
    identity: Identity
    mesh: Mesh
    name: str
    host: str
    advertised: str
    models: tuple[str, ...] = ()  # to serve where no --model is given
    link_ports: str | None = None  # range that links may listen on, None for any
    prices: Prices | None = None  # that it says
    facts: dict[str, Any] = field(default_factory=dict)
    hints: tuple[str, ...] = ()


def add_options(parser: argparse.ArgumentParser, mesh_port: int, what_listens: str) -> None:
    """Everything about identity and mesh, in both forms. `what_listens` on --host besides the mesh."""
    both = parser.add_argument_group("identity and place")
    both.add_argument("--identity", type=Path, help="identity file (mode 0600); made on the first start if not given")
    both.add_argument(
        "--host", help=f"address that {what_listens} listens on (that of --listen; with --roster {LOOPBACK})"
    )
    both.add_argument("--advertise", help="host or address under which others reach this node, if it differs")
    roster = parser.add_argument_group("cluster on one machine (ZeroMQ)")
    roster.add_argument("--roster", type=Path, help="cluster.json: who belongs to the cluster")
    mesh = parser.add_argument_group("cluster across machines (libp2p, without --roster)")
    mesh.add_argument("--listen", help=f"multiaddr that the mesh listens on (/ip4/0.0.0.0/tcp/{mesh_port})")
    mesh.add_argument("--join", action="append", default=[], help="multiaddr of any member, with /p2p/…; repeatable")
    mesh.add_argument(
        "--invite", help="NAME:SECRET as the first node printed it (TACIT_INVITE; kept after the first start)"
    )
    mesh.add_argument("--name", help="what this node is called in its cluster (the host name)")
    mesh.add_argument("--operator", help="who runs it (TACIT_OPERATOR)")
    mesh.add_argument("--own", action="store_true", help="all peers are mine: operators may repeat in a session")
    mesh.add_argument("--cluster-name", help="what a new cluster is called (tacit)")
    mesh.add_argument("--cluster-file", type=Path, help="cluster.toml: the only members, and this node's settings")
    mesh.add_argument("--no-mdns", action="store_true", help="do not look for members on the local network")
    parser.set_defaults(mesh_port=mesh_port)


def check_options(options: argparse.Namespace) -> None:
    """Raises ConfigError for options of one form beside those of the other."""
    if options.roster is None:
        return
    given = [
        name
        for name in ("listen", "invite", "name", "operator", "cluster_name", "cluster_file")
        if getattr(options, name)
    ]
    given += ["join"] * bool(options.join) + ["own"] * options.own
    if given:
        flags = ", ".join("--" + name.replace("_", "-") for name in given)
        raise ConfigError(f"{flags}: for a cluster across machines; a cluster.json (--roster) says all of that itself")
    if options.identity is None:
        raise ConfigError("--roster needs --identity: the file whose public half the cluster.json lists")


def start_peer(
    options: argparse.Namespace, context: zmq.Context[zmq.Socket[bytes]], doorkeeper: Doorkeeper, stack: ExitStack
) -> Started:
    """A peer on its mesh, in the form that the options ask for; `stack` closes it. Raises ConfigError, NetworkError."""
    check_options(options)
    if options.roster is None:
        return _start_p2p(options, "peer", stack)
    identity, roster = Identity.load(options.identity), Roster.load(options.roster)
    member = roster.member(identity.peer_id)
    if member is None or member.mesh_key != identity.mesh_key:
        raise ConfigError(not_listed(options.roster, options.identity, roster, identity))
    mesh = RosterMesh(context, doorkeeper, identity, roster, options.mesh_listen or member.mesh_endpoint)
    stack.callback(mesh.close)
    host = options.host or LOOPBACK
    facts = {"mesh": member.mesh_endpoint}
    ports = options.link_ports
    return Started(
        options.identity, identity, mesh, member.name, host, options.advertise or host, link_ports=ports, facts=facts
    )


def start_coordinator(
    options: argparse.Namespace, context: zmq.Context[zmq.Socket[bytes]], stack: ExitStack
) -> Started:
    """The same for a coordinator."""
    check_options(options)
    if options.roster is None:
        return _start_p2p(options, "coordinator", stack)
    identity, roster = Identity.load(options.identity), Roster.load(options.roster)
    if (roster.coordinator.peer_id, roster.coordinator.mesh_key) != (identity.peer_id, identity.mesh_key):
        raise ConfigError(f"{options.roster}: names another coordinator than {options.identity}")
    mesh = RosterMesh(context, None, identity, roster, None)
    stack.callback(mesh.close)
    host = options.host or LOOPBACK
    return Started(options.identity, identity, mesh, roster.coordinator.name, host, options.advertise or host)


def port_range(text: str | None) -> tuple[int, int] | None:
    """`7460-7499` as numbers, None for any. Raises ConfigError."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", text)
    first, last = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= first <= last <= 65535:
        raise ConfigError(f"--link-ports {text}: is not a range of ports such as 7460-7499")
    return first, last


def _start_p2p(options: argparse.Namespace, kind: str, stack: ExitStack) -> Started:
    from .p2p.start import start  # which brings libp2p

    return start(options, kind, stack)


def not_listed(roster_path: Path, path: Path, roster: Roster, identity: Identity) -> str:
    """Why an identity that the roster does not list is not let in, and what to do where it was rotated."""
    for link in read_chain(identity.successions, str(path)):
        if (before := roster.member(link.old)) is not None:
            return (
                f"{roster_path}: lists {before.name} under the id {short_id(link.old)}, which it gave up; replace its peer_id "
                f"by {identity.peer_id} and its mesh_key by {identity.mesh_key} in every copy of the file"
            )
    return f"{roster_path}: does not list the identity of {path}"
