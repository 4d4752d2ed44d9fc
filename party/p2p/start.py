"""A node of the libp2p mesh from its options: identity, invite, addresses; and what the next node has to type."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import logging
import os
import re
import shlex
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from ...address import Address
from ...checks import is_name
from ...clusterfile import ClusterFile, CoordinatorPlace, NodeSettings, PeerEntry, Prices
from ...config import Config
from ...errors import ConfigError, UsageError
from ...members import Member
from ...succession import Succession, read_chain
from ..identity import Identity
from ..start import LOOPBACK, Started
from .hosts import own_hosts
from .invite import Invite
from .record import COORDINATOR, PEER

log = logging.getLogger("tacit.party.p2p")

DEFAULT_CLUSTER = "tacit"
HOW_TO_BUILD = (
    "py-libp2p builds the package fastecdsa from source, which takes a C compiler and the headers of GMP: on Debian and "
    "Ubuntu `apt install build-essential python3-dev libgmp-dev`, on Fedora `dnf install gcc python3-devel gmp-devel`, on "
    "macOS `xcode-select --install` and `brew install gmp`; then `pip install 'tacit[mesh]'` again"
)


@dataclass(frozen=True)
class Node:
    """The options with all defaults filled in. `founded`: the cluster is a new one. `listed`: the only members."""

    path: Path
    identity: Identity
    name: str
    operator: str
    listen: Address
    advertise: str
    join: tuple[str, ...]
    invite: Invite
    founded: bool
    own: bool
    listed: dict[str, Member] | None
    models: tuple[str, ...]
    prices: Prices | None = None


def start(options: argparse.Namespace, kind: str, stack: ExitStack) -> Started:
    """Listen, join, say how others join. Raises ConfigError (also for a missing libp2p), NetworkError."""
    need_libp2p()
    node = resolve(options, kind)
    from .mesh import P2pMesh, P2pSettings

    settings = P2pSettings(
        name=node.name,
        operator=node.operator,
        listen=(node.listen.place,),
        kind=kind,
        join=node.join,
        advertise=node.advertise,
        own=node.own,
        listed=node.listed,
        memory=beside(node.path, ".members"),
        mdns=not options.no_mdns,
    )
    mesh = P2pMesh(node.identity, node.invite, settings)
    stack.callback(mesh.close)
    mesh.start()
    if node.listed is None:
        node.invite.save(kept_invite(node.path))
    mesh.join()
    if node.founded:
        log.info("founded the cluster %s; its invite is in %s", node.invite.cluster, kept_invite(node.path))
    host = options.host or node.listen.host
    return Started(
        path=node.path,
        identity=node.identity,
        mesh=mesh,
        name=node.name,
        host=host,
        advertised=node.advertise or _concrete(host),
        models=node.models,
        link_ports=Config.load().get("node.link_ports", getattr(options, "link_ports", None)),
        prices=node.prices,
        facts={"cluster": node.invite.cluster, "multiaddrs": list(mesh.addresses)},
        hints=() if node.listed is not None else _hints(options, mesh.addresses, node),
    )


def need_libp2p() -> None:
    """Raises ConfigError saying what to install unless libp2p can be imported."""
    try:
        importlib.import_module("libp2p")
    except ModuleNotFoundError as error:
        missing = error.name or "libp2p"
        if missing.split(".")[0] == "fastecdsa":
            raise ConfigError(f"a mesh across machines needs libp2p, which lacks {missing}: {HOW_TO_BUILD}") from None
        raise ConfigError(
            f"a mesh across machines needs libp2p, which this installation leaves out ({missing} is missing): "
            f"pip install 'tacit[mesh]'. If that fails: {HOW_TO_BUILD}"
        ) from None
    except (ImportError, OSError) as error:
        raise ConfigError(f"libp2p is installed but cannot be loaded ({error}): {HOW_TO_BUILD}") from None


def resolve(options: argparse.Namespace, kind: str) -> Node:
    """Flag, then cluster.toml for what it says, then TACIT_* variable, config.toml, default. Raises ConfigError."""
    config = Config.load()
    path = options.identity or default_path(kind)
    identity = load_or_make(path)
    listed: dict[str, Member] | None = None
    own, said = options.own, None
    if options.cluster_file is not None:
        file = ClusterFile.load(options.cluster_file)
        said = _entry(file, options, kind, identity)
        own = own or file.own
        listed = {member.peer_id: Member(member.name, member.operator, member.peer_id) for member in file.members}
        place = file.coordinator
        listed[place.peer_id] = Member(place.name, place.name, place.peer_id)
        invite, founded = closed_invite(file.cluster), False
    else:
        invite, founded = _invite(options, path)
    name = _name(options, said, kind)
    return Node(
        path=path,
        identity=identity,
        name=name,
        operator=_operator(options, said, kind, name),
        listen=_listen(options, said),
        advertise=config.get("node.advertise", options.advertise) or (said.advertise if said else ""),
        join=tuple(options.join) or (said.join if said else ()),
        invite=invite,
        founded=founded,
        own=own,
        listed=listed,
        models=(said.models if said else ()) or tuple(config.get("node.models") or ()),
        prices=said.prices if said else None,
    )


def default_path(kind: str) -> Path:
    """Where the identity is unless an option names another file: as config.toml says, or in the data folder."""
    chosen = Config.load().get("node.identity")
    return Path(chosen).expanduser() if chosen else platformdirs.user_data_path("tacit") / f"{kind}.identity"


def load_or_make(path: Path) -> Identity:
    """The identity in the file, made now if there is none."""
    if path.exists():
        return Identity.load(path)
    identity = Identity.create()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path.parent}: cannot be made: {error.strerror}; choose another --identity") from None
    identity.save(path)
    log.info("made a new identity, %s, in %s: keep that file", identity.peer_id, path)
    return identity


def closed_invite(cluster: str) -> Invite:
    """Of a cluster whose members a cluster.toml lists: their keys let them in, nothing is secret."""
    return Invite(cluster, hashlib.sha256(b"tacit closed cluster " + cluster.encode()).digest()[:16])


def join_commands(addresses: tuple[str, ...], invite: Invite, kept: Path, model: str = "stories") -> tuple[str, ...]:
    """What to type on the next node. Under systemd the invite stays out of the journal."""
    shown = f'"$(cat {shlex.quote(str(kept))})"' if os.environ.get("JOURNAL_STREAM") else shlex.quote(invite.text)
    lines = [
        f"tacit peer --join {one} --invite {shown} --operator NAME --model {shlex.quote(model)}" for one in addresses
    ]
    return (
        f"the next node joins {invite.cluster} by typing" + (", whichever it can reach:" if lines[1:] else ":"),
        *lines,
    )


def _hints(options: argparse.Namespace, addresses: tuple[str, ...], node: Node) -> tuple[str, ...]:
    models = getattr(options, "model", None) or ["stories"]
    return join_commands(addresses, node.invite, kept_invite(node.path), models[0])


def kept_invite(identity: Path) -> Path:
    """Where the invite is kept: beside the identity, unless config.toml says otherwise."""
    chosen = Config.load().get("node.invite_file")
    return Path(chosen).expanduser() if chosen else beside(identity, ".cluster")


def beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _entry(file: ClusterFile, options: argparse.Namespace, kind: str, identity: Identity) -> NodeSettings:
    everyone: tuple[CoordinatorPlace | PeerEntry, ...] = (file.coordinator, *file.members)
    own = next((one for one in everyone if one.peer_id == identity.peer_id), None)
    name = options.name or (own.name if own is not None else file.coordinator.name if kind == COORDINATOR else "")
    if not name:
        raise ConfigError(
            f"{file.path}: does not list this node's identity ({identity.peer_id}); add it, or say --name"
        )
    said = file.node(name)
    earlier = {link.old for link in _links(identity)}
    if said.peer_id != identity.peer_id and said.peer_id not in earlier:
        raise ConfigError(
            f"{file.path}: lists {name} as {said.peer_id}, but this node's identity is {identity.peer_id}: correct the "
            "file, or give the --identity that belongs to it"
        )
    if (kind == COORDINATOR) != (name == file.coordinator.name):
        raise ConfigError(f"{file.path}: {name} is {'the coordinator' if kind == PEER else 'a peer'} there")
    return said


def _links(identity: Identity) -> tuple[Succession, ...]:
    return read_chain(identity.successions, "this node's identity")


def _invite(options: argparse.Namespace, path: Path) -> tuple[Invite, bool]:
    """The invite, and whether it is a new one."""
    given = Config.load().get("variable.invite", options.invite)
    kept = Invite.load(kept_invite(path))
    if given:
        return Invite.parse(given), False
    if kept is not None:
        return kept, False
    if options.join:
        raise ConfigError("--join needs --invite (or TACIT_INVITE): the node to join printed it when it started")
    return Invite.create(options.cluster_name or DEFAULT_CLUSTER), True


def _name(options: argparse.Namespace, said: NodeSettings | None, kind: str) -> str:
    if said is not None:
        return said.name
    given = Config.load().get("node.name", options.name)
    if not given:
        host = re.sub(r"[^A-Za-z0-9._ -]", "-", socket.gethostname().partition(".")[0]).strip("-._ ")[:50] or "node"
        given = f"{host}-coordinator" if kind == COORDINATOR else host
    try:
        return str(is_name(given))
    except ValueError as error:
        raise ConfigError(f"--name {error}") from None


def _operator(options: argparse.Namespace, said: NodeSettings | None, kind: str, name: str) -> str:
    if said is not None:
        return said.operator or name
    given = Config.load().get("node.operator", options.operator)
    if not given and kind == COORDINATOR:
        given = name  # it sits in no session, so nobody asks whose it is
    if not given:
        raise ConfigError(
            "who runs this peer? give --operator (or TACIT_OPERATOR): a session takes peers of three operators, so that "
            "no one person holds two shares"
        )
    try:
        return str(is_name(given))
    except ValueError as error:
        raise ConfigError(f"--operator {error}") from None


def _listen(options: argparse.Namespace, said: NodeSettings | None) -> Address:
    default = said.listen if said is not None else f"/ip4/0.0.0.0/tcp/{options.mesh_port}"
    try:
        return Address.parse(Config.load().get("node.listen", options.listen) or default)
    except UsageError as error:
        raise ConfigError(f"--listen: {error}") from None


def _concrete(host: str) -> str:
    """An address that others can dial, for one that is listened on."""
    if host in ("0.0.0.0", "::"):
        return next((one for one in own_hosts() if ":" not in one or host == "::"), LOOPBACK)
    return host
