"""A small Llama in plain torch, with the parameter names of Hugging Face's LlamaForCausalLM.

B batch, T tokens, C width, H query heads, G key heads, D head width, F feed-forward width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    vocabulary: int = 1536
    width: int = 128
    layers: int = 4
    heads: int = 4
    key_heads: int = 2
    head_width: int = 32
    hidden: int = 448
    context: int = 512
    eps: float = 1e-5
    theta: float = 10_000.0


Observe = Callable[[str, Tensor], None]


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


def rotary(shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin of RoPE in the half-split order, each (context, D)."""
    frequency = shape.theta ** -(torch.arange(0, shape.head_width, 2, dtype=torch.float64) / shape.head_width)
    angle = torch.outer(torch.arange(shape.context, dtype=torch.float64), frequency).repeat(1, 2)
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (B, heads, T, D) turned by its positions."""
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin


class Attention(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.s = s
        self.q_proj = nn.Linear(s.width, s.heads * s.head_width, bias=False)
        self.k_proj = nn.Linear(s.width, s.key_heads * s.head_width, bias=False)
        self.v_proj = nn.Linear(s.width, s.key_heads * s.head_width, bias=False)
        self.o_proj = nn.Linear(s.heads * s.head_width, s.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, observe: Observe | None) -> Tensor:
        batch, tokens, _ = x.shape
        q = self.q_proj(x).view(batch, tokens, self.s.heads, -1).transpose(1, 2)  # (B, H, T, D)
        k = self.k_proj(x).view(batch, tokens, self.s.key_heads, -1).transpose(1, 2)  # (B, G, T, D)
        v = self.v_proj(x).view(batch, tokens, self.s.key_heads, -1).transpose(1, 2)  # (B, G, T, D)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k = k.repeat_interleave(self.s.heads // self.s.key_heads, dim=1)  # (B, H, T, D)
        v = v.repeat_interleave(self.s.heads // self.s.key_heads, dim=1)  # (B, H, T, D)
        if observe is not None:
            scores = q @ k.transpose(-1, -2) / math.sqrt(self.s.head_width)
            past = torch.ones(tokens, tokens, dtype=torch.bool).tril()
            for name, seen in (("q", q), ("k", k), ("v", v), ("scores", scores[..., past])):
                observe(name, seen)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, H, T, D)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, tokens, -1))  # (B, T, C)
        return out


class FeedForward(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(s.width, s.hidden, bias=False)
        self.up_proj = nn.Linear(s.width, s.hidden, bias=False)
        self.down_proj = nn.Linear(s.hidden, s.width, bias=False)

    def forward(self, x: Tensor, observe: Observe | None) -> Tensor:
        gate, up = self.gate_proj(x), self.up_proj(x)  # (B, T, F) each
        if observe is not None:
            observe("gate", gate)
            observe("up", up)
        out: Tensor = self.down_proj(functional.silu(gate) * up)  # (B, T, C)
        return out


class Layer(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(s.width, s.eps)
        self.self_attn = Attention(s)
        self.post_attention_layernorm = RMSNorm(s.width, s.eps)
        self.mlp = FeedForward(s)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, observe: Observe | None) -> Tensor:
        if observe is not None:
            observe("residual", x)
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, observe)
        if observe is not None:
            observe("residual", x)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x), observe)  # (B, T, C)
        return out


class Decoder(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(s.vocabulary, s.width)
        self.layers = nn.ModuleList(Layer(s) for _ in range(s.layers))
        self.norm = RMSNorm(s.width, s.eps)


class Llama(nn.Module):
    """`model.embed_tokens` is the head too (tied)."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.model = Decoder(shape)
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                narrow = name.endswith(("o_proj.weight", "down_proj.weight"))  # what is added to the residual
                std = 0.04 / math.sqrt(2 * shape.layers) if narrow else 0.04
                nn.init.normal_(weight, std=std, generator=generator)

    def forward(self, tokens: Tensor, observe: Observe | None = None) -> Tensor:
        """Logits (B, T, V) of `tokens` (B, T); `observe` is told every quantity by name."""
        x: Tensor = self.model.embed_tokens(tokens)  # (B, T, C)
        cos, sin = (table[: tokens.shape[1]] for table in rotary(self.shape, x.dtype))
        for layer in self.model.layers:
            x = layer(x, cos, sin, observe)
        if observe is not None:
            observe("residual", x)
        x = self.model.norm(x)
        logits = functional.linear(x, self.model.embed_tokens.weight)  # (B, T, V)
        if observe is not None:
            observe("logits", logits)
        return logits

    @torch.no_grad()
    def greedy(self, prompt: list[int], most: int, stop: int) -> tuple[list[int], Tensor]:
        """Up to `most` new tokens, `stop` included when reached, and the logits (steps, V) that chose them."""
        tokens: list[int] = list(prompt)
        rows: list[Tensor] = []
        while len(rows) < most and len(tokens) < self.shape.context:
            rows.append(self(torch.tensor([tokens]))[0, -1])
            tokens.append(int(rows[-1].argmax()))
            if tokens[-1] == stop:
                break
        return tokens[len(prompt) :], torch.stack(rows)

    @torch.no_grad()
    def sample(
        self, prompt: list[int], most: int, stop: int, temperature: float, generator: torch.Generator
    ) -> list[int]:
        """Like `greedy`, drawn at `temperature`."""
        tokens = list(prompt)
        while len(tokens) < min(len(prompt) + most, self.shape.context):
            chances = (self(torch.tensor([tokens]))[0, -1] / temperature).softmax(-1)
            tokens.append(int(torch.multinomial(chances, 1, generator=generator)))
            if tokens[-1] == stop:
                break
        return tokens[len(prompt) :]
