"""What an answer is made of: pieces of text as they come, and afterwards the whole with its costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..quotes import Charge
from ..receipts import Receipt

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural log-probability of a chosen token under the model itself (temperature 1, nothing cut off)."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()  # most likely tokens at this place, best first: (token id, logprob)


class Piece(str):
    """Text that became certain with one step of the model: whole characters, made of one or more tokens.

    It is a plain ``str`` (print it, join it) that also knows its ``token_ids``; joined, the pieces are the answer.
    """

    token_ids: tuple[int, ...]

    __slots__ = ("token_ids",)

    def __new__(cls, text: str, token_ids: Sequence[int] = ()) -> Piece:
        piece = super().__new__(cls, text)
        piece.token_ids = tuple(token_ids)
        return piece


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, and what they cost by the peers' quotes, as exact decimal text; None in the clear.

    Charged for are the tokens that went through the model: the prompt, and every token that was fed back for the next. After
    a resume that is the last committee's work alone, to which the tokens so far were a prompt.
    """

    prompt_tokens: int
    completion_tokens: int
    currency: str | None = None
    price_per_million: str | None = None
    cost: str | None = None

    @classmethod
    def of(cls, prompt_tokens: int, completion_tokens: int, charge: Charge | None) -> Usage:
        if charge is None:
            return cls(prompt_tokens, completion_tokens)
        return cls(prompt_tokens, completion_tokens, charge.price.currency, charge.price.decimal, charge.cost)


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds. Per token means per step of one new token; with no such step, the prompt's step stands in."""

    first_token_ms: float  # from the request to the first token, the session's set-up and the whole prompt included
    per_token_ms: float  # online: from one token to the next, as the client sees it
    offline_ms_per_token: float  # the dealer's own time (it runs ahead, so it is mostly not waited for)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes between the three peers, both directions and both compute peers added up; per token as in `Timings`."""

    rounds_per_token: float
    online_bytes_per_token: float  # between the compute peers
    offline_bytes_per_token: float  # from the dealer to the compute peers
    client_bytes_per_token: float  # between the client and both compute peers


@dataclass(frozen=True, slots=True)
class Resume:
    """A peer was lost in the middle of an answer, which then went on elsewhere."""

    after_tokens: int  # new tokens that the client held by then
    lost: str  # the peer that was left out; empty if it could not be told which one failed
    reason: str
    peers: tuple[str, ...]  # who went on, in role order
    seconds: float  # from noticing the loss to the new session


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several answers to a prompt."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Choices:
    """The answers to one prompt of a batch, and what it cost: the prompt is counted and paid once."""

    choices: tuple[Choice, ...]
    model: str
    usage: Usage
    peers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished answer. `token_ids` leaves out the end-of-text token; `text` ends before a stop string."""

    text: str
    token_ids: tuple[int, ...]
    model: str
    protocol: str
    finish_reason: FinishReason  # "stop": end of text or a stop string; "length": max_new_tokens or the context
    usage: Usage
    timings: Timings
    traffic: Traffic
    layers: int
    peers: tuple[str, ...] = ()  # compute peer 0, compute peer 1, dealer, at the end; empty in the clear
    resumes: tuple[Resume, ...] = ()
    receipts: tuple[Receipt, ...] = ()  # of both compute peers at the end; none if one of them was lost while parting
    logprobs: tuple[TokenLogprob, ...] | None = None

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``tacit ask --json``; it has "resumes" only if there were any."""
        traffic = asdict(self.traffic)
        del traffic["client_bytes_per_token"]
        found = {
            "text": self.text,
            "token_ids": list(self.token_ids),
            "model": self.model,
            "protocol": self.protocol,
            "usage": asdict(self.usage),
            "timings": asdict(self.timings),
            "traffic": traffic,
            "layers": self.layers,
        }
        if self.resumes:
            found["resumes"] = [asdict(resume) for resume in self.resumes]
        return found
