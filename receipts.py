"""Receipts: what the two compute peers of a session sign when it ends, and how anybody can check them.

| field | said by the peer about |
| --- | --- |
| session, role, peer_id, peers | its seat |
| model, manifest_hash, protocol, version | what it ran (its word: a signature proves who says so, not which code ran) |
| quotes | what it was seated for: hashes of the three signed quotes, in role order |
| tokens, steps | how much: tokens that went through the model, and in how many steps |
| rounds, online_bytes, offline_bytes | what it cost: rounds, bytes sent to its partner, bytes from the dealer |
| transcript | SHA-256 over everything that was opened, in order: both peers must have the same |

What is opened is uniformly masked, so the hash tells nothing about prompt or answer. Equal hashes show that both peers saw
the same openings; they do not show that a peer put in what it should have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .checks import (
    is_hash,
    is_model,
    is_peer_id,
    is_peers,
    is_protocol,
    is_quotes,
    is_session,
    is_version,
)
from .errors import PeerError
from .records import Check, Record, constant, integer
from .signed import Signed

_COUNT = integer(0, 1 << 53)


@dataclass(frozen=True)
class Receipt(Record):
    """One compute peer's signed word about a session that ended in order."""

    context: str
    session: str
    role: int
    peer_id: str
    peers: tuple[str, str, str]
    model: str
    protocol: str
    manifest_hash: str
    version: str
    tokens: int
    steps: int
    rounds: int
    online_bytes: int
    offline_bytes: int
    transcript: str
    quotes: tuple[str, str, str]

    CONTEXT: ClassVar[str] = "tacit/receipt/1"
    CHECKS: ClassVar[dict[str, Check]] = {
        "context": constant(CONTEXT),
        "session": is_session,
        "role": integer(0, 1),
        "peer_id": is_peer_id,
        "peers": is_peers,
        "model": is_model,
        "protocol": is_protocol,
        "manifest_hash": is_hash,
        "version": is_version,
        "tokens": _COUNT,
        "steps": _COUNT,
        "rounds": _COUNT,
        "online_bytes": _COUNT,
        "offline_bytes": _COUNT,
        "transcript": is_hash,
        "quotes": is_quotes,
    }


Pair = tuple[Receipt, Receipt]
SHARED = (
    "session", "peers", "model", "protocol", "manifest_hash", "tokens", "steps", "rounds", "online_bytes",
    "transcript", "quotes",
)  # fmt: skip


def read_pair(signed: tuple[Signed, Signed], names: tuple[str, str]) -> Pair:
    """Both receipts of a session, if each is signed by the peer it speaks of and they agree. `names` are for messages.

    Raises IdentityError (a signature), or PeerError naming the peer, or both where it cannot be told who is wrong.
    """
    found = []
    for role, (one, name) in enumerate(zip(signed, names, strict=True)):
        receipt = Receipt.from_bytes(one.payload, name)
        one.verified(receipt.peer_id, name)
        if receipt.role != role or receipt.peers[role] != receipt.peer_id:
            raise PeerError(name, "signed a receipt for another seat than its own")
        found.append(receipt)
    first, second = found
    for field in SHARED:
        if getattr(first, field) != getattr(second, field):
            what = "transcripts of what they opened" if field == "transcript" else f"receipts: {field} differs"
            raise PeerError(
                " and ".join(names),
                f"signed different {what}; one of them did not follow the protocol, do not rely on the answer",
            )
    return first, second
