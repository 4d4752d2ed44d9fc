"""Folded models against the textbook forward pass of the unfolded tensors, with real LayerNorm, norms and scales."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tacit.batch import Batch
from tacit.errors import ModelError
from tacit.models.checkpoint import load_checkpoint
from tacit.models.decoder import forward
from tacit.models.fold import fold
from tacit.protocols.base import Spec
from tacit.protocols.plain import Plain
from tiny_models import GPT2, LLAMA, Folder

Array = NDArray[np.float64]
TOKENS = [3, 16, 0, 7, 7, 11, 2]


def softmax(scores: Array) -> Array:
    e = np.exp(scores - scores.max(-1, keepdims=True))
    result: Array = e / e.sum(-1, keepdims=True)
    return result


def attend(q: Array, k: Array, v: Array) -> Array:
    """One head: (T, D) each."""
    scores = q @ k.T / math.sqrt(q.shape[1])
    out: Array = softmax(np.where(np.tri(len(q), dtype=bool), scores, -np.inf)) @ v
    return out


def textbook_llama(t: dict[str, Array], c: dict[str, Any], tokens: list[int]) -> Array:
    """Logits at every position, as in the paper: complex rotations, one head at a time."""

    def norm(x: Array, name: str) -> Array:
        y: Array = x / np.sqrt((x**2).mean(-1, keepdims=True) + c["rms_norm_eps"]) * t[name]
        return y

    d, half = c["head_dim"], c["head_dim"] // 2
    turns = np.exp(1j * np.outer(np.arange(len(tokens)), [c["rope_theta"] ** (-2 * j / d) for j in range(half)]))

    def rope(x: Array) -> Array:
        z = (x[:, :half] + 1j * x[:, half:]) * turns
        return np.concatenate([z.real, z.imag], 1)

    x = t["model.embed_tokens.weight"][tokens]
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        h = norm(x, p + "input_layernorm.weight")
        q, k, v = (h @ t[f"{p}self_attn.{n}_proj.weight"].T for n in "qkv")
        heads = []
        for a in range(c["num_attention_heads"]):
            b = a // (c["num_attention_heads"] // c["num_key_value_heads"])
            qs, ks = slice(a * d, a * d + d), slice(b * d, b * d + d)
            heads.append(attend(rope(q[:, qs]), rope(k[:, ks]), v[:, ks]))
        x = x + np.concatenate(heads, 1) @ t[p + "self_attn.o_proj.weight"].T
        h = norm(x, p + "post_attention_layernorm.weight")
        gate = h @ t[p + "mlp.gate_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ t[p + "mlp.up_proj.weight"].T)) @ t[p + "mlp.down_proj.weight"].T
    head = t.get("lm_head.weight", t["model.embed_tokens.weight"])
    logits: Array = norm(x, "model.norm.weight") @ head.T
    return logits


def textbook_gpt2(t: dict[str, Array], c: dict[str, Any], tokens: list[int]) -> Array:
    acts: dict[str, Callable[[float], float]] = {
        "gelu": lambda z: z * 0.5 * (1 + math.erf(z / math.sqrt(2))),
        "gelu_new": lambda z: z * 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
        "relu": lambda z: max(z, 0.0),
    }
    act = np.vectorize(acts[c["activation_function"]])
    t = {name.removeprefix("transformer."): value for name, value in t.items()}

    def norm(x: Array, name: str) -> Array:
        z = x - x.mean(-1, keepdims=True)
        y: Array = z / np.sqrt((z**2).mean(-1, keepdims=True) + 1e-5) * t[name + ".weight"] + t[name + ".bias"]
        return y

    def conv(x: Array, name: str) -> Array:
        return x @ t[name + ".weight"] + t[name + ".bias"]

    x = t["wte.weight"][tokens] + t["wpe.weight"][: len(tokens)]
    d = c["n_embd"] // c["n_head"]
    for i in range(c["n_layer"]):
        q, k, v = np.split(conv(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn"), 3, axis=1)
        parts = [slice(a * d, a * d + d) for a in range(c["n_head"])]
        x = x + conv(np.concatenate([attend(q[:, s], k[:, s], v[:, s]) for s in parts], 1), f"h.{i}.attn.c_proj")
        x = x + conv(act(conv(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")), f"h.{i}.mlp.c_proj")
    logits: Array = norm(x, "ln_f") @ t.get("lm_head.weight", t["wte.weight"]).T
    return logits


def logits_in_pieces(folder: Folder, cuts: list[int]) -> list[Array]:
    """Logits at the end of each piece when the tokens arrive in pieces that end at `cuts`."""
    spec, weights = fold(load_checkpoint(folder.path))
    plain = Plain(spec, weights)
    caches, start, out = plain.new_cache(), 0, []
    for stop in cuts:
        out.append(forward(plain, spec, TOKENS[start:stop], caches, Batch.one(stop - start, start))[0])
        start = stop
    return out


CASES = [
    (LLAMA, {}),
    (LLAMA, {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    (LLAMA, {"num_key_value_heads": 4, "num_hidden_layers": 1, "head_dim": 2}),
    (GPT2, {}),
    (GPT2, {"activation_function": "gelu_new", "tie_word_embeddings": False}),
    (GPT2, {"activation_function": "relu", "n_layer": 1}),
]


@pytest.mark.parametrize(("base", "changes"), CASES)
def test_folded_model_equals_the_textbook(
    make_folder: Callable[..., Folder], base: dict[str, Any], changes: dict[str, Any]
) -> None:
    folder = make_folder(base, **changes)
    tensors = {name: value.astype(np.float64) for name, value in folder.tensors.items()}
    textbook = textbook_llama if base is LLAMA else textbook_gpt2
    want = textbook(tensors, folder.config, TOKENS)
    for cuts in ([7], [1, 2, 3, 4, 5, 6, 7], [3, 4, 7]):
        for stop, logits in zip(cuts, logits_in_pieces(folder, cuts), strict=True):
            np.testing.assert_allclose(logits, want[stop - 1], rtol=1e-9, atol=1e-9)


def test_folded_names_and_shapes(llama: Folder) -> None:
    spec, weights = fold(load_checkpoint(llama.path))
    layer = {"qkv": (12, 48), "out": (24, 12), "gate_up": (12, 40), "down": (20, 12)}
    want = {f"layers.{i}.{site}.weight": shape for i in (0, 1) for site, shape in layer.items()}
    assert {name: value.shape for name, value in weights.items()} == want | {"embed": (17, 12), "head.weight": (12, 17)}
    assert spec.qkv_width == 48
    assert all(value.dtype == np.float64 and value.flags.c_contiguous for value in weights.values())


def test_gpt2_residual_stream_has_mean_zero(gpt2: Folder) -> None:
    """What makes LayerNorm an RMSNorm: every writer of the stream is centred."""
    _, weights = fold(load_checkpoint(gpt2.path))
    writers = ["embed", "positions"]
    writers += [f"layers.{i}.{s}.{k}" for i in (0, 1) for s in ("out", "down") for k in ("weight", "bias")]
    for name in writers:
        assert np.abs(weights[name].mean(-1)).max() < 1e-15, name


def test_unknown_architecture() -> None:
    spec = Spec("mamba", 1, 1, 1, 2, 2, 2, 2, 2, 1e-5, "relu", None)
    with pytest.raises(ModelError, match="'mamba' has no definition"):
        forward(Plain(spec, {}), spec, [0], [], Batch.one(1))
