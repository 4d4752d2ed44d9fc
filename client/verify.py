"""What must be true of three signed statements before a single key leaves the client.

An untrusted coordinator chose the three peers. `wire.check_statements` makes sure that they are peers the user pinned,
that they signed this very request, hold one and the same model and belong to three operators; here it is tied to the
manifest and tokenizer that the client read beforehand, and to what the peers quoted.
"""

from __future__ import annotations

import hashlib

from ..errors import IdentityError, PeerError
from ..members import Pinned
from ..quotes import Price, Quote, committee_price, quote_hash, read_quote, within
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


def check_quotes(request: SessionRequest, reply: SessionReply, seats: Seats, pinned: Pinned, now: float) -> Price:
    """What the committee costs, if its peers signed that they sit down for exactly these quotes and the client pays as much.

    `now` in seconds since the epoch. Raises IdentityError naming the coordinator, which showed other quotes than the peers
    took their seats for or heeds no maximum, or the peer whose quote is not its own; PeerError for one that has run out.
    """
    coordinator = pinned.coordinator_name
    found: list[Quote] = []
    for role, (signed, seat) in enumerate(zip(reply.quotes, seats, strict=True)):
        name = pinned.name_of(seat.peer_id)
        if seat.quotes != seats[0].quotes:
            raise IdentityError(coordinator, f"told {name} of other quotes than {pinned.name_of(seats[0].peer_id)}")
        if quote_hash(signed) != seat.quotes[role]:
            raise IdentityError(coordinator, f"shows another quote of {name} than the one it took its seat for")
        quote = read_quote(signed, seat.peer_id, name)
        if not quote.valid(now):
            when = f"ran out {now - quote.expires:.0f} s ago" if now > quote.expires else "is not made yet"
            raise PeerError(name, f"its quote {when} by this machine's clock; tacit doctor tells whose clock is wrong")
        found.append(quote)
    price = committee_price((found[0], found[1], found[2]))
    if price is None:
        raise IdentityError(coordinator, "seated three peers that want different currencies")
    if not within(price, request.most):
        most = request.most.decimal if request.most is not None else ""
        raise IdentityError(
            coordinator, f"seated a committee that costs {price} per million tokens, the client's maximum is {most}"
        )
    return price


def check_hash(content: bytes, expected: str, what: str, source: str) -> None:
    """Raises PeerError naming `source` unless SHA-256 of the content is as expected (64 hex digits)."""
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise PeerError(source, f"sent a {what} with hash {found[:12]}…, expected {expected[:12]}…")
