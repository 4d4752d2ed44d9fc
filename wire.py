"""What is said before shares flow: every establishment message, checked field by field on arrival.

| record         | from -> to                | carried by                     | signed by    |
| -------------- | ------------------------- | ------------------------------ | ------------ |
| SessionRequest | client -> coordinator     | POST /v1/sessions              | -            |
| Offer          | coordinator -> peer       | mesh "offer"                   | - (mesh key) |
| Introduction   | dialling -> binding peer  | mesh "introduce"               | dialler      |
| Binding        | binding -> dialling peer  | answer to "introduce"          | binder       |
| Statement      | peer -> client            | answer to "offer", SessionReply | that peer   |
| SessionReply   | coordinator -> client     | answer to POST /v1/sessions    | three peers  |
| PeerStatus     | peer -> coordinator       | mesh "status"                  | - (mesh key) |

A `quotes.Quote`, signed by its peer, travels in PeerStatus and SessionReply; what was signed about a session names the three
quotes it was seated for by their hashes, in role order.
A record is one JSON object with exactly its fields; the forms of ids, keys and names are in `checks`.
A signature covers the exact bytes that arrived, never a re-encoding; each signed record names its `context`, so that a
signature made for one purpose is worthless for another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from .checks import (
    is_amount,
    is_currency,
    is_curve_key,
    is_endpoint,
    is_hash,
    is_model,
    is_name,
    is_peer_id,
    is_peers,
    is_protocol,
    is_quotes,
    is_role,
    is_session,
    is_time,
    is_version,
    short_id,
)
from .errors import IdentityError, PeerError
from .members import Members
from .quotes import Price
from .records import (
    Check,
    Record,
    boolean,
    constant,
    distinct,
    integer,
    many,
    mapping,
    maybe,
    plain_summary,
    record,
    text,
)
from .signed import Signed
from .sizes import Sizes

SHUTTING_DOWN = "is shutting down"  # the reason that a peer gives when it was told to end
ROLE_NAMES = ("compute peer 0", "compute peer 1", "dealer", "client")
DEALER, CLIENT = 2, 3
MAX_SEATED = 1024  # sessions that a status names
MAX_CHOICES = 64  # operators or peers that a request may name
MAX_ROUND_TRIPS = 256  # peers that a status tells the distance of
MAX_ROUND_TRIP_US = 10_000_000
MAX_COUNT = 1 << 53
DONE, CLIENT_LEFT, PEER, UNOPENED, HERE = OUTCOMES = ("done", "client", "peer", "unopened", "here")
"""How a session ended at a peer: as it should; by its client; by another peer; before all had met; by this peer itself."""

_ASKED: dict[str, Check] = {
    "session": is_session,
    "client_key": is_curve_key,
    "model": is_model,
    "protocol": is_protocol,
    "sizes": record(Sizes),
    "padded": boolean,
}


@dataclass(frozen=True)
class SessionRequest(Record):
    """A client asks the coordinator for three peers. It tells sizes and a model, never text.

    `sizes`: how large the session may become. `padded`: with every step come shares of which tokens count. `operators`: the
    only ones it accepts, any if empty. `without`: peer ids it does not want, since they failed it.
    `max_price` in `currency`: the most it pays for a million tokens, in millionths; no maximum if `currency` is empty.
    """

    session: str
    client_key: str
    model: str
    protocol: str
    sizes: Sizes
    operators: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    max_price: int = 0
    currency: str = ""
    padded: bool = False

    CHECKS: ClassVar[dict[str, Check]] = {
        **_ASKED,
        "operators": distinct(many(is_name, 0, MAX_CHOICES)),
        "without": distinct(many(is_peer_id, 0, MAX_CHOICES)),
        "max_price": is_amount,
        "currency": maybe(is_currency),
    }

    @property
    def most(self) -> Price | None:
        """The most it pays; None: anything."""
        return Price(self.max_price, self.currency) if self.currency else None


@dataclass(frozen=True)
class Offer(Record):
    """The coordinator proposes a seat in a session: `role` among `peers` (ids in role order), for what they quoted."""

    session: str
    role: int
    peers: tuple[str, str, str]
    model: str
    protocol: str
    client_key: str
    sizes: Sizes
    quotes: tuple[str, str, str]
    padded: bool = False

    CHECKS: ClassVar[dict[str, Check]] = {**_ASKED, "role": is_role, "peers": is_peers, "quotes": is_quotes}


@dataclass(frozen=True)
class Introduction(Record):
    """A peer about to dial tells the binder the one CURVE key it will come with."""

    context: str
    session: str
    sender: str
    receiver: str
    sender_role: int
    receiver_role: int
    key: str
    manifest_hash: str

    CONTEXT: ClassVar[str] = "tacit/introduction/1"
    CHECKS: ClassVar[dict[str, Check]] = {
        "context": constant(CONTEXT),
        "session": is_session,
        "sender": is_peer_id,
        "receiver": is_peer_id,
        "sender_role": is_role,
        "receiver_role": is_role,
        "key": is_curve_key,
        "manifest_hash": is_hash,
    }


@dataclass(frozen=True)
class Binding(Record):
    """The binder's answer: where it listens, its CURVE key, and the one key (`admitted`) it lets in."""

    context: str
    session: str
    sender: str
    receiver: str
    sender_role: int
    receiver_role: int
    endpoint: str
    key: str
    admitted: str
    manifest_hash: str

    CONTEXT: ClassVar[str] = "tacit/binding/1"
    CHECKS: ClassVar[dict[str, Check]] = {
        **Introduction.CHECKS,
        "context": constant(CONTEXT),
        "endpoint": is_endpoint,
        "admitted": is_curve_key,
    }


@dataclass(frozen=True)
class Statement(Record):
    """A peer's word to the client: which seat of which session it took, and where the client finds it.

    The dealer never meets the client: its endpoint and curve_key are empty.
    """

    context: str
    session: str
    role: int
    peer_id: str
    operator: str
    peers: tuple[str, str, str]
    model: str
    protocol: str
    manifest_hash: str
    endpoint: str
    curve_key: str
    client_key: str
    sizes: Sizes
    quotes: tuple[str, str, str]
    padded: bool = False

    CONTEXT: ClassVar[str] = "tacit/statement/1"
    CHECKS: ClassVar[dict[str, Check]] = {
        **Offer.CHECKS,
        "context": constant(CONTEXT),
        "peer_id": is_peer_id,
        "operator": is_name,
        "manifest_hash": is_hash,
        "endpoint": maybe(is_endpoint),
        "curve_key": maybe(is_curve_key),
    }


@dataclass(frozen=True)
class SessionReply(Record):
    """What the client gets back: the three peers' signed statements and quotes, in role order."""

    session: str
    statements: tuple[Signed, Signed, Signed]
    quotes: tuple[Signed, Signed, Signed]

    CHECKS: ClassVar[dict[str, Check]] = {
        "session": is_session,
        "statements": many(record(Signed), 3, 3),
        "quotes": many(record(Signed), 3, 3),
    }


@dataclass(frozen=True)
class ModelOffer(Record):
    """One model a peer serves; `summary` holds vocab, context, layers, architecture, bos, eos and the like."""

    name: str
    manifest_hash: str
    summary: dict[str, Any]

    CHECKS: ClassVar[dict[str, Check]] = {"name": is_model, "manifest_hash": is_hash, "summary": plain_summary}


@dataclass(frozen=True)
class Totals(Record):
    """What a peer did since it started, all sessions together; numbers and sizes of messages, nothing that is in them.

    `rounds` as a compute peer, so each is counted by both; `online_bytes` sent to the other compute peer, `offline_bytes`
    sent as the dealer. `ended`: sessions by outcome.
    """

    rounds: int = 0
    online_bytes: int = 0
    offline_bytes: int = 0
    ended: dict[str, int] = field(default_factory=dict)

    CHECKS: ClassVar[dict[str, Check]] = {
        "rounds": integer(0, MAX_COUNT),
        "online_bytes": integer(0, MAX_COUNT),
        "offline_bytes": integer(0, MAX_COUNT),
        "ended": mapping(text("|".join(OUTCOMES), "an outcome"), integer(0, MAX_COUNT), len(OUTCOMES)),
    }


@dataclass(frozen=True)
class PeerStatus(Record):
    """What a peer says of itself when the coordinator asks.

    `quote`: its signed `quotes.Quote`. `round_trips`: microseconds to other peers, by peer id, without those that are
    silent. `clock`: seconds since the epoch. `load`: of the last minute, per core, in thousandths. `memory`: bytes.
    `seated`: the sessions it sits in, their ids shortened. `totals`: what its sessions came to.
    """

    peer_id: str
    version: str
    models: tuple[ModelOffer, ...]
    sessions: int
    max_sessions: int
    quote: Signed
    round_trips: dict[str, int]
    clock: int
    load: int
    memory: int
    seated: tuple[str, ...] = ()
    totals: Totals = field(default_factory=Totals)

    CHECKS: ClassVar[dict[str, Check]] = {
        "peer_id": is_peer_id,
        "version": is_version,
        "models": many(record(ModelOffer), 0, 256),
        "sessions": integer(0, 1 << 20),
        "max_sessions": integer(0, 1 << 20),
        "quote": record(Signed),
        "round_trips": mapping(is_peer_id, integer(0, MAX_ROUND_TRIP_US), MAX_ROUND_TRIPS),
        "clock": is_time,
        "load": integer(0, 1 << 20),
        "memory": integer(0, 1 << 53),
        "seated": many(text(r"[0-9a-f]{8}", "a shortened session id"), 0, MAX_SEATED),
        "totals": record(Totals),
    }


def check_statements(
    request: SessionRequest, reply: SessionReply, roster: Members
) -> tuple[Statement, Statement, Statement]:
    """The client's check that the three peers it pinned, and nobody else, took the session it asked for.

    Returns the statements in role order. Raises IdentityError (a signature, peer or operator that should not be there)
    or PeerError (a peer agreed to something else than was asked), naming the peer.
    """
    found: list[Statement] = []
    for role, signed in enumerate(reply.statements):
        claimed = Statement.from_bytes(signed.payload, ROLE_NAMES[role])
        member = roster.member(claimed.peer_id)
        if member is None:
            raise IdentityError(ROLE_NAMES[role], f"peer {short_id(claimed.peer_id)} is not in the pinned roster")
        signed.verified(member.peer_id, member.display)
        expected = {
            "session": request.session,
            "role": role,
            "model": request.model,
            "protocol": request.protocol,
            "client_key": request.client_key,
            "sizes": request.sizes,
            "padded": request.padded,
        }
        if claimed.operator != member.operator:
            raise IdentityError(
                member.display, f"says that {claimed.operator!r} runs it, pinned is {member.operator!r}"
            )
        for name, value in expected.items():
            if getattr(claimed, name) != value:
                raise PeerError(member.display, f"signed {name} {getattr(claimed, name)!r}, expected {value!r}")
        if (role == DEALER) != (claimed.endpoint == "") or (role == DEALER) != (claimed.curve_key == ""):
            raise PeerError(member.display, "a compute peer must name an endpoint and a key, the dealer neither")
        found.append(claimed)
    first, second, third = found
    if first.curve_key == second.curve_key or request.client_key in (first.curve_key, second.curve_key):
        raise IdentityError(roster.name_of(second.peer_id), "the CURVE keys of the session are not all different")
    ids = (first.peer_id, second.peer_id, third.peer_id)
    for claimed in found:
        name = roster.name_of(claimed.peer_id)
        if claimed.peers != ids:
            raise IdentityError(name, "names other peers for this session than those that signed")
        if claimed.manifest_hash != first.manifest_hash:
            raise PeerError(name, f"holds another {request.model} (manifest {claimed.manifest_hash[:12]}…)")
    if not roster.own and len({claimed.operator for claimed in found}) != 3:
        raise IdentityError(roster.name_of(third.peer_id), "the three peers do not belong to three operators")
    return first, second, third
