"""A compute peer's protocol: the model's operations on shares."""

from __future__ import annotations

import typing

import numpy as np

from ..base import Batch, Protocol
from .attention import Cache, attention, new_cache, turns
from .norm import rms_norm
from .party import Party
from .secret import U64, Secret
from .spline import apply_table, gated
from .weights import Weights

EMBED_ROWS = 64  # tokens whose one-hot rows are held at once: a row has the vocabulary's length


class OneHotRows(typing.Protocol):
    """Shares of one-hot rows (T, >= V), made when they are looked at: an array, or keys that expand."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice, /) -> U64: ...


class PairPeer(Protocol[Secret, OneHotRows, Cache]):
    """Role 0 or 1. Tokens are shares of one-hot rows, (T, V) or wider, as the client's keys expand to them."""

    def __init__(self, party: Party, weights: Weights) -> None:
        self.party = party
        self._w = weights
        self.hidden: U64 | None = None  # of this step: see `attention`
        self._turns: tuple[Batch, tuple[U64, U64]] | None = None

    def new_cache(self) -> list[Cache]:
        s = self._w.scales
        return [new_cache(s.attention(f"layers.{i}.attention")) for i in range(self._w.spec.layers)]

    def embed(self, tokens: OneHotRows, batch: Batch) -> Secret:
        """One-hot shares times the public table: no round, no bytes."""
        table, vocab = self._w.matrices["embed"], self._w.spec.vocab
        parts = (tokens[at : at + EMBED_ROWS] for at in range(0, len(tokens), EMBED_ROWS))  # one at a time
        x = np.concatenate([table.times(np.ascontiguousarray(part[:, :vocab])) for part in parts])
        if self._w.positions is not None and self.party.role == 0:
            x += self._w.positions[batch.positions]
        return Secret(x, self._w.scales.frac_x, 64)

    def linear(self, x: Secret, site: str) -> Secret:
        """Public weights: each peer multiplies its own share."""
        y = self._w.matrices[site].times(x.share, x.bits)
        bias = self._w.biases.get(site)
        if bias is not None and self.party.role == 0:
            y += bias
        return Secret(y, x.frac + self._w.scales.weight, x.bits)

    def add(self, x: Secret, y: Secret) -> Secret:
        """The stream x keeps its scale; what is added is dropped to it."""
        return x.plus(y.drop(x.frac, self.party.role))

    def scale(self, x: Secret, site: str) -> Secret:
        """Public vectors, each peer on its own share: no round. The sum wraps only where x g - x m + b itself would."""
        vectors, plan = self._w.vectors[site], self._w.scales.scaling(site)
        y = x.share * vectors.scale
        if vectors.mean is not None:
            y -= (x.share * vectors.mean).sum(axis=1, dtype=np.uint64, keepdims=True)
        if self.party.role == 0:
            y += vectors.bias
        return Secret(y, x.frac + plan.frac, x.bits).drop(self._w.scales.frac_x, self.party.role)

    def rms_norm(self, x: Secret, site: str) -> Secret:
        return rms_norm(self.party, x, self._w.scales.norm(site))

    def attention(self, qkv: Secret, site: str, cache: Cache, batch: Batch) -> Secret:
        plan = self._w.scales.attention(site)
        return attention(self.party, qkv, plan, cache, batch, self._turn(plan.frac_turn, batch), self.hidden)

    def _turn(self, frac: int, batch: Batch) -> tuple[U64, U64] | None:
        """RoPE factors, computed once a step."""
        spec = self._w.spec
        if spec.rope_theta is None:
            return None
        if self._turns is None or self._turns[0] != batch:
            self._turns = (batch, turns(spec.rope_theta, spec.head_size, batch.positions, frac))
        return self._turns[1]

    def activation(self, x: Secret, site: str) -> Secret:
        plan = self._w.scales.activation(site)
        y = apply_table(self.party, x.drop(plan.table.frac_in, self.party.role), plan.table)
        return y.drop(plan.frac_out, self.party.role)

    def gated(self, gate_up: Secret, site: str) -> Secret:
        plan = self._w.scales.activation(site)
        if plan.frac_up is None:
            raise ValueError(f"{site} has no second operand")
        half = gate_up.shape[1] // 2
        g, u = (
            Secret(np.ascontiguousarray(part), gate_up.frac, gate_up.bits).drop(frac, self.party.role)
            for part, frac in (
                (gate_up.share[:, :half], plan.table.frac_in),
                (gate_up.share[:, half:], plan.frac_up),
            )
        )
        return gated(self.party, g, u, plan.table, plan.bits_up)

    def last(self, x: Secret, batch: Batch) -> Secret:
        return Secret(x.share[batch.ends], x.frac, x.bits)

    def pool(self, x: Secret, batch: Batch) -> Secret:
        """Each peer sums its own shares: no round."""
        return Secret(np.stack([x.share[rows].sum(axis=0, dtype=np.uint64) for rows in batch.spans]), x.frac, x.bits)
