"""The oracle: every operation of `protocols.base` in the clear, in float64, and a view on what range checks need."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import UsageError
from ..base import Batch, Protocol, Slots, Spec

Array: TypeAlias = NDArray[np.float64]
Observer: TypeAlias = Callable[[str, str, Array], None]


@dataclass(slots=True)
class KeysValues:
    """One sequence's keys (after rotation) and values in one layer: (S, G, D) each."""

    keys: Array
    values: Array

    def cut(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        self.keys, self.values = self.keys[:length], self.values[:length]

    def copy(self, length: int) -> KeysValues:
        """The first `length` tokens."""
        return KeysValues(self.keys[:length], self.values[:length])

    def append(self, keys: Array, values: Array) -> None:
        """The next tokens."""
        self.keys = np.concatenate([self.keys, keys])
        self.values = np.concatenate([self.values, values])


PlainCache: TypeAlias = Slots[KeysValues]


class Plain(Protocol[Array, Sequence[int], PlainCache]):
    """The model in the clear.

    `observe(site, quantity, values)` is called with:
        embed           output
        …norm1, norm    input, mean_square (without eps)
        …qkv, head      output (every linear site)
        …attention      qk_raw (T, (H + G) D), q, k (after rotation), v, scores (visible ones only, flat),
                        weighted (sum of exp(score - row maximum) v), exp_sum (sum of the same), output
        …act            input, output; or gate, up, output
        ….add           output (after the linear site that it adds)
        …skip1, skip2   output; head of an encoder too

    With an observer `last` keeps every row, and logits are (T, V): any position may be the last one of some step, so a
    range that the last layer reached at one position only would be too small.
    """

    def __init__(self, spec: Spec, weights: Mapping[str, Array], observe: Observer | None = None) -> None:
        self.spec = spec
        self._weights = weights
        self._observe = observe
        self._linear_site = ""

    def _see(self, site: str, quantity: str, values: Array) -> None:
        if self._observe is not None:
            self._observe(site, quantity, values)

    def new_cache(self) -> list[PlainCache]:
        nothing = np.empty((0, self.spec.kv_heads, self.spec.head_size))
        return [Slots(lambda: KeysValues(nothing, nothing), self.spec.causal) for _ in range(self.spec.layers)]

    def embed(self, tokens: Sequence[int], batch: Batch) -> Array:
        """UsageError for no tokens, an unknown token, or more positions than the context has."""
        ids = np.asarray(tokens)
        if ids.ndim != 1 or not ids.size or ids.dtype.kind not in "iu":
            raise UsageError("a step takes one or more token ids")
        if ids.min() < 0 or ids.max() >= self.spec.vocab:
            raise UsageError(f"a token id lies outside 0 to {self.spec.vocab - 1}")
        if ids.size != batch.rows:
            raise UsageError(f"{ids.size} tokens for a step of {batch.rows}")
        if any(part.start < 0 for part in batch.parts) or batch.longest > self.spec.context:
            raise UsageError(f"{batch.longest} tokens do not fit the model's context of {self.spec.context}")
        x: Array = self._weights["embed"][ids]
        if self.spec.rope_theta is None:
            x = x + self._weights["positions"][batch.positions]
        self._see("embed", "output", x)
        return x

    def linear(self, x: Array, site: str) -> Array:
        y = x @ self._weights[f"{site}.weight"]
        bias = self._weights.get(f"{site}.bias")
        if bias is not None:
            y = y + bias
        self._linear_site = site
        self._see(site, "output", y)
        return y

    def add(self, x: Array, y: Array) -> Array:
        z = x + y
        self._see(f"{self._linear_site}.add", "output", z)
        return z

    def scale(self, x: Array, site: str) -> Array:
        y = x * self._weights[f"{site}.scale"] + self._weights[f"{site}.bias"]
        mean = self._weights.get(f"{site}.mean")
        if mean is not None:
            y = y - (x @ mean)[:, None]
        self._see(site, "output", y)
        return y

    def rms_norm(self, x: Array, site: str) -> Array:
        mean_square: Array = np.mean(x * x, axis=-1, keepdims=True)
        self._see(site, "input", x)
        self._see(site, "mean_square", mean_square)
        return x / np.sqrt(mean_square + self.spec.eps)

    def attention(self, qkv: Array, site: str, cache: PlainCache, batch: Batch) -> Array:
        heads, groups, size = self.spec.heads, self.spec.kv_heads, self.spec.head_size
        rows = qkv.reshape(len(qkv), heads + 2 * groups, size)  # (T, H + 2 G, D)
        qk, v = rows[:, : heads + groups], rows[:, heads + groups :]
        self._see(site, "qk_raw", qkv[:, : (heads + groups) * size])
        if self.spec.rope_theta is not None:
            qk = rotate(qk, batch.positions, self.spec.rope_theta)
        q, k = qk[:, :heads], qk[:, heads:]
        for quantity, values in (("q", q), ("k", k), ("v", v)):
            self._see(site, quantity, values)
        mixed = []
        for part, span, kept in zip(batch.parts, batch.spans, cache.take(batch), strict=True):
            kept.append(k[span], v[span])
            mixed.append(self._mixed(q[span], site, kept, part.start))
        out = np.concatenate(mixed)  # (T, H D)
        self._see(site, "output", out)
        return out

    def _mixed(self, q: Array, site: str, kept: KeysValues, start: int) -> Array:
        """Weighted means of one sequence's values: q (T, H, D) -> (T, H D)."""
        heads, groups, size = self.spec.heads, self.spec.kv_heads, self.spec.head_size
        grouped = q.reshape(len(q), groups, heads // groups, size)
        scores = np.einsum("tgrd,sgd->grts", grouped, kept.keys)  # (G, H / G, T, S + T)
        last = start + np.arange(len(q)) if self.spec.causal else np.full(len(q), len(kept.keys) - 1)
        visible = np.arange(len(kept.keys)) <= last[:, None]  # (T, S + T)
        self._see(site, "scores", scores[..., visible].ravel())
        scores = np.where(visible, scores, -np.inf)
        exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
        total = exps.sum(axis=-1)[..., None]  # (G, H / G, T, 1)
        weighted = np.einsum("grts,sgd->grtd", exps, kept.values)
        self._see(site, "weighted", weighted)
        self._see(site, "exp_sum", total)
        out: Array = (weighted / total).transpose(2, 0, 1, 3).reshape(len(q), heads * size)
        return out

    def activation(self, x: Array, site: str) -> Array:
        y = ACTIVATIONS[self.spec.activation](x)
        self._see(site, "input", x)
        self._see(site, "output", y)
        return y

    def gated(self, gate_up: Array, site: str) -> Array:
        gate, up = np.split(gate_up, 2, axis=-1)
        y = silu(gate) * up
        for quantity, values in (("gate", gate), ("up", up), ("output", y)):
            self._see(site, quantity, values)
        return y

    def last(self, x: Array, batch: Batch) -> Array:
        return x[batch.ends] if self._observe is None else x

    def pool(self, x: Array, batch: Batch) -> Array:
        return np.stack([x[rows].sum(axis=0) for rows in batch.spans])


def rotate(x: Array, positions: NDArray[np.int64], theta: float) -> Array:
    """Rotary positions (Su et al. 2021, in Hugging Face's half-split order): x (T, heads, D), positions (T,).

    Pair (j, j + D / 2) of the row at position n turns by the angle n theta^(-2 j / D).
    """
    half = x.shape[-1] // 2
    angles = np.outer(positions, theta ** (-np.arange(half) / half))[:, None]  # (T, 1, D / 2)
    cos, sin = np.cos(angles), np.sin(angles)
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def silu(x: Array) -> Array:
    """x / (1 + exp(-x)), without overflow for large |x|."""
    e = np.exp(-np.abs(x))
    return x * np.where(x >= 0, 1.0, e) / (1.0 + e)


def gelu_tanh(x: Array) -> Array:
    """GPT-2's approximation (`gelu_new`)."""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def gelu(x: Array) -> Array:
    """x times the normal distribution function."""
    erf: Array = torch.erf(torch.from_numpy(x / math.sqrt(2.0))).numpy()
    return 0.5 * x * (1.0 + erf)


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0.0)


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "silu": silu,
    "gelu_tanh": gelu_tanh,
    "gelu": gelu,
    "relu": relu,
}
