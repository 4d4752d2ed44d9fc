"""From logits to the next token, on the client alone: the peers never learn which token was taken.

Order as in Hugging Face: temperature, then top-k, then top-p. The uniform draw of token number i is SHA-256(seed, i),
so an answer depends on (logits, seed) only, not on a library's generator or its version.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .results import TokenLogprob

_MAX_TOP_LOGPROBS = 100


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose. The default is greedy; raises UsageError for a setting out of range."""

    temperature: float = 0.0  # 0: the most likely token (lowest id on a tie)
    top_k: int | None = None  # keep the k most likely tokens
    top_p: float | None = None  # keep the smallest set of tokens that holds this probability
    seed: int | None = None  # None: a fresh one, so that answers differ
    logprobs: bool = False
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UsageError(f"temperature is {self.temperature}; it must be 0 (greedy) or a positive number")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"top_k is {self.top_k}; it must be at least 1, or left out to keep every token")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if not 0 <= self.top_logprobs <= _MAX_TOP_LOGPROBS:
            raise UsageError(f"top_logprobs is {self.top_logprobs}; it must be between 0 and {_MAX_TOP_LOGPROBS}")
        if self.top_logprobs and not self.logprobs:
            raise UsageError("top_logprobs needs logprobs=True")


class Sampler:
    """Chooses one token after another; one sampler per answer."""

    def __init__(self, sampling: Sampling, number: int = 0) -> None:
        """`number`: of several answers with the same seed."""
        self._sampling = sampling
        seed = secrets.token_bytes(32) if sampling.seed is None else str(sampling.seed).encode()
        if number:
            seed += b"/%d" % number
        self._seed = hashlib.sha256(b"tacit sampling" + seed).digest()
        self._drawn = 0

    def choose(self, logits: NDArray[np.float64]) -> int:
        """The next token id, from logits (V,). Raises UsageError if they are not V > 0 finite numbers."""
        if logits.ndim != 1 or not logits.size or not np.isfinite(logits).all():
            raise UsageError("logits must be a row of finite numbers")
        s = self._sampling
        if s.temperature == 0:
            return int(np.argmax(logits))
        # Best first, ties by token id, so that cutting to k or to p is the same on every machine.
        order = np.argsort(-logits, kind="stable")[: s.top_k]
        with np.errstate(over="ignore"):  # a tiny temperature: minus infinity, and weight 0, is what is meant
            weights = np.exp((logits[order] - logits[order[0]]) / s.temperature)
        cumulative = np.cumsum(weights)
        if s.top_p is not None:
            kept = int(np.searchsorted(cumulative, s.top_p * cumulative[-1])) + 1
            cumulative = cumulative[:kept]
        place = int(np.searchsorted(cumulative, self._uniform() * cumulative[-1], side="right"))
        return int(order[min(place, len(cumulative) - 1)])

    def logprob(self, logits: NDArray[np.float64], token_id: int) -> TokenLogprob | None:
        """What the model gave the chosen token, if the settings ask for it."""
        if not self._sampling.logprobs:
            return None
        peak = logits.max()
        normalised = logits - peak - np.log(np.exp(logits - peak).sum())
        best = np.argsort(-normalised, kind="stable")[: self._sampling.top_logprobs]
        return TokenLogprob(token_id, float(normalised[token_id]), tuple((int(i), float(normalised[i])) for i in best))

    def _uniform(self) -> float:
        """53 uniform bits in [0, 1)."""
        digest = hashlib.sha256(self._seed + self._drawn.to_bytes(8, "little")).digest()
        self._drawn += 1
        return (int.from_bytes(digest[:8], "little") >> 11) * 2.0**-53
