"""Links, as both the client and the peers use them: the one place to import from.

    Link        strict, ordered, private channel: send(kind, body, **fields), receive(kind, size=…), seed, abort, close
    Circle      the links of one session at one party; a failure on one ends the wait on all
    ZmqLink     over TCP (ZeroMQ PAIR, CURVE, heartbeats)
    MemoryLink  over queues, for tests

`dial_peers` opens the client's two links from the checked statements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import zmq

from .ends import Ends, LinkSettings, LinkStats
from .frames import Message
from .link import Circle, Link
from .livenetwork import LiveNetwork
from .members import Members
from .memlink import MemoryLink, memory_pair
from .wire import CLIENT, Statement
from .zmqlink import CurveKeys, ZmqLink, new_context

if TYPE_CHECKING:
    from .tracing.recorder import Recorder

__all__ = [
    "Circle",
    "ClientLinks",
    "CurveKeys",
    "Ends",
    "Link",
    "LinkSettings",
    "LinkStats",
    "MemoryLink",
    "Message",
    "ZmqLink",
    "dial_peers",
    "memory_pair",
    "new_context",
]


@dataclass(frozen=True, slots=True)
class ClientLinks:
    """The client's links to compute peers 0 and 1 of a session. Closing says goodbye, or why not."""

    peer0: Link
    peer1: Link
    circle: Circle

    def close(self) -> None:
        self.circle.close()


def dial_peers(
    context: zmq.Context[zmq.Socket[bytes]],
    statements: tuple[Statement, Statement, Statement],
    pinned: Members,
    keys: CurveKeys,
    settings: LinkSettings | None = None,
    recorder: Recorder | None = None,
    network: LiveNetwork | None = None,
) -> ClientLinks:
    """Connect to the two compute peers that signed `statements` (as `wire.check_statements` returned them).

    `keys` are the ones whose public half went into the SessionRequest; a `recorder` hears of what goes over the
    links; `network` shapes them. Raises NetworkError, PeerLost or PeerError naming the peer; nothing is left open then.
    """
    settings = settings or LinkSettings()
    circle = Circle()
    made: list[Link] = []
    try:
        for statement in statements[:2]:
            ends = Ends(
                session=bytes.fromhex(statement.session),
                parties=(*statement.peers, keys.public),
                own_role=CLIENT,
                remote_role=statement.role,
                remote_name=pinned.name_of(statement.peer_id),
                manifest_hash=statement.manifest_hash,
            )
            member = pinned.member(statement.peer_id)
            line = network.line(member.name) if network and member else None
            endpoint, key = statement.endpoint, statement.curve_key
            made.append(ZmqLink.dial(context, endpoint, key, keys, ends, circle, settings, line=line))
        for link in made:
            link.recorder = recorder
            link.open()
    except BaseException:
        circle.close()
        raise
    return ClientLinks(made[0], made[1], circle)
