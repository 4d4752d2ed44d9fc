"""Which three peers serve a session, and who of them computes: the best of all triples of the candidates.

| in this order | what is compared |
| --- | --- |
| operators | three different ones: a condition, unless all peers are one person's (then more different ones are better) |
| load | the fullest of the three, in quarters of what it takes, so that sessions are spread |
| distance | ROUNDS times the way between the compute peers, plus the dealer's longer way, each rounded up to 4, 8, 16 … ms |
| price | compute peers' and dealer's quotes together; a client's maximum is a condition |
| load, exactly | the sum over the three |
| by lot | |

The dealer works ahead of use, so its distance counts once where a round's counts ROUNDS times; how far the client is, the
coordinator cannot know. Ways up to 4 ms count as the same, since the mesh's own software takes half of that, and
rounding keeps noise from deciding. A way that nobody has measured counts as longer than any that was, no more: it excludes nobody. Of
two peers' values for the way between them the longer one counts, so that no peer looks near by its word alone.

The coordinator only proposes; the client checks the proposal against the peers that it pinned and against its own policy.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import RefusedError
from ..quotes import Price
from .registry import Live

Committee = tuple[Live, Live, Live]
Numbers = NDArray[np.int64]

ROUNDS = 14  # between the compute peers for a token
NEAR_MS = 4
UNKNOWN_MS = 1 << 15  # above the longest round trip that a peer may report
CANDIDATES = 48  # all triples of so many are compared: 48^3 rows, some milliseconds
_NEVER = np.iinfo(np.int64).max
_ANY_AMOUNT = 1 << 60


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a client asks for: peers to leave out, the only operators to take (any if empty), the most that it pays."""

    without: frozenset[str] = frozenset()
    operators: frozenset[str] = frozenset()
    most: Price | None = None


NO_WISHES = Wishes()


def choose(holders: Sequence[Live], own: bool, wishes: Wishes = NO_WISHES) -> Committee:
    """Three peers in role order (compute 0, compute 1, dealer); who of the compute peers is which is drawn by lot.

    `own`: the peers all belong to one person, so operators need not differ (they do where they can). Raises RefusedError
    saying what is missing: free peers, operators, or any that are cheap enough.
    """
    allowed = [live for live in holders if not wishes.operators or live.member.operator in wishes.operators]
    free = [live for live in allowed if live.free > 0 and live.member.peer_id not in wishes.without]
    seats = len(free) if own else len({live.member.operator for live in free})
    if seats < 3:
        raise _too_few(holders, allowed, seats, own, wishes)
    looked_at = candidates(free, own, wishes.most)
    found = _best(looked_at, own, wishes.most)
    if found is None:
        raise _too_dear(looked_at, own, wishes.most)
    return found


def candidates(free: Sequence[Live], own: bool, most: Price | None, limit: int = CANDIDATES) -> list[Live]:
    """All of them up to `limit`; of more, half of it by load, then, given a maximum, a quarter by price (the cheapest
    committee of all is among these), then those that are nearest to the ones taken so far. Ties by lot.

    The best of each operator come first, then the second best; by price regardless of operators, if the cluster is one's own.
    """
    if len(free) <= limit:
        return list(free)
    mixed = secrets.SystemRandom().sample(free, len(free))
    order = _in_turns(mixed, False, _quarter)
    taken = {live.member.peer_id: live for live in order[: limit // 2]}
    if most is not None:
        payable = [live for live in mixed if not live.quote.compute or live.quote.currency == most.currency]
        _add(taken, _in_turns(payable, own, lambda live: live.quote.compute)[: limit // 8], limit)
        payable = [live for live in mixed if not live.quote.dealer or live.quote.currency == most.currency]
        _add(taken, _in_turns(payable, own, lambda live: live.quote.dealer)[: limit // 8], limit)
    _add(taken, _neighbours(taken, free), limit)
    _add(taken, order, limit)
    return list(taken.values())


def _in_turns(peers: Sequence[Live], own: bool, rank: Callable[[Live], int]) -> list[Live]:
    """By rank, but no operator's second before every other's first; where all are one person's, by rank."""
    turns: Counter[str] = Counter()
    ranked = []
    for place, live in enumerate(sorted(peers, key=rank)):
        ranked.append((turns[live.member.operator], rank(live), place, live))
        turns[live.member.operator] += not own
    return [live for *_, live in sorted(ranked, key=lambda row: row[:3])]


def _add(taken: dict[str, Live], more: Iterable[Live], limit: int) -> None:
    for live in more:
        if len(taken) >= limit:
            return
        taken.setdefault(live.member.peer_id, live)


def _neighbours(taken: dict[str, Live], free: Sequence[Live]) -> list[Live]:
    """Those that peers taken reported as near, the nearest first."""
    there = {live.member.peer_id: live for live in free}
    nearest: dict[str, int] = {}
    for live in taken.values():
        for peer_id, microseconds in live.status.round_trips.items():
            if peer_id in there and peer_id not in taken:
                nearest[peer_id] = min(microseconds, nearest.get(peer_id, microseconds))
    return [there[peer_id] for peer_id in sorted(nearest, key=nearest.__getitem__)]


def _best(free: Sequence[Live], own: bool, most: Price | None) -> Committee | None:
    """The least row of the table of (compute peer, other compute peer, dealer), compared column by column."""
    allowed = _allowed(free, own, most)
    for column in _columns(free, own):
        values = np.where(allowed, column, _NEVER)
        least = values.min()
        if least == _NEVER:
            return None
        allowed = values == least
    first, second, dealer = allowed.nonzero()
    drawn = secrets.randbelow(len(first))
    pair = [free[first[drawn]], free[second[drawn]]]
    if secrets.randbits(1):
        pair.reverse()
    return pair[0], pair[1], free[dealer[drawn]]


def _allowed(free: Sequence[Live], own: bool, most: Price | None) -> NDArray[np.bool_]:
    """Which (first, second, dealer) may sit together: three peers, of three operators, of one currency, cheap enough."""
    count = len(free)
    place = np.arange(count)
    allowed = (place[:, None] < place[None, :])[:, :, None] & np.ones(count, np.bool_)
    allowed &= (place[:, None] != place)[:, None, :] & (place[:, None] != place)[None, :, :]
    if not own:
        different = _operators(free)
        allowed &= different[:, :, None] & different[:, None, :] & different[None, :, :]
    # A currency is a number, and -1 stands for what is free.
    names = sorted({live.quote.currency for live in free})
    computing = np.array([names.index(live.quote.currency) if live.quote.compute else -1 for live in free])
    dealing = np.array([names.index(live.quote.currency) if live.quote.dealer else -1 for live in free])
    allowed &= _addable(computing, computing)[:, :, None]
    allowed &= _addable(computing, dealing)[:, None, :] & _addable(computing, dealing)[None, :, :]
    if most is not None:
        paid = names.index(most.currency) if most.currency in names else len(names)
        computes, deals = ((role < 0) | (role == paid) for role in (computing, dealing))
        allowed &= computes[:, None, None] & computes[None, :, None] & deals[None, None, :]
        allowed &= _prices(free) <= most.amount
    return allowed


def _addable(one: Numbers, other: Numbers) -> NDArray[np.bool_]:
    return np.asarray((one[:, None] == other) | (one[:, None] < 0) | (other < 0))


def _columns(free: Sequence[Live], own: bool) -> Iterable[Numbers]:
    """What is compared, the most important first; each of shape (peers, peers, peers), or such that it broadcasts."""
    if own:
        different = _operators(free).astype(np.int64)
        yield -(different[:, :, None] + different[:, None, :] + different[None, :, :])
    quarter = np.array([_quarter(live) for live in free])
    yield np.maximum(np.maximum(quarter[:, None, None], quarter[None, :, None]), quarter[None, None, :])
    way = ways(free)
    yield ROUNDS * way[:, :, None] + np.maximum(way[:, None, :], way[None, :, :])
    yield _prices(free)
    exact = np.array([int(1e6 * live.load) for live in free])
    yield exact[:, None, None] + exact[None, :, None] + exact[None, None, :]


def _operators(free: Sequence[Live]) -> NDArray[np.bool_]:
    names = np.array([live.member.operator for live in free])
    return np.asarray(names[:, None] != names)


def _prices(free: Sequence[Live]) -> Numbers:
    compute = np.array([live.quote.compute for live in free])
    dealer = np.array([live.quote.dealer for live in free])
    return np.asarray(compute[:, None, None] + compute[None, :, None] + dealer[None, None, :])


def ways(free: Sequence[Live]) -> Numbers:
    """(peers, peers): milliseconds between each two, rounded as the head of this file says."""
    places = {live.member.peer_id: place for place, live in enumerate(free)}
    found = np.zeros((len(free), len(free)), np.int64)
    for place, live in enumerate(free):
        for peer_id, microseconds in live.status.round_trips.items():
            other = places.get(peer_id)
            if other is not None:
                found[place, other] = _rounded(microseconds)
    found = np.maximum(found, found.T)
    return np.asarray(np.where(found == 0, UNKNOWN_MS, found))


def _rounded(microseconds: int) -> int:
    milliseconds = max(NEAR_MS, -(-microseconds // 1000))
    return 1 << (milliseconds - 1).bit_length()


def _quarter(live: Live) -> int:
    return int(4 * live.load)


# Refusals ------------------------------------------------------------------------------------------------------------


def _too_few(holders: Sequence[Live], allowed: Sequence[Live], seats: int, own: bool, wishes: Wishes) -> RefusedError:
    busy = sum(live.free <= 0 for live in allowed)
    left_out = sum(live.member.peer_id in wishes.without for live in allowed)
    rule = "" if own else " of three different operators"
    served = f"{len(holders)} serve the model"
    if len(allowed) < len(holders):
        served += f", {len(holders) - len(allowed)} of them of operators not asked for"
    return RefusedError(
        "coordinator",
        f"needs three free peers{rule}, found {seats} ({served}, {busy} busy, {left_out} just failed); "
        "try again later or add peers",
    )


def _too_dear(free: Sequence[Live], own: bool, most: Price | None) -> RefusedError:
    """All rules but the price can be met."""
    if most is not None:
        allowed = _allowed(free, own, Price(_ANY_AMOUNT, most.currency))
        if allowed.any():
            least = Price(int(_prices(free)[allowed].min()), most.currency)
            return RefusedError(
                "coordinator",
                f"the cheapest three peers for this cost {least} per million tokens, the client's maximum is "
                f"{most.decimal}; raise it or try again later",
            )
    there = ", ".join(sorted({live.quote.currency for live in free}))
    wanted = f"{most.currency}, the client's currency" if most is not None else "the same currency"
    return RefusedError("coordinator", f"no three peers for this take {wanted} (quoted here: {there})")
