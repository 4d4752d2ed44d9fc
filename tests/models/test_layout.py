"""config.json: what is read from it, and that everything not understood is refused by key and value."""

import re
from typing import Any

import pytest
from tacit.errors import ModelError
from tacit.models.layout import read_layout
from tacit.protocols.base import Spec
from tiny_models import GPT2, LLAMA


def test_llama_spec() -> None:
    layout = read_layout(LLAMA)
    assert layout.spec == Spec("llama", 2, 4, 2, 6, 12, 20, 17, 16, 1e-5, "silu", 100.0)
    assert layout.shapes["layers.1.self_attn.q_proj.weight"] == (24, 12)
    assert layout.shapes["layers.1.self_attn.k_proj.weight"] == (12, 12)
    assert layout.shapes["layers.0.self_attn.o_proj.weight"] == (12, 24)
    assert not layout.tied


def test_gpt2_spec_and_defaults() -> None:
    config = {k: v for k, v in GPT2.items() if k not in ("n_inner", "activation_function")}
    layout = read_layout(config)
    assert layout.spec == Spec("gpt2", 2, 3, 3, 4, 12, 48, 17, 16, 1e-5, "gelu_tanh", None)
    assert layout.tied
    assert "lm_head.weight" not in layout.shapes
    assert layout.shapes["h.0.attn.c_attn.weight"] == (12, 36)


def test_llama_defaults() -> None:
    left_out = ("num_key_value_heads", "head_dim", "rms_norm_eps", "rope_theta", "hidden_act", "tie_word_embeddings")
    spec = read_layout({k: v for k, v in LLAMA.items() if k not in left_out} | {"hidden_size": 16}).spec
    assert (spec.kv_heads, spec.head_size, spec.eps, spec.rope_theta) == (4, 4, 1e-6, 10000.0)


@pytest.mark.parametrize(
    "change",
    [
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "rope_theta": None},
        {"rope_theta": 500.0, "rope_scaling": None},
        {"rope_theta": 500.0, "rope_scaling": {"type": "default"}},
    ],
)
def test_places_of_rope_theta(change: dict[str, Any]) -> None:
    config = {k: v for k, v in (LLAMA | change).items() if k != "rope_theta" or v is not None}
    assert read_layout(config).spec.rope_theta == 500.0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "mamba"),
        ("model_type", None),
        ("auto_map", {"AutoModel": "modeling.Evil"}),
        ("quantization_config", {"bits": 4}),
        ("hidden_act", "gelu"),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("sliding_window", 8),
        ("pretraining_tp", 2),
        ("partial_rotary_factor", 0.5),
        ("rope_scaling", {"rope_type": "llama3", "factor": 8.0}),
        ("rope_scaling", {"rope_type": "default", "factor": 8.0}),
        ("rope_parameters", {"rope_type": "yarn"}),
        ("rope_scaling", "linear"),
        ("rope_theta", 0),
        ("rope_theta", "10000"),
        ("rms_norm_eps", -1e-5),
        ("tie_word_embeddings", "yes"),
        ("vocab_size", 0),
        ("vocab_size", 1 << 40),
        ("vocab_size", 17.0),
        ("vocab_size", True),
        ("num_hidden_layers", 1 << 20),
        ("hidden_size", None),
        ("head_dim", 5),
        ("num_key_value_heads", 3),
    ],
)
def test_llama_options_not_understood_are_refused(key: str, value: Any) -> None:
    shown = "3 key and value heads" if key == "num_key_value_heads" else repr(value)
    with pytest.raises(ModelError, match=re.escape(shown)) as caught:
        read_layout(LLAMA | {key: value})
    assert key in str(caught.value) or key == "num_key_value_heads"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation_function", "quick_gelu"),
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("add_cross_attention", True),
        ("n_head", 5),
        ("n_inner", -1),
        ("n_positions", "16"),
    ],
)
def test_gpt2_options_not_understood_are_refused(key: str, value: Any) -> None:
    with pytest.raises(ModelError, match=f"{key} = {value!r}"):
        read_layout(GPT2 | {key: value})
