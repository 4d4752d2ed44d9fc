"""A peer's own side: its identity, its ports, its way to the others, and theirs to it."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ... import __version__
from ...errors import ConfigError, RefusedError, TacitError
from ...reach import Outcome, Reach, knock, own_address_towards
from .coordinator import MAX_SKEW
from .finding import Finding, fail, ok, skipped, warn
from .inbound import INBOUND, answering, fresh_word, interpret

if TYPE_CHECKING:
    from ...party.dialback import Callback, Report
    from ...party.identity import Identity
    from ...party.mesh import Mesh

IDENTITY, LIBP2P, LISTEN, OTHERS, CLOCK, VERSION = (
    "identity", "libp2p", "mesh port", "way to the others", "clock", "version of the others",
)  # fmt: skip
ASKED = 3  # members that are asked to dial back, at most


@dataclass(frozen=True, slots=True)
class Other:
    """Another member, as messages show it, and where its mesh is said to be."""

    display: str
    peer_id: str
    places: tuple[tuple[str, int], ...]


def check_identity(path: Path) -> tuple[Finding, Identity | None]:
    """Whether the file is there, is readable by its owner alone, and holds a key that is still in use."""
    from ...party.identity import Identity

    if not path.exists():
        return (
            fail(
                IDENTITY, "identity", f"{path} is not there", f"make one: tacit identity new {path}, or name --identity"
            ),
            None,
        )
    try:
        identity = Identity.load(path)
    except ConfigError as error:
        words = str(error).removeprefix(f"{path}: ")
        advice = f"chmod 600 {path}" if "others can read" in words else "restore it from a copy, or make a new one"
        return fail(IDENTITY, "identity", f"{path}: {words}", advice), None
    return ok(IDENTITY, f"{path} holds {identity.peer_id}"), identity


def check_libp2p() -> Finding:
    """Whether the mesh across machines can run here."""
    from ...party.p2p.start import need_libp2p

    try:
        need_libp2p()
    except ConfigError as error:
        return fail(LIBP2P, "package", "it cannot be loaded", str(error))
    return ok(LIBP2P, "it is installed and loads")


def check_port(host: str, port: int) -> tuple[Finding, bool]:
    """Whether the mesh can listen there, and whether it was free just now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        with socket.create_server((host, port), family=family):
            return ok(LISTEN, f"{place} is free"), True
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            found = warn(
                LISTEN,
                "in use",
                f"{place} is in use, by this peer if it is running, else by another program",
                f"`ss -ltnp sport = :{port}` shows which; stop it, or choose another --listen",
            )
        elif error.errno == errno.EADDRNOTAVAIL:
            found = fail(
                LISTEN,
                "wrong address",
                f"{host} is no address of this machine",
                "listen on one that is (0.0.0.0 for all), and give the outer one as --advertise",
            )
        else:
            reason = error.strerror or "no reason given"
            found = fail(LISTEN, "port", f"cannot listen on {place}: {reason}", "choose another --listen")
        return found, False


def check_others(others: Iterable[Other], reach: Callable[[str, int], Reach] = knock) -> tuple[Finding, list[Other]]:
    """Who of them can be connected to, from here."""
    reached, problems, cause = [], [], ""
    for other in others:
        results = [reach(host, port) for host, port in other.places]
        if any(result.outcome.reached for result in results):
            reached.append(other)
            continue
        words = ", ".join(f"{result.place} {_WORDS[result.outcome]}" for result in results) or "no address is known"
        problems.append(f"{other.display}: {words}")
        cause = cause or (_CAUSES[results[0].outcome] if results else "unknown")
    if not problems:
        if not reached:
            return warn(OTHERS, "alone", "no other member is known", "give the address of one with --join"), []
        return ok(OTHERS, f"{', '.join(one.display for one in reached)} can be connected to"), reached
    advice = "start them, correct their addresses, open their ports; on their machines `tacit doctor --node` says which"
    if reached:
        return warn(OTHERS, cause, "; ".join(problems), advice), reached
    return fail(OTHERS, cause, f"nobody can be connected to: {'; '.join(problems)}", advice), []


_WORDS = {
    Outcome.REFUSED: "refuses (closed: nothing listens there)",
    Outcome.TIMEOUT: "does not answer (filtered by a firewall, or off)",
    Outcome.UNREACHABLE: "cannot be reached (no way there)",
    Outcome.UNKNOWN: "has no address (the name is not known)",
}
_CAUSES = {
    Outcome.REFUSED: "closed",
    Outcome.TIMEOUT: "filtered",
    Outcome.UNREACHABLE: "unreachable",
    Outcome.UNKNOWN: "name",
}


@dataclass(frozen=True, slots=True)
class Inbound:
    """Where this node listens or will: hosts to bind for tests of mesh and links. `running`: the peer holds the mesh port."""

    mesh: tuple[str, int]
    link_host: str
    link_ports: tuple[int, int] | None  # None: any
    running: bool


def check_inbound(
    mesh: Mesh,
    others: Iterable[Other],
    node: Inbound,
    own: Collection[str],
    clock: Callable[[], float] = time.time,
) -> list[Finding]:
    """Ask up to `ASKED` members to dial back. What each says; its clock and version with it.

    `own`: IP addresses that are known to be this machine's, beside those it uses towards the members.
    """
    from ...party.dialback import Callback

    findings: list[Finding] = []
    asked = list(others)[:ASKED]
    if not asked:
        return [skipped(INBOUND, "there is no other member to ask")]
    word = fresh_word()
    mine = ["link"] if node.running else ["link", "mesh"]
    try:
        link = _free_port(node.link_host, node.link_ports)
        places = [(node.link_host, link)] + ([] if node.running else [node.mesh])
        with answering(places, word) as ports:
            for other in asked:
                name, addresses = other.display, {*own, *_own_addresses(other, node)}
                before = clock()
                try:
                    report = _asked(mesh, other, Callback(ports[0], word))
                except TacitError as error:
                    advice = "is it one of this cluster's members, and does it list this one? Its log says more"
                    findings.append(warn(INBOUND, "unanswered", f"could not be asked: {error}", advice))
                    continue
                findings += [*interpret(report, name, addresses, mine), *_compared(report, name, before, clock())]
    except OSError as error:
        advice = "free the port, or choose another (--listen, --link-ports)"
        return [fail(INBOUND, "port", f"cannot listen for the test: {error.strerror}", advice)]
    return findings


def _asked(mesh: Mesh, other: Other, question: Callback) -> Report:
    """Raises what the member reported, or NetworkError."""
    from ...party.dialback import ANSWER_SECONDS, PAUSE_SECONDS, Report
    from ...party.mesh import DIALBACK

    try:
        raw = mesh.request(other.peer_id, DIALBACK, question.to_bytes(), ANSWER_SECONDS)
    except RefusedError:  # the last examination was a moment ago
        time.sleep(PAUSE_SECONDS)
        raw = mesh.request(other.peer_id, DIALBACK, question.to_bytes(), ANSWER_SECONDS)
    return Report.from_bytes(raw, other.display)


def _free_port(host: str, ports: tuple[int, int] | None) -> int:
    """The first of them that can be listened on, 0 for any. Raises OSError if none can."""
    if ports is None:
        return 0
    for port in range(ports[0], ports[1] + 1):
        if check_port(host, port)[1]:
            return port
    raise OSError(errno.EADDRINUSE, f"every port from {ports[0]} to {ports[1]} is in use")


def _own_addresses(other: Other, node: Inbound) -> Collection[str]:
    found = {own_address_towards(host) for host, _ in other.places}
    return {one for one in found | {node.mesh[0], node.link_host} if one not in ("", "0.0.0.0", "::")}


def _compared(report: Report, name: str, asked: float, answered: float) -> list[Finding]:
    found = []
    skew = report.clock - answered if report.clock > answered else min(0.0, report.clock + 1 - asked)
    if abs(skew) > MAX_SKEW:
        way = "ahead of" if skew > 0 else "behind"
        found.append(
            fail(
                CLOCK,
                "clock",
                f"{name}'s clock is {abs(skew):.0f} s {way} this machine's",
                "set both by NTP (timedatectl set-ntp true): members refuse each other's records when they differ too much",
            )
        )
    else:
        found.append(ok(CLOCK, f"as {name}'s"))
    if report.version != __version__:
        found.append(
            fail(
                VERSION,
                "version",
                f"{name} runs version {report.version}, this installation is {__version__}",
                "install the same version on both",
            )
        )
    else:
        found.append(ok(VERSION, f"{name} runs {__version__}, as here"))
    return found
