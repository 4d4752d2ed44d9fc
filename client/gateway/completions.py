"""/v1/completions: a text to go on from, or several, as text or token ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sse_starlette import ServerSentEvent

from ..answer import Answer
from ..events import Said
from .asking import Label, answers_to, encoded, sampling_of, usage_of
from .chunks import ChunkWriter
from .offers import Served
from .prompting import Shape, bias_of
from .replies import CompletionReply, TextChoice, TextLogprobs
from .requests import CompletionRequest
from .running import Account, Running
from .spelling import Spelling

MAX_TOKENS = 16  # as the API has it, unless asked for otherwise


def answers(served: Served, request: CompletionRequest) -> list[list[Answer]]:
    """For each prompt, its answers. Raises Problem, UsageError."""
    sampling = sampling_of(request, request.seed, request.logprobs)
    return [
        answers_to(
            served,
            encoded(served, prompt, "prompt"),
            sampling,
            n=request.n or 1,
            max_tokens=request.max_tokens or MAX_TOKENS,
            stop=request.stop,
            ignore_eos=bool(request.ignore_eos),
            shape=Shape(bias_of(request)),
        )
        for prompt in _prompts(request.prompt)
    ]


def _prompts(given: str | list[str] | list[int] | list[list[int]]) -> Sequence[str | Sequence[int]]:
    if isinstance(given, str):
        return [given]
    ids = [one for one in given if isinstance(one, int)]
    return [ids] if ids else [one for one in given if not isinstance(one, int)]


def reply(served: Served, request: CompletionRequest, running: Running, account: Account) -> CompletionReply:
    """All in one piece."""
    label, spelling = Label.fresh("cmpl-", served), Spelling(served.tokenizer)
    return CompletionReply(
        id=label.id,
        created=label.created,
        model=label.model,
        system_fingerprint=label.fingerprint,
        choices=[
            TextChoice(
                index=place,
                text=answer.text,
                logprobs=_logprobs(spelling, request, answer, slice(None), 0),
                finish_reason=answer.finish_reason,
            )
            for place, answer in enumerate(running.answers)
        ],
        usage=usage_of(account),
    )


def _logprobs(
    spelling: Spelling, request: CompletionRequest, answer: Answer, tokens: slice, offset: int
) -> TextLogprobs | None:
    if answer.logprobs is None:
        return None
    return spelling.completion(answer.logprobs[tokens], offset, top=bool(request.logprobs))


class Writer(ChunkWriter):
    """The chunks of a stream (`streams.Writer`)."""

    def __init__(self, served: Served, request: CompletionRequest, running: Running) -> None:
        super().__init__(served, request, running, "cmpl-", "text_completion")
        self._request = request
        self._length = [0] * len(self._answers)  # characters

    def begin(self) -> Iterator[ServerSentEvent]:
        yield from self.progress()

    def nothing(self) -> Mapping[str, Any]:
        return self._choice(0, "")

    def said(self, place: int, said: Said) -> Iterator[ServerSentEvent]:
        for piece in said.pieces:
            until = self._shown[place] + len(piece.token_ids)
            logprobs = self._found(place, until)
            self._length[place] += len(piece)
            yield self._chunk([self._choice(place, str(piece), logprobs)])

    def ended(self, place: int) -> Iterator[ServerSentEvent]:
        """With the tokens that no text was shown of, as those of a stop string."""
        answer = self._answers[place]
        logprobs = self._found(place, len(answer.token_ids))
        yield self._chunk([self._choice(place, "", logprobs, answer.finish_reason)])

    def _found(self, place: int, until: int) -> dict[str, Any] | None:
        tokens = slice(self._shown[place], until)
        self._shown[place] = until
        found = _logprobs(self._spelling, self._request, self._answers[place], tokens, self._length[place])
        return found.model_dump() if found is not None else None

    def _choice(
        self, place: int, text: str, logprobs: dict[str, Any] | None = None, finish: str | None = None
    ) -> dict[str, Any]:
        return {"index": place, "text": text, "logprobs": logprobs, "finish_reason": finish}
