"""What private generation is compared with: the same model in the clear, torch float32, one thread, with a KV cache.

    python scripts/plaintext_baseline.py MODEL [--prompt TEXT] [--tokens N]

The third reading of `tacit.models` beside shares and the float64 oracle, over the same folded weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tacit.models.decoder import forward
from tacit.protocols.base import Batch, Protocol, Spec
from torch import Tensor
from torch.nn import functional


@dataclass(slots=True)
class TorchCache:
    """One layer's keys (rotated) and values, room for the whole context: (G, context, D) each."""

    keys: Tensor
    values: Tensor


class TorchPlain(Protocol[Tensor, Sequence[int], TorchCache]):
    """The model in the clear, float32."""

    def __init__(self, spec: Spec, weights: Mapping[str, NDArray[np.float64]]) -> None:
        self._spec = spec
        self._w = {name: torch.from_numpy(np.ascontiguousarray(value, np.float32)) for name, value in weights.items()}
        if spec.rope_theta is not None:
            half = spec.head_size // 2
            angles = torch.outer(
                torch.arange(spec.context, dtype=torch.float64),
                spec.rope_theta ** (-torch.arange(half, dtype=torch.float64) / half),
            )
            self._cos, self._sin = angles.cos().float()[:, None], angles.sin().float()[:, None]  # (context, 1, D / 2)

    def new_cache(self) -> list[TorchCache]:
        s = self._spec
        shape = (s.kv_heads, s.context, s.head_size)
        return [TorchCache(torch.empty(shape), torch.empty(shape)) for _ in range(s.layers)]

    def embed(self, tokens: Sequence[int], batch: Batch) -> Tensor:
        x, (part,) = self._w["embed"][list(tokens)], batch.parts
        return x + self._w["positions"][part.start : part.total] if "positions" in self._w else x

    def linear(self, x: Tensor, site: str) -> Tensor:
        weight, bias = self._w[f"{site}.weight"], self._w.get(f"{site}.bias")
        return x @ weight if bias is None else torch.addmm(bias, x, weight)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    def rms_norm(self, x: Tensor, site: str) -> Tensor:
        return functional.rms_norm(x, x.shape[-1:], eps=self._spec.eps)

    def attention(self, qkv: Tensor, site: str, cache: TorchCache, batch: Batch) -> Tensor:
        s, rows, start = self._spec, len(qkv), batch.parts[0].start
        heads = qkv.view(rows, s.heads + 2 * s.kv_heads, s.head_size)
        qk, v = heads[:, : s.heads + s.kv_heads], heads[:, s.heads + s.kv_heads :]
        if s.rope_theta is not None:
            first, second = qk.chunk(2, -1)
            cos, sin = self._cos[start : start + rows], self._sin[start : start + rows]
            qk = torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
        stop = start + rows
        cache.keys[:, start:stop] = qk[:, s.heads :].transpose(0, 1)
        cache.values[:, start:stop] = v.transpose(0, 1)
        # A prompt begins at position 0 and needs the causal mask; a single token sees everything.
        out = functional.scaled_dot_product_attention(
            qk[:, : s.heads].transpose(0, 1)[None],
            cache.keys[None, :, :stop],
            cache.values[None, :, :stop],
            is_causal=rows > 1 and s.causal,
            scale=1.0,  # 1 / sqrt(D) lives in the q columns
            enable_gqa=s.heads != s.kv_heads,
        )
        return out[0].transpose(0, 1).reshape(rows, s.heads * s.head_size)

    def activation(self, x: Tensor, site: str) -> Tensor:
        match self._spec.activation:
            case "relu":
                return functional.relu(x)
            case "gelu":
                return functional.gelu(x)
            case _:
                return functional.gelu(x, approximate="tanh")

    def gated(self, gate_up: Tensor, site: str) -> Tensor:
        gate, up = gate_up.chunk(2, -1)
        return functional.silu(gate) * up

    def scale(self, x: Tensor, site: str) -> Tensor:
        y, mean = x * self._w[f"{site}.scale"] + self._w[f"{site}.bias"], self._w.get(f"{site}.mean")
        return y if mean is None else y - (x @ mean)[:, None]

    def last(self, x: Tensor, batch: Batch) -> Tensor:
        return x[-1:]

    def pool(self, x: Tensor, batch: Batch) -> Tensor:
        return x.sum(0, keepdim=True)


@dataclass(frozen=True, slots=True)
class Baseline:
    """Seconds, and which of the given tokens are the most likely ones in the clear too."""

    prompt_seconds: float
    token_seconds: float
    agreeing: int
    tokens: int


def measure(
    spec: Spec, weights: Mapping[str, NDArray[np.float64]], prompt: Sequence[int], new: Sequence[int]
) -> Baseline:
    """Run the prompt and then `new` one by one, whatever the model itself would say; the best of three passes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            model = TorchPlain(spec, weights)
            return min((_pass(model, spec, prompt, new) for _ in range(3)), key=lambda one: one.token_seconds)
    finally:
        torch.set_num_threads(threads)


def _pass(model: TorchPlain, spec: Spec, prompt: Sequence[int], new: Sequence[int]) -> Baseline:
    caches = model.new_cache()
    began = time.perf_counter()
    chosen = [int(forward(model, spec, list(prompt), caches, Batch.one(len(prompt))).argmax())]
    prompt_seconds = time.perf_counter() - began
    began = time.perf_counter()
    for place, token in enumerate(new[:-1]):
        chosen.append(int(forward(model, spec, [token], caches, Batch.one(1, len(prompt) + place)).argmax()))
    steps = max(1, len(new) - 1)
    agreeing = sum(a == b for a, b in zip(chosen, new, strict=True))
    return Baseline(prompt_seconds, (time.perf_counter() - began) / steps, agreeing, len(new))


def main() -> None:
    from tacit.client.tokens import load
    from tacit.models.checkpoint import load_checkpoint
    from tacit.models.fold import fold

    parser = argparse.ArgumentParser(description="Time a model in the clear: torch float32, one thread.")
    parser.add_argument("model", help="a Hugging Face folder or a shipped name")
    parser.add_argument(
        "--prompt", default="Once upon a time", help="text (or token ids for a model without tokenizer)"
    )
    parser.add_argument("--tokens", type=int, default=64, help="how many tokens to generate")
    chosen = parser.parse_args()
    checkpoint = load_checkpoint(chosen.model)
    spec, weights = fold(checkpoint)
    prompt = load(checkpoint.tokenizer, spec.vocab, checkpoint.bos).encode(chosen.prompt)
    new = [0] * min(chosen.tokens, spec.context - len(prompt))
    found = measure(spec, weights, prompt, new)
    print(
        f"prompt of {len(prompt)} tokens {1e3 * found.prompt_seconds:.2f} ms, "
        f"a token {1e3 * found.token_seconds:.3f} ms"
    )


if __name__ == "__main__":
    main()
