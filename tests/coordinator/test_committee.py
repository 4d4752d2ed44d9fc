"""Committees from tables of peers: every rule holds, and by all triples one after another there is no better one."""

from __future__ import annotations

import dataclasses
import itertools
import random
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.coordinator.committee import CANDIDATES, ROUNDS, UNKNOWN_MS, Wishes, candidates, choose, ways
from tacit.coordinator.registry import Live
from tacit.errors import RefusedError
from tacit.members import Member
from tacit.party.identity import Identity
from tacit.party.quoting import Quoting
from tacit.quotes import Price, Quote, committee_price, within
from tacit.wire import PeerStatus

SIGNED = Quoting(Identity.create()).current()  # the registry checks signatures, not this


def peer_id(number: int) -> str:
    return f"peer{number}".ljust(43, "A")


@dataclasses.dataclass(frozen=True)
class Row:
    """A peer of a table."""

    operator: str
    sessions: int = 0
    compute: int = 0
    dealer: int = 0
    currency: str = "EUR"
    ways: tuple[tuple[int, int], ...] = ()  # (number of a peer, microseconds)


def table(rows: list[Row]) -> list[Live]:
    found = []
    for number, row in enumerate(rows):
        status = PeerStatus(
            peer_id=peer_id(number),
            version="0.1.0",
            models=(),
            sessions=row.sessions,
            max_sessions=8,
            quote=SIGNED,
            round_trips={peer_id(other): value for other, value in row.ways},
            clock=0,
            load=0,
            memory=0,
        )
        quote = Quote(Quote.CONTEXT, peer_id(number), row.currency, row.compute, row.dealer, 0, 1)
        found.append(Live(Member(f"peer-{number}", row.operator, peer_id(number)), status, 0.0, 0.001, quote))
    return found


def way(one: Live, other: Live) -> int:
    """Milliseconds, by the words at the head of committee.py."""
    told = [
        a.status.round_trips[b.member.peer_id]
        for a, b in ((one, other), (other, one))
        if b.member.peer_id in a.status.round_trips
    ]
    step = 4
    while told and step * 1000 < max(told):
        step *= 2
    return step if told else UNKNOWN_MS


def cost(triple: tuple[Live, Live, Live], own: bool) -> tuple[int, ...] | None:
    """What the table compares, computed for one triple; None if it must not be chosen."""
    first, second, dealer = triple
    operators = len({live.member.operator for live in triple})
    if operators < 3 and not own:
        return None
    price = committee_price((first.quote, second.quote, dealer.quote))
    if price is None:
        return None
    different = sum(a.member.operator != b.member.operator for a, b in itertools.combinations(triple, 2))
    return (
        -different if own else 0,
        max(int(4 * live.load) for live in triple),
        ROUNDS * way(first, second) + max(way(first, dealer), way(second, dealer)),
        price.amount,
        sum(live.status.sessions for live in triple),
    )


def best(peers: list[Live], own: bool, wishes: Wishes) -> tuple[int, ...] | None:
    free = [
        live
        for live in peers
        if live.free > 0
        and live.member.peer_id not in wishes.without
        and (not wishes.operators or live.member.operator in wishes.operators)
    ]
    found = []
    for triple in itertools.permutations(free, 3):
        worth = cost(triple, own)
        price = committee_price((triple[0].quote, triple[1].quote, triple[2].quote))
        if worth is not None and price is not None and within(price, wishes.most):
            found.append(worth)
    return min(found, default=None)


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    count = draw(st.integers(3, 8))
    milliseconds = st.sampled_from([100, 2100, 3900, 4100, 7900, 8100, 30_000, 150_000, 9_000_000])
    others = st.dictionaries(st.integers(0, 9), milliseconds, max_size=8)
    row = st.builds(
        Row,
        operator=st.sampled_from("ABCD"),
        sessions=st.integers(0, 8),
        compute=st.sampled_from([0, 1, 1_500_000]),
        dealer=st.sampled_from([0, 2, 700_000]),
        currency=st.sampled_from(["EUR", "EUR", "USD"]),
        ways=others.map(lambda found: tuple(found.items())),
    )
    return draw(st.lists(row, min_size=count, max_size=count))


wanted = st.builds(
    Wishes,
    without=st.frozensets(st.integers(0, 7).map(peer_id), max_size=2),
    operators=st.sampled_from([frozenset(), frozenset(), frozenset("ABC")]),
    most=st.sampled_from([None, None, Price(0, "EUR"), Price(3_000_000, "EUR"), Price(2, "USD")]),
)


@settings(max_examples=200, deadline=None)
@given(tables(), st.booleans(), wanted)
def test_every_rule_holds_and_no_triple_is_better(rows: list[Row], own: bool, wishes: Wishes) -> None:
    peers = table(rows)
    expected = best(peers, own, wishes)
    if expected is None:
        with pytest.raises(RefusedError):
            choose(peers, own, wishes)
        return
    found = choose(peers, own, wishes)
    assert len({live.member.peer_id for live in found}) == 3
    assert all(live.free > 0 for live in found)
    assert not {live.member.peer_id for live in found} & wishes.without
    assert not wishes.operators or {live.member.operator for live in found} <= wishes.operators
    price = committee_price((found[0].quote, found[1].quote, found[2].quote))
    assert price is not None
    assert within(price, wishes.most)
    assert cost(found, own) == expected


def near(*pairs: tuple[int, int, int]) -> dict[int, tuple[tuple[int, int], ...]]:
    """Both ends of each way know it."""
    found: dict[int, list[tuple[int, int]]] = {}
    for one, other, microseconds in pairs:
        found.setdefault(one, []).append((other, microseconds))
        found.setdefault(other, []).append((one, microseconds))
    return {number: tuple(ways) for number, ways in found.items()}


def test_the_two_nearest_compute_and_the_third_deals() -> None:
    known = near((0, 1, 1_000), (0, 2, 40_000), (1, 2, 40_000))
    peers = table([Row(operator, ways=known[number]) for number, operator in enumerate("ABC")])
    drawn = Counter(tuple(live.member.name for live in choose(peers, own=False)) for _ in range(60))
    assert set(drawn) == {("peer-0", "peer-1", "peer-2"), ("peer-1", "peer-0", "peer-2")}


def test_a_near_pair_is_worth_a_far_dealer_but_not_a_busy_peer() -> None:
    known = near((0, 1, 1_000), (2, 3, 20_000), (0, 2, 90_000), (1, 2, 90_000), (0, 3, 90_000), (1, 3, 90_000))
    rows = [Row("ABCD"[number], ways=known[number]) for number in range(4)]
    assert {live.member.name for live in choose(table(rows), own=False)[:2]} == {"peer-0", "peer-1"}
    rows[0] = dataclasses.replace(rows[0], sessions=2)
    assert "peer-0" not in {live.member.name for live in choose(table(rows), own=False)}


def test_noise_does_not_decide_and_price_does() -> None:
    known = near((0, 1, 3_700), (0, 2, 400), (1, 2, 1_100), (0, 3, 900), (1, 3, 300), (2, 3, 1_500))
    rows = [Row("ABCD"[number], compute=5, dealer=5, ways=known[number]) for number in range(4)]
    drawn = {live.member.name for _ in range(60) for live in choose(table(rows), own=False)}
    assert len(drawn) == 4
    rows[2] = dataclasses.replace(rows[2], compute=9, dealer=1)
    for _ in range(20):
        assert choose(table(rows), own=False)[2].member.name == "peer-2"


def test_a_peer_that_nobody_has_measured_is_last_but_not_excluded() -> None:
    known = near((0, 1, 9_000_000), (0, 2, 9_000_000), (1, 2, 9_000_000))
    rows = [Row("ABCD"[number], ways=known.get(number, ())) for number in range(4)]
    for _ in range(20):
        assert "peer-3" not in {live.member.name for live in choose(table(rows), own=False)}
    rows[0] = dataclasses.replace(rows[0], sessions=8)
    assert "peer-3" in {live.member.name for live in choose(table(rows), own=False)}


def test_nobody_looks_near_by_its_word_alone() -> None:
    peers = table([Row("A", ways=((1, 100),)), Row("B", ways=((0, 80_000),)), Row("C")])
    assert ways(peers)[0, 1] == ways(peers)[1, 0] == 128
    assert ways(peers)[0, 2] == UNKNOWN_MS


def test_what_is_too_dear_is_refused_with_both_figures() -> None:
    peers = table([Row(operator, compute=1_500_000, dealer=200_000) for operator in "ABC"])
    with pytest.raises(RefusedError, match=r"cost 3\.20 EUR per million tokens, the client's maximum is 3\.00"):
        choose(peers, False, Wishes(most=Price.parse("3 EUR")))
    assert choose(peers, False, Wishes(most=Price.parse("3.2 EUR")))
    with pytest.raises(RefusedError, match=r"take USD, the client's currency \(quoted here: EUR\)"):
        choose(peers, False, Wishes(most=Price.parse("9 USD")))


def test_what_is_free_goes_with_every_currency() -> None:
    rows = [Row("A", currency="USD"), *(Row(operator, compute=7, dealer=5, currency="CHF") for operator in "BC")]
    found = choose(table(rows), False, Wishes(most=Price(12, "CHF")))
    assert found[2].member.name != "peer-0"  # 7 + 5 with it as a compute peer, 7 + 7 with it as the dealer
    rows[0] = dataclasses.replace(rows[0], compute=1, dealer=1)
    with pytest.raises(RefusedError, match="take the same currency"):
        choose(table(rows), False)


def many(count: int, operators: int) -> list[Row]:
    draw = random.Random(7)
    return [
        Row(
            f"operator {number % operators}",
            draw.randrange(0, 6),
            draw.randrange(1_000, 9_000),
            draw.randrange(1_000, 9_000),
            ways=tuple((draw.randrange(count), draw.randrange(500, 90_000)) for _ in range(60)),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("operators", [3, 40, 500])
def test_of_many_peers_some_are_looked_at_and_the_cheapest_committee_among_them(operators: int) -> None:
    rows = many(500, operators)
    peers = table(rows)
    computing = sorted(peers, key=lambda live: live.quote.compute)
    least = min(
        first.quote.compute + second.quote.compute + dealer.quote.dealer
        for first, second in itertools.combinations(computing[:40], 2)
        for dealer in sorted(peers, key=lambda live: live.quote.dealer)[:40]
        if len({live.member.operator for live in (first, second, dealer)}) == 3
    )
    assert len(candidates(peers, False, Price(1, "EUR"))) == CANDIDATES
    for _ in range(5):
        found = choose(peers, False, Wishes(most=Price(least, "EUR")))
        assert found[0].quote.compute + found[1].quote.compute + found[2].quote.dealer == least
    with pytest.raises(RefusedError, match="the client's maximum"):
        choose(peers, False, Wishes(most=Price(least - 1, "EUR")))
    assert max(live.status.sessions for live in choose(peers, own=False)) <= 1


def test_of_many_peers_neighbours_are_looked_at() -> None:
    """Every peer has one neighbour of another operator: some of these pairs are found, though few peers are looked at."""
    rows = [Row(f"operator {number}", ways=((number ^ 1, 500),)) for number in range(1000)]
    first, second, _ = choose(table(rows), own=False)
    assert second.member.peer_id in first.status.round_trips


def test_the_work_is_bounded() -> None:
    peers = table(many(2000, 700))
    choose(peers, own=False)
    began = time.process_time()
    for _ in range(5):
        choose(peers, False, Wishes(most=Price.parse("9 EUR")))
    assert (time.process_time() - began) / 5 < 0.5  # 0.03 s on a quiet machine
