"""The members that a node of a libp2p mesh knows at this moment. Every method may be called from any thread."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ...checks import display_name, short_id
from ...errors import IdentityError, RefusedError
from ...members import Member
from ...signed import Signed
from ...succession import MAX_LINKS, Succession
from .invite import Invite
from .record import COORDINATOR, PEER, MemberRecord, now_ms

log = logging.getLogger("tacit.party.p2p")

MAX_MEMBERS = 512
EXPIRY_MS = 600_000  # a record that was not made anew for this long is forgotten
AHEAD_MS = 120_000  # how far ahead of ours a member's clock may be

Entry = tuple[MemberRecord, Signed]


class Table:
    """Satisfies `tacit.members.Members`.

    A record counts while it is younger than EXPIRY_MS, and the latest of a peer counts: an old one that somebody kept
    displaces nothing, and a peer that is gone for good is forgotten. A peer that shows a succession takes the place of
    its former id, which is then no member any more.
    """

    def __init__(
        self,
        invite: Invite,
        own_id: str,
        own: bool = False,
        listed: Mapping[str, Member] | None = None,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        """`listed`: the only ones to admit, with the names and operators that count whatever they say; None: no list."""
        self._invite = invite
        self._own_id = own_id
        self._own = own
        self._listed = listed
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._given_up: dict[str, str] = {}  # id -> id of its successor
        self._lock = threading.Lock()

    # As Members ------------------------------------------------------------------------------------------------------

    @property
    def cluster(self) -> str:
        return self._invite.cluster

    @property
    def own(self) -> bool:
        return self._own

    @property
    def members(self) -> tuple[Member, ...]:
        found = [record.member for record, _ in self.entries() if record.kind == PEER]
        return tuple(sorted(found, key=lambda member: (member.name, member.peer_id)))

    def member(self, peer_id: str) -> Member | None:
        record = self.record(peer_id)
        return record.member if record is not None and record.kind == PEER else None

    def name_of(self, peer_id: str) -> str:
        record = self.record(peer_id)
        return display_name(record.name, peer_id) if record is not None else f"unknown peer {short_id(peer_id)}"

    def is_coordinator(self, peer_id: str) -> bool:
        record = self.record(peer_id)
        return record is not None and record.kind == COORDINATOR

    # What the mesh needs ---------------------------------------------------------------------------------------------

    def record(self, peer_id: str) -> MemberRecord | None:
        """What this peer or coordinator says of itself; None for a stranger."""
        with self._lock:
            found = self._entries.get(peer_id)
        return found[0] if found is not None and self._fresh(found[0]) else None

    def entries(self) -> list[Entry]:
        """Every member with its signed record; what expired is forgotten."""
        with self._lock:
            for peer_id in [one for one, (record, _) in self._entries.items() if not self._fresh(record)]:
                log.info("%s was not heard of for 10 minutes", self._entries.pop(peer_id)[0].member.display)
            return list(self._entries.values())

    def digest(self) -> str:
        """Equal at two nodes that know the same (64 hex digits)."""
        known = sorted(f"{record.peer_id} {record.made}" for record, _ in self.entries())
        return hashlib.sha256("\n".join(known).encode("ascii")).hexdigest()

    def set_own(self, signed: Signed) -> None:
        """Our own record, made anew."""
        record = self._listed_form(MemberRecord.verified(signed, self._invite, "this node"))
        with self._lock:
            self._entries[self._own_id] = (record, signed)

    def admit(self, signed: Signed, sender: str) -> MemberRecord | None:
        """Take in a record that `sender` (for messages) sent; None if we knew as much.

        Raises PeerError or IdentityError saying why whoever made it is no member, RefusedError if the table is full.
        """
        with self._lock:
            if any(signed == known for _, known in self._entries.values()):
                return None
        record = self._listed_form(MemberRecord.verified(signed, self._invite, sender))
        age = self._clock() - record.made
        if age > EXPIRY_MS or age < -AHEAD_MS:
            seconds, way = abs(age) // 1000, "old" if age > 0 else "ahead"
            raise IdentityError(
                record.member.display,
                f"its member record is {seconds} s {way} by our clock; if it is running, one of the two clocks is wrong",
            )
        links = record.earlier
        with self._lock:
            self._must_be_current(record, links)
            known = self._entries.get(record.peer_id)
            if record.peer_id == self._own_id or (known is not None and known[0].made >= record.made):
                return None
            if known is None and len(self._entries) >= MAX_MEMBERS:
                raise RefusedError(self.cluster, f"this cluster is full: {MAX_MEMBERS} members")
            self._entries[record.peer_id] = (record, signed)
            for link in links:
                self._retire(link)
        if known is None:
            log.info("%s of %s is a member (%s)", record.member.display, record.operator, record.kind)
        return record

    def _must_be_current(self, record: MemberRecord, links: tuple[Succession, ...]) -> None:
        """Raises IdentityError for a key that was given up, and for a second successor of one."""
        if (successor := self._given_up.get(record.peer_id)) is not None:
            raise IdentityError(
                record.member.display,
                f"gave this key up; its successor is {short_id(successor)}: start it with that identity",
            )
        for link in links:
            if (other := self._given_up.get(link.old, link.new)) != link.new:
                raise IdentityError(
                    record.member.display,
                    f"key {short_id(link.old)} has two successors, {short_id(other)} and {short_id(link.new)}: it was copied",
                )

    def _retire(self, link: Succession) -> None:
        if link.old not in self._given_up:
            log.info("key %s was given up for %s", short_id(link.old), short_id(link.new))
        self._given_up[link.old] = link.new
        self._entries.pop(link.old, None)
        while len(self._given_up) > MAX_MEMBERS * MAX_LINKS:
            del self._given_up[next(iter(self._given_up))]

    def newer_than(self, others: Iterable[Signed]) -> list[Signed]:
        """The records that somebody who knows `others` lacks."""
        theirs = set(others)
        return [signed for _, signed in self.entries() if signed not in theirs]

    def _fresh(self, record: MemberRecord) -> bool:
        return record.peer_id == self._own_id or self._clock() - record.made <= EXPIRY_MS

    def _listed_form(self, record: MemberRecord) -> MemberRecord:
        if self._listed is None:
            return record
        ids = [record.peer_id, *(link.old for link in reversed(record.earlier))]
        listed = next((self._listed[one] for one in ids if one in self._listed), None)
        if listed is None:
            raise IdentityError(record.member.display, f"is not in the list of members of {self.cluster!r}")
        return replace(record, name=listed.name, operator=listed.operator)
