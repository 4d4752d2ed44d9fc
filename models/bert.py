"""BERT on a page: an encoder with LayerNorm behind each sum (RMSNorm after folding, see `fold`), one pointwise activation.

A norm's weight and bias are in the next matrix; where its row goes on in the residual stream, `scale` puts them back.
"""

from __future__ import annotations

from ..protocols.base import Batch, Cache, Protocol, S, Spec, Tokens


def forward(p: Protocol[S, Tokens, Cache], spec: Spec, tokens: Tokens, caches: list[Cache], batch: Batch) -> S:
    """The sum of the last layer's rows of each of the batch's B sequences: (B, C). Every token sees its whole sequence."""
    x = p.embed(tokens, batch)  # (T, C), positions and token type added
    for i in range(spec.layers):
        n = p.rms_norm(x, f"layers.{i}.norm1")
        h = p.linear(n, f"layers.{i}.qkv")  # (T, 3 H D)
        h = p.attention(h, f"layers.{i}.attention", caches[i], batch)  # (T, H D)
        h = p.linear(h, f"layers.{i}.out")  # (T, C)
        x = p.add(p.scale(n, f"layers.{i}.skip1"), h)
        n = p.rms_norm(x, f"layers.{i}.norm2")
        h = p.linear(n, f"layers.{i}.up")  # (T, F)
        h = p.activation(h, f"layers.{i}.act")
        h = p.linear(h, f"layers.{i}.down")  # (T, C)
        x = p.add(p.scale(n, f"layers.{i}.skip2"), h)
    n = p.rms_norm(x, "norm")
    return p.pool(p.scale(n, "head"), batch)  # (B, C)
