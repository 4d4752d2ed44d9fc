"""What an answer costs: known before it begins, bound into what the peers sign, and found out where somebody cheats."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest
import tacit
from committee import Committee
from tacit.client.directory import Directory
from tacit.client.ledger import run_receipts
from tacit.client.receipts import Book
from tacit.client.verify import check_quotes
from tacit.errors import IdentityError, PeerError, RefusedError, UsageError
from tacit.members import CoordinatorEntry, Roster, RosterMember
from tacit.party.identity import Identity
from tacit.party.quoting import VALID_SECONDS, Quoting
from tacit.party.session import Seat
from tacit.quotes import Price, Quote, Quotes, quote_hash
from tacit.signed import Signed
from tacit.sizes import Sizes
from tacit.wire import SessionReply, SessionRequest, Statement
from test_client import free_port
from toy_cluster import ToyCluster
from toy_model import BOS

NOW = time.time()
WHO = [Identity.create() for _ in range(4)]
IDS = (WHO[0].peer_id, WHO[1].peer_id, WHO[2].peer_id)
ROSTER = Roster(
    "test",
    False,
    CoordinatorEntry("coordinator", "http://127.0.0.1:1", WHO[3].peer_id, WHO[3].mesh_key),
    tuple(
        RosterMember(f"peer-{n}", "ABC"[n], WHO[n].peer_id, f"tcp://127.0.0.1:{9000 + n}", WHO[n].mesh_key)
        for n in range(3)
    ),
)
GOOD = tuple(Quoting(who, 1_500_000, 200_000).current() for who in WHO[:3])


def quote(role: int, signer: int | None = None, **changes: object) -> Signed:
    """Peer `role`'s quote with other contents, signed by itself or by `signer`."""
    return WHO[role if signer is None else signer].sign(replace(Quote.from_bytes(GOOD[role].payload, ""), **changes))


def check(
    shown: tuple[Signed, ...] = GOOD,
    agreed: tuple[tuple[Signed, ...], ...] | None = None,
    most: str | None = None,
    now: float = NOW,
) -> Price:
    """`shown`: what the coordinator sends. `agreed`: for each peer, the three quotes that its statement names."""
    limit = Price.parse(most) if most else None
    request = SessionRequest(
        "ab" * 16,
        "k" * 40,
        "stories",
        "pair",
        Sizes.of([5], 9),
        (),
        (),
        limit.amount if limit else 0,
        limit.currency if limit else "",
    )
    seats = []
    for role, named in enumerate(agreed or (shown, shown, shown)):
        statement = Statement(
            Statement.CONTEXT, "ab" * 16, role, IDS[role], "ABC"[role], IDS, "stories", "pair", "c" * 64, "", "",
            "k" * 40, Sizes.of([5], 9), tuple(map(quote_hash, named)),
        )  # fmt: skip
        seats.append(statement)
    quotes: Quotes = (shown[0], shown[1], shown[2])
    return check_quotes(request, SessionReply("ab" * 16, quotes, quotes), tuple(seats), ROSTER, now)


def test_a_committee_at_its_price() -> None:
    assert check() == check(most="3.20 EUR") == Price(3_200_000, "EUR")
    with pytest.raises(IdentityError, match=r"coordinator .*costs 3\.20 EUR per million tokens, .* maximum is 3\.00"):
        check(most="3 EUR")
    with pytest.raises(IdentityError, match=r"coordinator .*the client's maximum is 9\.00"):
        check(most="9 USD")


CHEAPER = (GOOD[0], quote(1, compute=1), GOOD[2])


@pytest.mark.parametrize(
    ("shown", "agreed", "words"),
    [
        (CHEAPER, (GOOD, GOOD, GOOD), r"coordinator .*shows another quote of peer-1 .* than the one it took its seat for"),
        ((GOOD[0], GOOD[2], GOOD[1]), (GOOD, GOOD, GOOD), r"coordinator .*shows another quote of peer-1"),
        (GOOD, (GOOD, CHEAPER, GOOD), r"coordinator .*told peer-1 .*of other quotes than peer-0"),
        ((GOOD[0], GOOD[0], GOOD[2]), None, r"peer-1 .*the signature is not by peer"),
        ((GOOD[0], quote(1, signer=3), GOOD[2]), None, r"peer-1 .*the signature is not by peer"),
        ((GOOD[0], quote(0, signer=1), GOOD[2]), None, r"peer-1 .*signed a quote for another peer"),
        ((GOOD[0], replace(GOOD[1], payload=CHEAPER[1].payload), GOOD[2]), None, r"peer-1 .*the signature is not by"),
        ((GOOD[0], quote(1, currency="USD"), GOOD[2]), None, r"coordinator .*that want different currencies"),
        ((quote(0, expires=int(NOW) - 500), *GOOD[1:]), None, r"peer-0 .*its quote ran out [45]\d\d s ago"),
        ((quote(0, made=int(NOW) + 500), *GOOD[1:]), None, r"peer-0 .*its quote is not made yet"),
    ],
    ids=[
        "a cheaper one is shown", "two are exchanged", "the peers were told of different ones", "of another peer",
        "by a stranger", "for another peer", "changed", "of another currency", "run out", "of the future",
    ],
)  # fmt: skip
def test_a_quote_that_is_not_as_it_should_be_is_found_out(shown, agreed, words: str) -> None:
    with pytest.raises(PeerError, match=words):
        check(shown, agreed)


def test_quotes_run_out_with_some_patience_for_clocks() -> None:
    assert check(now=NOW + VALID_SECONDS + 60)
    with pytest.raises(PeerError, match=r"ran out 30[01] s ago"):
        check(now=NOW + VALID_SECONDS + 300)


# Real peers and a real coordinator -----------------------------------------------------------------------------------

PRICES = [("1.50", "0.20", "EUR")] * 3 + [("2", "0.70", "EUR")] * 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    found = ToyCluster(tmp_path_factory.mktemp("cluster"), free_port, own=False, operators="ABCABC", prices=PRICES)
    yield found
    found.close()


@pytest.fixture
def book(tmp_path, monkeypatch) -> Book:
    monkeypatch.setenv("TACIT_RECEIPTS", str(tmp_path))
    return Book()


def asked(monkeypatch: pytest.MonkeyPatch, change: Callable[[SessionReply], SessionReply] = lambda reply: reply):
    """The requests that reach the coordinator, whose replies `change` spoils."""
    found: list[SessionRequest] = []
    real = Directory.open_session

    def spy(self: Directory, request: SessionRequest) -> SessionReply:
        found.append(request)
        return change(real(self, request))

    monkeypatch.setattr(Directory, "open_session", spy)
    return found


def test_the_answer_says_what_it_cost_and_the_receipts_say_the_same(cluster, book, capsys) -> None:
    with tacit.Client(cluster.path, model="ids", policy=tacit.Policy(max_price="3.2 EUR")) as client:
        result = client.complete([BOS, 7], max_new_tokens=6)
    assert (result.usage.currency, result.usage.price_per_million) == ("EUR", "3.20")
    tokens = result.receipts[0].tokens
    assert tokens == 2 + result.receipts[0].steps - 1  # the last answered token is not fed back
    assert Fraction(result.usage.cost) == Fraction(32, 10) * tokens / 10**6
    assert result.to_dict()["usage"]["cost"] == result.usage.cost
    [kept] = book.read()
    assert kept.charge(kept.verified(cluster.roster)).cost == result.usage.cost
    run_receipts(last=1, cluster=cluster.path, as_json=True)
    assert json.loads(capsys.readouterr().out)["cost"] == f"{result.usage.cost} EUR"


def test_what_was_kept_with_other_quotes_is_found_out(cluster, book) -> None:
    with tacit.Client(cluster.path, model="ids") as client:
        client.complete([BOS, 7], max_new_tokens=2)
    [kept] = book.read()
    with pytest.raises(PeerError, match="the quote that was kept is not the one in the receipts"):
        replace(kept, quotes=(kept.quotes[1], kept.quotes[0], kept.quotes[2])).verified()


def test_the_cheapest_committee_is_refused_if_it_is_too_dear(cluster) -> None:
    with (
        tacit.Client(cluster.path, model="ids", policy=tacit.Policy(max_price="3 EUR")) as client,
        pytest.raises(RefusedError, match=r"cost 3\.20 EUR per million tokens, the client's maximum is 3\.00"),
    ):
        client.complete([BOS, 7])
    with pytest.raises(UsageError, match="'much' is not a price"):
        tacit.Policy(max_price="much")


def test_a_coordinator_that_heeds_no_maximum_is_found_out(cluster, monkeypatch) -> None:
    real = Directory.open_session
    monkeypatch.setattr(
        Directory, "open_session", lambda self, asked: real(self, replace(asked, currency="", max_price=0))
    )
    with (
        tacit.Client(cluster.path, model="ids", policy=tacit.Policy(max_price="3 EUR")) as client,
        pytest.raises(
            IdentityError, match=r"coordinator .*seated a committee that costs .*the client's maximum is 3\.00"
        ),
    ):
        client.complete([BOS, 7])


def test_a_coordinator_that_shows_a_quote_changed_is_found_out(cluster, monkeypatch) -> None:
    def cheaper(reply: SessionReply) -> SessionReply:
        spoilt = replace(reply.quotes[0], payload=reply.quotes[0].payload.replace(b'"compute":', b'"compute":0'))
        return replace(reply, quotes=(spoilt, *reply.quotes[1:]))

    asked(monkeypatch, cheaper)
    with (
        tacit.Client(cluster.path, model="ids") as client,
        pytest.raises(PeerError, match=r"coordinator .*shows another quote of peer-"),
    ):
        client.complete([BOS, 7])


def test_a_peer_that_signs_for_more_than_it_quoted_is_found_out(cluster, monkeypatch) -> None:
    """At the end of the session it names another quote in its receipt than the one it sat down for."""
    real = Seat._receipt

    def dearer(self: Seat, tally) -> Signed:
        if self.offer.role == 1:
            self.offer = replace(self.offer, quotes=(self.offer.quotes[0], "e" * 64, self.offer.quotes[2]))
        return real(self, tally)

    monkeypatch.setattr(Seat, "_receipt", dearer)
    with tacit.Client(cluster.path, model="ids") as client, pytest.raises(PeerError, match="receipts: quotes differs"):
        client.complete([BOS, 7], max_new_tokens=2)


def test_a_resume_keeps_the_maximum(cluster, monkeypatch) -> None:
    requests = asked(monkeypatch)
    broken: list[bytes] = []
    real = Committee._answer

    def breaking(self: Committee, role: int, link, body: bytes) -> None:
        if role == 1 and len(self.seen[1].steps) == 3 and (not broken or self.session in broken):
            broken.append(self.session)
            threading.Timer(0.3, self._barrier.abort).start()
            raise RuntimeError("out of luck")
        real(self, role, link, body)

    monkeypatch.setattr(Committee, "_answer", breaking)
    with tacit.Client(cluster.path, model="ids", timeout=10, policy=tacit.Policy(max_price="4 EUR")) as client:
        result = client.complete([BOS, 7], max_new_tokens=8)
    assert len(result.resumes) == 1
    assert [(one.max_price, one.currency) for one in requests] == [(4_000_000, "EUR")] * 2
    assert result.usage.price_per_million in ("3.20", "3.70", "4.00")
    last = result.receipts[0]
    assert last.tokens == 9  # the tokens so far were a prompt to the second committee, which alone is paid
    assert Fraction(result.usage.cost) == Fraction(result.usage.price_per_million) * last.tokens / 10**6
