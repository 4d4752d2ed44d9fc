"""/v1/chat/completions: messages, put together by the model's own template."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sse_starlette import ServerSentEvent

from ..answer import Answer
from ..events import Said
from .asking import Label, Limits, answers_to, sampling_of, usage_of
from .chunks import ChunkWriter
from .offers import Served
from .problems import Problem
from .prompting import Reading, chat_prompt, chat_shape, read_answer, waits_for_end
from .replies import AnswerMessage, ChatChoice, ChatLogprobs, ChatReply, Finish
from .requests import ChatRequest
from .running import Account, Running
from .spelling import Spelling


def answers(served: Served, request: ChatRequest, limits: Limits) -> list[list[Answer]]:
    """To the conversation, which is one prompt. Raises Problem, UsageError."""
    shape = chat_shape(served, request)
    prompt = chat_prompt(served, request)
    return [
        answers_to(
            served,
            prompt,
            sampling_of(request, request.seed, _logprobs_wanted(request)),
            n=request.n or 1,
            max_tokens=request.max_completion_tokens or request.max_tokens or limits.max_tokens,
            stop=request.stop,
            ignore_eos=bool(request.ignore_eos),
            shape=shape,
        )
    ]


def _logprobs_wanted(request: ChatRequest) -> int | None:
    """Raises Problem."""
    if request.logprobs:
        return request.top_logprobs or 0
    if request.top_logprobs:
        raise Problem(400, "top_logprobs needs logprobs: true", param="top_logprobs", code="invalid_value")
    return None


def reply(served: Served, request: ChatRequest, running: Running, account: Account) -> ChatReply:
    """All in one piece."""
    label, spelling = Label.fresh("chatcmpl-", served), Spelling(served.tokenizer)
    return ChatReply(
        id=label.id,
        created=label.created,
        model=label.model,
        system_fingerprint=label.fingerprint,
        choices=[_choice(served, request, place, answer, spelling) for place, answer in enumerate(running.answers)],
        usage=usage_of(account),
    )


def _choice(served: Served, request: ChatRequest, place: int, answer: Answer, spelling: Spelling) -> ChatChoice:
    read = read_answer(served, request, answer.text)
    return ChatChoice(
        index=place,
        message=AnswerMessage(content=read.text, tool_calls=read.calls or None),
        logprobs=None if answer.logprobs is None else spelling.chat(answer.logprobs),
        finish_reason=_finish(answer, read),
    )


def _finish(answer: Answer, read: Reading) -> Finish:
    return "tool_calls" if read.calls and answer.finish_reason == "stop" else answer.finish_reason or "length"


class Writer(ChunkWriter):
    """The chunks of a stream (`streams.Writer`). Where the model may call tools, an answer's text comes when it has ended:
    before that nobody knows whether it is a call."""

    def __init__(self, served: Served, request: ChatRequest, running: Running) -> None:
        super().__init__(served, request, running, "chatcmpl-", "chat.completion.chunk")
        self._served = served
        self._request = request
        self._at_the_end = waits_for_end(request)

    def begin(self) -> Iterator[ServerSentEvent]:
        for place in range(len(self._answers)):
            yield self._chunk([self._choice(place, {"role": "assistant", "content": ""})])
        yield from self.progress()

    def nothing(self) -> Mapping[str, Any]:
        return self._choice(0, {})

    def said(self, place: int, said: Said) -> Iterator[ServerSentEvent]:
        if not self._at_the_end:
            for piece in said.pieces:
                logprobs = self._found(place, self._shown[place] + len(piece.token_ids))
                yield self._chunk([self._choice(place, {"content": str(piece)}, logprobs)])

    def ended(self, place: int) -> Iterator[ServerSentEvent]:
        """With the tokens that no text was shown of, as those of a stop string."""
        answer = self._answers[place]
        finish: str | None = answer.finish_reason
        logprobs = self._found(place, len(answer.token_ids))
        if self._at_the_end:
            read = read_answer(self._served, self._request, answer.text)
            finish = _finish(answer, read)
            calls = [{"index": index, **call.model_dump()} for index, call in enumerate(read.calls)]
            delta = ({"content": read.text} if read.text else {}) | ({"tool_calls": calls} if calls else {})
            yield self._chunk([self._choice(place, delta, logprobs)])
            logprobs = None
        yield self._chunk([self._choice(place, {}, logprobs, finish)])

    def _found(self, place: int, until: int) -> ChatLogprobs | None:
        found, start = self._answers[place].logprobs, self._shown[place]
        self._shown[place] = until
        return None if found is None else self._spelling.chat(found[start:until])

    def _choice(
        self, place: int, delta: Mapping[str, Any], logprobs: ChatLogprobs | None = None, finish: str | None = None
    ) -> dict[str, Any]:
        shown = None if logprobs is None else logprobs.model_dump()
        return {"index": place, "delta": delta, "logprobs": shown, "finish_reason": finish}
