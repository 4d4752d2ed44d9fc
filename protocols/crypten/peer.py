"""A compute peer's protocol under CrypTen: the model's operations, each by CrypTen's gates as a user of it would write them.

Rounds, bytes and accuracy are CrypTen's. What it has no function for is put together from those it has:

| operation | CrypTen's gates |
| --- | --- |
| linear | shares times public weights, cut back to 16 bits by each party (`div_`) |
| rms_norm | square, mean, inv_sqrt, mul |
| attention | matmul, softmax, matmul; rotation by public products |
| activation | sigmoid of the polynomial that tanh-GELU has (tanh(u) = 2 sigmoid(2 u) - 1), mul; relu |
| gated | sigmoid, mul, mul |

Every cut after a product can fail by 2^48 with probability |x| 2^-31, which is CrypTen's own bargain (docs/crypten.md).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...errors import UsageError
from ..base import Batch, Protocol, Slots, Spec
from ..pair.peer import EMBED_ROWS
from . import library
from .plans import NO_ENCODERS, Activation, Attention, Norm, Plan
from .weights import FRAC, Weights

MPCTensor = Any  # CrypTen's, which has no types
CLAMP = 8.0  # tanh-GELU's tails begin inside


@dataclass(slots=True)
class KeysValues:
    """One sequence's keys (after rotation) and values in one layer: (S, G, D) each; None before the first token."""

    keys: MPCTensor = None
    values: MPCTensor = None

    def cut(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        kept = self.copy(length)
        self.keys, self.values = kept.keys, kept.values

    def copy(self, length: int) -> KeysValues:
        """The first `length` tokens."""
        if self.keys is None or length == 0:
            return KeysValues()
        return KeysValues(self.keys[:length], self.values[:length])


Cache = Slots[KeysValues]


class CryptenPeer(Protocol[MPCTensor, Any, Cache]):
    """One party, in a thread that has `library.entered` its communicator. Tokens are shares of one-hot rows, as in `pair`."""

    def __init__(self, spec: Spec, plans: Mapping[str, Plan], weights: Weights | None) -> None:
        """`weights` may be left out where `embed` and `linear` are overridden."""
        self._crypten = library.load()
        self._settings = importlib.import_module("crypten.config").cfg
        self.spec = spec
        self._plans: Mapping[str, Plan] = plans
        self._weights = weights

    @property
    def _w(self) -> Weights:
        if self._weights is None:
            raise ValueError("this party has no weights")
        return self._weights

    def new_cache(self) -> list[Cache]:
        return [Slots(KeysValues) for _ in range(self.spec.layers)]

    def _shared(self, share: torch.Tensor) -> MPCTensor:
        """A secret of which this party holds `share`, at CrypTen's 16 bits."""
        return self._crypten.mpc.MPCTensor.from_shares(share)

    def embed(self, tokens: Any, batch: Batch) -> MPCTensor:
        """One-hot shares (`OneHotRows`) times the public table: no round, no bytes."""
        vocab = self.spec.vocab
        parts = (tokens[at : at + EMBED_ROWS] for at in range(0, len(tokens), EMBED_ROWS))
        rows = np.concatenate([self._w.embed.times(np.ascontiguousarray(part[:, :vocab])) for part in parts])
        x = self._shared(torch.from_numpy(rows.view(np.int64)))
        if self._w.positions is not None:
            x = x + self._w.positions[torch.from_numpy(batch.positions)]
        return x

    def linear(self, x: MPCTensor, site: str) -> MPCTensor:
        y = self._shared(torch.matmul(x.share, self._w.matrices[site]))
        y._tensor.div_(1 << FRAC)
        bias = self._w.biases.get(site)
        return y if bias is None else y + bias

    def add(self, x: MPCTensor, y: MPCTensor) -> MPCTensor:
        return x + y

    def scale(self, x: MPCTensor, site: str) -> MPCTensor:
        raise UsageError(NO_ENCODERS)

    def pool(self, x: MPCTensor, batch: Batch) -> MPCTensor:
        raise UsageError(NO_ENCODERS)

    def last(self, x: MPCTensor, batch: Batch) -> MPCTensor:
        return x[-1:] if len(batch.parts) == 1 else x[torch.from_numpy(batch.ends)]

    def rms_norm(self, x: MPCTensor, site: str) -> MPCTensor:
        plan = _typed(self._plans[site], Norm)
        h = self._shared(x.share << plan.shift) if plan.shift >= 0 else x.div(1 << -plan.shift)
        mean = h.square().mean(-1, keepdim=True) + self.spec.eps * 4.0**plan.shift
        with self._settings.temp_override({"functions.sqrt_nr_iters": plan.iterations}):
            return h * mean.inv_sqrt()

    def attention(self, qkv: MPCTensor, site: str, cache: Cache, batch: Batch) -> MPCTensor:
        heads, groups, size = self.spec.heads, self.spec.kv_heads, self.spec.head_size
        rows = qkv.reshape(qkv.size(0), heads + 2 * groups, size)
        qk, v = rows[:, : heads + groups], rows[:, heads + groups :]
        if self.spec.rope_theta is not None:
            qk = self._rotated(qk, batch, self.spec.rope_theta)
        q, k = qk[:, :heads], qk[:, heads:]
        cat = self._crypten.cat
        mixed = []
        for part, span, kept in zip(batch.parts, batch.spans, cache.take(batch), strict=True):
            kept.keys = k[span] if kept.keys is None else cat([kept.keys, k[span]])
            kept.values = v[span] if kept.values is None else cat([kept.values, v[span]])
            mixed.append(self._mixed(q[span], site, kept, part.start))
        return mixed[0] if len(mixed) == 1 else cat(mixed)

    def _mixed(self, q: MPCTensor, site: str, kept: KeysValues, start: int) -> MPCTensor:
        """Weighted means of one sequence's values: q (T, H, D) -> (T, H D). CrypTen's softmax takes a sequence at a time."""
        plan = _typed(self._plans[site], Attention)
        heads, groups, size = self.spec.heads, self.spec.kv_heads, self.spec.head_size
        tokens, share, total = q.size(0), heads // groups, kept.keys.size(0)
        q = q.reshape(tokens, groups, share, size).permute(1, 2, 0, 3).reshape(groups, share * tokens, size)
        scores = q.matmul(kept.keys.permute(1, 2, 0))  # (G, H / G T, S + T)
        if tokens > 1 and self.spec.causal:
            hidden = torch.arange(total) > start + torch.arange(tokens)[:, None]
            scores = scores - (plan.hide * hidden.repeat(share, 1)).to(q.device)
        with self._settings.temp_override({"functions.exp_iterations": plan.iterations}):
            weights = scores.softmax(-1)
        out = weights.matmul(kept.values.permute(1, 0, 2))  # (G, H / G T, D)
        return out.reshape(groups, share, tokens, size).permute(2, 0, 1, 3).reshape(tokens, heads * size)

    def _rotated(self, x: MPCTensor, batch: Batch, theta: float) -> MPCTensor:
        """Rotary positions, as `plain.rotate`."""
        half = self.spec.head_size // 2
        at = torch.from_numpy(batch.positions).to(torch.float64)
        angles = torch.outer(at, theta ** (-torch.arange(half, dtype=torch.float64) / half))[:, None]  # (T, 1, D / 2)
        cos, sin = angles.cos().to(x.device), angles.sin().to(x.device)
        first, second = x[..., :half], x[..., half:]
        return self._crypten.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    def activation(self, x: MPCTensor, site: str) -> MPCTensor:
        if self.spec.activation == "relu":
            return x.relu()
        u = x.hardtanh(-CLAMP, CLAMP) if _typed(self._plans[site], Activation).clamped else x
        slope = 2 * math.sqrt(2 / math.pi)
        return x * (u * (u.square() * (0.044715 * slope) + slope)).sigmoid()

    def gated(self, gate_up: MPCTensor, site: str) -> MPCTensor:
        half = self.spec.hidden
        gate, up = gate_up[:, :half], gate_up[:, half:]
        return gate * gate.sigmoid() * up


def client_share(logits: MPCTensor, rank: int, noise: np.ndarray) -> np.ndarray:
    """This party's share of the logits for the client, (V,) uint32 at FRAC bits.

    The low 32 bits of the ring are a ring of their own, and the client decodes the sum itself: CrypTen's decoder is off by one on
    some negative numbers. `noise` is what both parties draw alike; one adds it, the other takes it off.
    """
    share: np.ndarray = logits.share.reshape(-1).numpy().view(np.uint64)
    fresh = share + noise if rank == 0 else share - noise
    return np.asarray(fresh.astype("<u4"))


def _typed(plan: Plan, kind: type[Any]) -> Any:
    if not isinstance(plan, kind):
        raise ValueError(f"expected a plan of type {kind.__name__}")
    return plan
