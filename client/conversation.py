"""A conversation with a chat model: who said what, and a session at the peers that keeps what is said between the turns.

| what is said next | what the peers compute |
| --- | --- |
| an answer to the conversation as it went on | the tokens since its last one: the peers kept the rest |
| again, or after a message was taken back | likewise: the session goes back to where the two conversations part, which costs nothing |
| after the system message was changed, or old turns had to go | all of it |
| after nobody spoke for IDLE seconds, or the peers ended the session | all of it, in a new session |

The whole conversation is rendered for every turn, so what the model sees is what its chat template makes of it, no more and
no less. When it no longer fits the context, the oldest turns are left out, down to half the context, and `notice` is told. They
stay in `messages`. Nothing is stored anywhere but in this object.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from types import TracebackType
from typing import Any, Protocol

from ..errors import TacitError, UsageError
from ..quotes import Charge
from ..receipts import Receipt
from ..sizes import STEP_TOKENS, Sizes
from .answer import Answer, ModelFacts
from .feeds import Feed, common
from .generation import Runner, StepCost
from .results import FinishReason, Piece, Resume, Usage
from .sampling import Sampling
from .templates import ChatTemplate, Message
from .tokens import Tokenizer

CONTEXT = (
    4096  # tokens that a session is asked to keep, unless something else is said: peers reserve memory for all of them
)
IDLE = 90.0  # seconds after a turn until the session is ended in order; peers keep it for two minutes


class Kept(Runner, Protocol):
    """A `Runner` that is kept while nobody speaks."""

    def alive(self) -> bool:
        """Whether its session goes on."""


@dataclass(frozen=True, slots=True)
class Said:
    """One answer, and what it took."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None  # None: it was stopped
    usage: Usage  # prompt_tokens: of the whole conversation
    cached_tokens: int  # of those, the ones that the peers had kept
    fed_tokens: int  # and the ones that went through the model
    cost: StepCost
    first_token_seconds: float
    seconds: float
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stats:
    """A conversation so far, turns that were taken back included."""

    turns: int
    sessions: int
    context: int  # tokens there is room for
    kept_tokens: int  # that the peers hold now
    fed_tokens: int
    new_tokens: int
    cost: StepCost
    price: str  # "0.02 EUR"; empty if nothing is paid
    peers: tuple[str, ...]
    resumes: tuple[Resume, ...]
    receipts: int
    last: Said | None


class Turn:
    """An answer on its way: iterate it for `Piece`s of text, then `said` has the whole.

    Nothing is sent before the first piece is asked for. `stop()` ends it after the step that runs; what came by then counts as
    what was said. An error leaves the conversation as it was before."""

    def __init__(self, conversation: Conversation, answer: Answer) -> None:
        """Made by `Conversation`."""
        self.answer = answer
        self.said: Said | None = None
        self._conversation = conversation
        self._stopped = False
        self._pieces = conversation._run(self)

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        return next(self._pieces)

    def __enter__(self) -> Turn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def text(self) -> str:
        """The text so far."""
        return self.answer.text

    @property
    def stopped(self) -> bool:
        return self._stopped

    def stop(self) -> None:
        """No further token is wanted. A signal handler or another thread may say so; iterate on until it ends."""
        self._stopped = True

    def complete(self) -> Said:
        """Read what is left."""
        for _ in self:
            pass
        if self.said is None:
            raise UsageError("this answer has been given up")
        return self.said

    def close(self) -> None:
        """End it now, like `stop()`; the session stays open."""
        self._pieces.close()


class Conversation:
    """Say something, read the answer, say something else. One thread."""

    def __init__(
        self,
        model: ModelFacts,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        start: Callable[[Sizes], Kept],
        *,
        max_new_tokens: int,
        sampling: Sampling,
        system: str | None = None,
        context: int | None = None,
        stop: Sequence[str] = (),
        options: dict[str, Any] | None = None,
        idle: float = IDLE,
        notice: Callable[[str], None] = lambda what: None,
    ) -> None:
        """`start(sizes)` opens a session. `context`: tokens to keep room for; None: the model's, CONTEXT at most. `options`:
        variables of the template, such as enable_thinking. `idle`: seconds of silence after which a session is ended.

        Raises UsageError for a context that is none.
        """
        most = min(model.context, CONTEXT) if context is None else context
        if not 2 <= most <= model.context:
            raise UsageError(
                f"a context of {most} tokens cannot be had; the model's is {model.context}, 2 is the least"
            )
        self.model = replace(model, context=most)
        self._system = system
        self._tokenizer = tokenizer
        self._template = template
        self._start = start
        self._settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "sampling": sampling, "stop": tuple(stop)}
        self._options = options
        self._idle = idle
        self._notice = notice
        self._messages: list[Message] = []
        self._before: list[Message] = []  # the turn that runs
        self._left_out = 0  # of these, from the oldest on
        self._asked = 0  # answers that were asked for: each draws differently
        self._turn: Turn | None = None
        self._refused: str | None = None  # what was said in a turn that failed
        self._sizes = _sizes(most)
        self._lock = threading.RLock()  # the session is ended by a timer's thread
        self._timer: threading.Timer | None = None
        self._runner: Kept | None = None
        self._held: list[int] = []  # tokens that the session keeps
        self._account = _Account()
        Answer(self.model, tokenizer, [0], **self._settings)  # settings that cannot be used are known now

    @property
    def messages(self) -> tuple[Message, ...]:
        """All that was said, without the system message."""
        return tuple(self._messages)

    @property
    def system(self) -> str | None:
        """What goes before the conversation; changing it makes the model read everything again."""
        return self._system

    @system.setter
    def system(self, text: str | None) -> None:
        self._give_up()
        self._system = text

    def say(self, text: str) -> Turn:
        """The answer to `text`. One that was not read to its end is stopped.

        Raises UsageError if it cannot be asked (too long for the context, refused by the template), then nothing was sent.
        PeerLost, PeerError, RefusedError or NetworkError may come while it streams.
        """
        self._give_up()
        return self._asked_with([*self._messages, {"role": "user", "content": text}])

    def retry(self) -> Turn:
        """Another answer to what was said last, also if that failed. Raises UsageError if nothing was said."""
        self._give_up()
        if self._refused is not None:
            return self.say(self._refused)
        if not self._messages:
            raise UsageError("nothing was said yet")
        return self._asked_with(self._messages[:-1])

    def undo(self) -> bool:
        """Take back what was said last, and its answer; False if there is nothing."""
        self._give_up()
        self._refused = None
        found = bool(self._messages)
        del self._messages[-2:]
        self._left_out = min(self._left_out, len(self._messages))
        return found

    @property
    def stats(self) -> Stats:
        """What the conversation took so far."""
        with self._lock:
            return self._account.stats(self._runner, self.model.context, len(self._held))

    def close(self) -> None:
        """End the session in order; saying something opens another one."""
        self._give_up()
        with self._lock:
            self._part()

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # A turn ----------------------------------------------------------------------------------------------------------

    def _asked_with(self, messages: list[Message]) -> Turn:
        """The next answer to these messages, the last of which is the user's."""
        prompt, left_out = self._fitting(messages)
        answer = Answer(self.model, self._tokenizer, prompt, number=self._asked, **self._settings)
        if left_out > self._left_out:
            self._notice(
                f"the conversation no longer fits {self.model.context} tokens: the model does not see the first {left_out} "
                "messages any more"
            )
        self._left_out = left_out
        self._asked += 1
        self._messages, self._before, self._refused = messages, self._messages, None
        self._turn = Turn(self, answer)
        return self._turn

    def _fitting(self, messages: Sequence[Message]) -> tuple[list[int], int]:
        """The prompt, and how many of the oldest messages are left out of it so that an answer has room."""
        prompt = self._encoded(messages, self._left_out)
        room = self.model.context - min(self._settings["max_new_tokens"], self.model.context // 4)
        if len(prompt) <= room:
            return prompt, self._left_out
        # Every turn that is left out moves all that follows, so that the peers compute it anew: many at once, then none for long.
        shortest: tuple[list[int], int] | None = None
        for first in range(self._left_out + 1, len(messages)):
            if messages[first]["role"] != "user":
                continue  # a conversation begins with what the user says
            prompt = self._encoded(messages, first)
            shortest = prompt, first
            if len(prompt) <= self.model.context // 2:
                return shortest
        if shortest is None or len(shortest[0]) > room:
            raise UsageError(
                f"what was said takes {len(prompt)} tokens, and the conversation has room for {self.model.context} "
                "with the answer: say less, or ask for a larger context if the model has one"
            )
        return shortest

    def _encoded(self, messages: Sequence[Message], first: int) -> list[int]:
        opening: list[Message] = [] if not self._system else [{"role": "system", "content": self._system}]
        return self._template.encode([*opening, *messages[first:]], options=self._options)

    def _run(self, turn: Turn) -> Generator[Piece, None, None]:
        """The steps of a turn; its end, however it comes."""
        meter = _Meter()
        try:
            yield from self._steps(turn, meter)
        except GeneratorExit:
            self._ended(turn, meter)
            raise
        except BaseException as error:  # Ctrl-C too, in the middle of a step: nobody knows what the session holds now
            with self._lock:
                self._lose()
            if isinstance(error, TacitError):
                self._failed(turn)
            else:
                self._ended(turn, meter)
            raise
        self._ended(turn, meter)

    def _steps(self, turn: Turn, meter: _Meter) -> Generator[Piece, None, None]:
        answer = turn.answer
        start, tokens = None, tuple(answer.prompt)
        while not answer.done and not turn.stopped:
            with self._lock:
                runner = self._opened(anew=start is None)
                if start is None:
                    start = min(common(self._held, tokens), len(tokens) - 1)
                    tokens, meter.cached = tokens[start:], start
                step = runner.step([Feed(0, 0, start, tokens)], answer.left - 1)
                self._held[start:] = tokens
                meter.count(step.cost, len(tokens), runner)
            pieces = answer.take(step.logits[0])
            yield from pieces
            if not answer.done:
                start, tokens = start + len(tokens), (answer.last,)

    def _ended(self, turn: Turn, meter: _Meter) -> None:
        """What was said by now stands; nothing said, nothing asked."""
        if self._turn is not turn:
            return
        self._turn = None
        answer = turn.answer
        if answer.text or answer.done:
            self._messages = [*self._messages, {"role": "assistant", "content": answer.text}]
        else:
            self._take_back()
        turn.said = meter.said(answer)
        with self._lock:
            self._account.add(turn.said)
            if self._runner is not None:
                self._timer = threading.Timer(self._idle, self._fall_asleep)
                self._timer.daemon = True
                self._timer.start()

    def _failed(self, turn: Turn) -> None:
        if self._turn is turn:
            self._turn = None
            self._take_back()

    def _take_back(self) -> None:
        """The conversation as it was; `retry` still knows what was said."""
        if len(self._messages) > len(self._before):
            self._refused = str(self._messages[-1]["content"])
        self._messages = self._before

    def _give_up(self) -> None:
        """The turn that is not read to its end."""
        if self._turn is not None:
            turn = self._turn
            turn.close()
            if self._turn is turn:  # it had not begun
                self._failed(turn)

    # The session; with the lock held ---------------------------------------------------------------------------------

    def _opened(self, anew: bool) -> Kept:
        """`anew`: the first step of a turn, when a session that has ended meanwhile holds nothing back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._runner is not None and anew and not self._runner.alive():
            self._lose()
        if self._runner is None:
            self._runner = self._start(self._sizes)
            self._account.sessions += 1
        return self._runner

    def _fall_asleep(self) -> None:
        """Nobody spoke for a while: the peers get their memory back, and the client its receipts."""
        with self._lock:
            if self._turn is None:
                self._part()

    def _part(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._runner is None:
            return
        try:
            self._runner.finish()
        except TacitError as error:
            self._runner.abort()
            self._notice(f"the session ended without receipts: {error}")
        self._closed()

    def _lose(self) -> None:
        if self._runner is not None:
            self._runner.abort()
            self._closed()

    def _closed(self) -> None:
        if self._runner is not None:
            self._account.close(self._runner)
        self._runner, self._held = None, []


class _Meter:
    """Counts one turn."""

    def __init__(self) -> None:
        self.cached = 0
        self.fed = 0
        self._since = time.perf_counter()
        self._first: float | None = None
        self._cost = StepCost()
        self._charge: Charge | None = None
        self._peers: tuple[str, ...] = ()

    def count(self, cost: StepCost, tokens: int, runner: Runner) -> None:
        self._cost = self._cost.plus(cost)
        self.fed += tokens
        if self._first is None:
            self._first = time.perf_counter() - self._since
        charge = runner.charge
        self._charge = None if charge is None else Charge(charge.price, self.fed)
        self._peers = runner.peers

    def said(self, answer: Answer) -> Said:
        seconds = time.perf_counter() - self._since
        return Said(
            text=answer.text,
            token_ids=answer.token_ids,
            finish_reason=answer.finish_reason,
            usage=Usage.of(len(answer.prompt), len(answer.token_ids), self._charge),
            cached_tokens=self.cached,
            fed_tokens=self.fed,
            cost=self._cost,
            first_token_seconds=seconds if self._first is None else self._first,
            seconds=seconds,
            peers=self._peers,
        )


class _Account:
    """Adds a conversation up."""

    def __init__(self) -> None:
        self.sessions = 0
        self._turns: list[Said] = []
        self._resumes: list[Resume] = []
        self._receipts: list[Receipt] = []

    def add(self, said: Said) -> None:
        self._turns.append(said)

    def close(self, runner: Runner) -> None:
        self._resumes += runner.resumes
        self._receipts += runner.receipts

    def stats(self, runner: Runner | None, context: int, kept: int) -> Stats:
        cost, paid = StepCost(), dict[str, Decimal]()
        for said in self._turns:
            cost = cost.plus(said.cost)
            if said.usage.cost is not None and said.usage.currency is not None:
                paid[said.usage.currency] = paid.get(said.usage.currency, Decimal()) + Decimal(said.usage.cost)
        last = self._turns[-1] if self._turns else None
        return Stats(
            turns=len(self._turns),
            sessions=self.sessions,
            context=context,
            kept_tokens=kept,
            fed_tokens=sum(said.fed_tokens for said in self._turns),
            new_tokens=sum(len(said.token_ids) for said in self._turns),
            cost=cost,
            price=" + ".join(f"{amount} {currency}" for currency, amount in paid.items() if amount),
            peers=runner.peers if runner is not None else last.peers if last is not None else (),
            resumes=(*self._resumes, *(runner.resumes if runner is not None else ())),
            receipts=len(self._receipts),
            last=last,
        )


def _sizes(context: int) -> Sizes:
    """One sequence of up to `context` tokens. A step may see no more pairs of tokens than that of a first prompt, which bounds what
    the peers reserve: far into a long conversation, what is new goes in by smaller steps."""
    rows = min(context, STEP_TOKENS)
    return Sizes(1, rows, max(rows * (rows + 1) // 2, context), context)
