"""Llama on a page: RMSNorm, rotary positions, grouped queries, SwiGLU; norms and scales are folded (see `fold`)."""

from __future__ import annotations

from ..protocols.base import Batch, Cache, Protocol, S, Spec, Tokens


def forward(p: Protocol[S, Tokens, Cache], spec: Spec, tokens: Tokens, caches: list[Cache], batch: Batch) -> S:
    """Logits after the last token of each of the batch's B sequences: (B, V). Extends each layer's cache."""
    x = p.embed(tokens, batch)  # (T, C)
    for i in range(spec.layers):
        h = p.rms_norm(x, f"layers.{i}.norm1")
        h = p.linear(h, f"layers.{i}.qkv")  # (T, (H + 2 G) D)
        h = p.attention(h, f"layers.{i}.attention", caches[i], batch)  # (T, H D)
        if i == spec.layers - 1:
            x, h = p.last(x, batch), p.last(h, batch)  # T = B from here on: nobody reads the other rows
        h = p.linear(h, f"layers.{i}.out")  # (T, C)
        x = p.add(x, h)
        h = p.rms_norm(x, f"layers.{i}.norm2")
        h = p.linear(h, f"layers.{i}.gate_up")  # (T, 2 F)
        h = p.gated(h, f"layers.{i}.act")  # (T, F)
        h = p.linear(h, f"layers.{i}.down")  # (T, C)
        x = p.add(x, h)
    x = p.rms_norm(x, "norm")
    return p.linear(x, "head")  # (B, V)
