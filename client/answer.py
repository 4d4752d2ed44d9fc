"""One answer as it grows: which token comes next, what text that makes, and when it ends. Nothing here talks to anybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, UsageError
from .constraints import Constraint
from .padding import bucket
from .results import FinishReason, Piece, TokenLogprob
from .sampling import Sampler, Sampling, check_bias
from .tokens import Detokenizer, StopScanner, Tokenizer, prompt_ids


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the client knows about a model from its manifest."""

    name: str
    protocol: str
    manifest_hash: str
    vocab: int
    context: int
    layers: int
    bos: int | None
    eos: tuple[int, ...]
    embedding: int | None = None  # entries of a text's vector, for an encoder; None: the model continues texts
    rotary: bool = True  # positions are relative

    @property
    def revealed(self) -> int:
        """Columns of what the peers give: logits, or a vector."""
        return self.vocab if self.embedding is None else self.embedding


class Answer:
    """The tokens and the text of one answer. Feed `prompt` first, then `last` as long as it is not `done`."""

    def __init__(
        self,
        model: ModelFacts,
        tokenizer: Tokenizer,
        prompt: str | Sequence[int],
        *,
        max_new_tokens: int,
        sampling: Sampling,
        stop: Sequence[str] = (),
        ignore_eos: bool = False,
        number: int = 0,
        padded: bool = False,
        bias: Mapping[int, float] | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        """`number`: of several answers to one prompt, which draw differently. `padded`: hide the prompt's length. `bias`: added
        to the logits of these tokens, from -100 (never) to 100 (always). `constraint`: the form of this answer, see
        constraints.py; it ends where that is complete. Raises UsageError for what cannot be done."""
        if constraint is not None and (stop or ignore_eos):
            raise UsageError(
                "an answer of a given form takes no stop strings and no ignore_eos: its form says where it ends"
            )
        check_bias(bias or {}, model.vocab)
        if model.embedding is not None:
            raise UsageError(f"{model.name} embeds texts and continues none: choose another model, or use embed")
        if max_new_tokens < 1:
            raise UsageError(f"max_new_tokens is {max_new_tokens}; it must be at least 1")
        self.model = model
        self.prompt = prompt_ids(tokenizer, prompt, model.context)
        self.pad = 0  # tokens at its beginning that count for nothing
        if padded:
            if model.protocol == "crypten":
                raise UsageError("protocol 'crypten' cannot hide a prompt's length; use 'pair'")
            if not model.rotary:
                raise UsageError(f"{model.name} has learned positions: its prompts' lengths cannot be hidden")
            self.pad = bucket(len(self.prompt), model.context) - len(self.prompt)
            self.prompt = [self.prompt[0]] * self.pad + self.prompt
        # The last token is never fed back, so it may stand just behind the context.
        self.max_new_tokens = min(max_new_tokens, model.context - len(self.prompt) + 1)
        self.finish_reason: FinishReason | None = None
        self.logprobs: list[TokenLogprob] | None = [] if sampling.logprobs else None
        self._sampler = Sampler(sampling, number, bias)
        self._constraint = constraint
        self._detokenizer = Detokenizer(tokenizer, self.prompt)
        self._stop = StopScanner(stop)
        self._eos = () if ignore_eos else model.eos
        self._token_ids: list[int] = []
        self._text: list[str] = []
        self._pending: list[int] = []

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._text)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens so far, without the end-of-text token."""
        return tuple(self._token_ids)

    @property
    def last(self) -> int:
        """The token chosen last."""
        return self._token_ids[-1]

    @property
    def found_logprobs(self) -> tuple[TokenLogprob, ...] | None:
        """Of the tokens so far; None if they were not asked for."""
        return None if self.logprobs is None else tuple(self.logprobs)

    @property
    def done(self) -> bool:
        return self.finish_reason is not None

    @property
    def left(self) -> int:
        """Tokens that may still come."""
        return 0 if self.done else self.max_new_tokens - len(self._token_ids)

    def take(self, logits: NDArray[np.float64]) -> list[Piece]:
        """Choose the next token from logits (V,); the text that is certain now, if any: with the last token perhaps two pieces.

        Raises UsageError if they are not V finite numbers, or the form is too complex; ModelError if no token has it.
        """
        chosen = self._sampler.choose(logits, self._allowed())
        if chosen in self._eos:
            return self._ended("stop")
        self._token_ids.append(chosen)
        if self._constraint is not None:
            self._constraint.advance(chosen)
        if self.logprobs is not None and (logprob := self._sampler.logprob(logits, chosen)):
            self.logprobs.append(logprob)
        self._pending.append(chosen)
        pieces = self._shown(self._stop.add(self._detokenizer.add(chosen)))
        if self._stop.stopped:
            self.finish_reason = "stop"
        elif self._constraint is not None and self._constraint.must_end:
            pieces += self._ended("stop")
        elif len(self._token_ids) == self.max_new_tokens:
            pieces += self._ended("length")
        return pieces

    def _allowed(self) -> NDArray[np.bool_] | None:
        """Tokens that may come next; None: all."""
        if self._constraint is None:
            return None
        allowed = self._constraint.allowed()
        allowed[list(self._eos)] = self._constraint.may_end
        if not allowed.any():
            raise ModelError("no token of this model goes on in the form that the answer must have")
        return allowed

    def _ended(self, reason: FinishReason) -> list[Piece]:
        """No token comes any more: what was held back is certain now."""
        pieces = self._shown(self._stop.add(self._detokenizer.flush()) + self._stop.flush())
        self.finish_reason = "stop" if self._stop.stopped else reason
        return pieces

    def _shown(self, text: str) -> list[Piece]:
        if not text:
            return []
        piece = Piece(text, self._pending)
        self._pending.clear()
        self._text.append(text)
        return [piece]
