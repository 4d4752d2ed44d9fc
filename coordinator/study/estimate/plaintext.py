"""The same model in the clear on this machine, as `--protocol plain` runs it: float64, one step after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import cycle

import numpy as np

from ....client.launch import DEFAULT_MODEL
from ....models.decoder import forward
from ....protocols.base import Batch, Spec
from ....protocols.plain.plain import Plain
from .amounts import Amounts, seconds
from .bench import COLD, SHAPES, Measured, timed
from .subject import read_subject


def step_amounts(spec: Spec, tokens: int, start: int) -> Amounts:
    """What a step is made of."""
    c, f, q = spec.width, spec.hidden, spec.heads * spec.head_size
    weights = spec.layers * (c * spec.qkv_width + q * c + (3 if spec.gated else 2) * c * f) + (
        0 if spec.encoder else c * spec.vocab
    )
    pairs = spec.layers * spec.heads * tokens * (start + tokens)
    return {
        "plain.layer": spec.layers + 1,
        "plain.weight": weights,
        "plain.product": (tokens - 1) * weights,
        "plain.element": spec.layers * tokens * (spec.qkv_width + 2 * f + 4 * c),
        "plain.pair": pairs * spec.head_size,
        "plain.score": pairs,
    }


def times(spec: Spec, prompt: int, new: int, rates: Mapping[str, float]) -> tuple[float, float]:
    """Seconds to the first token, and of a token in the middle of the answer."""
    first = seconds(step_amounts(spec, prompt, 0), rates)
    return first, seconds(step_amounts(spec, 1, prompt + new // 2), rates) if new > 1 else first


def measured_plain() -> Iterator[Measured]:
    """Steps of models of several shapes with random weights, cold where a model would be larger than the cache."""
    for spec in (*SHAPES, read_subject(DEFAULT_MODEL).spec):
        weights = _random(spec)
        copies = max(1, COLD // sum(w.nbytes for w in weights.values()))
        models = [Plain(spec, _random(spec)) for _ in range(copies)]
        for tokens, start in ((1, 8), (1, 300), (8, 0), (48, 0)):
            yield step_amounts(spec, tokens, start), timed(_step(models, spec, tokens, start))

    w, x = np.ones((768, 3072)), np.ones((64, 768))
    yield {"plain.weight": w.size, "plain.product": (len(x) - 1) * w.size}, timed(lambda: x @ w)


def _step(models: list[Plain], spec: Spec, tokens: int, start: int) -> Callable[[], object]:
    """One step, by each of `models` in turn."""
    kept = [(model, model.new_cache()) for model in models]
    for model, cache in kept if start else ():
        forward(model, spec, [1] * start, cache, Batch.one(start))
    turn = cycle(kept)

    def step() -> None:
        model, cache = next(turn)
        # Going on from `start` again: what the last turn added is forgotten.
        forward(model, spec, [1] * tokens, cache, Batch.one(tokens, start))

    return step


def _random(spec: Spec) -> dict[str, np.ndarray]:
    g = np.random.default_rng(3)
    c, f = spec.width, spec.hidden
    shapes = {"qkv": (c, spec.qkv_width), "out": (spec.heads * spec.head_size, c), "down": (f, c)}
    shapes |= {"gate_up": (c, 2 * f)} if spec.gated else {"up": (c, f)}
    weights = {
        f"layers.{i}.{name}.weight": g.normal(size=shape) / np.sqrt(shape[0])
        for i in range(spec.layers)
        for name, shape in shapes.items()
    }
    weights["embed"], weights["head.weight"] = g.normal(size=(spec.vocab, c)), g.normal(size=(c, spec.vocab))
    weights["positions"] = g.normal(size=(spec.context, c))
    return weights
