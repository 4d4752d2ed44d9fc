"""Which models the gateway answers with, and who computes for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..answer import ModelFacts
from ..batcher import Batcher
from ..templates import ChatTemplate
from ..tokens import Tokenizer
from .problems import Problem
from .replies import Paid


@dataclass(frozen=True, slots=True)
class Card:
    """A model as a list shows it. `context`: tokens; None where the coordinator does not say."""

    name: str
    context: int | None


@dataclass(frozen=True, slots=True)
class Served:
    """A model that can be asked. Without `template` it takes no messages, only text to go on from. `padded`: the lengths of its
    prompts are hidden."""

    facts: ModelFacts
    tokenizer: Tokenizer
    batcher: Batcher
    template: ChatTemplate | None = None
    padded: bool = False

    def fitting(self, prompt: list[int], param: str) -> list[int]:
        """The prompt, if it fits the model's context. Raises Problem naming the parameter that it comes from."""
        if len(prompt) > self.facts.context:
            raise Problem(
                400,
                f"this model's maximum context length is {self.facts.context} tokens, and the prompt has {len(prompt)}: shorten it",
                param=param,
                code="context_length_exceeded",
            )
        return prompt


@dataclass(frozen=True, slots=True)
class Embedded:
    """`vectors`: one for each text, of length 1."""

    vectors: Sequence[Sequence[float]]
    tokens: int
    paid: Paid


Embedder = Callable[[Sequence[str], str], Embedded]
"""Of texts, by the model of this name; one call at a time. Raises UsageError for texts or a model that cannot be embedded, or a loss."""


class Offers(Protocol):
    """Several threads may use it; it may take as long as a request to the coordinator."""

    @property
    def embedder(self) -> Embedder | None:
        """None as long as no embedding model is served."""

    def cards(self) -> Sequence[Card]:
        """What is served just now. Raises NetworkError or PeerError of the coordinator."""

    def get(self, name: str) -> Served | None:
        """The model of this name; None if there is none. Raises as `cards` does."""
