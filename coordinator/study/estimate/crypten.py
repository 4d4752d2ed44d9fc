"""What each place of a model makes the parties of `crypten` do in one step, and what that takes on this machine.

Rounds and bytes are exact: CrypTen's gates are run on shapes (`protocols.crypten.shapes`), a layer of each kind once. Their work is
taken as so much a round and so much a byte, at rates that are measured when first asked for, in a second or two: CrypTen spends
most of a small step between its gates, and most of a large one on passes over arrays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from ....models.decoder import forward
from ....protocols.base import Batch, Spec
from ....protocols.crypten import library
from ....protocols.crypten.communicator import Tensor
from ....protocols.crypten.plans import Activation, Attention, Norm, Plan, plans
from ....protocols.crypten.shapes import Shapes
from ....protocols.pair.cost import Cost
from ....protocols.pair.scales import Ranges
from .amounts import Amounts, fit
from .work import SiteWork, embed_work

ROUND, BYTE, PRODUCT = "crypten.round", "crypten.byte", "crypten.product"
DEAL_ROUND, DEAL_BYTE = "deal.crypten.round", "deal.crypten.byte"
TRIED = Spec("gpt2", 1, 4, 4, 64, 256, 1024, 64, 256, 1e-5, "gelu_tanh", None)
TRIED_STEPS = ((1, 8), (1, 64), (24, 0), (64, 0))  # tokens, start
REPEATS = 3
NEAR = 4
KINDS = {"norm1": "norm", "norm2": "norm", "norm": "norm", "attention": "attention", "act": "activation"}

LayerPlans = tuple[Plan, Plan, Plan, Plan]  # norm1, attention, norm2, act


def step_work(spec: Spec, ranges: Ranges, tokens: int, start: int) -> list[SiteWork]:
    """As `work.step_work`. ConfigError where CrypTen is not installed, ModelError if it cannot take the ranges.

    One token counts as with the next smaller multiple of NEAR cached tokens.
    """
    found = plans(spec, ranges)
    near = start - start % NEAR if tokens == 1 and start > NEAR else start
    alone = 1 if tokens == 1 else 2  # layers to be run: of one token the last one is as the others
    out = [SiteWork("embed", "embed", Cost(), embed_work(tokens, spec.vocab, spec.width))]
    for i in range(spec.layers):
        names = ("norm1", "attention", "norm2", "act")
        own = tuple(found[f"layers.{i}.{name}"] for name in names)
        last = i == spec.layers - 1
        gates = dict(zip(names, _layer(replace(spec, layers=alone), own, tokens, near, last), strict=True))
        rows = 1 if last else tokens
        hidden = "gate_up" if spec.gated else "up"
        for name, of in (
            ("norm1", None), ("qkv", tokens), ("attention", None), ("out", rows),
            ("norm2", None), (hidden, rows), ("act", None), ("down", rows),
        ):  # fmt: skip
            site = f"layers.{i}.{name}"
            out.append(_gate(site, gates[name]) if of is None else _product(spec, site, of))
    norm = found["norm"]
    out.append(_gate("norm", _norm(replace(spec, layers=1), norm)))
    out.append(_product(spec, "head", 1))
    return [*out, SiteWork("head.reveal", "reveal", Cost(), {"step": 1.0, "step.logit": float(spec.vocab)})]


def _gate(site: str, cost: Cost) -> SiteWork:
    peer, dealer = _amounts(cost)
    return SiteWork(site, KINDS[site.rpartition(".")[2]], cost, peer, dealer)


def _amounts(cost: Cost) -> tuple[Amounts, Amounts]:
    own = {ROUND: float(cost.rounds), BYTE: float(cost.online)}
    return own, {DEAL_ROUND: float(cost.rounds), DEAL_BYTE: float(cost.offline0)}


def _product(spec: Spec, site: str, rows: int) -> SiteWork:
    """A public product in 64-bit integers; the dealer has no part in it."""
    kind = site.rpartition(".")[2]
    shapes = {
        "qkv": (spec.width, spec.qkv_width), "out": (spec.heads * spec.head_size, spec.width), "up": (spec.width, spec.hidden),
        "gate_up": (spec.width, 2 * spec.hidden), "down": (spec.hidden, spec.width), "head": (spec.width, spec.vocab),
    }  # fmt: skip
    rows_in, columns = shapes[kind]
    return SiteWork(site, "linear", Cost(), {PRODUCT: float(rows * rows_in * columns)})


@lru_cache(maxsize=4096)
def _layer(spec: Spec, own: LayerPlans, tokens: int, start: int, last: bool) -> tuple[Cost, ...]:
    """The gates' costs in a layer with these plans; in the `last` one, all but the first two see one row."""
    names = ("norm1", "attention", "norm2", "act")
    found: dict[str, Plan] = {
        f"layers.{i}.{name}": plan for i in range(spec.layers) for name, plan in zip(names, own, strict=True)
    }
    shapes = Shapes(spec, found | {"norm": own[0]})
    with shapes.running():
        forward(shapes, spec, tokens, shapes.filled(start), Batch.one(tokens, start))
    costs = dict(shapes.sites)
    return tuple(costs[f"layers.{spec.layers - 1 if last else 0}.{name}"] for name in names)


@lru_cache(maxsize=256)
def _norm(spec: Spec, plan: Plan) -> Cost:
    shapes = Shapes(spec, {"norm": plan})
    with shapes.running():
        shapes.rms_norm(shapes.embed(1, Batch.one(1)), "norm")
    return shapes.total


class _Timed(Shapes):
    """Also takes the processor time of each gate, with zeros in the place of values."""

    def __init__(self, spec: Spec, plans: Mapping[str, Plan], generators: Any = None) -> None:
        super().__init__(spec, plans, generators)
        self.seconds: list[float] = []

    def _noted(self, site: str, operation: Callable[..., Any], *args: Any) -> Any:
        began = time.thread_time()
        out = super()._noted(site, operation, *args)
        self.seconds.append(time.thread_time() - began)
        return out


@lru_cache(maxsize=1)
def rates() -> Mapping[str, float]:
    """Seconds of a round, a byte and an elementary product under CrypTen on this machine. ConfigError without CrypTen."""
    library.load()
    found: dict[str, float] = {}
    for dealing in (False, True):
        measured: list[tuple[Amounts, float]] = []
        for tokens, start in TRIED_STEPS:
            runs = [_timed(tokens, start, dealing) for _ in range(REPEATS)]
            for costs in zip(*runs, strict=True):
                cost, spent = costs[0][0], min(seconds for _, seconds in costs)
                measured.append((_amounts(cost)[dealing], spent))
        found |= fit(measured, {})
    found[PRODUCT] = _product_seconds()
    return found


def _timed(tokens: int, start: int, dealing: bool) -> list[tuple[Cost, float]]:
    generators = [torch.Generator(), torch.Generator()] if dealing else None
    site: dict[str, Plan] = {"layers.0.norm1": Norm(2, 5), "layers.0.norm2": Norm(2, 5), "norm": Norm(2, 5)}
    site |= {"layers.0.attention": Attention(40.0, 8), "layers.0.act": Activation(False)}
    shapes = _Timed(TRIED, site, generators)
    with shapes.running():
        forward(shapes, TRIED, tokens, shapes.filled(start), Batch.one(tokens, start))
    return [(cost, seconds) for (_, cost), seconds in zip(shapes.sites, shapes.seconds, strict=True)]


def _product_seconds() -> float:
    """Of one multiplication in a one-row product, which is what a token makes."""
    x: Tensor = torch.ones((1, 512), dtype=torch.int64)
    w: Tensor = torch.ones((512, 2048), dtype=torch.int64)
    best = float("inf")
    for _ in range(REPEATS + 1):
        began = time.thread_time()
        torch.matmul(x, w)
        best = min(best, time.thread_time() - began)
    return best / (512 * 2048)
