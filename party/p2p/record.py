"""What a member says of itself: signed by its identity, and proved to come from a holder of the invite.

Any member can check it, so records may come through anybody (gossip, rendezvous, a file).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from ...address import Address
from ...checks import is_name, is_peer_id, is_url
from ...errors import IdentityError, PeerError, UsageError
from ...members import Member
from ...records import Check, Record, bytes_of, constant, distinct, integer, many, maybe, text
from ...signed import Signed
from ...succession import Chain, Succession, current, is_chain, read_chain
from ..identity import Identity
from .invite import Invite

PEER, COORDINATOR = "peer", "coordinator"
MAX_ADDRESSES = 8
MAX_MADE = 1 << 53
MAX_BYTES = 16_384


def is_address(value: object) -> str:
    """A multiaddr that can be dialled; who is there is said by the record's peer_id."""
    if not isinstance(value, str):
        raise ValueError("is not an address")
    try:
        address = Address.parse(value)
    except UsageError as error:
        raise ValueError(str(error)) from None
    if address.peer_id or address.is_everywhere or not address.port:
        raise ValueError(f"cannot be dialled: {value}")
    return address.place


@dataclass(frozen=True)
class MemberRecord(Record):
    """`made`: milliseconds since the epoch by the member's clock; of two records the later holds.

    `successions`: how its key follows from earlier ones, oldest first (`tacit identity rotate`).
    """

    context: str
    cluster: str
    peer_id: str
    name: str
    operator: str
    kind: str
    addresses: tuple[str, ...]
    url: str
    made: int
    successions: Chain
    proof: bytes

    CONTEXT: ClassVar[str] = "tacit/member/1"
    CHECKS: ClassVar[dict[str, Check]] = {
        "context": constant(CONTEXT),
        "cluster": is_name,
        "peer_id": is_peer_id,
        "name": is_name,
        "operator": is_name,
        "kind": text(f"{PEER}|{COORDINATOR}", "a kind of member (peer, coordinator)"),
        "addresses": distinct(many(is_address, 0, MAX_ADDRESSES)),
        "url": maybe(is_url),
        "made": integer(0, MAX_MADE),
        "successions": is_chain,
        "proof": bytes_of(32),
    }

    @property
    def member(self) -> Member:
        return Member(self.name, self.operator, self.peer_id)

    @property
    def proved(self) -> bytes:
        """The content that the proof is about: all other fields, canonical."""
        content = {key: value for key, value in self.to_json().items() if key != "proof"}
        return json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")

    def signed(self, identity: Identity, invite: Invite) -> Signed:
        """With its proof, under the member's signature."""
        return identity.sign(replace(self, proof=invite.proof(self.proved)))

    @property
    def earlier(self) -> tuple[Succession, ...]:
        """How this member came by its key. Of a record that was verified."""
        return read_chain(self.successions, self.member.display)

    @classmethod
    def verified(cls, signed: Signed, invite: Invite, sender: str) -> Self:
        """The record, if its own peer signed it and holds the invite. Raises PeerError or IdentityError."""
        if len(signed.payload) > MAX_BYTES:
            raise PeerError(sender, f"sent a member record of {len(signed.payload)} bytes, more than {MAX_BYTES}")
        found = cls.from_bytes(signed.payload, sender)
        name = found.member.display
        signed.verified(found.peer_id, name)
        if found.cluster != invite.cluster:
            raise IdentityError(name, f"belongs to the cluster {found.cluster!r}, this one is {invite.cluster!r}")
        if not invite.proves(found.proved, found.proof):
            raise IdentityError(name, f"does not hold the invite of cluster {invite.cluster!r}")
        if found.successions and current(found.successions, found.peer_id, name) != found.peer_id:
            raise IdentityError(name, "shows successions that do not lead to its key")
        return found


def now_ms() -> int:
    """This machine's clock, as records give it."""
    return time.time_ns() // 1_000_000
