"""What a client feeds a model in a step: new tokens of one or several sequences, cut to what the session's sizes allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..batch import Batch, Part
from ..errors import UsageError
from ..sizes import Sizes


@dataclass(frozen=True, slots=True, repr=False)
class Feed:
    """`slot` goes on with `tokens` after the first `start` tokens of sequence `source` (see `batch.Part`).

    `pad`: so many tokens at the sequence's beginning count for nothing (`padding`).
    """

    slot: int
    source: int
    start: int
    tokens: tuple[int, ...]
    pad: int = 0

    @property
    def part(self) -> Part:
        return Part(self.slot, self.source, self.start, len(self.tokens))


def batch_of(feeds: Sequence[Feed], forget: Sequence[int] = ()) -> Batch:
    """As the peers are told of it."""
    return Batch(tuple(feed.part for feed in feeds), tuple(forget))


def steps(feeds: Sequence[Feed], sizes: Sizes) -> list[list[tuple[int, Feed]]]:
    """The feeds in order, cut into steps that a session of these sizes may take; with each piece the number of its feed.

    Raises UsageError for what no step can hold.
    """
    out: list[list[tuple[int, Feed]]] = []
    current: list[tuple[int, Feed]] = []
    rows, pairs = sizes.step_tokens, sizes.step_pairs
    for number, feed in enumerate(feeds):
        rest = feed
        while rest.tokens:
            room = min(rows, fitting(pairs, rest.start))
            if room < 1:
                if not current:
                    raise UsageError(f"a token after {rest.start} others does not fit a session of {sizes}")
                out.append(current)
                current, rows, pairs = [], sizes.step_tokens, sizes.step_pairs
                continue
            piece = replace(rest, tokens=rest.tokens[:room])
            current.append((number, piece))
            rows, pairs = rows - piece.part.rows, pairs - piece.part.pairs
            rest = Feed(rest.slot, rest.slot, piece.part.total, rest.tokens[room:], rest.pad)
            if rest.tokens:  # a sequence is in a step once
                out.append(current)
                current, rows, pairs = [], sizes.step_tokens, sizes.step_pairs
    return [*out, current] if current else out


def common(held: Sequence[int], tokens: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = enumerate(zip(held, tokens, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(held), len(tokens)))


def fitting(pairs: int, start: int) -> int:
    """The most rows r with r start + r (r + 1) / 2 <= pairs."""
    odd = 2 * start + 1
    return (math.isqrt(odd * odd + 8 * max(0, pairs)) - odd) // 2
