"""From a request's parameters to answers that the batcher computes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..answer import Answer
from ..sampling import Sampling
from .offers import Served
from .problems import Problem
from .prompting import Shape
from .replies import PromptDetails, Usage
from .requests import Asked, Sampled
from .running import Account

LEAST_P = 1e-9  # top_p 0: the most likely token alone


@dataclass(frozen=True, slots=True)
class Limits:
    """What a gateway sets. `max_tokens`: of an answer to a chat that does not say; `answers`: at once, of all requests."""

    max_tokens: int = 1024
    answers: int = 256


@dataclass(frozen=True, slots=True)
class Label:
    """What all chunks of an answer carry."""

    id: str
    model: str
    fingerprint: str
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def fresh(cls, kind: str, served: Served) -> Label:
        return cls(f"{kind}{secrets.token_hex(12)}", served.facts.name, f"fp_{served.facts.manifest_hash[:16]}")


def check_stream(asked: Asked) -> None:
    """Raises Problem for what has a meaning in streams only."""
    if isinstance(asked, Sampled) and not asked.stream:
        for name, given in (("stream_options", asked.stream_options), ("return_progress", asked.return_progress)):
            if given:
                raise Problem(400, f"{name} needs stream: true", param=name, code="invalid_value")


def encoded(served: Served, prompt: str | Sequence[int], param: str) -> list[int]:
    """Token ids of a prompt. Raises Problem if it is too long, UsageError for what is no prompt."""
    return served.fitting(served.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt), param)


def sampling_of(asked: Asked, seed: int | None = None, logprobs: int | None = None) -> Sampling:
    """`logprobs`: how many of the most likely tokens to show; None: show none at all."""
    return Sampling(
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_k=asked.top_k,
        top_p=None if asked.top_p is None else max(asked.top_p, LEAST_P),
        seed=seed,
        logprobs=logprobs is not None,
        top_logprobs=logprobs or 0,
    )


def answers_to(
    served: Served,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    n: int,
    max_tokens: int,
    stop: str | Sequence[str] | None,
    ignore_eos: bool,
    shape: Shape,
) -> list[Answer]:
    """`n` answers to one prompt, which draw differently. Raises UsageError."""
    return [
        Answer(
            served.facts,
            served.tokenizer,
            prompt,
            max_new_tokens=max_tokens,
            sampling=sampling,
            stop=(stop,) if isinstance(stop, str) else stop or (),
            ignore_eos=ignore_eos,
            number=number,
            padded=served.padded,
            bias=shape.bias,
            constraint=None if shape.form is None else shape.form(),
        )
        for number in range(n)
    ]


def usage_of(account: Account) -> Usage:
    return Usage(
        prompt_tokens=account.prompt_tokens,
        prompt_tokens_details=PromptDetails(cached_tokens=account.cached_tokens),
        completion_tokens=account.completion_tokens,
        total_tokens=account.total_tokens,
        **account.paid.model_dump(),
    )
