"""A request's answers on their way: what the batcher's thread tells becomes events of the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from starlette.requests import Request
from starlette.types import Receive

from ..answer import Answer
from ..batcher import Batcher, Ticket
from ..events import Event, Failed, Finished, Progress
from .problems import problem_of
from .replies import Paid


@dataclass(frozen=True, slots=True)
class Account:
    """Of a whole request."""

    prompt_tokens: int
    cached_tokens: int  # of the prompts: the peers held them already
    completion_tokens: int
    paid: Paid

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class Running:
    """The answers to each of a request's prompts. Cancel it, whatever happens: then the peers forget what is left of it."""

    def __init__(
        self, batcher: Batcher, groups: Sequence[Sequence[Answer]], over: Callable[[], None] = lambda: None
    ) -> None:
        """`groups`: for each prompt, its answers. `over` is called once, when they have finished or are cancelled.
        Call it in the event loop. Raises as `Batcher.submit_all` does."""
        self.groups = groups
        self._since = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._first: tuple[int, Event] | None = None
        self._finished: dict[int, Finished] = {}
        self._progress: dict[int, Progress] = {}
        self._over: Callable[[], None] | None = over
        self._tickets: list[Ticket] = []
        try:
            self._tickets = batcher.submit_all(
                [(answers, partial(self._heard, number)) for number, answers in enumerate(groups)]
            )
        except BaseException:
            self.cancel()
            raise

    @property
    def answers(self) -> list[Answer]:
        """All of them, as the API counts them: those to the first prompt, then those to the second ..."""
        return [answer for group in self.groups for answer in group]

    def place(self, group: int, index: int) -> int:
        """Of an answer among all."""
        return sum(len(answers) for answers in self.groups[:group]) + index

    @property
    def prompt_tokens(self) -> int:
        return sum(len(answers[0].prompt) for answers in self.groups)

    @property
    def prompt_done(self) -> int:
        """Tokens of the prompts that are through."""
        return sum(progress.done for progress in self._progress.values())

    @property
    def prompt_cached(self) -> int:
        """Tokens of the prompts that the peers held already."""
        return sum(progress.cached for progress in self._progress.values())

    @property
    def milliseconds(self) -> int:
        """Since the request."""
        return int(1e3 * (time.monotonic() - self._since))

    async def begin(self, seconds: float) -> None:
        """Wait so long for a first sign. Raises Problem if it is a failure: then nothing was answered yet."""
        with contextlib.suppress(TimeoutError):
            self._first = await asyncio.wait_for(self._told.get(), seconds)
        if self._first is not None and isinstance(self._first[1], Failed):
            raise problem_of(self._first[1].error)

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """(group, event), until all have finished. Raises Problem if one failed."""
        while len(self._finished) < len(self.groups):
            group, event = self._first or await self._told.get()
            self._first = None
            if isinstance(event, Failed):
                raise problem_of(event.error)
            if isinstance(event, Finished):
                self._finished[group] = event
            elif isinstance(event, Progress):
                self._progress[group] = event
            yield group, event

    async def finish(self) -> Account:
        """Read what is left. Raises Problem if one failed."""
        async for _ in self.events():
            pass
        return self.account

    @property
    def account(self) -> Account:
        """Once all have finished."""
        parts = [self._finished[group] for group in sorted(self._finished)]
        usages = [part.usage for part in parts]
        currencies = {usage.currency for usage in usages}
        costs = [usage.cost for usage in usages if usage.cost is not None]
        together = len(currencies) == 1 and len(costs) == len(usages)
        return Account(
            prompt_tokens=sum(usage.prompt_tokens for usage in usages),
            cached_tokens=sum(part.cached for part in parts),
            completion_tokens=sum(usage.completion_tokens for usage in usages),
            paid=Paid(
                cost=float(sum(map(Decimal, costs))) if together else None,
                currency=currencies.pop() if together else None,
                operators=list(dict.fromkeys(operator for part in parts for operator in part.operators)),
            ),
        )

    def cancel(self) -> None:
        """Once it is over, too: of what has finished nothing is left to cancel."""
        for group, ticket in enumerate(self._tickets):
            if group not in self._finished:
                ticket.cancel()
        over, self._over = self._over, None
        if over is not None:
            over()

    def _heard(self, group: int, event: Event) -> None:
        """In the batcher's thread."""
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._told.put_nowait, (group, event))


async def whole(running: Running, request: Request) -> Account | None:
    """All answers of a request that does not stream; None if who asked has left. Raises Problem."""
    finish = asyncio.ensure_future(running.finish())
    left = asyncio.ensure_future(_left(request.receive))
    try:
        await asyncio.wait((finish, left), return_when=asyncio.FIRST_COMPLETED)
        return finish.result() if finish.done() else None
    finally:
        running.cancel()
        for task in (finish, left):
            task.cancel()
        await asyncio.gather(finish, left, return_exceptions=True)


async def _left(receive: Receive) -> None:
    """Returns when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
