"""Prices: exact, in whole numbers, and nobody's but the signer's."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tacit.errors import ConfigError, IdentityError, PeerError, UsageError
from tacit.party.identity import Identity
from tacit.party.quoting import VALID_SECONDS, Quoting
from tacit.quotes import (
    CLOCKS_DIFFER,
    Charge,
    Price,
    Quote,
    committee_price,
    decimal,
    parse_amount,
    quote_hash,
    read_quote,
    within,
)

WHO, OTHER = Identity.create(), Identity.create()


@given(st.integers(0, 10**15 - 1))
def test_amounts_are_written_and_read_exactly(amount: int) -> None:
    assert parse_amount(decimal(amount, 6)) == amount
    assert Fraction(decimal(amount, 6)) == Fraction(amount, 10**6)


@given(st.integers(0, 10**15), st.integers(0, 2**21))
def test_a_charge_is_exact(amount: int, tokens: int) -> None:
    charge = Charge(Price(amount, "EUR"), tokens)
    assert Fraction(charge.cost) == Fraction(amount, 10**6) * Fraction(tokens, 10**6)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("3 EUR", 3_000_000), ("0.25 EUR", 250_000), ("0.000001 EUR", 1), (" 12.50  EUR ", 12_500_000), ("0 EUR", 0)],
)
def test_prices_as_people_write_them(text: str, amount: int) -> None:
    assert Price.parse(text) == Price(amount, "EUR")


@pytest.mark.parametrize(
    "text",
    ["", "3", "EUR", "3 eur", "3 EURO", "-3 EUR", "3,5 EUR", "1e3 EUR", "0.0000001 EUR", ".5 EUR", "٣ EUR", "1 2 EUR"],
)
def test_what_is_no_price(text: str) -> None:
    with pytest.raises(UsageError, match="is not a price"):
        Price.parse(text)


def test_shown_with_two_places_or_more() -> None:
    assert [str(Price(amount, "EUR")) for amount in (0, 3_200_000, 1, 1_234_500)] == [
        "0.00 EUR", "3.20 EUR", "0.000001 EUR", "1.2345 EUR",
    ]  # fmt: skip
    assert Charge(Price(3_200_000, "EUR"), 4).cost == "0.0000128"


def quotes(*prices: tuple[int, int, str]) -> tuple[Quote, Quote, Quote]:
    first, second, third = (
        Quote(Quote.CONTEXT, WHO.peer_id, currency, compute, dealer, 0, 1) for compute, dealer, currency in prices
    )
    return first, second, third


def test_a_committees_price() -> None:
    assert committee_price(quotes((1, 50, "EUR"), (2, 50, "EUR"), (50, 4, "EUR"))) == Price(7, "EUR")
    assert committee_price(quotes((0, 9, "USD"), (2, 9, "EUR"), (9, 0, "CHF"))) == Price(2, "EUR")
    assert committee_price(quotes((1, 0, "USD"), (2, 0, "EUR"), (0, 0, "EUR"))) is None
    free = committee_price(quotes((0, 0, "USD"), (0, 0, "EUR"), (0, 0, "EUR")))
    assert free is not None
    assert within(free, Price(0, "CHF"))
    assert not within(Price(1, "EUR"), Price(9, "USD"))
    assert within(Price(9, "EUR"), None)


def test_a_peer_signs_anew_before_its_quote_runs_out_and_stands_by_the_last_one() -> None:
    now = [1_000_000.0]
    quoting = Quoting(WHO, 5, 7, "EUR", clock=lambda: now[0])
    first = quoting.current()
    assert quoting.current() is first
    now[0] += VALID_SECONDS / 2 + 1
    second = quoting.current()
    assert second != first
    assert quoting.holds(quote_hash(first))
    assert quoting.holds(quote_hash(second))
    now[0] += VALID_SECONDS / 2
    assert not quoting.holds(quote_hash(first))
    assert not quoting.holds("0" * 64)
    assert not quoting.holds(quote_hash(Quoting(WHO, 6, 7).current()))
    now[0] -= 10 * VALID_SECONDS  # the clock was put back: a quote of the future is of no use
    assert read_quote(quoting.current(), WHO.peer_id, "peer").valid(now[0])


def test_a_quote_is_the_signers_own() -> None:
    signed = Quoting(WHO, 5, 7).current()
    assert read_quote(signed, WHO.peer_id, "peer").compute == 5
    with pytest.raises(IdentityError, match="peer: the signature"):
        read_quote(signed, OTHER.peer_id, "peer")
    for_another = OTHER.sign(Quote.from_bytes(signed.payload, ""))
    with pytest.raises(IdentityError, match="peer: signed a quote for another peer"):
        read_quote(for_another, OTHER.peer_id, "peer")
    with pytest.raises(PeerError, match="malformed Quote"):
        read_quote(WHO.sign(signed), WHO.peer_id, "peer")


def test_clocks_may_differ_a_little() -> None:
    quote = Quote(Quote.CONTEXT, WHO.peer_id, "EUR", 1, 1, 1000, 2000)
    assert [quote.valid(now) for now in (1000 - CLOCKS_DIFFER - 1, 1000 - CLOCKS_DIFFER, 2000 + CLOCKS_DIFFER)] == [
        False, True, True,
    ]  # fmt: skip
    assert not quote.valid(2001 + CLOCKS_DIFFER)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("1,5", "0", "EUR"), "--price-compute .*1,5"),
        (("0", "-1", "EUR"), "--price-dealer"),
        (("0", "0", "euro"), "--currency"),
    ],
)
def test_an_option_that_is_wrong_is_named(words: tuple[str, str, str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Quoting.parsed(WHO, *words)
