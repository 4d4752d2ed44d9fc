"""A model that is there for calibration alone: random weights, and another shape than any that is to be predicted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

WIDTH, INNER, LAYERS, HEADS, HEAD, VOCAB, CONTEXT = 160, 400, 3, 5, 32, 2048, 256
SEED = 1
SPREAD = 0.08  # of a weight: activations stay where a trained model's are


def write_model(folder: Path) -> None:
    """Llama-format config.json and model.safetensors (4 MB), the same bytes each time, so that its ranges are found once."""
    chance = np.random.default_rng(SEED)

    def weights(*shape: int) -> np.ndarray:
        return (SPREAD * chance.standard_normal(shape)).astype(np.float32)

    tensors = {"model.embed_tokens.weight": weights(VOCAB, WIDTH), "model.norm.weight": np.ones(WIDTH, np.float32)}
    for number in range(LAYERS):
        layer = f"model.layers.{number}"
        tensors |= {
            f"{layer}.{name}.weight": np.ones(WIDTH, np.float32)
            for name in ("input_layernorm", "post_attention_layernorm")
        }
        tensors |= {f"{layer}.self_attn.{name}_proj.weight": weights(HEADS * HEAD, WIDTH) for name in "qkv"}
        tensors[f"{layer}.self_attn.o_proj.weight"] = weights(WIDTH, HEADS * HEAD)
        tensors |= {f"{layer}.mlp.{name}_proj.weight": weights(INNER, WIDTH) for name in ("gate", "up")}
        tensors[f"{layer}.mlp.down_proj.weight"] = weights(WIDTH, INNER)
    save_file(tensors, folder / "model.safetensors")
    config = {
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": HEAD,
        "vocab_size": VOCAB,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
