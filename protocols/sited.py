"""Any protocol, with word of where in the model it is: the same operations, each site said to a recorder as it begins.

What the model does without naming a place (`add`, `last`, `pool`) counts for the site before it.
"""

from __future__ import annotations

from typing import Generic

from ..tracing.recorder import Recorder
from .base import Batch, Cache, Protocol, S, Tokens


class Sited(Protocol[S, Tokens, Cache], Generic[S, Tokens, Cache]):
    """Passes everything on to `inner`."""

    def __init__(self, inner: Protocol[S, Tokens, Cache], recorder: Recorder) -> None:
        self._inner, self._recorder = inner, recorder

    def new_cache(self) -> list[Cache]:
        return self._inner.new_cache()

    def embed(self, tokens: Tokens, batch: Batch) -> S:
        return self._inner.embed(tokens, batch)  # the site that every step begins with

    def linear(self, x: S, site: str) -> S:
        self._recorder.enter(site)
        return self._inner.linear(x, site)

    def add(self, x: S, y: S) -> S:
        return self._inner.add(x, y)

    def scale(self, x: S, site: str) -> S:
        self._recorder.enter(site)
        return self._inner.scale(x, site)

    def rms_norm(self, x: S, site: str) -> S:
        self._recorder.enter(site)
        return self._inner.rms_norm(x, site)

    def attention(self, qkv: S, site: str, cache: Cache, batch: Batch) -> S:
        self._recorder.enter(site)
        return self._inner.attention(qkv, site, cache, batch)

    def activation(self, x: S, site: str) -> S:
        self._recorder.enter(site)
        return self._inner.activation(x, site)

    def gated(self, gate_up: S, site: str) -> S:
        self._recorder.enter(site)
        return self._inner.gated(gate_up, site)

    def last(self, x: S, batch: Batch) -> S:
        return self._inner.last(x, batch)

    def pool(self, x: S, batch: Batch) -> S:
        return self._inner.pool(x, batch)
