"""`tacit doctor --node`: the checks of a peer, given the options that it is started with.

Where the peer is not running, its mesh is started for the time of the examination, as itself. Where it is running, in the
libp2p form, nobody else can speak for it, so that its ports are not tried.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...address import Address
from ...errors import ConfigError, TacitError, UsageError
from ...members import Roster
from ..nodes import with_configured
from .finding import Finding, fail, failed, ok, skipped, warn
from .inbound import INBOUND
from .node import (
    IDENTITY,
    Inbound,
    Other,
    check_identity,
    check_inbound,
    check_libp2p,
    check_others,
    check_port,
)

if TYPE_CHECKING:
    from ...party.identity import Identity
    from ...party.mesh import Mesh
    from ...party.p2p.start import Node

SETTINGS, MEMBERSHIP = "settings", "membership"


def examine_node(arguments: Sequence[str]) -> list[Finding]:
    """`arguments`: those of `tacit peer`; what is set elsewhere counts as well. Raises SystemExit for ones that it lacks."""
    from ...party.server import arguments as parser
    from ...party.start import check_options, port_range

    try:
        options = parser().parse_args(with_configured(arguments))
        check_options(options)
        links = port_range(options.link_ports)
    except ConfigError as error:
        return [fail(SETTINGS, "settings", str(error), "correct the options; `tacit peer --help` lists them")]
    with _quiet():
        return _of_roster(options, links) if options.roster is not None else _of_mesh(options, links)


@contextmanager
def _quiet() -> Iterator[None]:
    """What a node would write to its log is said by the findings."""
    logger = logging.getLogger("tacit")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


# In the cluster of a cluster.json ----------------------------------------------------------------------------------------


def _of_roster(options: argparse.Namespace, links: tuple[int, int] | None) -> list[Finding]:
    from ...party.roster import RosterMesh, place_of
    from ...party.start import LOOPBACK, not_listed
    from ...zmqlink import new_context

    found, identity = check_identity(options.identity)
    if identity is None:
        return [found]
    findings = [found]
    try:
        roster = Roster.load(options.roster)
        member = roster.member(identity.peer_id)
        if member is None or member.mesh_key != identity.mesh_key:
            raise ConfigError(not_listed(options.roster, options.identity, roster, identity))
    except ConfigError as error:
        return [
            *findings,
            fail(MEMBERSHIP, "roster", str(error), "use the cluster.json that everyone in the cluster has"),
        ]
    findings.append(ok(MEMBERSHIP, f"{options.roster} lists this peer as {member.name} of {member.operator}"))
    host, port = place_of(options.mesh_listen or member.mesh_endpoint)
    found, free = check_port(host, port)
    others = [
        Other(one.display, one.peer_id, (place_of(one.mesh_endpoint),)) for one in roster.members if one != member
    ]
    tried, reached = check_others(others)
    findings += [found, tried]
    context = new_context()
    try:
        mesh = RosterMesh(context, None, identity, roster, None)
        node = Inbound((host, port), options.host or LOOPBACK, links, running=not free)
        findings += check_inbound(mesh, reached, node, own=())
        mesh.close()
    finally:
        context.term()
    return findings


# In the mesh across machines ---------------------------------------------------------------------------------------------


def _of_mesh(options: argparse.Namespace, links: tuple[int, int] | None) -> list[Finding]:
    findings = [check_libp2p()]
    from ...party.p2p.start import default_path, resolve

    path: Path = options.identity or default_path("peer")
    if not path.exists():
        return [
            *findings,
            warn(IDENTITY, "identity", f"{path} is not there yet", "the first start of the peer makes it"),
        ]
    found, identity = check_identity(path)
    findings.append(found)
    if identity is None:
        return findings
    if failed(findings):
        return [*findings, skipped(INBOUND, "without libp2p there is no mesh to ask")]
    try:
        node = resolve(options, "peer")
    except TacitError as error:
        return [
            *findings,
            fail(SETTINGS, "settings", str(error), "correct the options; `tacit peer --help` lists them"),
        ]
    found, free = check_port(node.listen.host, node.listen.port)
    if node.founded:
        alone = warn(
            MEMBERSHIP, "alone", "no cluster is named: this node would found one", "to join one: --join and --invite"
        )
        return [*findings, found, alone]
    tried, _ = check_others([other for text in node.join if (other := _given(text)) is not None])
    findings += [found, tried]
    if not free:
        return [
            *findings,
            skipped(
                INBOUND,
                "the mesh port is in use: if it is this peer that runs, stop it for the time of the examination",
            ),
        ]
    return findings + _as_itself(options, node, identity, links)


def _given(text: str) -> Other | None:
    try:
        address = Address.parse(text)
    except UsageError:
        return None  # the mesh will say so
    return Other(text, address.peer_id, ((address.host, address.port),))


def _as_itself(
    options: argparse.Namespace, node: Node, identity: Identity, links: tuple[int, int] | None
) -> list[Finding]:
    from ...party.p2p.hosts import own_hosts
    from ...party.p2p.start import start

    with ExitStack() as stack:
        try:
            started = start(options, "peer", stack)
        except TacitError as error:
            words = str(error)
            cause = "clock" if "clock" in words else "membership"
            advice = (
                "set both machines' clocks by NTP (timedatectl set-ntp true)"
                if cause == "clock"
                else "the invite, and an identity that is still in use, let a node in; ask whoever runs the node to join"
            )
            return [fail(MEMBERSHIP, cause, words, advice)]
        others = _others(started.mesh, identity.peer_id)
        if not others:
            return [
                warn(MEMBERSHIP, "alone", f"nobody else of {node.invite.cluster!r} was met", "see: way to the others")
            ]
        names = ", ".join(other.display for other in others)
        findings = [ok(MEMBERSHIP, f"a member of {node.invite.cluster!r}, with {names}")]
        place = Inbound((node.listen.host, node.listen.port), started.host, links, running=True)
        return findings + check_inbound(started.mesh, others, place, own=own_hosts())


def _others(mesh: Mesh, own_id: str) -> list[Other]:
    """Peers first, then coordinators: they dial back as well."""
    from ...party.p2p.mesh import P2pMesh
    from ...party.p2p.record import COORDINATOR

    ids = [member.peer_id for member in mesh.members.members if member.peer_id != own_id]
    if isinstance(mesh, P2pMesh):
        ids += [record.peer_id for record, _ in mesh.table.entries() if record.kind == COORDINATOR]
    return [Other(mesh.members.name_of(one), one, mesh.whereabouts(one).places) for one in ids]
