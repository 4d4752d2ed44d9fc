"""Server-sent events: chunks as they come, and a comment every second, so that nothing looks frozen.

A stream begins after FIRST_SECONDS at the latest; a failure within that time is an ordinary HTTP error, a later one the
last event of the stream.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Protocol

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from ..events import Ended, Finished, Opened, Progress, Said
from .problems import Problem
from .running import Account, Running

FIRST_SECONDS = 0.7
PING_SECONDS = 1.0

Chunks = Iterable[ServerSentEvent]


class Writer(Protocol):
    """How one kind of request tells its answers. `place` is the answer's among all of the request."""

    def begin(self) -> Chunks: ...

    def progress(self) -> Chunks:
        """More of the prompt is through."""

    def said(self, place: int, said: Said) -> Chunks: ...

    def ended(self, place: int) -> Chunks: ...

    def finished(self, account: Account) -> Chunks: ...

    def failed(self, problem: Problem) -> Chunks: ...


class Stream(EventSourceResponse):
    """The answers as a stream; when it ends, however it does, they are cancelled."""

    def __init__(self, running: Running, writer: Writer) -> None:
        super().__init__(_events(running, writer), ping=PING_SECONDS, sep="\n", ping_message_factory=_still_there)
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._running.cancel()


async def streamed(running: Running, writer: Writer) -> Stream:
    """Raises Problem for a failure that comes before the stream begins."""
    await running.begin(FIRST_SECONDS)
    return Stream(running, writer)


async def _events(running: Running, writer: Writer) -> AsyncIterator[ServerSentEvent]:
    for chunk in writer.begin():
        yield chunk
    try:
        async for group, event in running.events():
            for chunk in _told(running, writer, group, event):
                yield chunk
        for chunk in writer.finished(running.account):
            yield chunk
    except Problem as problem:
        for chunk in writer.failed(problem):
            yield chunk


def _told(running: Running, writer: Writer, group: int, event: object) -> Chunks:
    match event:
        case Opened():
            return [ServerSentEvent(comment="the private session is open")]
        case Progress():
            return writer.progress()
        case Said():
            return writer.said(running.place(group, event.index), event)
        case Ended():
            return writer.ended(running.place(group, event.index))
        case Finished() | _:
            return ()


def event(data: Mapping[str, Any], name: str | None = None) -> ServerSentEvent:
    """One event with JSON in it, in ASCII: some readers take other characters for ends of lines."""
    return ServerSentEvent(json.dumps(data), event=name, sep="\n")


def error_event(problem: Problem) -> ServerSentEvent:
    """The last one of a stream that fails."""
    return event(problem.body)


def progress_of(running: Running) -> dict[str, int]:
    """How much of the prompts is through, as llama.cpp tells it."""
    return {
        "total": running.prompt_tokens,
        "cache": running.prompt_cached,
        "processed": running.prompt_done,
        "time_ms": running.milliseconds,
    }


def _still_there() -> ServerSentEvent:
    return ServerSentEvent(comment="still there", sep="\n")


DONE = ServerSentEvent("[DONE]", sep="\n")
