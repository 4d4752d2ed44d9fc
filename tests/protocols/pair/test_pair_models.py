"""Whole models on shares: tokens and logits against float64, cost against the tracer, rounds against the context."""

import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pair_plans import GPT2, LLAMA, Model, on_shares, random_model, smaller
from tacit.batch import Batch
from tacit.models.checkpoint import load_checkpoint
from tacit.models.decoder import forward
from tacit.models.fold import fold
from tacit.protocols.trace.trace import Trace
from three_parties import F64

FOLDER = Path(os.environ.get("TACIT_TEST_MODELS") or Path(__file__).resolve().parents[4] / "shared" / "models")


def checkpoint(name: str) -> tuple[Model, dict[str, Any]]:
    folder = FOLDER / name
    if not (folder / "model.safetensors").is_file():
        pytest.skip(f"{folder} is not there; set TACIT_TEST_MODELS to the folder that has {name}")
    loaded = load_checkpoint(str(folder))
    return Model.of(*fold(loaded), loaded.bos), json.loads((folder / "expected.json").read_text())


@pytest.fixture(scope="module")
def stories() -> tuple[Model, dict[str, Any]]:
    return checkpoint("stories260K")


@pytest.fixture(scope="module")
def sorter() -> tuple[Model, dict[str, Any]]:
    return checkpoint("gpt-nano-sort")


def traced(model: Model, *steps: int) -> list[tuple[int, int, int, int]]:
    """What the tracer declares for steps of so many tokens."""
    out, at = [], 0
    for tokens in steps:
        trace = Trace(model.spec, model.check.scales)
        forward(trace, model.spec, tokens, trace.new_cache(), Batch.one(tokens, at))
        c = trace.total
        out.append((c.rounds, c.online, c.offline0, c.offline1))
        at += tokens
    return out


def layer_rounds(model: Model, tokens: int, at: int) -> int:
    trace = Trace(model.spec, model.check.scales)
    forward(trace, model.spec, tokens, trace.new_cache(), Batch.one(tokens, at))
    return trace.layer_rounds()


def worst(got: list[F64], want: list[F64]) -> float:
    return max(float(np.abs(a[-1] - b).max()) for a, b in zip(got, want, strict=True))


def test_stories_64_of_64_greedy_tokens(stories: tuple[Model, dict[str, Any]]) -> None:
    """Each step is given the expected token: greedy generation equals it as long as every argmax does."""
    model, expected = stories
    want = expected["greedy_new_ids"]
    steps = [list(expected["prompt_ids"])] + [[token] for token in want[:-1]]
    g = on_shares(model, *steps)
    assert [int(y.argmax()) for y in g.logits] == want
    assert np.abs(g.logits[0][0] - np.array(expected["first_step_logits"])).max() < 0.02
    assert worst(g.logits, model.logits(*steps)) < 0.03  # the smallest margin of the 64 is 0.07
    assert g.costs == traced(model, *(len(s) for s in steps))
    assert {c[0] for c in g.costs} == {14 * model.spec.layers + 3}


def sorted_on_shares(model: Model, digits: tuple[int, ...]) -> bool:
    """One step over the input and the first five sorted digits, every row kept: logits of six predictions.

    All six right means that greedy generation gives the sorted digits, by induction over them.
    """
    want = sorted(digits)
    (logits,) = on_shares(model, [*digits, *want[:-1]], all_rows=True).logits
    return bool((logits[5:].argmax(1) == want).all())


INPUTS = list(itertools.product(range(3), repeat=6))
ALL = bool(os.environ.get("TACIT_ALL"))


def test_sorter(sorter: tuple[Model, dict[str, Any]]) -> None:
    """Teacher-forced, a session for each input; a fixed third of the 729 with all 28 sets of digits among them, and all 729
    with TACIT_ALL=1 (half a minute). The cache's path through single tokens is the next test's."""
    model, _ = sorter
    some = [d for d in INPUTS if ALL or (d[1] + 2 * d[2] + d[4] + 2 * d[5]) % 3 == 0]
    assert len(some) == (729 if ALL else 243)
    assert len({tuple(sorted(d)) for d in some}) == 28
    wrong = [d for d in some if not sorted_on_shares(model, d)]
    assert not wrong


def test_sorter_token_by_token(sorter: tuple[Model, dict[str, Any]]) -> None:
    """Six digits, then one token a step: every 27th input; all 729 with TACIT_ALL=1."""
    model, expected = sorter
    for digits in INPUTS if ALL else INPUTS[13::27]:
        want = sorted(digits)
        g = on_shares(model, list(digits), *([token] for token in want[:-1]))
        assert [int(y.argmax()) for y in g.logits] == want, digits
    for example in expected["examples"]:
        steps = [example["prompt_ids"], *([token] for token in example["greedy_new_ids"][:-1])]
        g = on_shares(model, *steps)
        assert worst(g.logits, [np.array(row) for row in example["logits_each_step"]]) < 0.02
        assert g.costs == traced(model, *(len(s) for s in steps))
        assert {c[0] for c in g.costs} == {13 * model.spec.layers + 3}


TINY = {
    "llama": smaller(LLAMA, layers=2, context=64),
    "llama, one key head": smaller(LLAMA, layers=1, kv_heads=1, context=64),
    "gpt2": smaller(GPT2, layers=2, context=64),
    "gpt2, exact gelu": smaller(GPT2, layers=1, activation="gelu", context=64),
    "gpt2, relu": smaller(GPT2, layers=1, activation="relu", context=64),
}


@pytest.mark.parametrize("kind", TINY)
def test_random_models(kind: str) -> None:
    model = random_model(TINY[kind])
    steps = [[5, 1, 17, 3, 3], [9], [39], [0, 2], [11]]
    g = on_shares(model, *steps)
    assert worst(g.logits, model.logits(*steps)) < 0.01
    assert g.costs == traced(model, *(len(s) for s in steps))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_massive_activations(kind: str) -> None:
    """Token 0 writes channels some hundred times larger than the others, as first tokens of real models do."""
    model = random_model(TINY[kind], massive=300.0)
    assert model.check.margin_bits >= 2
    steps = [[0, 1, 17, 3], [9], [0], [11]]
    g = on_shares(model, *steps)
    assert worst(g.logits, model.logits(*steps)) < 0.05
    assert g.costs == traced(model, *(len(s) for s in steps))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_rounds_are_the_same_at_10_and_at_400_cached_tokens(kind: str) -> None:
    """Counted at both, and equal to what the gates declare: 14 a layer with RoPE, 13 without."""
    spec = smaller(
        {"llama": LLAMA, "gpt2": GPT2}[kind], heads=1, kv_heads=1, width=16, hidden=16, layers=1, context=402
    )
    model = random_model(spec)
    rng = np.random.default_rng(4)
    steps = [[int(t) for t in rng.integers(0, spec.vocab, n)] for n in (10, 1, 389, 1)]
    g = on_shares(model, *steps)
    assert g.costs == traced(model, 10, 1, 389, 1)
    assert len({c[0] for c in g.costs}) == 1
    each = {"llama": 14, "gpt2": 13}[kind]
    assert [layer_rounds(model, t, at) for t, at in ((10, 0), (1, 10), (1, 400))] == [each] * 3
    assert worst(g.logits, model.logits(*steps)) < 0.01


def test_a_one_hot_row_is_shared_anew_each_time() -> None:
    """The same model, the same tokens, twice: logits differ by rounding alone, and within the error."""
    model = random_model(TINY["llama"])
    one, other = (on_shares(model, [4, 4, 4]).logits[0] for _ in range(2))
    assert 0 < np.abs(one - other).max() < 0.02
