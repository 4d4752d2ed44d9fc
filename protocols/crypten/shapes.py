"""The model under CrypTen on shapes: what the third party is asked for, and what a step costs, site by site.

CrypTen declares no costs. Its gates are run on tensors without values instead, which is exact (no gate looks at a value);
a test compares the sums with what the links carried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from ..base import Batch, Spec
from ..pair.cost import Cost
from . import library
from .communicator import ShapeParty, Tensor
from .peer import Cache, CryptenPeer, KeysValues, MPCTensor
from .plans import Plan
from .provider import Dealing, Sender

WORD = 8
# Scores in a layer: below, computing with zeros takes no more time than torch's bookkeeping without values.
SMALL = 1 << 18


class Shapes(CryptenPeer):
    """Runs inside `running()`. Tokens are their number. Collects (site, cost) in protocol order."""

    def __init__(
        self,
        spec: Spec,
        plans: Mapping[str, Plan],
        generators: Sequence[torch.Generator] | None = None,
        give: Sender | None = None,
        parties: int = 2,
    ) -> None:
        """With the third party's `generators`, one a party, each of its answers is made and given to party 0; without, they are
        only counted."""
        super().__init__(spec, plans, None)
        self.sites: list[tuple[str, Cost]] = []
        self.largest_answer = 0  # bytes
        self.answers = 0
        self._offline = 0
        self._give = give
        self._device = "meta"
        self._party = ShapeParty(Dealing(generators, self._given), library.settings(), parties)

    @property
    def total(self) -> Cost:
        """All sites together."""
        return sum((cost for _, cost in self.sites), Cost())

    @property
    def largest_opening(self) -> int:
        """Bytes that a party sends in one round, at most."""
        return self._party.largest

    def running(self) -> AbstractContextManager[None]:
        """Every operation belongs into this, in one thread."""
        return library.entered(self._party)

    def begin(self, step: int) -> None:
        """Start a step: costs are counted anew."""
        self.sites.clear()
        if self._give is not None:
            self._give.begin(step)

    def _given(self, answer: Tensor) -> None:
        size = WORD * answer.numel()
        self._offline += size
        self.answers += 1
        self.largest_answer = max(self.largest_answer, size)
        if self._give is not None:
            self._give(answer)

    def _noted(self, site: str, operation: Callable[..., MPCTensor], *args: Any) -> MPCTensor:
        counters, offline = self._party.counters, self._offline
        rounds, online = counters.rounds, counters.online_bytes
        out = operation(*args)
        cost = Cost(counters.rounds - rounds, counters.online_bytes - online, self._offline - offline)
        self.sites.append((site, cost))
        return out

    def _shape(self, *size: int) -> MPCTensor:
        return self._shared(torch.zeros(size, dtype=torch.int64, device=self._device))

    def embed(self, tokens: int, batch: Batch) -> MPCTensor:
        self._device = "cpu" if batch.dense * self.spec.heads <= SMALL else "meta"
        return self._shape(batch.rows, self.spec.width)

    def linear(self, x: MPCTensor, site: str) -> MPCTensor:
        spec, kind = self.spec, site.rpartition(".")[2]
        columns = {
            "qkv": spec.qkv_width, "gate_up": 2 * spec.hidden, "up": spec.hidden, "head": spec.vocab,
        }.get(kind, spec.width)  # fmt: skip
        return self._shape(x.size(0), columns)

    def rms_norm(self, x: MPCTensor, site: str) -> MPCTensor:
        return self._noted(site, super().rms_norm, x, site)

    def attention(self, qkv: MPCTensor, site: str, cache: Cache, batch: Batch) -> MPCTensor:
        for kept in cache:  # from an earlier step, perhaps on the other device
            if kept.keys is not None:
                kept.keys, kept.values = (self._shape(*one.size()) for one in (kept.keys, kept.values))
        return self._noted(site, super().attention, qkv, site, cache, batch)

    def activation(self, x: MPCTensor, site: str) -> MPCTensor:
        return self._noted(site, super().activation, x, site)

    def gated(self, gate_up: MPCTensor, site: str) -> MPCTensor:
        return self._noted(site, super().gated, gate_up, site)

    def filled(self, length: int) -> list[Cache]:
        """Caches as they are after `length` tokens."""
        size = (length, self.spec.kv_heads, self.spec.head_size)
        caches = self.new_cache()
        if length:
            for cache in caches:
                cache.put(0, KeysValues(self._shape(*size), self._shape(*size)))
        return caches
