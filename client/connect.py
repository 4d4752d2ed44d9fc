"""From a request to an open private session: ask the coordinator, check the peers' words, dial both compute peers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass

import zmq

from ..errors import IdentityError, TacitError
from ..livenetwork import LiveNetwork
from ..members import Pinned
from ..quotes import Price, Quotes
from ..sizes import Sizes
from ..tracing.recorder import Traces, clock
from ..transport import CurveKeys, LinkSettings, dial_peers
from ..wire import CLIENT, SessionRequest
from .answer import ModelFacts
from .directory import Directory
from .policy import check_choice
from .receipts import Auditor, Book
from .session import PrivateSession
from .strangers import Strangers
from .verify import Seats, check_quotes, check_seats


@dataclass(frozen=True, slots=True)
class Seated:
    """Three checked peers that wait for this client, which has told them nothing yet; what they quoted, and its price."""

    session: bytes
    keys: CurveKeys
    seats: Seats
    quotes: Quotes
    price: Price
    asked: int  # when, in nanoseconds of the monotonic clock


class Opener:
    """Opens sessions for one model. Every session has an id and keys of its own, made here and used once."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        directory: Directory,
        pinned: Pinned,
        model: ModelFacts,
        timeout: float,
        book: Book | None = None,
        most: Price | None = None,
        traces: Traces | None = None,
        network: LiveNetwork | None = None,
        padded: bool = False,
    ) -> None:
        """A step may take `timeout` seconds. `book`: where receipts are kept; they are checked in any case. `most`: what
        any committee, the first or a later one, may cost. `traces`: where to leave records of what sessions do.
        `network`: what shapes the links, as it does at the peers. `padded`: prompts' lengths are hidden."""
        self.pinned = pinned
        self._context = context
        self._directory = directory
        self._model = model
        self._timeout = timeout
        self._book = book
        self._most = most
        self._traces = traces
        self._network = network
        self._padded = padded
        self._strangers = Strangers(directory, pinned)

    def seat(
        self,
        sizes: Sizes,
        operators: Collection[str] = (),
        without: Collection[str] = (),
    ) -> Seated:
        """Peers for a session: of these operators (empty: any), none of the ids in `without`.

        Raises RefusedError or UsageError (the coordinator has none), NetworkError (no coordinator), IdentityError or
        PeerError (what it proposed is not as it should be).
        """
        asked = clock()
        without = self._strangers.ruled_out(without)
        keys = CurveKeys.fresh()
        request = SessionRequest(
            session=secrets.token_hex(16),
            client_key=keys.public,
            model=self._model.name,
            protocol=self._model.protocol,
            sizes=sizes,
            operators=tuple(sorted(operators)),
            without=tuple(sorted(without)),
            max_price=self._most.amount if self._most else 0,
            currency=self._most.currency if self._most else "",
            padded=self._padded,
        )
        reply = self._directory.open_session(request)
        try:
            seats = check_seats(request, reply, self.pinned, self._model.manifest_hash)
        except IdentityError as error:
            raise self._strangers.explained(error, reply) from None
        check_choice(seats, self.pinned, operators, without)
        price = check_quotes(request, reply, seats, self.pinned, time.time())
        return Seated(bytes.fromhex(request.session), keys, seats, reply.quotes, price, asked)

    def dial(self, seated: Seated) -> PrivateSession:
        """Open the links to both compute peers. Raises PeerLost, PeerError or NetworkError naming the peer."""
        recorder = None
        if self._traces is not None:
            model, protocol = self._model.name, self._model.protocol
            recorder = self._traces.open(seated.session, CLIENT, name="client", model=model, protocol=protocol)
        if recorder is not None:
            recorder.span("seating", seated.asked)
        since, settings = clock(), LinkSettings(timeout=self._timeout)
        try:
            links = dial_peers(self._context, seated.seats, self.pinned, seated.keys, settings, recorder, self._network)
        except TacitError as error:
            if recorder is not None:
                recorder.close(type(error).__name__)
            raise
        if recorder is not None:
            recorder.span("opening", since)
        return PrivateSession(
            links.circle,
            (links.peer0, links.peer1),
            session=seated.session,
            peers=self.names(seated),
            vocab=self._model.vocab,
            layers=self._model.layers,
            revealed=self._model.revealed,
            timeout=self._timeout,
            auditor=Auditor(seated.seats, seated.quotes, self.pinned, self._book),
            price=seated.price,
            recorder=recorder,
            padded=self._padded,
        )

    def names(self, seated: Seated) -> tuple[str, ...]:
        """The peers as messages show them, in role order."""
        return tuple(self.pinned.name_of(seat.peer_id) for seat in seated.seats)
