"""Weights as the protocols want them: norms, biases and constants folded into the matrices, once, in float64.

- A norm's weight g multiplies the rows of the next matrix; LayerNorm's bias b becomes b W there.
- LayerNorm subtracts the mean of the residual stream. If everything that writes the stream (embeddings, output and down
  matrices, their biases) has its mean over the width removed, the stream has mean zero and LayerNorm is RMSNorm.
- 1 / sqrt(D) multiplies the query columns.
- Where BERT's normalised row n goes on in the residual stream, it does as n g + b less the mean of either (`scale`); at the
  end nothing is subtracted. The token type of all tokens is the first one: it is in the positions.

All matrices are (in, out). Names: embed, positions, layers.{i}.{qkv, out, gate_up | up, down}.{weight, bias}, head; of BERT
layers.{i}.{skip1, skip2}.{scale, mean, bias} and head.{scale, bias} too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..protocols.base import Spec
from .checkpoint import Checkpoint

Array = NDArray[np.float64]
Weights = dict[str, Array]


def fold(checkpoint: Checkpoint) -> tuple[Spec, Weights]:
    """The spec and folded float64 weights of a checkpoint."""
    spec = checkpoint.layout.spec
    weights = {"llama": _llama, "gpt2": _gpt2, "bert": _bert}[spec.architecture](checkpoint, spec)
    return spec, {name: np.ascontiguousarray(value) for name, value in weights.items()}


def _llama(checkpoint: Checkpoint, spec: Spec) -> Weights:
    def tensor(name: str) -> Array:
        return checkpoint.tensors[name].astype(np.float64)

    def after(norm: Array, *names: str) -> Array:
        """Projections (out, in) side by side, behind a norm: (C, sum of outs)."""
        side_by_side: Array = np.concatenate([tensor(f"{name}.weight").T for name in names], axis=1)
        return norm[:, None] * side_by_side

    embed = tensor("embed_tokens.weight")
    w = {"embed": embed}
    for i in range(spec.layers):
        attention, mlp = f"layers.{i}.self_attn", f"layers.{i}.mlp"
        qkv = after(
            tensor(f"layers.{i}.input_layernorm.weight"),
            f"{attention}.q_proj",
            f"{attention}.k_proj",
            f"{attention}.v_proj",
        )
        w[f"layers.{i}.qkv.weight"] = qkv * _query_scale(spec)
        w[f"layers.{i}.out.weight"] = tensor(f"{attention}.o_proj.weight").T
        norm2 = tensor(f"layers.{i}.post_attention_layernorm.weight")
        w[f"layers.{i}.gate_up.weight"] = after(norm2, f"{mlp}.gate_proj", f"{mlp}.up_proj")
        w[f"layers.{i}.down.weight"] = tensor(f"{mlp}.down_proj.weight").T
    head = embed if checkpoint.layout.tied else tensor("lm_head.weight")
    w["head.weight"] = tensor("norm.weight")[:, None] * head.T
    return w


def _gpt2(checkpoint: Checkpoint, spec: Spec) -> Weights:
    def tensor(name: str) -> Array:
        return checkpoint.tensors[name].astype(np.float64)

    def behind(norm: str, weight: Array, bias: Array | float) -> tuple[Array, Array]:
        """A matrix (C, out) and its bias behind LayerNorm `norm`."""
        return tensor(f"{norm}.weight")[:, None] * weight, tensor(f"{norm}.bias") @ weight + bias

    embed = tensor("wte.weight")
    w = {"embed": _centred(embed), "positions": _centred(tensor("wpe.weight"))}
    for i in range(spec.layers):
        h, layer = f"h.{i}", f"layers.{i}"
        weight, bias = behind(f"{h}.ln_1", tensor(f"{h}.attn.c_attn.weight"), tensor(f"{h}.attn.c_attn.bias"))
        w[f"{layer}.qkv.weight"], w[f"{layer}.qkv.bias"] = weight * _query_scale(spec), bias * _query_scale(spec)
        weight, bias = behind(f"{h}.ln_2", tensor(f"{h}.mlp.c_fc.weight"), tensor(f"{h}.mlp.c_fc.bias"))
        w[f"{layer}.up.weight"], w[f"{layer}.up.bias"] = weight, bias
        for site, name in (("out", "attn.c_proj"), ("down", "mlp.c_proj")):
            w[f"{layer}.{site}.weight"] = _centred(tensor(f"{h}.{name}.weight"))
            w[f"{layer}.{site}.bias"] = _centred(tensor(f"{h}.{name}.bias"))
    head = embed if checkpoint.layout.tied else tensor("lm_head.weight")
    w["head.weight"], w["head.bias"] = behind("ln_f", head.T, 0.0)
    return w


def _bert(checkpoint: Checkpoint, spec: Spec) -> Weights:
    def tensor(name: str) -> Array:
        return checkpoint.tensors[name].astype(np.float64)

    def linear(*names: str) -> tuple[Array, Array]:
        """Projections (out, in) side by side: (in, sum of outs), and their biases."""
        weight: Array = np.concatenate([tensor(f"{name}.weight").T for name in names], axis=1)
        bias: Array = np.concatenate([tensor(f"{name}.bias") for name in names])
        return weight, bias

    def norm(name: str) -> tuple[Array, Array]:
        return tensor(f"{name}.LayerNorm.weight"), tensor(f"{name}.LayerNorm.bias")

    types, positions = (tensor(f"embeddings.{name}_embeddings.weight") for name in ("token_type", "position"))
    w = {
        "embed": _centred(tensor("embeddings.word_embeddings.weight")),
        "positions": _centred(positions[: spec.context] + types[0]),
    }
    g, b = norm("embeddings")
    for i in range(spec.layers):
        at, layer = f"encoder.layer.{i}", f"layers.{i}"
        for site, inner, outer, names in (
            ("skip1", "qkv", "out", [f"attention.self.{name}" for name in ("query", "key", "value")]),
            ("skip2", "up", "down", ["intermediate.dense"]),
        ):
            weight, bias = linear(*(f"{at}.{name}" for name in names))
            scale = _query_scale(spec) if inner == "qkv" else 1.0
            w[f"{layer}.{inner}.weight"] = g[:, None] * weight * scale
            w[f"{layer}.{inner}.bias"] = (b @ weight + bias) * scale
            w[f"{layer}.{site}.scale"], w[f"{layer}.{site}.mean"] = g, g / spec.width
            w[f"{layer}.{site}.bias"] = _centred(b)
            output = f"{at}.attention.output" if outer == "out" else f"{at}.output"
            weight, bias = linear(f"{output}.dense")
            w[f"{layer}.{outer}.weight"], w[f"{layer}.{outer}.bias"] = _centred(weight), _centred(bias)
            g, b = norm(output)
    w["head.scale"], w["head.bias"] = g, b
    return w


def _centred(rows: Array) -> Array:
    """Each row without its mean: (…, C)."""
    mean: Array = rows.mean(axis=-1, keepdims=True)
    return rows - mean


def _query_scale(spec: Spec) -> Array:
    """1 / sqrt(D) over the query columns, 1 over keys and values: ((H + 2 G) D,)."""
    scale = np.ones(spec.qkv_width)
    scale[: spec.heads * spec.head_size] = 1 / np.sqrt(spec.head_size)
    return scale
