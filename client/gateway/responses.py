"""/v1/responses, its stateless part: text in, text out. Nothing is kept, so nothing can be referred to later."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

from sse_starlette import ServerSentEvent

from ..answer import Answer
from ..events import Said
from .asking import Label, Limits, answers_to, sampling_of
from .offers import Served
from .problems import Problem
from .prompting import conversation, text_shape
from .replies import Incomplete, OutputMessage, OutputText, PromptDetails, ResponseError, ResponseReply, ResponseUsage
from .requests import InputMessage, ResponsesRequest
from .running import Account, Running
from .streams import event


def answers(served: Served, request: ResponsesRequest, limits: Limits) -> list[list[Answer]]:
    """Raises Problem, UsageError."""
    shape = text_shape(served, request.text)
    return [
        answers_to(
            served,
            conversation(served, _messages(request), "input"),
            sampling_of(request),
            n=1,
            max_tokens=request.max_output_tokens or limits.max_tokens,
            stop=None,
            ignore_eos=bool(request.ignore_eos),
            shape=shape,
        )
    ]


def _messages(request: ResponsesRequest) -> list[dict[str, Any]]:
    found = [{"role": "system", "content": request.instructions}] if request.instructions else []
    if isinstance(request.input, str):
        return [*found, {"role": "user", "content": request.input}]
    return [*found, *map(_message, request.input)]


def _message(given: InputMessage) -> dict[str, Any]:
    role = "system" if given.role == "developer" else given.role
    parts = [given.content] if isinstance(given.content, str) else [part.text for part in given.content]
    return {"role": role, "content": "\n".join(parts)}


def reply(served: Served, request: ResponsesRequest, running: Running, account: Account) -> ResponseReply:
    """All in one piece."""
    return _Sheet(served, request).ended(running.answers[0], account)


class _Sheet:
    """The response object, at any time of the answer."""

    def __init__(self, served: Served, request: ResponsesRequest) -> None:
        self._label = Label.fresh("resp_", served)
        self._request = request
        self.item = f"msg_{secrets.token_hex(12)}"

    def empty(self) -> ResponseReply:
        request = self._request
        form = request.text.format if request.text and request.text.format else None
        return ResponseReply(
            id=self._label.id,
            created_at=self._label.created,
            status="in_progress",
            instructions=request.instructions,
            max_output_tokens=request.max_output_tokens,
            metadata=request.metadata or {},
            model=self._label.model,
            output=[],
            temperature=1.0 if request.temperature is None else request.temperature,
            text={"format": form.model_dump(by_alias=True, exclude_none=True) if form else {"type": "text"}},
            top_p=1.0 if request.top_p is None else request.top_p,
        )

    def message(self, answer: Answer) -> OutputMessage:
        whole = answer.finish_reason == "stop"
        return OutputMessage(
            id=self.item, status="completed" if whole else "incomplete", content=[OutputText(text=answer.text)]
        )

    def ended(self, answer: Answer, account: Account) -> ResponseReply:
        whole = answer.finish_reason == "stop"
        return self.empty().model_copy(
            update={
                "status": "completed" if whole else "incomplete",
                "incomplete_details": None if whole else Incomplete(reason="max_output_tokens"),
                "output": [self.message(answer)],
                "usage": ResponseUsage(
                    input_tokens=account.prompt_tokens,
                    input_tokens_details=PromptDetails(cached_tokens=account.cached_tokens),
                    output_tokens=account.completion_tokens,
                    total_tokens=account.total_tokens,
                    **account.paid.model_dump(),
                ),
            }
        )

    def failed(self, problem: Problem) -> ResponseReply:
        error = ResponseError(code="server_error", message=problem.message)
        return self.empty().model_copy(update={"status": "failed", "error": error})


class Writer:
    """The events of a stream (`streams.Writer`)."""

    def __init__(self, served: Served, request: ResponsesRequest, running: Running) -> None:
        self._answer = running.answers[0]
        self._sheet = _Sheet(served, request)
        self._at = {"item_id": self._sheet.item, "output_index": 0, "content_index": 0}
        self._sent = 0

    def begin(self) -> Iterator[ServerSentEvent]:
        empty = self._sheet.empty().model_dump()
        yield self._event("response.created", response=empty)
        yield self._event("response.in_progress", response=empty)
        item = OutputMessage(id=self._sheet.item, status="in_progress", content=[]).model_dump()
        yield self._event("response.output_item.added", output_index=0, item=item)
        yield self._event("response.content_part.added", **self._at, part=OutputText(text="").model_dump())

    def progress(self) -> Iterator[ServerSentEvent]:
        yield from ()

    def said(self, place: int, said: Said) -> Iterator[ServerSentEvent]:
        for piece in said.pieces:
            yield self._event("response.output_text.delta", **self._at, delta=str(piece), logprobs=[])

    def ended(self, place: int) -> Iterator[ServerSentEvent]:
        text = self._answer.text
        yield self._event("response.output_text.done", **self._at, text=text, logprobs=[])
        yield self._event("response.content_part.done", **self._at, part=OutputText(text=text).model_dump())
        item = self._sheet.message(self._answer).model_dump()
        yield self._event("response.output_item.done", output_index=0, item=item)

    def finished(self, account: Account) -> Iterator[ServerSentEvent]:
        ended = self._sheet.ended(self._answer, account)
        yield self._event(f"response.{ended.status}", response=ended.model_dump())

    def failed(self, problem: Problem) -> Iterator[ServerSentEvent]:
        yield self._event("response.failed", response=self._sheet.failed(problem).model_dump())

    def _event(self, kind: str, **data: Any) -> ServerSentEvent:
        number, self._sent = self._sent, self._sent + 1
        return event({"type": kind, "sequence_number": number, **data}, kind)
