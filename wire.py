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
| Roster         | operator -> everyone      | cluster.json                   | - (pinned)   |

A record is one JSON object with exactly its fields. Text forms: session = 32 hex digits, peer id = base64url of the
Ed25519 public key (43 characters), CURVE key = z85 (40 characters), hash = 64 hex digits, endpoint = tcp://host:port.
A signature covers the exact bytes that arrived, never a re-encoding; each signed record names its `context`, so that a
signature made for one purpose is worthless for another.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .errors import ConfigError, IdentityError, PeerError, UsageError
from .records import (
    Check,
    Record,
    boolean,
    bytes_of,
    constant,
    distinct,
    integer,
    many,
    maybe,
    plain_summary,
    record,
    text,
)

ROLE_NAMES = ("compute peer 0", "compute peer 1", "dealer", "client")
DEALER, CLIENT = 2, 3
MAX_TOKENS = 1 << 20
MAX_CHOICES = 64  # operators or peers that a request may name
PROTOCOLS = ("pair",)


def short_id(peer_id: str) -> str:
    """The first characters of a peer id: enough for a person to tell peers apart."""
    return peer_id[:8]


def display_name(name: str, peer_id: str) -> str:
    """How messages name a peer: `peer-0 (3q2-7wEj)`."""
    return f"{name} ({short_id(peer_id)})"


is_session = text(r"[0-9a-f]{32}", "a session id (32 hex digits)")
is_peer_id = text(r"[A-Za-z0-9_-]{43}", "a peer id (43 characters of base64url)")
is_curve_key = text(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}", "a CURVE key (40 characters of z85)")
is_hash = text(r"[0-9a-f]{64}", "a SHA-256 hash (64 hex digits)")
is_endpoint = text(r"tcp://(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):[0-9]{1,5}", "an endpoint tcp://host:port")
is_name = text(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}", "a name (letters, digits, '.', '_', '-', space; at most 64)")
is_model = text(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}", "a model name (letters, digits, '.', '_', '-', '/'; at most 128)")
is_protocol = text("|".join(PROTOCOLS), "a protocol served here (pair)")
is_url = text(r"https?://[A-Za-z0-9.:_\[\]/-]{1,255}", "an http(s) address")
is_role = integer(0, 2)
is_tokens = integer(1, MAX_TOKENS)
is_new_tokens = integer(0, MAX_TOKENS)
is_peers = distinct(many(is_peer_id, 3, 3))


_ASKED: dict[str, Check] = {
    "session": is_session,
    "client_key": is_curve_key,
    "model": is_model,
    "protocol": is_protocol,
    "prompt_tokens": is_tokens,
    "max_new_tokens": is_new_tokens,
}


@dataclass(frozen=True)
class SessionRequest(Record):
    """A client asks the coordinator for three peers. It tells sizes and a model, never text.

    `operators`: the only ones it accepts, any if empty. `without`: peer ids it does not want, since they failed it.
    """

    session: str
    client_key: str
    model: str
    protocol: str
    prompt_tokens: int
    max_new_tokens: int
    operators: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    CHECKS: ClassVar[dict[str, Check]] = {
        **_ASKED,
        "operators": distinct(many(is_name, 0, MAX_CHOICES)),
        "without": distinct(many(is_peer_id, 0, MAX_CHOICES)),
    }


@dataclass(frozen=True)
class Offer(Record):
    """The coordinator proposes a seat in a session: `role` among `peers` (ids in role order)."""

    session: str
    role: int
    peers: tuple[str, str, str]
    model: str
    protocol: str
    client_key: str
    prompt_tokens: int
    max_new_tokens: int

    CHECKS: ClassVar[dict[str, Check]] = {**_ASKED, "role": is_role, "peers": is_peers}


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
    prompt_tokens: int
    max_new_tokens: int

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
class Signed(Record):
    """Exact bytes of a record and an Ed25519 signature over them (both base64 in JSON)."""

    payload: bytes
    signature: bytes

    CHECKS: ClassVar[dict[str, Check]] = {"payload": bytes_of(None, 1 << 16), "signature": bytes_of(64)}

    def verified(self, peer_id: str, name: str) -> bytes:
        """The payload, if the key that `peer_id` stands for signed it. Raises IdentityError naming `name`."""
        try:
            raw = base64.urlsafe_b64decode(is_peer_id(peer_id) + "=")
            Ed25519PublicKey.from_public_bytes(raw).verify(self.signature, self.payload)
        except (InvalidSignature, ValueError):
            raise IdentityError(name, f"the signature is not by peer {short_id(peer_id)}") from None
        return self.payload


@dataclass(frozen=True)
class SessionReply(Record):
    """What the client gets back: the three peers' signed statements, in role order."""

    session: str
    statements: tuple[Signed, Signed, Signed]

    CHECKS: ClassVar[dict[str, Check]] = {"session": is_session, "statements": many(record(Signed), 3, 3)}


@dataclass(frozen=True)
class ModelOffer(Record):
    """One model a peer serves; `summary` holds vocab, context, layers, architecture, bos, eos and the like."""

    name: str
    manifest_hash: str
    summary: dict[str, Any]

    CHECKS: ClassVar[dict[str, Check]] = {"name": is_model, "manifest_hash": is_hash, "summary": plain_summary}


@dataclass(frozen=True)
class PeerStatus(Record):
    """What a peer says of itself when the coordinator asks."""

    peer_id: str
    version: str
    models: tuple[ModelOffer, ...]
    sessions: int
    max_sessions: int

    CHECKS: ClassVar[dict[str, Check]] = {
        "peer_id": is_peer_id,
        "version": text(r"[0-9A-Za-z.+-]{1,32}", "a version"),
        "models": many(record(ModelOffer), 0, 256),
        "sessions": integer(0, 1 << 20),
        "max_sessions": integer(0, 1 << 20),
    }


@dataclass(frozen=True)
class Member(Record):
    """A peer of the roster: its pinned identity, who runs it, and where its mesh listens (with which CURVE key)."""

    name: str
    operator: str
    peer_id: str
    mesh_endpoint: str
    mesh_key: str

    CHECKS: ClassVar[dict[str, Check]] = {
        "name": is_name,
        "operator": is_name,
        "peer_id": is_peer_id,
        "mesh_endpoint": is_endpoint,
        "mesh_key": is_curve_key,
    }

    @property
    def display(self) -> str:
        return display_name(self.name, self.peer_id)


@dataclass(frozen=True)
class CoordinatorEntry(Record):
    """The coordinator of the roster: where clients find it and the mesh key it dials peers with."""

    name: str
    url: str
    peer_id: str
    mesh_key: str

    CHECKS: ClassVar[dict[str, Check]] = {
        "name": is_name,
        "url": is_url,
        "peer_id": is_peer_id,
        "mesh_key": is_curve_key,
    }


@dataclass(frozen=True)
class Roster(Record):
    """cluster.json: whom everyone in this cluster pins.

    `own` says that the reader runs every peer itself (a cluster on one machine): then, and only then, may the three
    peers of a session share an operator.
    """

    cluster: str
    own: bool
    coordinator: CoordinatorEntry
    members: tuple[Member, ...]

    CHECKS: ClassVar[dict[str, Check]] = {
        "cluster": is_name,
        "own": boolean,
        "coordinator": record(CoordinatorEntry),
        "members": many(record(Member), 3, 4096),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for what in ("peer_id", "mesh_key", "name", "mesh_endpoint"):
            values = [getattr(member, what) for member in self.members]
            if what in ("peer_id", "mesh_key"):
                values.append(getattr(self.coordinator, what))
            if len(set(values)) != len(values):
                raise UsageError(f"Roster.members: two entries have the same {what}")

    def member(self, peer_id: str) -> Member | None:
        """The member with this id, None for a stranger."""
        return next((member for member in self.members if member.peer_id == peer_id), None)

    def name_of(self, peer_id: str) -> str:
        """A peer as messages show it; a stranger by its short id."""
        if peer_id == self.coordinator.peer_id:
            return display_name(self.coordinator.name, peer_id)
        member = self.member(peer_id)
        return member.display if member else f"unknown peer {short_id(peer_id)}"

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Roster:
        """Read cluster.json. Raises ConfigError naming the file and the field."""
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path}: cannot read the roster: {error.strerror}") from None
        try:
            return cls.from_bytes(raw, str(path))
        except PeerError as error:
            raise ConfigError(f"{path}: holds {error.reason.removeprefix('sent ')}") from None


def check_statements(
    request: SessionRequest, reply: SessionReply, roster: Roster
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
            "operator": member.operator,
            "model": request.model,
            "protocol": request.protocol,
            "client_key": request.client_key,
            "prompt_tokens": request.prompt_tokens,
            "max_new_tokens": request.max_new_tokens,
        }
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
