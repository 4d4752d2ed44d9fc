"""A step of several sequences: what goes on, from where, and what is forgotten; how that is written, and what a session allows.

| bytes | little endian |
| --- | --- |
| 2, 2 | parts, slots to forget |
| 12 for each part | slot (2), source (2), start (4), rows (4) |
| 2 for each slot | forgotten after the step before |

Client, both compute peers and the dealer all see these numbers; they say how many tokens there are, and nothing of them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .checks import MAX_SEQUENCES

_HEAD, _PART, _SLOT = struct.Struct("<HH"), struct.Struct("<HHII"), struct.Struct("<H")
_PLACES = 1 << 32


@dataclass(frozen=True, slots=True)
class Part:
    """One sequence in a step: `slot` goes on with `rows` new tokens after the first `start` tokens of sequence `source`.

    With source = slot the sequence itself goes on; a smaller `start` than its length makes it forget the rest. Another source
    is a fork: the slot begins with a copy of what that sequence was before the step.
    """

    slot: int
    source: int
    start: int  # S
    rows: int

    @property
    def total(self) -> int:
        """Tokens of the sequence after the step."""
        return self.start + self.rows

    @property
    def pairs(self) -> int:
        """Pairs of a new token and one that it sees: those up to its own place."""
        return self.rows * self.start + self.rows * (self.rows + 1) // 2


@dataclass(frozen=True, slots=True)
class Batch:
    """The sequences of one step, each slot at most once; their new tokens stand one below the other: T rows.

    `forget`: slots that are given up before the step.
    """

    parts: tuple[Part, ...]
    forget: tuple[int, ...] = ()

    @classmethod
    def one(cls, rows: int, start: int = 0) -> Batch:
        """A single sequence, slot 0, that goes on with `rows` tokens after `start`."""
        return cls((Part(0, 0, start, rows),))

    @property
    def rows(self) -> int:
        """T."""
        return sum(part.rows for part in self.parts)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence after the step."""
        return max(part.total for part in self.parts)

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """Of each row in its sequence: (T,)."""
        return np.concatenate([np.arange(part.start, part.total) for part in self.parts])

    @property
    def ends(self) -> npt.NDArray[np.int64]:
        """The last row of each sequence: (B,)."""
        return np.cumsum([part.rows for part in self.parts]) - 1

    @property
    def spans(self) -> list[slice]:
        """The rows of each sequence."""
        ends = (self.ends + 1).tolist()
        return [slice(end - part.rows, end) for end, part in zip(ends, self.parts, strict=True)]

    def pairs(self, causal: bool = True) -> int:
        """P: pairs of a row and a token that it sees, those up to its own place, or all of its sequence."""
        return sum(part.pairs for part in self.parts) if causal else self.dense

    @property
    def dense(self) -> int:
        """Entries of the sequences' score matrices, visible or not."""
        return sum(part.rows * part.total for part in self.parts)

    @property
    def next(self) -> Batch:
        """The step in which every sequence of this one goes on by one token."""
        return Batch(tuple(Part(part.slot, part.slot, part.total, 1) for part in self.parts))

    def to_bytes(self) -> bytes:
        """As it travels."""
        parts = [_PART.pack(part.slot, part.source, part.start, part.rows) for part in self.parts]
        slots = [_SLOT.pack(slot) for slot in self.forget]
        return b"".join([_HEAD.pack(len(self.parts), len(self.forget)), *parts, *slots])

    @classmethod
    def from_bytes(cls, raw: bytes) -> Batch:
        """Raises ValueError for anything but one batch, no longer than MAX_SEQUENCES allows."""
        if len(raw) < _HEAD.size:
            raise ValueError("is no description of a step")
        parts, slots = _HEAD.unpack_from(raw)
        if max(parts, slots) > MAX_SEQUENCES or len(raw) != _HEAD.size + parts * _PART.size + slots * _SLOT.size:
            raise ValueError("is no description of a step")
        at = _HEAD.size + parts * _PART.size
        return cls(
            tuple(Part(*_PART.unpack_from(raw, _HEAD.size + i * _PART.size)) for i in range(parts)),
            tuple(int(_SLOT.unpack_from(raw, at + i * _SLOT.size)[0]) for i in range(slots)),
        )


class Lengths:
    """How long each sequence of a session is; whether a step may come next."""

    def __init__(
        self, sequences: int, step_tokens: int, step_pairs: int, kept_tokens: int, context: int, causal: bool = True
    ) -> None:
        """As announced (`sizes.Sizes`); `context` is the model's. Without `causal` every step takes whole sequences, and
        nothing is kept of them."""
        self._limits = sequences, step_tokens, step_pairs, kept_tokens
        self._context, self._causal = context, causal
        self._kept: dict[int, int] = {}

    @property
    def kept(self) -> Mapping[int, int]:
        """Tokens kept of each slot."""
        return self._kept

    def copy(self) -> Lengths:
        """The same, to try what comes next."""
        other = Lengths(*self._limits, self._context, self._causal)
        other._kept = dict(self._kept)
        return other

    def advance(self, batch: Batch) -> None:
        """Take a step. Raises ValueError saying what is not allowed, and stays as it is."""
        sequences, step_tokens, step_pairs, kept_tokens = self._limits
        kept = {slot: length for slot, length in self._kept.items() if slot not in batch.forget}
        slots = [part.slot for part in batch.parts]
        if not slots or len(set(slots)) != len(slots) or max(slots) >= sequences:
            raise ValueError(f"is a step of other than 1 to {sequences} different sequences")
        for part in batch.parts:
            if not part.rows:
                raise ValueError("is a step with a sequence that has no new token")
            if part.start > kept.get(part.source, 0) or (part.source != part.slot and part.source not in kept):
                raise ValueError("is a step that goes on from tokens that are not there")
            if not self._causal and (part.start or part.source != part.slot):
                raise ValueError("is a step with a part of a sequence, for a model that takes them whole")
            if part.total > self._context:
                raise ValueError(f"is a step of {part.total} tokens in a context of {self._context}")
        kept |= {part.slot: part.total for part in batch.parts}
        for what, found, most in (
            ("new tokens", batch.rows, step_tokens),
            ("pairs of tokens", batch.pairs(self._causal), step_pairs),
            ("kept tokens", sum(kept.values()), kept_tokens),
        ):
            if found > most:
                raise ValueError(f"is a step with {found} {what}, announced were at most {most}")
        self._kept = kept if self._causal else {}


def written(parts: Sequence[Part]) -> str:
    """For messages: how many tokens of how many sequences."""
    rows = sum(part.rows for part in parts)
    return f"{rows} token{'s' * (rows != 1)} of {len(parts)} sequence{'s' * (len(parts) != 1)}"
