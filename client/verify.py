"""What must be true of three signed statements before a single key leaves the client.

An untrusted coordinator chose the three peers. `wire.check_statements` makes sure that they are peers the user pinned,
that they signed this very request, hold one and the same model and belong to three operators; here it is tied to the
manifest and tokenizer that the client read beforehand.
"""

from __future__ import annotations

import hashlib

from ..errors import PeerError
from ..members import Pinned
from ..wire import SessionReply, SessionRequest, Statement, check_statements

Seats = tuple[Statement, Statement, Statement]


def check_seats(request: SessionRequest, reply: SessionReply, pinned: Pinned, manifest_hash: str) -> Seats:
    """The statements in role order: compute peer 0, compute peer 1, dealer.

    Raises IdentityError or PeerError naming the peer whose word is missing, forged or about something else.
    """
    seats = check_statements(request, reply, pinned)
    for seat in seats:
        if seat.manifest_hash != manifest_hash:
            raise PeerError(
                pinned.name_of(seat.peer_id),
                f"serves another {request.model} (manifest {seat.manifest_hash[:12]}…) than the coordinator showed "
                f"({manifest_hash[:12]}…)",
            )
    return seats


def check_hash(content: bytes, expected: str, what: str, source: str) -> None:
    """Raises PeerError naming `source` unless SHA-256 of the content is as expected (64 hex digits)."""
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise PeerError(source, f"sent a {what} with hash {found[:12]}…, expected {expected[:12]}…")
