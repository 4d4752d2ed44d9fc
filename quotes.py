"""What an answer costs: prices as whole numbers, peers' signed quotes, and what three of them add up to.

| quantity | unit |
| --- | --- |
| `Price.amount`, `Quote.compute`, `Quote.dealer` | millionths of a unit of currency for a million tokens, bytes included |
| `Charge.cost` | units of currency, as exact decimal text |

A committee's price is the compute price of peers 0 and 1 and the dealer price of peer 2. What is free is free in every
currency; prices above zero add up only in one. Tokens charged for are those that went through the model: the prompt's, and
every answered token that was fed back for the next; a session that broke left no receipts, and nothing is charged for it. There is no
settlement: a quote is bound into what the peers sign (`wire.Statement`, `receipts.Receipt`), and shown.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import ClassVar

from .checks import is_amount, is_currency, is_peer_id, is_time
from .errors import IdentityError, UsageError
from .records import Check, Record, constant
from .signed import Signed

Quotes = tuple[Signed, Signed, Signed]
"""Of the three peers of a committee, in role order."""

CLOCKS_DIFFER = 120  # seconds by which a quote may seem to be out of date, or not yet made, on another machine
_MILLION = 1_000_000


@dataclass(frozen=True)
class Quote(Record):
    """A peer's word on what it takes for each kind of seat, from `made` until `expires` (seconds since the epoch)."""

    context: str
    peer_id: str
    currency: str
    compute: int
    dealer: int
    made: int
    expires: int

    CONTEXT: ClassVar[str] = "tacit/quote/1"
    CHECKS: ClassVar[dict[str, Check]] = {
        "context": constant(CONTEXT),
        "peer_id": is_peer_id,
        "currency": is_currency,
        "compute": is_amount,
        "dealer": is_amount,
        "made": is_time,
        "expires": is_time,
    }

    def amount(self, role: int) -> int:
        """For the seat of this role: 0 and 1 compute, 2 deals."""
        return self.dealer if role == 2 else self.compute

    def valid(self, now: float) -> bool:
        """Whether it holds at `now` (seconds since the epoch) by a clock that may be wrong by `CLOCKS_DIFFER`."""
        return self.made - CLOCKS_DIFFER <= now <= self.expires + CLOCKS_DIFFER


@dataclass(frozen=True, slots=True)
class Price:
    """For a million tokens; of a committee, or the most that a client pays."""

    amount: int
    currency: str

    @classmethod
    def parse(cls, text: str) -> Price:
        """From `3 EUR` or `0.25 EUR`. Raises UsageError."""
        number, _, currency = text.strip().partition(" ")
        try:
            return cls(parse_amount(number), is_currency(currency.strip()))
        except ValueError:
            raise UsageError(f"{text!r} is not a price: write an amount and a currency, as in '3 EUR'") from None

    @property
    def decimal(self) -> str:
        return decimal(self.amount, 6)

    def __str__(self) -> str:
        return f"{self.decimal} {self.currency}"


@dataclass(frozen=True, slots=True)
class Charge:
    """What a session costs by the quotes it was seated for."""

    price: Price
    tokens: int

    @property
    def cost(self) -> str:
        """In units of the price's currency, exact."""
        return decimal(self.price.amount * self.tokens, 12)


def parse_amount(text: str) -> int:
    """`0.25` -> 250000. Raises ValueError for anything but a decimal number of at most six places, below a billion."""
    found = re.fullmatch(r"([0-9]{1,9})(?:\.([0-9]{1,6}))?", text, re.ASCII)
    if found is None:
        raise ValueError(f"is not a decimal number of at most six places, from 0 to 999999999: {text[:30]!r}")
    whole, places = found.groups("")
    return int(whole) * _MILLION + int(places.ljust(6, "0"))


def decimal(value: int, places: int) -> str:
    """`value` / 10^places, exactly, with two places at least and no further zeros: 3200000, 6 -> 3.20."""
    whole, rest = divmod(value, 10**places)
    return f"{whole}.{str(rest).zfill(places).rstrip('0').ljust(2, '0')}"


def committee_price(quotes: tuple[Quote, Quote, Quote]) -> Price | None:
    """What the three take together, in role order; None if they want different currencies."""
    amounts = [quote.amount(role) for role, quote in enumerate(quotes)]
    currencies = {quote.currency for quote, amount in zip(quotes, amounts, strict=True) if amount}
    if len(currencies) > 1:
        return None
    return Price(sum(amounts), currencies.pop() if currencies else quotes[0].currency)


def within(price: Price, most: Price | None) -> bool:
    """Whether a client that pays at most `most` (None: anything) takes `price`."""
    return most is None or price.amount == 0 or (price.currency == most.currency and price.amount <= most.amount)


def quote_hash(signed: Signed) -> str:
    """What an offer, a statement and a receipt call a signed quote by: SHA-256 of its canonical bytes."""
    return hashlib.sha256(signed.to_bytes()).hexdigest()


def read_quote(signed: Signed, peer_id: str, name: str) -> Quote:
    """The quote in `signed`, if it is this peer's own. Raises IdentityError or PeerError naming `name`."""
    quote = Quote.from_bytes(signed.verified(peer_id, name), name)
    if quote.peer_id != peer_id:
        raise IdentityError(name, "signed a quote for another peer")
    return quote
