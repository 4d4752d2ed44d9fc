"""Tiny models in Hugging Face form: configs to spoil, and folders on disk."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "vocab_size": 17,
    "max_position_embeddings": 16,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": [2, 3],
}
GPT2: dict[str, Any] = {
    "model_type": "gpt2",
    "n_embd": 12,
    "n_inner": 20,
    "n_layer": 2,
    "n_head": 3,
    "vocab_size": 17,
    "n_positions": 16,
    "activation_function": "gelu",
    "bos_token_id": None,
    "eos_token_id": 4,
}


@dataclass
class Folder:
    """A model folder and what was written to it."""

    path: Path
    config: dict[str, Any]
    tensors: dict[str, NDArray[np.float32]]

    def configure(self, **changes: Any) -> None:
        """Write config.json anew with some keys changed."""
        (self.path / "config.json").write_text(json.dumps(self.config | changes))

    def save(self, tensors: dict[str, NDArray[Any]] | None = None, name: str = "model.safetensors") -> None:
        save_file(self.tensors if tensors is None else tensors, self.path / name)
