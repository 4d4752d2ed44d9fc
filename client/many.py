"""Several prompts, or several answers to each, at the price of one in rounds: they share every step."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence

from ..sizes import Sizes
from .answer import Answer, ModelFacts
from .batcher import Batcher
from .events import Event, Failed, Finished, Heard
from .generation import Runner
from .results import Choice, Choices


def complete_all(
    model: ModelFacts,
    start: Callable[[Sizes], Runner],
    requests: Sequence[Sequence[Answer]],
    heard: Callable[[int, Event], None] = lambda number, event: None,
) -> list[Choices]:
    """The answers to every request (answers to one prompt), all in one session just large enough for them.

    `heard` is told of what happens to request `number`, from another thread. Raises the first error that ends a request.
    """
    done: queue.Queue[tuple[int, Event]] = queue.Queue()

    def listener(number: int) -> Heard:
        def listen(event: Event) -> None:
            heard(number, event)
            if isinstance(event, Finished | Failed):
                done.put((number, event))

        return listen

    with Batcher(model, start, sizes=_sizes(requests), idle=0) as batcher:
        batcher.submit_all([(answers, listener(number)) for number, answers in enumerate(requests)])
        ended: dict[int, Finished] = {}
        while len(ended) < len(requests):
            number, event = done.get()
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Finished):
                ended[number] = event
    return [
        Choices(
            tuple(
                Choice(one.text, one.token_ids, one.finish_reason or "length", one.found_logprobs) for one in answers
            ),
            model.name,
            ended[number].usage,
            ended[number].peers,
        )
        for number, answers in enumerate(requests)
    ]


def _sizes(requests: Sequence[Sequence[Answer]]) -> Sizes:
    """Of a session that holds all of them at once."""
    prompts = [len(answers[0].prompt) for answers in requests]
    most = max(len(answers) for answers in requests)
    needs = sum(len(one.prompt) + one.max_new_tokens - 1 for answers in requests for one in answers)
    sizes = Sizes.of(prompts, 1)
    sequences = sum(map(len, requests))
    return Sizes(
        max(sequences, most),
        max(sizes.step_tokens, sequences),
        max(sizes.step_pairs, needs),
        max(sizes.kept_tokens, needs),
    )
