"""What a config.json means: the folded model's `Spec`, and the tensors its checkpoint must have, with their shapes.

Everything that would change the function computed is either understood or refused, by name: an option that is ignored
would give another model's answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ModelError
from ..protocols.base import Spec

Shape = tuple[int, ...]
_LARGEST = 1 << 24  # of any count in a config; refuses nonsense before anything is allocated
_MOST_LAYERS = 1 << 12
_GELU = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}


@dataclass(frozen=True, slots=True)
class Layout:
    """A model's spec; its tensors by name less `prefix` (which files may omit); whether the head is the embedding."""

    spec: Spec
    prefix: str
    shapes: Mapping[str, Shape]
    tied: bool
    ignored: re.Pattern[str]  # tensors that hold no weights of what is computed


class _Config:
    """Typed access to config.json; every complaint names the key and the value."""

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = entries

    def count(self, key: str, default: int | None = None, most: int = _LARGEST) -> int:
        """A whole number from 1 to `most`."""
        value = self._entries.get(key)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise ModelError(f"config.json: {key} = {value!r} should be a whole number from 1 to {most}")
        return value

    def number(self, key: str, default: float) -> float:
        """A positive number."""
        value = self._entries.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
            raise ModelError(f"config.json: {key} = {value!r} should be a positive number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self._entries.get(key, default)
        if not isinstance(value, bool):
            raise ModelError(f"config.json: {key} = {value!r} should be true or false")
        return value

    def only(self, key: str, *allowed: Any) -> None:
        """Refuse any value that is not supported; an absent key has the first one."""
        value = self._entries.get(key, allowed[0])
        if value not in allowed:
            listed = " or ".join(repr(a) for a in allowed)
            raise ModelError(f"config.json: {key} = {value!r} is not supported (only {listed})")

    def get(self, key: str) -> Any:
        return self._entries.get(key)


def read_layout(entries: Mapping[str, Any]) -> Layout:
    """The layout that config.json describes. ModelError names the key and value that are wrong or not supported."""
    config = _Config(entries)
    kind = config.get("model_type")
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise ModelError(f"config.json: model_type = {kind!r} is not supported (only 'llama', 'gpt2' or 'bert')")
    config.only("auto_map", None)  # the model brings its own code
    config.only("quantization_config", None)
    layout = read(config)
    spec = layout.spec
    if spec.heads % spec.kv_heads:
        raise ModelError(f"config.json: {spec.heads} heads cannot share {spec.kv_heads} key and value heads")
    return layout


def _llama(config: _Config) -> Layout:
    config.only("hidden_act", "silu")
    for key in ("attention_bias", "mlp_bias"):
        config.only(key, False, None)
    config.only("sliding_window", None)
    config.only("pretraining_tp", 1, None)
    config.only("partial_rotary_factor", 1.0, None)
    heads, width = config.count("num_attention_heads"), config.count("hidden_size")
    spec = Spec(
        architecture="llama",
        layers=config.count("num_hidden_layers", most=_MOST_LAYERS),
        heads=heads,
        kv_heads=config.count("num_key_value_heads", heads),
        head_size=config.count("head_dim", _quotient(width, heads, "hidden_size", "num_attention_heads", config)),
        width=width,
        hidden=config.count("intermediate_size"),
        vocab=config.count("vocab_size"),
        context=config.count("max_position_embeddings"),
        eps=config.number("rms_norm_eps", 1e-6),
        activation="silu",
        rope_theta=_rope_theta(config),
    )
    if spec.head_size % 2:
        raise ModelError(f"config.json: head_dim = {spec.head_size} should be even, rotations turn pairs")
    tied = config.flag("tie_word_embeddings", False)
    ignored = re.compile(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
    return Layout(spec, "model.", dict(_llama_shapes(spec, tied)), tied, ignored)


def _llama_shapes(s: Spec, tied: bool) -> Iterator[tuple[str, Shape]]:
    q, kv = s.heads * s.head_size, s.kv_heads * s.head_size
    yield "embed_tokens.weight", (s.vocab, s.width)
    for i in range(s.layers):
        yield f"layers.{i}.input_layernorm.weight", (s.width,)
        yield f"layers.{i}.self_attn.q_proj.weight", (q, s.width)
        yield f"layers.{i}.self_attn.k_proj.weight", (kv, s.width)
        yield f"layers.{i}.self_attn.v_proj.weight", (kv, s.width)
        yield f"layers.{i}.self_attn.o_proj.weight", (s.width, q)
        yield f"layers.{i}.post_attention_layernorm.weight", (s.width,)
        yield f"layers.{i}.mlp.gate_proj.weight", (s.hidden, s.width)
        yield f"layers.{i}.mlp.up_proj.weight", (s.hidden, s.width)
        yield f"layers.{i}.mlp.down_proj.weight", (s.width, s.hidden)
    yield "norm.weight", (s.width,)
    if not tied:
        yield "lm_head.weight", (s.vocab, s.width)


def _rope_theta(config: _Config) -> float:
    """`rope_theta`, which newer files put into `rope_parameters`; any scaling of the rotations is refused."""
    theta = config.number("rope_theta", 10000.0)
    for key in ("rope_scaling", "rope_parameters"):
        value = config.get(key)
        if value is None:
            continue
        kind = value.get("rope_type", value.get("type", "default")) if isinstance(value, dict) else value
        known = isinstance(value, dict) and set(value) <= {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
        if kind != "default" or not known:
            raise ModelError(f"config.json: {key} = {value!r} is not supported (only rope_type 'default')")
        inner = _Config(value)
        inner.only("partial_rotary_factor", 1.0)
        theta = inner.number("rope_theta", theta)
    return theta


def _gpt2(config: _Config) -> Layout:
    config.only("scale_attn_weights", True)
    config.only("scale_attn_by_inverse_layer_idx", False)
    config.only("add_cross_attention", False)
    config.only("activation_function", "gelu_new", *_GELU)
    heads, width = config.count("n_head"), config.count("n_embd")
    spec = Spec(
        architecture="gpt2",
        layers=config.count("n_layer", most=_MOST_LAYERS),
        heads=heads,
        kv_heads=heads,
        head_size=_quotient(width, heads, "n_embd", "n_head", config),
        width=width,
        hidden=config.count("n_inner", 4 * width),
        vocab=config.count("vocab_size"),
        context=config.count("n_positions"),
        eps=config.number("layer_norm_epsilon", 1e-5),
        activation=_GELU[config.get("activation_function") or "gelu_new"],
        rope_theta=None,
    )
    tied = config.flag("tie_word_embeddings", True)
    ignored = re.compile(r"h\.\d+\.attn\.(masked_)?bias")  # the causal mask, which old files carry along
    return Layout(spec, "transformer.", dict(_gpt2_shapes(spec, tied)), tied, ignored)


def _gpt2_shapes(s: Spec, tied: bool) -> Iterator[tuple[str, Shape]]:
    yield "wte.weight", (s.vocab, s.width)
    yield "wpe.weight", (s.context, s.width)
    for i in range(s.layers):
        for name, shape in (
            ("ln_1", (s.width,)),
            ("attn.c_attn", (s.width, 3 * s.width)),
            ("attn.c_proj", (s.width, s.width)),
            ("ln_2", (s.width,)),
            ("mlp.c_fc", (s.width, s.hidden)),
            ("mlp.c_proj", (s.hidden, s.width)),
        ):
            yield f"h.{i}.{name}.weight", shape
            yield f"h.{i}.{name}.bias", shape[-1:]
    yield "ln_f.weight", (s.width,)
    yield "ln_f.bias", (s.width,)
    if not tied:
        yield "lm_head.weight", (s.vocab, s.width)


def _bert(config: _Config) -> Layout:
    config.only("position_embedding_type", "absolute", None)
    config.only("is_decoder", False)
    config.only("add_cross_attention", False)
    config.only("hidden_act", *("gelu", *_GELU))
    heads, width = config.count("num_attention_heads"), config.count("hidden_size")
    spec = Spec(
        architecture="bert",
        layers=config.count("num_hidden_layers", most=_MOST_LAYERS),
        heads=heads,
        kv_heads=heads,
        head_size=_quotient(width, heads, "hidden_size", "num_attention_heads", config),
        width=width,
        hidden=config.count("intermediate_size"),
        vocab=config.count("vocab_size"),
        context=config.count("max_position_embeddings"),
        eps=config.number("layer_norm_eps", 1e-12),
        activation=_GELU[config.get("hidden_act") or "gelu"],
        rope_theta=None,
    )
    # What stands on top of an encoder for other uses, and no part of an embedding: the pooler, the heads of its training.
    ignored = re.compile(r"embeddings\.position_ids|pooler\..*|cls\..*")
    return Layout(spec, "bert.", dict(_bert_shapes(spec, config.count("type_vocab_size", 2))), False, ignored)


def _bert_shapes(s: Spec, types: int) -> Iterator[tuple[str, Shape]]:
    yield "embeddings.word_embeddings.weight", (s.vocab, s.width)
    yield "embeddings.position_embeddings.weight", (s.context, s.width)
    yield "embeddings.token_type_embeddings.weight", (types, s.width)
    for part in ("weight", "bias"):
        yield f"embeddings.LayerNorm.{part}", (s.width,)
    for i in range(s.layers):
        for name, shape in (
            ("attention.self.query", (s.heads * s.head_size, s.width)),
            ("attention.self.key", (s.heads * s.head_size, s.width)),
            ("attention.self.value", (s.heads * s.head_size, s.width)),
            ("attention.output.dense", (s.width, s.heads * s.head_size)),
            ("attention.output.LayerNorm", (s.width,)),
            ("intermediate.dense", (s.hidden, s.width)),
            ("output.dense", (s.width, s.hidden)),
            ("output.LayerNorm", (s.width,)),
        ):
            yield f"encoder.layer.{i}.{name}.weight", shape
            yield f"encoder.layer.{i}.{name}.bias", shape[:1]


_READERS: Mapping[str, Callable[[_Config], Layout]] = {"llama": _llama, "gpt2": _gpt2, "bert": _bert}


def _quotient(width: int, heads: int, width_key: str, heads_key: str, config: _Config) -> int:
    if config.get("head_dim") is None and width % heads:
        raise ModelError(f"config.json: {width_key} = {width} is not a multiple of {heads_key} = {heads}")
    return max(width // heads, 1)
