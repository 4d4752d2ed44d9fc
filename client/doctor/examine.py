"""Which checks are made, in which order: for a client, and for a node (`tacit doctor --node`)."""

from __future__ import annotations

from ...config import Config, config_path
from ...errors import IdentityError, TacitError
from ...members import Pinned
from ..directory import Directory
from ..pinned import PinnedPeers
from ..resolve import Reference, need
from . import cluster as peers
from .coordinator import visit
from .finding import Finding, fail, ok, skipped, warn

CONFIG, NODE, CLUSTER, PINNED = "configuration", "node", "cluster", "pinned peers"


def examine_client(meant: str | None, model: str | None) -> list[Finding]:
    """Everything between this client and an answer. `meant`: the cluster, as for other commands; `model`: what to ask."""
    found, config = _config()
    if config is None:
        return [found, skipped(CLUSTER, "the configuration cannot be read")]
    findings = [found, *_node()]
    try:
        reference = need(meant, config)
        where = reference.where
    except TacitError as error:
        advice = "start one here (tacit up), or name one with --cluster; see docs/configuration.md"
        return [*findings, fail(CLUSTER, "cluster", str(error), advice)]
    findings.append(ok(CLUSTER, f"{reference.called}: coordinator at {where}"))
    found, pinned = _pinned(reference)
    visited = visit(where)
    if pinned is not None and visited.status is not None:
        found = _followed(found, pinned, where)
    findings += [found, *visited.findings]
    if pinned is None:
        return [*findings, *(skipped(check, "no peers are pinned to compare with") for check in peers.ALL)]
    wanted = model or config.get("client.model", cluster=reference.name)
    return [*findings, *peers.examine(visited.status, visited.models, pinned, wanted)]


def _config() -> tuple[Finding, Config | None]:
    path = config_path()
    try:
        config = Config.load()
        config.all()  # the variables too
    except TacitError as error:
        advice = f"correct {path} (docs/configuration.md lists what may stand there) or the variable that is named"
        return fail(CONFIG, "configuration", str(error), advice), None
    return ok(CONFIG, str(path) if path.exists() else f"there is no {path}: all settings are at their defaults"), config


def _node() -> list[Finding]:
    """A word to whoever has a peer on this machine: its side is examined apart."""
    from ...party.p2p.start import default_path

    path = default_path("peer")
    if not path.exists():
        return []
    return [skipped(NODE, f"{path} is the identity of a peer; `tacit doctor --node` examines its side")]


def _followed(found: Finding, pinned: Pinned, where: str) -> Finding:
    """Keys that changed are followed first, as every other command does; a key with two successors is a failure."""
    if not isinstance(pinned, PinnedPeers):
        return found
    directory = Directory(where, timeout=10.0)
    try:
        pinned.follow(directory.peers())
    except IdentityError as error:
        return fail(
            PINNED, "pins", str(error), "ask the operator which key is right; then: tacit peers forget, and pin"
        )
    except TacitError as error:
        return warn(PINNED, "pins", f"{found.seen}; the coordinator's list of peers: {error}", "look at its log")
    finally:
        directory.close()
    return found


def _pinned(reference: Reference) -> tuple[Finding, Pinned | None]:
    try:
        pinned = reference.pinned()
    except TacitError as error:
        return fail(PINNED, "pins", str(error), "compare ids with the operators, then pin them (tacit peers pin)"), None
    operators = len({member.operator for member in pinned.members})
    words = f"{len(pinned.members)} of {operators} operators" + (", all your own" if pinned.own else "")
    if len(pinned.members) < 3:
        return warn(
            PINNED, "pins", f"{words}; a session takes three peers", "pin more of them (tacit peers pin)"
        ), pinned
    return ok(PINNED, words), pinned
