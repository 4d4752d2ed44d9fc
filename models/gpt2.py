"""GPT-2 on a page: learned positions, LayerNorm (RMSNorm after folding, see `fold`), one pointwise activation."""

from __future__ import annotations

from ..protocols.base import Cache, Protocol, S, Spec, Tokens


def forward(p: Protocol[S, Tokens, Cache], spec: Spec, tokens: Tokens, caches: list[Cache], start: int) -> S:
    """Logits after the last of T new tokens, the first at position `start`: (1, V). Extends each layer's cache by T."""
    x = p.embed(tokens, start)  # (T, C), positions added
    for i in range(spec.layers):
        h = p.rms_norm(x, f"layers.{i}.norm1")
        h = p.linear(h, f"layers.{i}.qkv")  # (T, 3 H D)
        h = p.attention(h, f"layers.{i}.attention", caches[i], start)  # (T, H D)
        if i == spec.layers - 1:
            x, h = p.last(x), p.last(h)  # T = 1 from here on: nobody reads the other rows
        h = p.linear(h, f"layers.{i}.out")  # (T, C)
        x = p.add(x, h)
        h = p.rms_norm(x, f"layers.{i}.norm2")
        h = p.linear(h, f"layers.{i}.up")  # (T, F)
        h = p.activation(h, f"layers.{i}.act")
        h = p.linear(h, f"layers.{i}.down")  # (T, C)
        x = p.add(x, h)
    x = p.rms_norm(x, "norm")
    return p.linear(x, "head")  # (1, V)
