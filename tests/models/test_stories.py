"""The shipped story model's folder: complete, small, consistent with itself, and its tokenizer gives text back."""

from __future__ import annotations

import hashlib
import json
import struct
from math import prod
from pathlib import Path

import pytest
from tokenizers import Tokenizer

FOLDER = Path(__file__).resolve().parents[2] / "models" / "stories"
MEGABYTE = 1_000_000


def read(name: str):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def safetensors_header() -> tuple[dict, int]:
    raw = (FOLDER / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), len(raw) - 8 - length


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


def test_the_folder_is_complete_and_small():
    names = {path.name for path in FOLDER.iterdir()}
    assert names == {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "expected.json",
        "generation_config.json",
        "model.safetensors",
        "provenance.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 5 * MEGABYTE


def test_weights_are_float16_and_fit_the_config():
    config = read("config.json")
    header, data_bytes = safetensors_header()
    header.pop("__metadata__")
    assert {entry["dtype"] for entry in header.values()} == {"F16"}
    width, hidden, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], width], "model.norm.weight": [width]}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        shapes |= {
            layer + "input_layernorm.weight": [width],
            layer + "post_attention_layernorm.weight": [width],
            layer + "self_attn.q_proj.weight": [queries, width],
            layer + "self_attn.k_proj.weight": [keys, width],
            layer + "self_attn.v_proj.weight": [keys, width],
            layer + "self_attn.o_proj.weight": [width, queries],
            layer + "mlp.gate_proj.weight": [hidden, width],
            layer + "mlp.up_proj.weight": [hidden, width],
            layer + "mlp.down_proj.weight": [width, hidden],
        }
    assert {name: entry["shape"] for name, entry in header.items()} == shapes
    parameters = sum(prod(shape) for shape in shapes.values())
    assert 1_000_000 <= parameters <= 1_600_000
    assert read("provenance.json")["parameters"] == parameters
    assert data_bytes == 2 * parameters


def test_config_agrees_with_the_tokenizer(tokenizer):
    config, generation = read("config.json"), read("generation_config.json")
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["tie_word_embeddings"] is True
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    assert [tokenizer.token_to_id(token) for token in ("<unk>", "<s>", "</s>")] == [0, 1, 2]
    assert (config["bos_token_id"], config["eos_token_id"]) == (1, 2)
    assert (generation["bos_token_id"], generation["eos_token_id"]) == (1, 2)


@pytest.mark.parametrize(
    "text",
    [
        "Once upon a time",
        " two  spaces   and a tail ",
        'Line one.\n\nLine two: "Hello!" said Mia.\t\r\n',
        "Zoë naïve coöperation, Ωμέγα, 語, 🦊👩‍👧 \u200d \ufeff",
        "".join(map(chr, range(1, 256))),
        "x" * 2000,
        "",
    ],
)
def test_any_text_encodes_and_comes_back_exactly(tokenizer, text):
    ids = tokenizer.encode(text).ids
    assert ids[0] == 1
    assert 0 not in ids
    assert tokenizer.decode(ids) == text


def test_expectations_belong_to_these_files():
    digests = read("expected.json")["files_sha256"]
    assert set(digests) == {"config.json", "model.safetensors", "tokenizer.json"}
    for name, digest in digests.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name


def test_expectations_are_consistent_and_every_story_ends(tokenizer):
    config = read("config.json")
    expected = read("expected.json")
    assert len(expected["cases"]) >= 4
    for case in expected["cases"]:
        new = case["greedy_new_ids"]
        assert tokenizer.encode(case["prompt"]).ids == case["prompt_ids"]
        assert tokenizer.decode(new) == case["greedy_text"]
        assert len(case["margins"]) == len(new)
        assert min(case["margins"]) == case["smallest_margin"]["margin"] >= 0
        logits = case["first_step_logits"]
        assert len(logits) == config["vocab_size"]
        assert logits[new[0]] == max(logits)
        runner_up = sorted(logits)[-2]
        assert max(logits) - runner_up == pytest.approx(case["margins"][0], abs=2e-6)
        assert case["ended"]
        assert new[-1] == config["eos_token_id"]
        assert 40 < len(new) <= 200


def test_the_saved_weights_give_the_expected_story():
    """The one check that multiplies: a tampered weight or a wrong expectation shows here."""
    torch = pytest.importorskip("torch", reason="needs torch, of the [peer] extra")
    load_file = pytest.importorskip("safetensors.torch", reason="needs safetensors, of the [peer] extra").load_file
    functional = torch.nn.functional
    config, case = read("config.json"), read("expected.json")["cases"][0]
    w = {name: weight.double() for name, weight in load_file(FOLDER / "model.safetensors").items()}
    heads, groups, head = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    ids = torch.tensor(case["prompt_ids"] + case["greedy_new_ids"][:-1])
    turns = torch.outer(
        torch.arange(len(ids), dtype=torch.float64),
        config["rope_theta"] ** (-torch.arange(0, head, 2, dtype=torch.float64) / head),
    )

    def norm(x, name):
        return x / (x.square().mean(-1, keepdim=True) + config["rms_norm_eps"]).sqrt() * w[name]

    def rope(x):
        """x (heads, T, D): a plane per pair (i, i + D/2), as complex numbers."""
        turned = torch.complex(*x.chunk(2, -1)) * torch.polar(torch.ones_like(turns), turns)
        return torch.cat((turned.real, turned.imag), -1)

    def split(x, count):
        return x.view(len(ids), count, head).transpose(0, 1)

    x = w["model.embed_tokens.weight"][ids]
    future = torch.ones(len(ids), len(ids), dtype=torch.bool).triu(1)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        a = norm(x, layer + "input_layernorm.weight")
        q, k, v = (a @ w[f"{layer}self_attn.{part}_proj.weight"].T for part in "qkv")
        q, k, v = rope(split(q, heads)), rope(split(k, groups)), split(v, groups)
        k, v = (y.repeat_interleave(heads // groups, 0) for y in (k, v))
        scores = (q @ k.transpose(1, 2) / head**0.5).masked_fill(future, -torch.inf)
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(len(ids), -1)
        x = x + mixed @ w[layer + "self_attn.o_proj.weight"].T
        a = norm(x, layer + "post_attention_layernorm.weight")
        gate, up = (a @ w[f"{layer}mlp.{part}_proj.weight"].T for part in ("gate", "up"))
        x = x + (functional.silu(gate) * up) @ w[layer + "mlp.down_proj.weight"].T
    logits = norm(x, "model.norm.weight") @ w["model.embed_tokens.weight"].T
    logits = logits[len(case["prompt_ids"]) - 1 :]
    assert logits.argmax(-1).tolist() == case["greedy_new_ids"]
    assert logits[0].tolist() == pytest.approx(case["first_step_logits"], abs=2e-6)


def test_activations_are_tame_enough_for_fixed_point():
    seen = read("expected.json")["activations"]
    assert seen["max_abs"]["scores"] < 60
    assert seen["norm_input_mean_square"]["min"] > 0


def test_provenance_says_how_it_was_made():
    told = read("provenance.json")
    assert told["made_by"] == "scripts/train_demo_model"
    assert told["licence"] == "Apache-2.0"
    assert told["minutes"] < 20
    assert told["stories_distinct"] >= 200_000
    assert 0 < told["validation_loss"] < 1.0
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for figure in (f"{told['parameters']:,}", f"{told['validation_loss']:.3f}", "Apache-2.0"):
        assert figure in readme
