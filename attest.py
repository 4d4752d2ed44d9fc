"""A peer's signed account of itself, made for a question that nobody could have foreseen.

| record        | from -> to      | carried by                                                    | signed by |
| ------------- | --------------- | ------------------------------------------------------------- | --------- |
| `Question`    | client -> peer  | mesh "attest", through the coordinator POST /v1/peers/ID/attest | -         |
| `Attestation` | peer -> client  | the answer                                                    | that peer |

It proves who answered, after the question was asked, and what it says of itself: a coordinator on the way can withhold an
answer, but neither make nor keep one. It does not prove which code runs: a peer can say whatever it likes about that.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import ClassVar

from .checks import is_hash, is_model, is_name, is_peer_id, is_version
from .errors import IdentityError, PeerError
from .members import Member
from .records import Check, Record, bytes_of, constant, integer, many, record
from .signed import Signed

NONCE_BYTES = 32
MAX_MODELS = 256


@dataclass(frozen=True)
class Question(Record):
    """`nonce`: fresh randomness, so that no answer from before fits."""

    nonce: bytes

    CHECKS: ClassVar[dict[str, Check]] = {"nonce": bytes_of(NONCE_BYTES)}

    @classmethod
    def fresh(cls) -> Question:
        return cls(secrets.token_bytes(NONCE_BYTES))


@dataclass(frozen=True)
class ModelHash(Record):
    """A model that is served, and what exactly it is."""

    name: str
    manifest_hash: str

    CHECKS: ClassVar[dict[str, Check]] = {"name": is_model, "manifest_hash": is_hash}


@dataclass(frozen=True)
class Attestation(Record):
    """What the peer says of itself. `software`: see `tacit.software`. `made`: its clock, seconds since the epoch."""

    context: str
    nonce: bytes
    peer_id: str
    operator: str
    version: str
    software: str
    models: tuple[ModelHash, ...]
    made: int

    CONTEXT: ClassVar[str] = "tacit/attestation/1"
    CHECKS: ClassVar[dict[str, Check]] = {
        "context": constant(CONTEXT),
        "nonce": bytes_of(NONCE_BYTES),
        "peer_id": is_peer_id,
        "operator": is_name,
        "version": is_version,
        "software": is_hash,
        "models": many(record(ModelHash), 0, MAX_MODELS),
        "made": integer(0, 1 << 40),
    }


def read_answer(signed: Signed, question: Question, member: Member) -> Attestation:
    """The attestation, if `member` made it for this very question.

    Raises IdentityError (another's signature, an answer from before) or PeerError (malformed), naming the member.
    """
    signed.verified(member.peer_id, member.display)
    found = Attestation.from_bytes(signed.payload, member.display)
    if found.peer_id != member.peer_id:
        raise IdentityError(member.display, "signed an attestation in another peer's name")
    if found.nonce != question.nonce:
        raise IdentityError(member.display, "answered another question: somebody replays what it said before")
    names = [model.name for model in found.models]
    if len(set(names)) != len(names):
        raise PeerError(member.display, "says of one model that it serves it twice")
    return found
