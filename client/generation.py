"""The loop of an answer: a step of the model, a token, its text; and afterwards the account.

Whoever runs the model stands behind `Runner`: two compute peers (session.py) or this machine in the clear (plain.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..quotes import Charge
from ..receipts import Receipt
from .results import Completion, FinishReason, Piece, Resume, Timings, TokenLogprob, Traffic, Usage
from .sampling import Sampler, Sampling
from .tokens import Detokenizer, StopScanner, Tokenizer, prompt_ids


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


@dataclass(frozen=True, slots=True)
class Step:
    logits: NDArray[np.float64]  # (V,)
    cost: StepCost


class Runner(Protocol):
    """Runs the model, one step after another, for one answer."""

    @property
    def peers(self) -> tuple[str, ...]:
        """Who runs it now, in role order."""

    @property
    def resumes(self) -> Sequence[Resume]:
        """Peers that were lost and replaced so far."""

    @property
    def receipts(self) -> Sequence[Receipt]:
        """What the compute peers signed; there once the runner has finished."""

    @property
    def charge(self) -> Charge | None:
        """What the session that gave the last token costs; None where nobody is paid."""

    def step(self, tokens: Sequence[int], ahead: int) -> Step:
        """Logits after these tokens; at most `ahead` more steps of one token will follow."""

    def finish(self) -> None:
        """The answer is complete: part in order."""

    def abort(self) -> None:
        """Part at once, whatever state the session is in. Never raises."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the client knows about a model from its manifest."""

    name: str
    protocol: str
    manifest_hash: str
    vocab: int
    context: int
    layers: int
    bos: int | None
    eos: tuple[int, ...]


class Generation:
    """One answer on its way. Iterate it for `Piece`s of text; then `result` holds the whole.

    Nothing is sent before the first piece is asked for. Leaving the loop early, `close()`, or an error ends the
    session; `text` and `token_ids` keep what had come by then.
    """

    def __init__(
        self,
        model: ModelFacts,
        tokenizer: Tokenizer,
        prompt: str | Sequence[int],
        start: Callable[[int, int], Runner],
        *,
        max_new_tokens: int,
        sampling: Sampling,
        stop: Sequence[str] = (),
        ignore_eos: bool = False,
    ) -> None:
        """`start(prompt_tokens, max_new_tokens)` opens the session. Raises UsageError for what cannot be done."""
        if max_new_tokens < 1:
            raise UsageError(f"max_new_tokens is {max_new_tokens}; it must be at least 1")
        self.model = model
        self._prompt = prompt_ids(tokenizer, prompt, model.context)
        # The last token is never fed back, so it may stand just behind the context.
        self._max_new_tokens = min(max_new_tokens, model.context - len(self._prompt) + 1)
        self._sampler = Sampler(sampling)
        self._logprobs: list[TokenLogprob] | None = [] if sampling.logprobs else None
        self._detokenizer = Detokenizer(tokenizer, self._prompt)
        self._stop = StopScanner(stop)
        self._eos = () if ignore_eos else model.eos
        self._start = start
        self._token_ids: list[int] = []
        self._text: list[str] = []
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
        return "".join(self._text)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens so far, without the end-of-text token."""
        return tuple(self._token_ids)

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
        runner = self._start(len(self._prompt), self._max_new_tokens)
        self._setup_seconds = time.perf_counter() - asked
        try:
            try:
                reason = yield from self._steps(runner, asked)
            except GeneratorExit:  # the reader left between two steps: an answer that ended early, not a failure
                runner.finish()
                raise
            runner.finish()
        except GeneratorExit:
            raise
        except BaseException:  # Ctrl-C too: the peers must not keep a session nobody reads
            runner.abort()
            raise
        self._result = self._account(reason, runner)

    def _steps(self, runner: Runner, since: float) -> Generator[Piece, None, FinishReason]:
        tokens, pending = self._prompt, list[int]()
        reason: FinishReason = "length"
        for left in range(self._max_new_tokens - 1, -1, -1):
            if self._seconds:
                since = time.perf_counter()  # the reader's own time between two pieces is not ours
            step = runner.step(tokens, left)
            chosen = self._sampler.choose(step.logits)
            self._costs.append(step.cost)
            self._seconds.append(time.perf_counter() - since)
            if chosen in self._eos:
                reason = "stop"
                break
            self._token_ids.append(chosen)
            if self._logprobs is not None and (logprob := self._sampler.logprob(step.logits, chosen)):
                self._logprobs.append(logprob)
            pending.append(chosen)
            if text := self._stop.add(self._detokenizer.add(chosen)):
                yield self._piece(text, pending)
            if self._stop.stopped:
                reason = "stop"
                break
            tokens = [chosen]
        if not self._stop.stopped:
            if rest := self._stop.add(self._detokenizer.flush()) + self._stop.flush():
                yield self._piece(rest, pending)
            if self._stop.stopped:
                reason = "stop"
        return reason

    def _piece(self, text: str, pending: list[int]) -> Piece:
        piece = Piece(text, pending)
        pending.clear()
        self._text.append(text)
        return piece

    def _account(self, reason: FinishReason, runner: Runner) -> Completion:
        costs = self._costs[1:] or self._costs
        seconds = self._seconds[1:] or self._seconds
        steps = len(costs)
        return Completion(
            text=self.text,
            token_ids=self.token_ids,
            model=self.model.name,
            protocol=self.model.protocol,
            finish_reason=reason,
            usage=Usage.of(len(self._prompt), len(self._token_ids), runner.charge),
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
            logprobs=None if self._logprobs is None else tuple(self._logprobs),
        )
