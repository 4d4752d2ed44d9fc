"""GPT-2 on a page: learned positions, LayerNorm (RMSNorm after folding, see `fold`), one pointwise activation."""

from __future__ import annotations

from ..protocols.base import Batch, Cache, Protocol, S, Spec, Tokens


def forward(p: Protocol[S, Tokens, Cache], spec: Spec, tokens: Tokens, caches: list[Cache], batch: Batch) -> S:
    """Logits after the last token of each of the batch's B sequences: (B, V). Extends each layer's cache."""
    x = p.embed(tokens, batch)  # (T, C), positions added
    for i in range(spec.layers):
        h = p.rms_norm(x, f"layers.{i}.norm1")
        h = p.linear(h, f"layers.{i}.qkv")  # (T, 3 H D)
        h = p.attention(h, f"layers.{i}.attention", caches[i], batch)  # (T, H D)
        if i == spec.layers - 1:
            x, h = p.last(x, batch), p.last(h, batch)  # T = B from here on: nobody reads the other rows
        h = p.linear(h, f"layers.{i}.out")  # (T, C)
        x = p.add(x, h)
        h = p.rms_norm(x, f"layers.{i}.norm2")
        h = p.linear(h, f"layers.{i}.up")  # (T, F)
        h = p.activation(h, f"layers.{i}.act")
        h = p.linear(h, f"layers.{i}.down")  # (T, C)
        x = p.add(x, h)
    x = p.rms_norm(x, "norm")
    return p.linear(x, "head")  # (B, V)
