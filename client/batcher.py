"""Answers that come at any time and share the rounds of one private session.

One thread feeds the model. In every step each answer in progress goes on by a token, and new prompts join, as many tokens at a
time as the session's sizes allow: the rounds of a step are those of one sequence, whatever its batch.

| a sequence | at the peers |
| --- | --- |
| of an answer in progress | grows by a token a step |
| of n answers to one prompt | is computed once, then forked |
| whose answer has ended | stays until its room is needed, or nobody asks for `idle` seconds: a prompt that begins like it goes on there |
| whose request was cancelled | is forgotten before the next step; with the last one the session ends at once |

A prompt that finds no room waits for answers to end. One that no session of these sizes could hold gets a larger session of its
own, when nobody else is answered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from traceback import extract_tb
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..errors import NetworkError, TacitError, UsageError
from ..quotes import Charge
from ..sizes import Sizes
from .answer import Answer, ModelFacts
from .events import Ended, Event, Failed, Finished, Heard, Opened, Progress, Said
from .feeds import Feed, common, fitting
from .generation import Runner
from .results import Usage

log = logging.getLogger("tacit.client.batcher")

SEQUENCES = 8  # at a time
KEPT = 2048  # tokens at the peers, unless a prompt needs more
STEP_TOKENS = 256  # of prompts in one step
STEP_PAIRS = 1 << 16  # bounds what a step takes of the peers' memory
IDLE = 60.0  # seconds that a session is kept for the next request


class Ticket:
    """A request that was taken."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self.cancelled = False

    def cancel(self) -> None:
        """Nobody wants the answers any more; nothing is heard of them from now on. Any thread may say so, more than once."""
        self.cancelled = True
        self._batcher._wake()


@dataclass(eq=False)
class _Line:
    """One sequence at the peers."""

    slot: int
    tokens: list[int]  # that the peers hold
    pad: int = 0
    used: float = 0.0


@dataclass(eq=False)
class _Request:
    """Answers to one prompt."""

    answers: list[Answer]
    heard: Heard
    ticket: Ticket
    since: float
    prompt: list[int] = field(default_factory=list)
    lines: list[_Line | None] = field(default_factory=list)  # of each answer; the first one's takes the prompt
    cached: int = 0
    fed: int = 0  # tokens that went through the model for this request
    opened: bool = False

    @property
    def pad(self) -> int:
        """Tokens at the prompt's beginning that count for nothing."""
        return self.answers[0].pad

    @property
    def need(self) -> int:
        """Tokens that its sequences hold at the end."""
        return sum(len(self.prompt) + answer.max_new_tokens - 1 for answer in self.answers)

    @property
    def over(self) -> bool:
        return self.ticket.cancelled or all(answer.done for answer in self.answers)

    def tell(self, event: Event) -> None:
        """Whoever listens must not end everybody's answers by an error of its own."""
        if self.ticket.cancelled:
            return
        try:
            self.heard(event)
        except Exception as error:  # noqa: BLE001 (it is not ours)
            log.error("a listener failed (%s); its request is given up", type(error).__name__)
            self.ticket.cancelled = True


class Batcher:
    """See the module. `submit` may be called from any thread; `heard` is called from the batcher's own."""

    def __init__(
        self,
        model: ModelFacts,
        start: Callable[[Sizes], Runner],
        *,
        sequences: int = SEQUENCES,
        sizes: Sizes | None = None,
        idle: float = IDLE,
    ) -> None:
        """`start` opens a session. `sizes`: of every session, unless a prompt needs more; None: KEPT tokens or twice the
        context, whichever is less."""
        self.model = model
        self._start = start
        kept = min(KEPT, 2 * model.context)
        self._sizes = sizes or Sizes(sequences, max(STEP_TOKENS, sequences), max(STEP_PAIRS, kept), kept)
        self._idle = idle
        self._condition = threading.Condition()
        self._waiting: deque[_Request] = deque()
        self._active: list[_Request] = []
        self._lines: dict[int, _Line] = {}
        self._busy: set[int] = set()  # slots of answers in progress
        self._forget: list[int] = []
        self._runner: Runner | None = None
        self._open = self._sizes  # of the session that is open
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="tacit-batcher", daemon=True)
        self._thread.start()

    def submit(self, answers: Sequence[Answer], heard: Heard) -> Ticket:
        """Answers to one prompt, which is computed once for all. Raises UsageError for what no session could hold, or once
        the batcher is closed."""
        return self.submit_all([(answers, heard)])[0]

    def submit_all(self, requests: Sequence[tuple[Sequence[Answer], Heard]]) -> list[Ticket]:
        """Several requests that begin in the same step, as far as there is room. Raises as `submit`, and takes none then."""
        made = []
        for answers, heard in requests:
            if not answers or any(answer.prompt != answers[0].prompt for answer in answers):
                raise UsageError("a request has one prompt and at least one answer")
            if len(answers) > self._sizes.sequences:
                raise UsageError(f"{len(answers)} answers to one prompt: at most {self._sizes.sequences} at a time")
            request = _Request(list(answers), heard, Ticket(self), time.perf_counter(), answers[0].prompt)
            made.append(request)
        with self._condition:
            if self._closing:
                raise UsageError("this batcher is closed")
            self._waiting.extend(made)
            self._condition.notify()
        return [request.ticket for request in made]

    @property
    def busy(self) -> int:
        """Requests in progress or waiting."""
        with self._condition:
            return len(self._active) + len(self._waiting)

    @property
    def peers(self) -> tuple[str, ...]:
        """Of the session that is open; empty if none is."""
        runner = self._runner
        return runner.peers if runner is not None else ()

    def close(self) -> None:
        """End the session; answers in progress fail. Closing twice is fine."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join()

    def __enter__(self) -> Batcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _wake(self) -> None:
        with self._condition:
            self._condition.notify()

    # The thread ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._wait():
            try:
                self._clear()
                self._admit()
                self._clear()  # opening a session takes its time: somebody may have left
                if self._active:
                    self._step()
            except TacitError as error:
                self._fail(error)
            except Exception as error:  # noqa: BLE001 (a fault of this program must not leave everybody waiting)
                # By place alone: its message may hold a piece of a prompt.
                places = [f"{one.filename.rpartition('/')[2]}:{one.lineno}" for one in extract_tb(error.__traceback__)]
                log.error("the batcher failed inside: %s at %s", type(error).__name__, " > ".join(places))
                self._fail(UsageError(f"internal error ({type(error).__name__}); see the log"))
        self._fail(NetworkError("this client is being closed"))

    def _wait(self) -> bool:
        """Until there is something to do; ends a session that nobody has used for long. False: closing."""
        deadline = time.monotonic() + self._idle
        while True:
            with self._condition:
                while not (self._closing or self._active or self._waiting):
                    left = deadline - time.monotonic()
                    if self._runner is not None and left <= 0:
                        break
                    self._condition.wait(left if self._runner is not None else None)
                if self._closing:
                    return False
                if self._active or self._waiting:
                    return True
            self._end()

    def _clear(self) -> None:
        """Let go of requests that are over. With nobody left after a cancel the session ends: the peers are free at once."""
        with self._condition:
            gone = [request for request in [*self._active, *self._waiting] if request.over]
            self._active = [request for request in self._active if request not in gone]
            self._waiting = deque(request for request in self._waiting if request not in gone)
            nobody = not (self._active or self._waiting)
        for request in gone:
            for line in request.lines:
                if line is not None:
                    self._busy.discard(line.slot)
                    if request.ticket.cancelled:
                        self._drop(line)
        if nobody and any(request.ticket.cancelled for request in gone):
            self._end()

    def _drop(self, line: _Line) -> None:
        """The peers forget it before the next step."""
        if self._lines.get(line.slot) is line:
            del self._lines[line.slot]
            self._forget.append(line.slot)

    def _admit(self) -> None:
        """Begin what has room, in the order in which it came."""
        while self._waiting:  # nobody else takes from it
            request = self._waiting[0]
            if self._runner is None or not self._fits(request):
                if self._active:
                    return  # until somebody ends
                self._reopen(request)
            with self._condition:
                self._waiting.popleft()
                self._active.append(request)
            if self._runner is None:
                self._runner = self._start(self._open)
            if not request.ticket.cancelled:
                self._place(request)

    def _reopen(self, request: _Request) -> None:
        """The next session is one that holds this request."""
        kept = max(self._sizes.kept_tokens, request.need)
        self._open = replace(self._sizes, kept_tokens=kept, step_pairs=max(self._sizes.step_pairs, kept))
        if self._runner is not None:
            self._end()

    def _fits(self, request: _Request) -> bool:
        """Whether there is room beside the answers in progress; ended sequences make way."""
        all_of_them = [*self._active, request]
        return (
            sum(one.need for one in all_of_them) <= self._open.kept_tokens
            and sum(len(one.answers) for one in all_of_them) <= self._open.sequences
        )

    def _place(self, request: _Request) -> None:
        """Slots for its answers: the first goes on from what the peers hold of its prompt, if they hold any."""
        source = max(
            (line for line in self._lines.values() if line.slot not in self._busy and line.pad == request.pad),
            key=lambda line: common(line.tokens, request.prompt),
            default=None,
        )
        start = 0 if source is None else min(common(source.tokens, request.prompt), len(request.prompt) - 1)
        if source is None or 2 * start < len(source.tokens):  # another conversation: it may be gone on with yet
            source, start = None, 0
        first = source or _Line(self._free_slot(), [], request.pad)
        del first.tokens[start:]
        self._take(first)
        request.lines = [first, *(None for _ in request.answers[1:])]
        request.cached = start
        self._reserved(request)

    def _reserved(self, request: _Request) -> None:
        """Room for all that is in progress: sequences that have ended go, the longest unused first."""
        needed = sum(one.need for one in self._active)
        idle = sorted((one for one in self._lines.values() if one.slot not in self._busy), key=lambda one: one.used)
        while idle and (
            needed + sum(len(one.tokens) for one in idle) > self._open.kept_tokens
            or sum(len(one.answers) for one in self._active) + len(idle) > self._open.sequences
        ):
            self._drop(idle.pop(0))

    def _free_slot(self) -> int:
        """One that holds nothing, or else the sequence that was not used for the longest time."""
        for slot in range(self._open.sequences):
            if slot not in self._lines:
                return slot
        oldest = min((one for one in self._lines.values() if one.slot not in self._busy), key=lambda one: one.used)
        del self._lines[oldest.slot]
        return oldest.slot

    def _take(self, line: _Line) -> None:
        line.used = time.monotonic()
        self._lines[line.slot] = line
        self._busy.add(line.slot)

    def _step(self) -> None:
        """One step of all that is in progress."""
        if self._runner is None:
            raise NetworkError("no session is open")
        runner, sizes = self._runner, self._open
        rows, pairs = sizes.step_tokens, sizes.step_pairs
        feeds: list[Feed] = []
        fed: list[tuple[_Request, int, bool]] = []  # request, answer, whether logits follow its last known token
        prompts = []
        for request in self._active:
            if not request.opened:
                request.opened = True
                request.tell(Opened(runner.peers))
            if len(_line(request, 0).tokens) < len(request.prompt):
                prompts.append(request)
                continue
            for index, answer in enumerate(request.answers):
                if not answer.done:
                    feed = self._next(request, index)
                    feeds.append(feed)
                    fed.append((request, index, True))
                    rows, pairs = rows - 1, pairs - feed.part.pairs
        for request in prompts:
            line = _line(request, 0)
            start = len(line.tokens)
            room = min(rows, fitting(pairs, start))
            if room < 1:
                break
            tokens = tuple(request.prompt[start : start + room])
            feed = Feed(line.slot, line.slot, start, tokens, request.pad)
            feeds.append(feed)
            fed.append((request, 0, start + len(tokens) == len(request.prompt)))
            rows, pairs = rows - len(tokens), pairs - feed.part.pairs
        slots = {feed.slot for feed in feeds}
        forget = [slot for slot in self._forget if slot not in slots]
        self._forget = []
        # What follows can be foreseen if every prompt is through, and none of them forks.
        settled = all(certain and (request not in prompts or len(request.answers) == 1) for request, _, certain in fed)
        settled = settled and len(fed) >= len(self._active)
        step = runner.step(feeds, self._ahead() if settled else 0, forget)
        for (request, index, _), feed in zip(fed, feeds, strict=True):
            line = _line(request, index)
            line.tokens[feed.start :] = feed.tokens
            request.fed += len(feed.tokens)
        for (request, index, certain), row in zip(fed, step.logits, strict=True):
            if request in prompts:
                request.tell(Progress(len(_line(request, 0).tokens), len(request.prompt), request.cached))
                if certain:  # each answer chooses its first token from the same logits
                    for number in range(len(request.answers)):
                        self._say(request, number, row)
            else:
                self._say(request, index, row)
        for request in self._active:
            if not request.ticket.cancelled and all(answer.done for answer in request.answers):
                self._finished(request, runner)

    def _next(self, request: _Request, index: int) -> Feed:
        """The answer's last token; a fork of the prompt's sequence where it has none of its own yet."""
        token = request.answers[index].last
        line = request.lines[index]
        if line is not None:
            return Feed(line.slot, line.slot, len(line.tokens), (token,), request.pad)
        source, start = _line(request, 0), len(request.prompt)
        line = _Line(self._free_slot(), list(request.prompt), request.pad)
        self._take(line)
        request.lines[index] = line
        return Feed(line.slot, source.slot, start, (token,), request.pad)

    def _say(self, request: _Request, index: int, logits: NDArray[np.float64]) -> None:
        answer = request.answers[index]
        try:
            pieces = answer.take(logits)
        except TacitError as error:  # of this answer alone, as a constraint that nothing can meet
            request.tell(Failed(error))
            request.ticket.cancelled = True
            return
        request.tell(Said(index, tuple(pieces)))
        if answer.done:
            line = request.lines[index]
            if line is not None and index > 0:
                self._busy.discard(line.slot)
            request.tell(Ended(index))

    def _finished(self, request: _Request, runner: Runner) -> None:
        charge = runner.charge
        paid = None if charge is None else Charge(charge.price, request.fed)
        tokens = sum(len(answer.token_ids) for answer in request.answers)
        usage = Usage.of(len(request.prompt) - request.pad, tokens, paid)
        seconds = time.perf_counter() - request.since
        request.tell(Finished(usage, request.cached, runner.peers, runner.operators, seconds))

    def _ahead(self) -> int:
        """Steps after this one in which the same sequences go on, should none of them end early."""
        if self._waiting:
            return 0
        return min(
            (answer.left - 1 for request in self._active for answer in request.answers if not answer.done), default=0
        )

    def _fail(self, error: TacitError) -> None:
        """The session is lost, and all that was in progress with it; on closing, what waits too."""
        runner, self._runner = self._runner, None
        with self._condition:
            gone, self._active = self._active, []
            if self._closing:
                gone, self._waiting = [*gone, *self._waiting], deque()
        self._empty()
        if runner is not None:
            _part(runner, in_order=self._closing)
        for request in gone:
            request.tell(Failed(error))

    def _end(self) -> None:
        """Part from the peers in order."""
        runner, self._runner = self._runner, None
        self._empty()
        if runner is not None:
            _part(runner, in_order=True)

    def _empty(self) -> None:
        self._lines.clear()
        self._busy.clear()
        self._forget.clear()


def _line(request: _Request, index: int) -> _Line:
    line = request.lines[index]
    if line is None:
        raise ValueError("an answer without a sequence")
    return line


def _part(runner: Runner, in_order: bool) -> None:
    try:
        if in_order:
            runner.finish()
        else:
            runner.abort()
    except TacitError as error:  # every answer is complete: the peers' account is all that is missing
        log.warning("a session did not end in order: %s", error)
        runner.abort()
