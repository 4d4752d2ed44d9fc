"""How large a session may become: what a client announces, and peers reserve memory for.

| field | most that there is |
| --- | --- |
| sequences | sequences at a time (slots 0 to sequences - 1) |
| step_tokens | new tokens in one step, all sequences together |
| step_pairs | pairs of a new token and one that it sees, in one step |
| kept_tokens | tokens kept at a time, all sequences together |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from .batch import Lengths, Part
from .checks import MAX_SEQUENCES, is_tokens
from .records import Check, Record, integer

STEP_TOKENS = 512  # of a prompt that go into one step: a longer one takes several


@dataclass(frozen=True)
class Sizes(Record):
    """See the table."""

    sequences: int
    step_tokens: int
    step_pairs: int
    kept_tokens: int

    CHECKS: ClassVar[dict[str, Check]] = {
        "sequences": integer(1, MAX_SEQUENCES),
        "step_tokens": is_tokens,
        "step_pairs": integer(1, 1 << 40),
        "kept_tokens": is_tokens,
    }

    @classmethod
    def of(cls, prompts: Sequence[int], new_tokens: int, copies: int = 1) -> Sizes:
        """Just enough for these prompts (their tokens), each continued `copies` times by at most `new_tokens`.

        The last new token is never fed back. Prompts go in together, STEP_TOKENS at a time (`feeds.steps`).
        """
        further, sequences = max(0, new_tokens - 1), len(prompts) * copies
        step = min(sum(prompts), STEP_TOKENS)
        # No prompt's rows of a step see more than its last ones; and every sequence may be in the same step.
        last = [min(tokens, step) for tokens in prompts]
        first = sum(Part(0, 0, tokens - rows, rows).pairs for tokens, rows in zip(prompts, last, strict=True))
        kept = copies * sum(tokens + further for tokens in prompts)
        return cls(sequences, max(step, sequences), max(first, kept), kept)

    def holding(self, tokens: Sequence[int]) -> Sizes:
        """The same, with steps large enough to take sequences of so many tokens in again."""
        again = Sizes.of(tokens, 1)
        return Sizes(
            self.sequences,
            max(self.step_tokens, again.step_tokens),
            max(self.step_pairs, again.step_pairs),
            max(self.kept_tokens, again.kept_tokens),
        )

    def lengths(self, context: int, causal: bool = True) -> Lengths:
        """Of a session of this size, before its first step."""
        return Lengths(self.sequences, self.step_tokens, self.step_pairs, self.kept_tokens, context, causal)

    def fits(self, context: int) -> bool:
        """Whether a model of this context can have such sequences."""
        return self.kept_tokens <= self.sequences * context

    def __str__(self) -> str:
        many = f" in {self.sequences} sequences" if self.sequences > 1 else ""
        return f"{self.kept_tokens} tokens{many}"
