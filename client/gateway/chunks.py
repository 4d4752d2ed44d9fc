"""What the streams of completions and of conversations have in common: chunks of choices, the usage at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sse_starlette import ServerSentEvent

from .asking import Label, usage_of
from .offers import Served
from .problems import Problem
from .requests import ChatRequest, CompletionRequest
from .running import Account, Running
from .spelling import Spelling
from .streams import DONE, error_event, event, progress_of


class ChunkWriter(ABC):
    """Half of a `streams.Writer`; the other half knows what a choice looks like."""

    def __init__(
        self, served: Served, request: ChatRequest | CompletionRequest, running: Running, prefix: str, kind: str
    ) -> None:
        """`prefix`: of the stream's id. `kind`: the "object" of its chunks."""
        self._running = running
        self._answers = running.answers
        self._spelling = Spelling(served.tokenizer)
        self._shown = [0] * len(self._answers)  # tokens
        self._with_progress = request.return_progress
        self._with_usage = bool(request.stream_options and request.stream_options.include_usage)
        label = Label.fresh(prefix, served)
        self._head = {
            "id": label.id,
            "object": kind,
            "created": label.created,
            "model": label.model,
            "system_fingerprint": label.fingerprint,
        }

    @abstractmethod
    def nothing(self) -> Mapping[str, Any]:
        """A choice that adds nothing, for chunks about the whole."""

    def progress(self) -> Iterator[ServerSentEvent]:
        if self._with_progress:
            yield self._chunk([self.nothing()], {"prompt_progress": progress_of(self._running)})

    def finished(self, account: Account) -> Iterator[ServerSentEvent]:
        if self._with_usage:
            yield self._chunk([], {"usage": usage_of(account).model_dump()})
        yield DONE

    def failed(self, problem: Problem) -> Iterator[ServerSentEvent]:
        yield error_event(problem)

    def _chunk(self, choices: Sequence[Mapping[str, Any]], more: Mapping[str, Any] | None = None) -> ServerSentEvent:
        usage = {"usage": None} if self._with_usage else {}
        return event({**self._head, "choices": choices, **usage, **(more or {})})
