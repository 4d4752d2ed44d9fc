"""The loop of an answer: a step of the model, a token, its text; and afterwards the account.

Whoever runs the model stands behind `Runner`: two compute peers (session.py) or this machine in the clear (plain.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..quotes import Charge
from ..receipts import Receipt
from ..sizes import Sizes
from .answer import Answer
from .feeds import Feed
from .results import Completion, Piece, Resume, Timings, Traffic, Usage


@dataclass(frozen=True, slots=True)
class StepCost:
    """What one step cost, both compute peers added up (rounds: the longer of the two)."""

    rounds: int = 0
    online_bytes: int = 0
    offline_bytes: int = 0
    client_bytes: int = 0
    offline_us: int = 0
    compute_us: int = 0  # of the slower compute peer
    waiting_us: int = 0  # of that peer, on its links

    def plus(self, other: StepCost) -> StepCost:
        """Of two steps, one after the other."""
        return StepCost(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


@dataclass(frozen=True, slots=True)
class Step:
    logits: NDArray[np.float64]  # (B, V); of an encoder the sums of its last rows, (B, C)
    cost: StepCost


class Runner(Protocol):
    """Runs the model, one step after another."""

    @property
    def peers(self) -> tuple[str, ...]:
        """Who runs it now, in role order."""

    @property
    def operators(self) -> tuple[str, ...]:
        """Who runs the peers, in role order; empty in the clear."""

    @property
    def resumes(self) -> Sequence[Resume]:
        """Peers that were lost and replaced so far."""

    @property
    def receipts(self) -> Sequence[Receipt]:
        """What the compute peers signed; there once the runner has finished."""

    @property
    def charge(self) -> Charge | None:
        """What the session that gave the last token costs; None where nobody is paid."""

    def step(self, feeds: Sequence[Feed], ahead: int, forget: Sequence[int] = ()) -> Step:
        """Logits after the last token of each feed. The sequences in `forget` are given up first.

        At most `ahead` more steps will follow in which each of these sequences goes on by one token: what is prepared for
        them is not lost if it comes otherwise, but takes the peers' time.
        """

    def finish(self) -> None:
        """The answer is complete: part in order."""

    def abort(self) -> None:
        """Part at once, whatever state the session is in. Never raises."""


class Generation:
    """One answer on its way. Iterate it for `Piece`s of text; then `result` holds the whole.

    Nothing is sent before the first piece is asked for. Leaving the loop early, `close()`, or an error ends the
    session; `text` and `token_ids` keep what had come by then.
    """

    def __init__(self, answer: Answer, start: Callable[[Sizes], Runner]) -> None:
        """`answer`: one that nothing has come of yet; it belongs to this generation from now on. `start(sizes)` opens the
        session."""
        self.model = answer.model
        self._answer = answer
        self._start = start
        self._costs: list[StepCost] = []
        self._seconds: list[float] = []
        self._setup_seconds = 0.0
        self._result: Completion | None = None
        self._pieces = self._run()

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        return next(self._pieces)

    def __enter__(self) -> Generation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the session now; the peers forget their shares."""
        self._pieces.close()

    @property
    def text(self) -> str:
        """The text so far."""
        return self._answer.text

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens so far, without the end-of-text token."""
        return self._answer.token_ids

    @property
    def costs(self) -> tuple[StepCost, ...]:
        """Of every step so far: the prompt's, then one for each further token."""
        return tuple(self._costs)

    @property
    def seconds(self) -> tuple[float, ...]:
        """That every step took, as this client sees it; the first from the request on, `setup_seconds` included."""
        return tuple(self._seconds)

    @property
    def setup_seconds(self) -> float:
        """From the request until the session was open."""
        return self._setup_seconds

    @property
    def result(self) -> Completion:
        """The finished answer. Raises UsageError while pieces are still to come."""
        if self._result is None:
            raise UsageError("the answer is not finished: read all pieces first, or use Client.complete()")
        return self._result

    def complete(self) -> Completion:
        """Read what is left and return the result."""
        for _ in self:
            pass
        return self.result

    def _run(self) -> Generator[Piece, None, None]:
        asked = time.perf_counter()
        answer = self._answer
        runner = self._start(Sizes.of([len(answer.prompt)], answer.max_new_tokens))
        self._setup_seconds = time.perf_counter() - asked
        try:
            try:
                yield from self._steps(runner, asked)
            except GeneratorExit:  # the reader left between two steps: an answer that ended early, not a failure
                runner.finish()
                raise
            runner.finish()
        except GeneratorExit:
            raise
        except BaseException:  # Ctrl-C too: the peers must not keep a session nobody reads
            runner.abort()
            raise
        self._result = self._account(runner)

    def _steps(self, runner: Runner, since: float) -> Generator[Piece, None, None]:
        answer, tokens, start = self._answer, tuple(self._answer.prompt), 0
        while not answer.done:
            if self._seconds:
                since = time.perf_counter()  # the reader's own time between two pieces is not ours
            step = runner.step([Feed(0, 0, start, tokens, answer.pad)], answer.left - 1)
            pieces = answer.take(step.logits[0])
            self._costs.append(step.cost)
            self._seconds.append(time.perf_counter() - since)
            yield from pieces
            if not answer.done:
                start, tokens = start + len(tokens), (answer.last,)

    def _account(self, runner: Runner) -> Completion:
        answer = self._answer
        costs = self._costs[1:] or self._costs
        seconds = self._seconds[1:] or self._seconds
        steps = len(costs)
        return Completion(
            text=self.text,
            token_ids=self.token_ids,
            model=self.model.name,
            protocol=self.model.protocol,
            finish_reason=answer.finish_reason or "length",
            usage=Usage.of(len(answer.prompt) - answer.pad, len(answer.token_ids), runner.charge),
            timings=Timings(
                first_token_ms=1e3 * self._seconds[0],
                per_token_ms=1e3 * sum(seconds) / steps,
                offline_ms_per_token=1e-3 * sum(cost.offline_us for cost in costs) / steps,
            ),
            traffic=Traffic(
                rounds_per_token=sum(cost.rounds for cost in costs) / steps,
                online_bytes_per_token=sum(cost.online_bytes for cost in costs) / steps,
                offline_bytes_per_token=sum(cost.offline_bytes for cost in costs) / steps,
                client_bytes_per_token=sum(cost.client_bytes for cost in costs) / steps,
            ),
            layers=self.model.layers,
            peers=runner.peers,
            resumes=tuple(runner.resumes),
            receipts=tuple(runner.receipts),
            logprobs=answer.found_logprobs,
        )
