"""Which three peers serve a session: distinct operators first, then whoever is least busy and quickest to answer.

The coordinator only proposes; the client checks the proposal against the roster that it pinned.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence

from ..errors import RefusedError
from ..wire import Member
from .registry import Live

Committee = tuple[Member, Member, Member]


def choose(holders: Sequence[Live], own: bool, without: Collection[str] = ()) -> Committee:
    """Three peers in role order (compute 0, compute 1, dealer); roles are drawn by lot.

    `own`: the peers all belong to one person, so operators need not differ. `without`: ids to leave out. Raises
    RefusedError saying what is missing.
    """
    ranked = sorted(
        (live for live in holders if live.free > 0 and live.member.peer_id not in without),
        key=lambda live: (
            live.status.sessions / live.status.max_sessions,
            round(live.latency, 3),
            secrets.randbits(32),
        ),
    )
    if own:
        seats = ranked[:3]
    else:
        first_of: dict[str, Live] = {}
        for live in ranked:
            first_of.setdefault(live.member.operator, live)
        seats = list(first_of.values())[:3]
    if len(seats) < 3:
        busy = sum(live.free <= 0 for live in holders)
        rule = "" if own else " of three different operators"
        raise RefusedError(
            "coordinator",
            f"needs three free peers{rule}, found {len(seats)} ({len(holders)} serve the model, {busy} of them busy, "
            f"{len(without)} just failed); try again later or add peers",
        )
    secrets.SystemRandom().shuffle(seats)
    first, second, third = (live.member for live in seats)
    return first, second, third
