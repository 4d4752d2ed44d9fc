"""What a model may do to a secret, at the level of a transformer, so that a protocol can fuse rounds.

Shapes: B sequences, T new tokens of all sequences, S cached tokens of one, C width, F hidden width, H query heads, G key/value
heads, D head size, V vocabulary.

A model (``tacit.models``) is written once over :class:`Protocol` and runs unchanged in the clear (``plain``), on shapes
alone (``trace``), on shares (``pair``: the two compute peers) and as the dealer of ``pair``. A *site* is the dotted name of
one place in the model (``layers.3.norm1``); weights, calibrated ranges and scales are looked up by it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Self, TypeVar
from typing import Protocol as Structure

from ..batch import Batch, Part
from ..manifest import ENCODERS

__all__ = ["Batch", "Cache", "Kept", "Part", "Protocol", "S", "Slots", "Spec", "Tokens"]

S = TypeVar("S")
Tokens = TypeVar("Tokens")
Cache = TypeVar("Cache")


@dataclass(frozen=True, slots=True)
class Spec:
    """An architecture after folding (see ``tacit.models.fold``): all that a protocol needs besides the weights."""

    architecture: str  # "llama", "gpt2" or "bert": which definition runs
    layers: int
    heads: int  # H
    kv_heads: int  # G, divides H
    head_size: int  # D
    width: int  # C
    hidden: int  # F
    vocab: int  # V
    context: int  # longest S + T
    eps: float  # of every norm
    activation: str  # "silu" (gated), "gelu_tanh" or "gelu" or "relu"
    rope_theta: float | None  # None: learned positions are added by embed()

    @property
    def encoder(self) -> bool:
        """Whether the model gives each text one vector, instead of its next token."""
        return self.architecture in ENCODERS

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it."""
        return not self.encoder

    @property
    def revealed(self) -> int:
        """Columns of what the client gets of a sequence: logits of the vocabulary, or an embedding."""
        return self.width if self.encoder else self.vocab

    @property
    def gated(self) -> bool:
        return self.activation == "silu"

    @property
    def qkv_width(self) -> int:
        """Columns of the fused query, key, value projection: (H + 2 G) D."""
        return (self.heads + 2 * self.kv_heads) * self.head_size


class Kept(Structure):
    """What a protocol keeps of one sequence in one layer."""

    def cut(self, length: int) -> None:
        """Forget all but the first `length` tokens."""

    def copy(self, length: int) -> Self:
        """The first `length` tokens, apart from what this one does later."""


K = TypeVar("K", bound=Kept)


class Slots(Generic[K]):
    """One layer's sequences. `made` makes an empty one; `keeps`: whether later steps go on from them."""

    def __init__(self, made: Callable[[], K], keeps: bool = True) -> None:
        self._made = made
        self._keeps = keeps
        self._kept: dict[int, K] = {}

    def put(self, slot: int, kept: K) -> None:
        """Make this what `slot` goes on from."""
        self._kept[slot] = kept

    def __iter__(self) -> Iterator[K]:
        return iter(self._kept.values())

    def take(self, batch: Batch) -> list[K]:
        """What each part goes on from, cut to its start. Every fork is of a sequence as it was before this step."""
        if not self._keeps:
            return [self._made() for _ in batch.parts]
        for slot in batch.forget:
            self._kept.pop(slot, None)
        found = []
        for part in batch.parts:
            kept = self._kept.get(part.source)
            if kept is None:
                kept = self._made()
            elif part.source != part.slot:
                kept = kept.copy(part.start)
            found.append((part, kept))
        for part, kept in found:
            kept.cut(part.start)
            self._kept[part.slot] = kept
        return [kept for _, kept in found]


class Protocol(ABC, Generic[S, Tokens, Cache]):
    """One party's view of a protocol. S is its secret, Tokens what enters embed(), Cache one layer's keys and values of all
    sequences."""

    @abstractmethod
    def new_cache(self) -> list[Cache]:
        """An empty cache for each layer."""

    @abstractmethod
    def embed(self, tokens: Tokens, batch: Batch) -> S:
        """Embedding rows of the batch's T tokens (learned positions added): (T, C)."""

    @abstractmethod
    def linear(self, x: S, site: str) -> S:
        """x W + b with the weights of `site`: (T, C_in) -> (T, C_out)."""

    @abstractmethod
    def add(self, x: S, y: S) -> S:
        """x + y: (T, C)."""

    @abstractmethod
    def scale(self, x: S, site: str) -> S:
        """x g - x m + b with the public vectors of `site`, all of C entries: g and b entry by entry, m (where there is one) a
        product with the row, subtracted from each entry. m = g / C takes the mean away: (T, C) at the residual stream's scale.
        """

    @abstractmethod
    def rms_norm(self, x: S, site: str) -> S:
        """x / sqrt(mean(x^2) + eps) row by row; the norm's weight lives in the next matrix: (T, C)."""

    @abstractmethod
    def attention(self, qkv: S, site: str, cache: Cache, batch: Batch) -> S:
        """Softmax attention of each row to its own sequence, up to itself; rotates q and k first if the spec has RoPE;
        1/sqrt(D) lives in the q columns.

        qkv (T, (H + 2 G) D) = q heads, k heads, v heads -> (T, H D). Appends the new keys and values to `cache`.
        """

    @abstractmethod
    def activation(self, x: S, site: str) -> S:
        """The spec's pointwise activation: (T, F)."""

    @abstractmethod
    def gated(self, gate_up: S, site: str) -> S:
        """silu(g) * u of (T, 2 F) = g, u -> (T, F)."""

    @abstractmethod
    def last(self, x: S, batch: Batch) -> S:
        """The last row of each sequence: (T, C) -> (B, C)."""

    @abstractmethod
    def pool(self, x: S, batch: Batch) -> S:
        """The sum of each sequence's rows: (T, C) -> (B, C). Whoever knows how many there are has the mean."""
