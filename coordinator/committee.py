"""Which three peers serve a session: distinct operators first, then whoever is least busy and quickest to answer.

The coordinator only proposes; the client checks the proposal against the roster that it pinned and against its own policy.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence

from ..errors import RefusedError
from ..members import Member
from .registry import Live

Committee = tuple[Member, Member, Member]


def choose(
    holders: Sequence[Live], own: bool, without: Collection[str] = (), operators: Collection[str] = ()
) -> Committee:
    """Three peers in role order (compute 0, compute 1, dealer); roles are drawn by lot.

    `own`: the peers all belong to one person, so operators need not differ (they do where they can). `without`: ids to
    leave out. `operators`: the only ones to take, any if empty. Raises RefusedError saying what is missing.
    """
    allowed = [live for live in holders if not operators or live.member.operator in operators]
    ranked = sorted(
        (live for live in allowed if live.free > 0 and live.member.peer_id not in without),
        key=lambda live: (live.load, round(live.latency, 3), secrets.randbits(32)),
    )
    first_of: dict[str, Live] = {}
    for live in ranked:
        first_of.setdefault(live.member.operator, live)
    seats = list(first_of.values())
    if own:
        seats += [live for live in ranked if live not in seats]
    if len(seats) < 3:
        busy = sum(live.free <= 0 for live in allowed)
        left_out = sum(live.member.peer_id in without for live in allowed)
        rule = "" if own else " of three different operators"
        served = f"{len(holders)} serve the model"
        if len(allowed) < len(holders):
            served += f", {len(holders) - len(allowed)} of them of operators not asked for"
        raise RefusedError(
            "coordinator",
            f"needs three free peers{rule}, found {len(seats)} ({served}, {busy} busy, {left_out} just failed); "
            "try again later or add peers",
        )
    seats = seats[:3]
    secrets.SystemRandom().shuffle(seats)
    first, second, third = (live.member for live in seats)
    return first, second, third
