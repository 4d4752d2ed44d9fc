"""Hello, the first thing two nodes say to each other: who each is, then whom each knows. Repeated, it is gossip.

| step | asker -> answerer                 | answer                                                        |
| ---- | --------------------------------- | ------------------------------------------------------------- |
| 1    | its own record, digest of its table | own record, digest, and all records if the digests differ     |
| 2    | records that the answer lacked, if any | own record, digest                                         |

A stranger learns nothing but the reason why it is none: its record is checked before anything is answered.
"""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from ... import __version__
from ...checks import is_hash, is_version
from ...errors import IdentityError, PeerError, RefusedError, TacitError
from ...records import MAX_RECORD_BYTES, Check, Record, many, record
from ...signed import Signed
from .record import MemberRecord
from .table import MAX_MEMBERS, Table

log = logging.getLogger("tacit.party.p2p")

HELLO = "hello"


@dataclass(frozen=True)
class Hello(Record):
    """`own`: the sender's member record. `digest`: of its table (see `Table.digest`). `members`: records of others."""

    version: str
    own: Signed
    digest: str
    members: tuple[Signed, ...]

    CHECKS: ClassVar[dict[str, Check]] = {
        "version": is_version,
        "own": record(Signed),
        "digest": is_hash,
        "members": many(record(Signed), 0, MAX_MEMBERS),
    }


class Greeter:
    """Both ends of a hello. `learned` is called with every record that was new here."""

    def __init__(self, table: Table, own: Callable[[], Signed], learned: Callable[[MemberRecord], None]) -> None:
        self._table = table
        self._own = own
        self._learned = learned

    def answer(self, sender: str, question: bytes) -> bytes:
        """Handler of the protocol. Raises IdentityError for a stranger."""
        name = self._table.name_of(sender)
        hello = Hello.from_bytes(question, name)
        self._meet(hello, sender, name)
        self._merge(hello.members, name)
        digest = self._table.digest()
        missing = () if hello.digest == digest or hello.members else _fitting(self._table.newer_than([hello.own]))
        return Hello(__version__, self._own(), digest, missing).to_bytes()

    def greet(self, peer_id: str, ask: Callable[[bytes], bytes]) -> None:
        """Say hello to a peer that `ask` asks. Raises its refusal, IdentityError if it is no member, NetworkError."""
        name = self._table.name_of(peer_id)
        reply = self._say((), peer_id, name, ask)
        if reply.members or reply.digest != self._table.digest():
            self._merge(reply.members, name)
            lacking = self._table.newer_than([reply.own, self._own(), *reply.members])
            if lacking and reply.digest != self._table.digest():
                self._say(_fitting(lacking), peer_id, name, ask)

    def _say(self, members: tuple[Signed, ...], peer_id: str, name: str, ask: Callable[[bytes], bytes]) -> Hello:
        reply = Hello.from_bytes(ask(Hello(__version__, self._own(), self._table.digest(), members).to_bytes()), name)
        self._meet(reply, peer_id, name)
        return reply

    def _meet(self, hello: Hello, peer_id: str, name: str) -> None:
        """The record must be of the very peer that the connection proved, whoever it says it is."""
        claimed = MemberRecord.from_bytes(hello.own.payload, name)
        if claimed.peer_id != peer_id:
            raise IdentityError(name, f"says hello as {claimed.member.display}, whose key it does not hold")
        self._take(hello.own, name)

    def _merge(self, members: tuple[Signed, ...], name: str) -> None:
        for signed in members:
            try:
                self._take(signed, name)
            except RefusedError as error:
                log.warning("%s", error)
                return
            except PeerError as error:
                log.info("%s passed on a record that is not taken: %s", name, error)

    def _take(self, signed: Signed, name: str) -> None:
        found = self._table.admit(signed, name)
        if found is not None:
            try:
                self._learned(found)
            except TacitError as error:
                log.info("%s", error)


def _fitting(records: list[Signed]) -> tuple[Signed, ...]:
    """As many as one message takes; others another time, so any of them get their turn."""
    random.shuffle(records)
    sizes = itertools.accumulate(2 * len(signed.payload) + 256 for signed in records)
    return tuple(signed for signed, size in zip(records, sizes, strict=True) if size <= MAX_RECORD_BYTES // 2)
