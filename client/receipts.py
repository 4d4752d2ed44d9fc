"""The client's side of receipts: checked against what it saw itself, kept, and shown again.

Receipts are kept in <receipts>/receipts.jsonl, readable by the user alone, a session a line; no text is in them.
<receipts> is TACIT_RECEIPTS, or `receipts` in the state directory (see `state`).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..checks import is_name
from ..errors import ConfigError, PeerError
from ..members import Pinned
from ..quotes import Charge, Quotes, committee_price, quote_hash, read_quote
from ..receipts import Pair, read_pair
from ..records import Check, Record, integer, many, record, text
from ..signed import Signed
from .pinned import PinnedPeers
from .state import state_path
from .verify import Seats

_FILE = "receipts.jsonl"


@dataclass(frozen=True)
class Kept(Record):
    """A session's line: when it ended (seconds since the epoch), in which cluster, its peers as this client knew them."""

    ended: int
    cluster: str
    names: tuple[str, str, str]
    receipts: tuple[Signed, Signed]
    quotes: Quotes

    CHECKS: ClassVar[dict[str, Check]] = {
        "ended": integer(0, 1 << 40),
        "cluster": is_name,
        "names": many(text(r"[A-Za-z0-9._ ()-]{1,100}", "a peer's name"), 3, 3),
        "receipts": many(record(Signed), 2, 2),
        "quotes": many(record(Signed), 3, 3),
    }

    def verified(self, pinned: Pinned | None = None) -> Pair:
        """Both receipts, if signatures and contents are in order and, given what this client pinned, the peers are pinned in it.

        Raises IdentityError or PeerError saying what is not.
        """
        pair = read_pair(self.receipts, self.names[:2])
        for receipt, name in zip(pair, self.names, strict=False):
            if pinned is not None and not _was_pinned(pinned, receipt.peer_id):
                raise PeerError(name, "is not in the pinned roster")
        self.charge(pair)
        return pair

    def charge(self, pair: Pair) -> Charge:
        """What the session cost, by the quotes that both receipts name. Raises IdentityError or PeerError."""
        found = []
        for role, (signed, name) in enumerate(zip(self.quotes, self.names, strict=True)):
            if quote_hash(signed) != pair[0].quotes[role]:
                raise PeerError(name, "the quote that was kept is not the one in the receipts")
            found.append(read_quote(signed, pair[0].peers[role], name))
        price = committee_price((found[0], found[1], found[2]))
        if price is None:
            raise PeerError(", ".join(self.names), "the quotes that were kept are of different currencies")
        return Charge(price, pair[0].tokens)


def _was_pinned(pinned: Pinned, peer_id: str) -> bool:
    """Also under a key that it gave up since: the receipt may be from before."""
    return pinned.ever(peer_id) if isinstance(pinned, PinnedPeers) else pinned.member(peer_id) is not None


class Book:
    """Where receipts are kept."""

    def __init__(self, folder: Path | None = None) -> None:
        """Raises ConfigError if the folder cannot be written."""
        self.path = (folder or receipts_folder()) / _FILE
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise self._unwritable(error) from None

    def add(self, kept: Kept) -> None:
        """Append a line. Raises ConfigError."""
        try:
            with self.path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(kept.to_bytes() + b"\n")
        except OSError as error:
            raise self._unwritable(error) from None

    def read(self) -> Iterator[Kept]:
        """What is kept, oldest first. Raises PeerError naming a line that is damaged, ConfigError."""
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    yield self._kept(line, number)
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be read: {error.strerror}") from None

    def _kept(self, line: bytes, number: int) -> Kept:
        try:
            return Kept.from_bytes(line, f"{self.path}, line {number}")
        except PeerError as error:
            raise PeerError(error.peer, f"{error.reason}; if an earlier version wrote it, move the file away") from None

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self.path}: receipts cannot be kept ({error.strerror}): set TACIT_RECEIPTS to a folder that can be written, "
            "or keep none (Client(keep_receipts=False))"
        )


def receipts_folder() -> Path:
    """<receipts>, which may not exist yet."""
    chosen = os.environ.get("TACIT_RECEIPTS")
    return Path(chosen) if chosen else state_path() / "receipts"


@dataclass(frozen=True, slots=True)
class Seen:
    """What the client counted itself, from the peers' reports step by step."""

    tokens: int
    steps: int
    rounds: int
    online_bytes: tuple[int, int]
    offline_bytes: tuple[int, int]


class Auditor:
    """Checks a session's receipts against its statements and the client's own count; keeps them."""

    def __init__(self, seats: Seats, quotes: Quotes, pinned: Pinned, book: Book | None) -> None:
        self._seats = seats
        self._quotes = quotes
        self._pinned = pinned
        self._book = book

    def settle(self, signed: tuple[Signed, Signed], seen: Seen) -> Pair:
        """Raises IdentityError or PeerError for receipts that are not what the peers owe; such are not kept."""
        name_of = self._pinned.name_of
        names = (name_of(self._seats[0].peer_id), name_of(self._seats[1].peer_id), name_of(self._seats[2].peer_id))
        pair = read_pair(signed, names[:2])
        for role, receipt in enumerate(pair):
            seat = self._seats[role]
            expected = {
                "session": seat.session,
                "peer_id": seat.peer_id,
                "peers": seat.peers,
                "model": seat.model,
                "protocol": seat.protocol,
                "manifest_hash": seat.manifest_hash,
                "tokens": seen.tokens,
                "steps": seen.steps,
                "rounds": seen.rounds,
                "online_bytes": seen.online_bytes[role],
                "offline_bytes": seen.offline_bytes[role],
                "quotes": seat.quotes,
            }
            for field, value in expected.items():
                if getattr(receipt, field) != value:
                    raise PeerError(names[role], f"signed a receipt with another {field} than the session had")
        if self._book is not None:
            self._book.add(Kept(int(time.time()), self._pinned.cluster, names, signed, self._quotes))
        return pair
