"""A peer's own price list: signed quotes, made anew before they run out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..errors import ConfigError
from ..quotes import Quote, parse_amount, quote_hash
from ..signed import Signed
from .identity import Identity

VALID_SECONDS = 3600
DEFAULT_CURRENCY = "EUR"


class Quoting:
    """Always has a quote that holds for half of `VALID_SECONDS` at least. For several threads."""

    def __init__(
        self,
        identity: Identity,
        compute: int = 0,
        dealer: int = 0,
        currency: str = DEFAULT_CURRENCY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prices in millionths of a unit of `currency` for a million tokens. Raises UsageError for such as cannot be."""
        self._identity = identity
        self._prices = (currency, compute, dealer)
        self._clock = clock
        self._lock = threading.Lock()
        self._quote, self._signed = self._made(int(clock()))
        self._accepted = {quote_hash(self._signed): self._quote}

    @classmethod
    def parsed(cls, identity: Identity, compute: str, dealer: str, currency: str) -> Quoting:
        """From decimal text, units of currency for a million tokens. Raises ConfigError naming the option."""
        amounts = []
        for option, text in (("--price-compute", compute), ("--price-dealer", dealer)):
            try:
                amounts.append(parse_amount(text))
            except ValueError as error:
                raise ConfigError(f"{option} {error}") from None
        if not (len(currency) == 3 and currency.isascii() and currency.isupper()):
            raise ConfigError(f"--currency is {currency[:10]!r}, not three capital letters such as EUR")
        return cls(identity, amounts[0], amounts[1], currency)

    def current(self) -> Signed:
        """The quote to show now."""
        now = int(self._clock())
        with self._lock:
            if not self._quote.made <= now <= self._quote.expires - VALID_SECONDS // 2:
                self._quote, self._signed = self._made(now)
                self._accepted = {key: quote for key, quote in self._accepted.items() if now <= quote.expires}
                self._accepted[quote_hash(self._signed)] = self._quote
            return self._signed

    def holds(self, called: str) -> bool:
        """Whether this peer takes a seat for the quote of this hash: the one shown now, or shown before and not run out."""
        self.current()
        with self._lock:
            quote = self._accepted.get(called)
        return quote is not None and self._clock() <= quote.expires

    def _made(self, now: int) -> tuple[Quote, Signed]:
        currency, compute, dealer = self._prices
        quote = Quote(
            context=Quote.CONTEXT,
            peer_id=self._identity.peer_id,
            currency=currency,
            compute=compute,
            dealer=dealer,
            made=now,
            expires=now + VALID_SECONDS,
        )
        return quote, self._identity.sign(quote)
