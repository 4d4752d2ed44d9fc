"""The one place that knows which definition an architecture has."""

from __future__ import annotations

from ..errors import ModelError
from ..protocols.base import Batch, Cache, Protocol, S, Spec, Tokens
from . import bert, gpt2, llama


def forward(p: Protocol[S, Tokens, Cache], spec: Spec, tokens: Tokens, caches: list[Cache], batch: Batch) -> S:
    """Logits after the last token of each of the batch's B sequences: (B, V). Extends each layer's cache. Of an encoder the
    sum of each sequence's rows: (B, C).

    `caches` comes from ``p.new_cache()``. ModelError for an architecture without a definition.
    """
    match spec.architecture:
        case "llama":
            return llama.forward(p, spec, tokens, caches, batch)
        case "gpt2":
            return gpt2.forward(p, spec, tokens, caches, batch)
        case "bert":
            return bert.forward(p, spec, tokens, caches, batch)
        case other:
            raise ModelError(f"architecture {other!r} has no definition (only 'llama', 'gpt2' or 'bert')")
