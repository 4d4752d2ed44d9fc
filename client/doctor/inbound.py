"""Whether others reach this node: ask one to dial back, and tell closed, filtered and translated addresses apart.

| what the member saw       | at an address of this machine                | at another address (a router, a load balancer)      |
| ------------------------- | --------------------------------------------- | --------------------------------------------------- |
| open, and our words       | fine                                          | fine: it is forwarded here                          |
| open, other words         | another program has the port                  | it is forwarded to another machine                  |
| refused                   | closed: listens elsewhere, or a firewall says no | not forwarded                                     |
| no answer                 | filtered: a firewall drops it                 | filtered, or not forwarded                          |
| no way, or private        | wrong or private address is advertised        | wrong address is advertised                         |
"""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from ...reach import Outcome, is_outside
from .finding import Finding, fail, ok, warn

if TYPE_CHECKING:
    from ...party.dialback import Report, Tried

INBOUND, TRANSLATED = "reached from outside", "address as seen from outside"
_PORTS = {"mesh": "mesh port", "link": "link port (sessions)"}
_LOOP_SECONDS = 0.1


@contextmanager
def answering(places: Collection[tuple[str, int]], word: bytes) -> Iterator[list[int]]:
    """Listen at each (host, port), port 0 for any, and say `word` to whoever comes. Gives the ports. Raises OSError."""
    with ExitStack() as stack:
        servers = []
        for host, port in places:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            servers.append(stack.enter_context(socket.create_server((host, port), family=family)))
        done = threading.Event()
        threads = [threading.Thread(target=_say, args=(server, word, done), daemon=True) for server in servers]
        for thread in threads:
            thread.start()
        try:
            yield [int(server.getsockname()[1]) for server in servers]
        finally:
            done.set()
            for thread in threads:
                thread.join()


def _say(server: socket.socket, word: bytes, done: threading.Event) -> None:
    server.settimeout(_LOOP_SECONDS)
    while not done.is_set():
        with suppress(OSError):
            connection, _ = server.accept()
            with connection:
                connection.settimeout(1.0)
                connection.sendall(word)


def fresh_word() -> bytes:
    """What our listeners say, so that the member can tell them from other programs."""
    from ...party.dialback import WORD_BYTES

    return secrets.token_bytes(WORD_BYTES)


def interpret(report: Report, who: str, own: Collection[str], mine: Collection[str]) -> list[Finding]:
    """What a member's report means.

    `who`: the member, for messages. `own`: IP addresses of this machine. `mine`: which ports ("mesh", "link") are ours
    for the moment, so that our words are what answers; on the others the peer itself is running.
    """
    translated = report.seen != "" and report.seen not in own
    return [
        _translation(report, who, own, translated),
        *(_port(one, report, who, own, one.what in mine) for one in report.tried),
    ]


def _translation(report: Report, who: str, own: Collection[str], translated: bool) -> Finding:
    if not report.seen:
        return ok(TRANSLATED, f"{who} cannot tell")
    if not translated:
        return ok(TRANSLATED, f"{who} sees this machine as {report.seen}, which is its own address")
    seen = f"{who} sees this machine as {report.seen}; its own addresses are {', '.join(sorted(own)) or 'not known'}"
    if report.tried and all(Outcome(one.outcome).reached for one in report.tried):
        return ok(TRANSLATED, f"{seen}: behind NAT, and forwarded")
    ports = ", ".join(sorted({str(one.port) for one in report.tried}))
    return warn(
        TRANSLATED,
        "nat",
        f"{seen}: it is behind NAT",
        f"let the router forward TCP {ports or 'its ports'} to this machine (for links: all of --link-ports, to be given "
        f"then), and start with --advertise {report.seen}",
    )


def _port(one: Tried, report: Report, who: str, own: Collection[str], ours: bool) -> Finding:
    check = f"{INBOUND}: {_PORTS[one.what]}"
    place = f"[{one.host}]:{one.port}" if ":" in one.host else f"{one.host}:{one.port}"
    outcome, here = Outcome(one.outcome), one.host in own
    if outcome is Outcome.EXPECTED or (outcome is Outcome.OPEN and not ours):
        return ok(check, f"{who} reaches {place}")
    if outcome is Outcome.OPEN:
        where = "another program on this machine" if here else "another machine or program"
        return fail(
            check,
            "other program",
            f"{who} reaches {place}, but {where} answers there",
            "stop that program, or correct the forwarding or --advertise",
        )
    if outcome is Outcome.REFUSED:
        advice = (
            "let the peer listen on that address (--listen, --host), or let the firewall of this machine accept the port"
            if here
            else f"forward TCP port {one.port} from {one.host} to this machine"
        )
        return fail(check, "closed", f"{place} refuses {who}: the port is closed", advice)
    if outcome is Outcome.TIMEOUT:
        advice = f"open TCP port {one.port} in this machine's and its provider's firewall"
        if not here:
            advice += f", or forward it from {one.host} to this machine"
        return fail(check, "filtered", f"{place} does not answer {who}: a firewall drops what comes", advice)
    if outcome is Outcome.UNTRIED:
        return fail(
            check,
            "private address",
            f"{one.host} is a private address, which nobody outside of its network can reach",
            _readvertise(report, own),
        )
    what = "has no address" if outcome is Outcome.UNKNOWN else "cannot be reached: there is no way to it"
    return fail(check, "wrong address", f"{place} {what} from where {who} is", _readvertise(report, own))


def _readvertise(report: Report, own: Collection[str]) -> str:
    if report.seen and (is_outside(report.seen) or report.seen not in own):
        return f"start with --advertise {report.seen}, and forward the ports to this machine if it is behind NAT"
    return "start with --advertise and the address or name under which others reach this machine"
