"""The oracle on real checkpoints (tokens and logits of other programs), its errors, what its observer sees."""

import itertools
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tacit.batch import Batch
from tacit.errors import UsageError
from tacit.models.checkpoint import load_checkpoint
from tacit.models.decoder import forward
from tacit.models.fold import fold
from tacit.protocols.base import Spec
from tacit.protocols.plain import ACTIVATIONS, Plain, rotate

Array = NDArray[np.float64]
MODELS = Path(os.environ.get("TACIT_TEST_MODELS", Path(__file__).parents[2].parent / "shared" / "models"))


@cache
def model(name: str) -> tuple[Spec, dict[str, Array], dict[str, Any]]:
    folder = MODELS / name
    if not folder.is_dir():
        pytest.skip(f"no checkpoint at {folder} (set TACIT_TEST_MODELS)")
    spec, weights = fold(load_checkpoint(folder))
    return spec, weights, json.loads((folder / "expected.json").read_text())


def greedy(plain: Plain, prompt: list[int], count: int) -> tuple[list[int], Array]:
    caches, tokens, logits = plain.new_cache(), list(prompt), []
    step = tokens
    for _ in range(count):
        logits.append(forward(plain, plain.spec, step, caches, Batch.one(len(step), len(tokens) - len(step)))[0])
        tokens.append(int(logits[-1].argmax()))
        step = tokens[-1:]
    return tokens[len(prompt) :], np.array(logits)


def test_stories_equal_the_expected_tokens_and_logits() -> None:
    spec, weights, expected = model("stories260K")
    tokens, logits = greedy(Plain(spec, weights), expected["prompt_ids"], expected["max_new_tokens"])
    assert tokens == expected["greedy_new_ids"]
    np.testing.assert_allclose(logits[0], expected["first_step_logits"], atol=1e-4)


def test_nano_sort_equals_the_expected_logits() -> None:
    spec, weights, expected = model("gpt-nano-sort")
    for example in expected["examples"]:
        tokens, logits = greedy(Plain(spec, weights), example["prompt_ids"], 6)
        assert tokens == example["greedy_new_ids"]
        np.testing.assert_allclose(logits, example["logits_each_step"], atol=1e-4)


def test_nano_sort_sorts_everything() -> None:
    spec, weights, _ = model("gpt-nano-sort")
    for digits in itertools.product(range(3), repeat=6):
        assert greedy(Plain(spec, weights), list(digits), 6)[0] == sorted(digits)


def test_what_the_observer_sees() -> None:
    spec, weights, expected = model("stories260K")
    seen: dict[tuple[str, str], list[Array]] = {}
    plain = Plain(spec, weights, lambda site, quantity, values: seen.setdefault((site, quantity), []).append(values))
    forward(plain, spec, expected["prompt_ids"], plain.new_cache(), Batch.one(len(expected["prompt_ids"])))
    tokens = len(expected["prompt_ids"])
    attention = {"qk_raw", "q", "k", "v", "scores", "weighted", "exp_sum", "output"}
    want = {("embed", "output"), ("norm", "input"), ("norm", "mean_square"), ("head", "output")}
    for i in range(spec.layers):
        want |= {(f"layers.{i}.{n}", quantity) for n in ("norm1", "norm2") for quantity in ("input", "mean_square")}
        want |= {(f"layers.{i}.{n}", "output") for n in ("qkv", "out", "out.add", "gate_up", "down", "down.add")}
        want |= {(f"layers.{i}.attention", quantity) for quantity in attention}
        want |= {(f"layers.{i}.act", quantity) for quantity in ("gate", "up", "output")}
    assert set(seen) == want
    assert all(len(values) == 1 for values in seen.values())
    assert seen["layers.4.act", "gate"][0].shape == (tokens, spec.hidden)
    assert seen["head", "output"][0].shape == (tokens, spec.vocab)
    first = {quantity: seen["layers.0.attention", quantity][0] for quantity in attention}
    assert first["scores"].size == spec.heads * tokens * (tokens + 1) // 2
    assert np.isfinite(first["scores"]).all()
    # Rotation keeps the length of every head; normalised attention is what was weighted, divided.
    np.testing.assert_allclose((first["q"] ** 2).sum() + (first["k"] ** 2).sum(), (first["qk_raw"] ** 2).sum())
    ratio = (first["weighted"] / first["exp_sum"]).transpose(2, 0, 1, 3).reshape(tokens, -1)
    np.testing.assert_allclose(ratio, first["output"])
    mean_square = (seen["embed", "output"][0] ** 2).mean(axis=1)
    np.testing.assert_allclose(seen["layers.0.norm1", "mean_square"][0][:, 0], mean_square)


def test_observing_changes_no_logit() -> None:
    spec, weights, expected = model("stories260K")
    ids = expected["prompt_ids"]
    alone, watched = Plain(spec, weights), Plain(spec, weights, lambda site, quantity, values: None)
    every = forward(watched, spec, ids, watched.new_cache(), Batch.one(len(ids)))
    for stop in range(1, len(ids) + 1):
        logits = forward(alone, spec, ids[:stop], alone.new_cache(), Batch.one(stop))
        assert logits.shape == (1, spec.vocab)
        np.testing.assert_allclose(logits[0], every[stop - 1], atol=1e-12)


@pytest.mark.parametrize(
    ("tokens", "start", "message"),
    [
        ([], 0, "one or more"),
        ([[1]], 0, "one or more"),
        ([0.5], 0, "one or more"),
        ([-1], 0, "outside 0 to 9"),
        ([10], 0, "outside 0 to 9"),
        ([1, 2], 3, "5 tokens do not fit"),
        ([1], 4, "5 tokens do not fit"),
        ([1], -1, "do not fit"),
    ],
)
def test_tokens_and_positions_that_do_not_exist(tokens: Any, start: int, message: str) -> None:
    spec = Spec("llama", 1, 1, 1, 2, 2, 2, 10, 4, 1e-5, "silu", 10.0)
    plain = Plain(spec, {"embed": np.zeros((10, 2))})
    with pytest.raises(UsageError, match=message):
        plain.embed(tokens, Batch.one(max(1, len(tokens)), start))


def test_rotations_depend_on_distance_alone() -> None:
    q, k = np.random.default_rng(1).normal(size=(2, 1, 3, 8))
    products = [np.einsum("thd,thd->h", rotate(q, s + 5, 100.0), rotate(k, s, 100.0)) for s in (0, 1, 300)]
    np.testing.assert_allclose(products[1:], [products[0]] * 2)
    np.testing.assert_allclose(rotate(q, 0, 100.0), q)


@pytest.mark.parametrize(
    ("name", "at_minus_one", "at_one"),
    [
        ("silu", -0.2689414213699951, 0.7310585786300049),
        ("gelu", -0.15865525393145707, 0.8413447460685429),
        ("gelu_tanh", -0.15880800939172324, 0.8411919906082768),
        ("relu", 0.0, 1.0),
    ],
)
def test_activations_at_known_points(name: str, at_minus_one: float, at_one: float) -> None:
    x = np.array([-800.0, -1.0, 0.0, 1.0, 800.0])
    with np.errstate(all="raise", under="ignore"):
        y = ACTIVATIONS[name](x)
    np.testing.assert_allclose(y, [0.0, at_minus_one, 0.0, at_one, 800.0], atol=1e-15)
