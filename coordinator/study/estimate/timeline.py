"""When everything of a session happens: dealer, lines and peers step by step, on cores that they may have to share.

The work of a step is cut into pieces, a place of the model or a part of one. The dealer makes a piece's correlations, each
line carries them, the peers take them, compute and open; the dealer is asked for a step when the peers begin the one
`ahead` of it (`party.engine`). Openings are simultaneous, so a round is one delay however many values it opens; the two
compute peers do the same at the same time and are one actor with two threads. Where more threads have something to do than
there are cores, each gets its share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

INFINITY = math.inf
_DONE = 1e-12  # seconds of work that are none


@dataclass(frozen=True, slots=True)
class Piece:
    """Seconds of one thread's work, and what is waited for and carried beside it."""

    deal: float  # at the dealer
    carry: float  # ZeroMQ's threads at both ends of the dealer's lines, all of them together
    line: float  # until both of the dealer's lines have carried its correlations, without delay
    compute: float  # at either compute peer
    wait: float  # rounds: delay, transfer, waking up


@dataclass(frozen=True, slots=True)
class Step:
    """One step's pieces; `before`: from the client's last token to the peers' start; `after`: from their end to its token."""

    pieces: Sequence[Piece]
    before: float
    after: float
    ahead: int  # single-token steps that are dealt ahead of this one


@dataclass(frozen=True, slots=True)
class Placement:
    """Which processes share cores. `machines` is 1 (all on one) or 4 (each on its own, with `cores` of them)."""

    cores: int = 2
    machines: int = 1

    def speeds(self, peers: bool, dealer: bool, carriers: bool) -> tuple[float, float]:
        """Of the compute peers, and of dealer and carriers, between 0 and 1, while these have something to do."""
        if self.machines == 1:
            share = self._share(2 * peers + dealer + carriers)
            return share, share
        return self._share(peers + carriers / 2), self._share(dealer + carriers / 2)

    def _share(self, threads: float) -> float:
        return min(1.0, self.cores / threads) if threads else 1.0


def run(steps: Sequence[Step], where: Placement, dealer_way: float) -> list[float]:
    """Seconds from one token to the next, the first from the client's asking (session set-up not in it).

    `dealer_way`: delay between dealer and peers, either way.
    """
    clock = _Clock(steps, where, dealer_way)
    while not clock.over:
        clock.advance()
    return clock.times


class _Clock:
    """Goes from event to event: whatever is under way goes on at its speed until the first of it is done."""

    def __init__(self, steps: Sequence[Step], where: Placement, dealer_way: float) -> None:
        self._steps, self._where, self._way = steps, where, dealer_way
        self._work = [(number, piece) for number, step in enumerate(steps) for piece in step.pieces]
        self.times: list[float] = []
        self._now = 0.0
        self._answered = 0.0
        # the peers: the piece they are at, what is left of computing it (None: they wait), and until when they wait
        self._at, self._waiting = 0, steps[0].before
        self._left: float | None = None
        # the dealer: pieces it has dealt, what is left of the next; when it was asked for each step
        self._dealt, self._deal_left = 0, self._work[0][1].deal
        self._asked = [INFINITY] * len(steps)
        self._plan(0)
        # the lines: pieces carried, what software has left of the next, since when; until when the line is taken
        self._carried, self._carry_left, self._since, self._line_free = 0, 0.0, 0.0, 0.0
        self._arrival = [INFINITY] * len(self._work)

    @property
    def over(self) -> bool:
        return self._at == len(self._work)

    def _plan(self, step: int) -> None:
        """The peers begin `step`: they ask for it and for those that fit ahead of it."""
        for number in range(step, min(len(self._steps), step + 1 + self._steps[step].ahead)):
            self._asked[number] = min(self._asked[number], self._waiting + self._way)

    def advance(self) -> None:
        """To the next event."""
        ready = max(self._waiting, self._arrival[self._at])
        if self._left is None and ready <= self._now:
            self._left = self._work[self._at][1].compute
        asked = self._asked[self._work[self._dealt][0]] if self._dealt < len(self._work) else INFINITY
        dealing, carrying = asked <= self._now, self._carried < self._dealt
        fast, slow = self._where.speeds(self._left is not None, dealing, carrying)
        until = ready if self._left is None else self._now + self._left / fast
        until = min(until, self._now + self._deal_left / slow if dealing else asked)
        if carrying:
            until = min(until, self._now + self._carry_left / slow)
        passed, self._now = until - self._now, until
        if carrying:
            self._carry(passed * slow)
        if dealing:
            self._deal(passed * slow)
        if self._left is not None:
            self._compute(self._left - passed * fast)

    def _to_do(self, left: float) -> bool:
        """Whether it is more than the clock can tell apart: late in a long session that is more than `_DONE`."""
        return left > max(_DONE, 4 * math.ulp(self._now))

    def _deal(self, worked: float) -> None:
        self._deal_left -= worked
        if self._to_do(self._deal_left):
            return
        if self._carried == self._dealt:
            self._carry_left, self._since = self._work[self._dealt][1].carry, self._now
        self._dealt += 1
        if self._dealt < len(self._work):
            self._deal_left = self._work[self._dealt][1].deal

    def _carry(self, worked: float) -> None:
        """The line takes bytes as they come out of the sender, and is done when both have finished."""
        self._carry_left -= worked
        if self._to_do(self._carry_left):
            return
        self._line_free = max(self._line_free, self._since) + self._work[self._carried][1].line
        self._arrival[self._carried] = max(self._line_free, self._now) + self._way
        self._carried += 1
        if self._carried < self._dealt:
            self._carry_left, self._since = self._work[self._carried][1].carry, self._now

    def _compute(self, left: float) -> None:
        if self._to_do(left):
            self._left = left
            return
        number, piece = self._work[self._at]
        self._left, self._waiting = None, self._now + piece.wait
        self._at += 1
        if not self.over and self._work[self._at][0] == number:
            return
        done = self._waiting + self._steps[number].after
        self.times.append(done - self._answered)
        self._answered = done
        if not self.over:
            self._waiting = done + self._steps[number + 1].before
            self._plan(number + 1)
