"""An answer that outlives its peers: when a session breaks, another committee goes on from the tokens the client holds.

| what happens | what the client does |
| --- | --- |
| a peer dies, hangs, sends nonsense, or is reported to | leaves it out, asks for three others, sends all tokens so far anew |
| it cannot be told which peer it was | leaves all three out, or, where that leaves too few, none |
| the coordinator cannot be reached just then | asks again for PATIENCE seconds |
| peers are shut down, and the coordinator is gone for good | an error that names the coordinator |
| nobody is left, or the policy's number of resumes is used up | the error of the loss, with the reason |
| the coordinator proposes somebody it must not | IdentityError at once, nothing is sent |

Nothing is carried over but the tokens: session id, CURVE keys and token keys are fresh, because a peer may come back in
another role. The most that the client pays holds for every committee. The sampler lives with the answer, so the text is
what an undisturbed session would have given.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import IdentityError, NetworkError, PeerError, PeerLost, RefusedError, TacitError
from ..quotes import Charge
from ..receipts import Receipt
from ..sizes import Sizes
from ..wire import SHUTTING_DOWN
from .connect import Opener, Seated
from .feeds import Feed, steps
from .generation import Step, StepCost
from .policy import Policy
from .results import Resume
from .session import PrivateSession

log = logging.getLogger("tacit.client.resume")

PATIENCE = 5.0  # seconds
_PAUSE = 0.2

Heard = Callable[[Resume], None]
Progress = Callable[[int, int], None]  # tokens done, tokens in all


class ResumingSession:
    """A `Runner` over one session after another. One thread."""

    def __init__(
        self,
        opener: Opener,
        policy: Policy,
        sizes: Sizes,
        heard: Heard = lambda resume: None,
        progress: Progress = lambda done, total: None,
    ) -> None:
        """Opens the first session. `heard` is told of every resume; `progress` of tokens that are through, where a step has
        more than go in at once. Raises as `Opener.seat` and `Opener.dial` do."""
        self.resumes: list[Resume] = []
        self.receipts: tuple[Receipt, ...] = ()
        self._opener = opener
        self._policy = policy
        self._heard = heard
        self._progress = progress
        self._sizes = sizes
        self._held: dict[int, list[int]] = {}  # by slot
        self._pads: dict[int, int] = {}
        self._later = 0  # tokens fed after the first step
        self._without: set[str] = set()
        self._losses = 0
        self._session: PrivateSession | None = None
        self._seated = opener.seat(sizes, policy.first_choice())
        self._operators = {seat.operator for seat in self._seated.seats}
        try:
            self._session = opener.dial(self._seated)
        except (PeerError, NetworkError) as error:
            self._resume(error)

    @property
    def peers(self) -> tuple[str, ...]:
        return self._opener.names(self._seated)

    @property
    def operators(self) -> tuple[str, ...]:
        """Of these peers."""
        return tuple(seat.operator for seat in self._seated.seats)

    @property
    def charge(self) -> Charge | None:
        """Of the session that gave the last token: for one that broke nobody signed anything, so nothing is owed."""
        return None if self._session is None else self._session.charge

    def step(self, feeds: Sequence[Feed], ahead: int, forget: Sequence[int] = ()) -> Step:
        """Logits after the last token of each feed, from whichever committee can give them. Raises the loss that could not be
        mended, UsageError for feeds that a session of these sizes has no room for."""
        pieces = steps(feeds, self._sizes)
        if self._held:
            self._later += sum(len(feed.tokens) for feed in feeds)
        held = self._held
        for feed in sorted(feeds, key=lambda feed: feed.source == feed.slot):  # forks are of what was there before
            if feed.source != feed.slot:
                held[feed.slot] = held[feed.source][: feed.start]
            tokens = held.setdefault(feed.slot, [])
            tokens[feed.start :] = feed.tokens
            self._pads[feed.slot] = feed.pad
        for slot in forget:
            if all(feed.slot != slot for feed in feeds):
                held.pop(slot, None)
        while True:
            try:
                return self._taken(pieces, len(feeds), ahead, forget)
            except (PeerError, NetworkError) as error:
                self._resume(error)
                # All that is held goes in anew; what belongs to these feeds comes last, and is what is asked for.
                slots = [feed.slot for feed in feeds]
                others = [slot for slot in held if slot not in slots]
                again = [Feed(slot, slot, 0, tuple(held[slot]), self._pads[slot]) for slot in others + slots]
                pieces = [
                    [(number - len(others), feed) for number, feed in piece] for piece in steps(again, self._sizes)
                ]
                forget = ()

    def _taken(self, pieces: list[list[tuple[int, Feed]]], count: int, ahead: int, forget: Sequence[int]) -> Step:
        """Take the pieces one after another; the logits after the last piece of each feed from 0 to count - 1."""
        if len(pieces) == 1 and [number for number, _ in pieces[0]] == list(range(count)):
            return self._open.step([feed for _, feed in pieces[0]], ahead, forget)
        found: dict[int, NDArray[np.float64]] = {}
        total, done, cost = sum(len(feed.tokens) for piece in pieces for _, feed in piece), 0, StepCost()
        for place, piece in enumerate(pieces):
            last = place == len(pieces) - 1
            step = self._open.step([feed for _, feed in piece], ahead if last else 0, () if place else forget)
            cost = cost.plus(step.cost)
            found |= {number: step.logits[row] for row, (number, _) in enumerate(piece)}
            done += sum(len(feed.tokens) for _, feed in piece)
            if not last:
                self._progress(done, total)
        return Step(np.stack([found[number] for number in range(count)]), cost)

    def alive(self) -> bool:
        """Whether the session goes on, or ended while nobody used it: its peers keep it for a time only."""
        return self._session is not None and self._session.alive()

    def finish(self) -> None:
        """Part in order. A peer that is lost now takes nothing with it: the answer is complete."""
        try:
            self._open.finish()
            self.receipts = self._open.receipts
        except NetworkError as error:
            log.info("a session ended without its account: %s", error)
            self._open.abort()

    def abort(self) -> None:
        if self._session is not None:
            self._session.abort()

    @property
    def _open(self) -> PrivateSession:
        if self._session is None:
            raise NetworkError("no session is open")
        return self._session

    def _resume(self, error: TacitError) -> None:
        """Open a session on another committee, or raise `error` with the reason why that cannot be."""
        started = time.perf_counter()
        if self._held:
            self._sizes = self._sizes.holding([len(tokens) for tokens in self._held.values()])
        while True:
            self.abort()
            self._session = None
            if isinstance(error, IdentityError) or self._policy.max_resumes == 0:
                raise error
            self._losses += 1
            if self._losses > self._policy.max_resumes:
                raise _with_reason(error, f"{self._policy.max_resumes} other committees were tried already")
            lost = self._seated
            culprit = _culprit(error, self._opener.names(lost))
            if culprit is not None:
                self._without.add(lost.seats[culprit].peer_id)
            try:
                self._seated = self._seat(lost if culprit is None else None)
            except IdentityError:
                raise
            except TacitError as refusal:
                raise _ending(error, refusal, self._explained(refusal)) from refusal
            try:
                self._session = self._opener.dial(self._seated)
                break
            except (PeerError, NetworkError) as next_error:
                error = next_error
        name = "" if culprit is None else self._opener.names(lost)[culprit]
        resume = Resume(
            self._later,
            name,
            str(error),
            self.peers,
            time.perf_counter() - started,
        )
        self.resumes.append(resume)
        log.info("%s; going on with %s", error, ", ".join(self.peers))
        self._heard(resume)

    def _seat(self, doubtful: Seated | None) -> Seated:
        """Three peers; where one of `doubtful` is at fault, others than these if there are any."""
        operators = self._policy.later_choice(self._operators, self._opener.pinned)
        if doubtful is not None:
            others = self._without | {seat.peer_id for seat in doubtful.seats}
            try:
                return self._opener.seat(self._sizes, operators, others)
            except RefusedError:
                log.info("no committee without all of the three peers, one of which failed")
        deadline = time.monotonic() + PATIENCE
        away: TacitError | None = None
        while True:
            try:
                return self._opener.seat(self._sizes, operators, self._without)
            except IdentityError:
                raise
            except TacitError as error:
                # A coordinator that was just started again does not know its peers yet, and says that there are none.
                if isinstance(error, NetworkError):
                    away = error
                if away is None or time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE)

    def _explained(self, refusal: TacitError) -> str:
        words = str(refusal)
        if self._policy.same_operators and not self._opener.pinned.own and len(self._operators) == 3:
            words += f" (this client goes on with peers of {', '.join(sorted(self._operators))} only)"
        return words


def _culprit(error: TacitError, names: Sequence[str]) -> int | None:
    """The role of the peer that an error is about; None if it names none of them."""
    # Whoever waited in vain reports that as a fault of its own, with the silent one first in its reason.
    said = [error.reason, error.peer] if isinstance(error, PeerError | PeerLost) else [str(error)]
    for text in said:
        for role, name in enumerate(names):
            if text.startswith(name):
                return role
    return None


def _ending(error: TacitError, refusal: TacitError, why: str) -> TacitError:
    """The loss, unless its peer was told to end and the coordinator is gone too: then that is what is wrong."""
    told_to_end = isinstance(error, PeerLost) and error.reason.startswith(SHUTTING_DOWN)
    if told_to_end and isinstance(refusal, NetworkError) and not isinstance(refusal, PeerLost):
        return NetworkError(f"{refusal}; the answer could not go on without it: {error}")
    return _with_reason(error, why)


def _with_reason(error: TacitError, why: str) -> TacitError:
    words = f"the answer could not go on: {why}"
    if isinstance(error, PeerError | PeerLost):
        return type(error)(error.peer, f"{error.reason}; {words}")
    return type(error)(f"{error}; {words}")
