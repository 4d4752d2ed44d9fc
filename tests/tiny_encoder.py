"""A tiny BERT in Hugging Face form with random weights, and the same model as its paper has it, in torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tacit.models.layout import read_layout
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch.nn import functional

BERT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 64,
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "pad_token_id": 0,
}
CLS, SEP = 2, 3
WORDS = [
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "the",
    "mat",
    "road",
    "red",
    "blue",
    "big",
    "small",
    "and",
    "then",
    "home",
    ".",
]


def tensors(config: Mapping[str, Any], seed: int = 5) -> dict[str, NDArray[np.float32]]:
    """Weights of a trained model's size, by the names of its files less their prefix."""
    rng = np.random.default_rng(seed)  # weights are no secret
    found = {}
    for name, shape in read_layout(config).shapes.items():
        if name.endswith("LayerNorm.weight"):
            value = rng.normal(1.0, 0.2, shape)
        elif name.endswith("bias"):
            value = rng.normal(0.0, 0.1, shape)
        elif name.startswith("embeddings"):
            value = rng.normal(0.0, 0.3, shape)
        else:
            value = rng.normal(0.0, 1.2 / np.sqrt(shape[1]), shape)
        found[name] = value.astype(np.float32)
    return found


def write_encoder(folder: Path, prefix: str = "bert.", tokenizer: bool = True, **changes: Any) -> Path:
    """The folder with config.json, model.safetensors and tokenizer.json."""
    config = BERT | changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({prefix + name: value for name, value in tensors(config).items()}, folder / "model.safetensors")
    if tokenizer:
        vocab = {"[PAD]": 0, "[UNK]": 1, "[CLS]": CLS, "[SEP]": SEP}
        vocab |= {word: 4 + i for i, word in enumerate(WORDS)} | {f"w{i}": 20 + i for i in range(44)}
        made = Tokenizer(WordLevel(vocab, unk_token="[UNK]"))
        made.normalizer, made.pre_tokenizer = Lowercase(), Whitespace()
        made.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
        )
        made.enable_truncation(8)  # what such files carry along must not cut anything silently
        made.enable_padding(length=8)
        made.save(str(folder / "tokenizer.json"))
    return folder


def textbook(
    weights: Mapping[str, NDArray[np.float32]], config: Mapping[str, Any], ids: Sequence[int]
) -> NDArray[np.float64]:
    """Rows of the last layer (T, C) in float64: Devlin et al. 2019, one text, no padding."""
    t = {name: torch.from_numpy(value).double() for name, value in weights.items()}
    width, heads, eps = config["hidden_size"], config["num_attention_heads"], config["layer_norm_eps"]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, (width,), t[f"{name}.LayerNorm.weight"], t[f"{name}.LayerNorm.bias"], eps)

    def dense(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, t[f"{name}.weight"], t[f"{name}.bias"])

    def split(x: torch.Tensor) -> torch.Tensor:
        return x.view(len(ids), heads, width // heads).transpose(0, 1)

    act = {
        "gelu": functional.gelu,
        "relu": functional.relu,
        "gelu_new": lambda z: functional.gelu(z, approximate="tanh"),
    }
    x = t["embeddings.word_embeddings.weight"][list(ids)] + t["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + t["embeddings.token_type_embeddings.weight"][0], "embeddings")
    for i in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{i}"
        q, k, v = (split(dense(x, f"{at}.attention.self.{name}")) for name in ("query", "key", "value"))
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(0, 1).reshape(len(ids), width)
        x = norm(x + dense(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output")
        hidden = act[config["hidden_act"]](dense(x, f"{at}.intermediate.dense"))
        x = norm(x + dense(hidden, f"{at}.output.dense"), f"{at}.output")
    rows: NDArray[np.float64] = x.numpy()
    return rows


def textbook_vector(config: Mapping[str, Any], ids: Sequence[int]) -> NDArray[np.float64]:
    """The normalised mean over a text's rows (C,)."""
    mean = textbook(tensors(config), config, ids).mean(0)
    vector: NDArray[np.float64] = mean / np.linalg.norm(mean)
    return vector
