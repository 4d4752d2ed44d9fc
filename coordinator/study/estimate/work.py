"""What each place of a model makes the three peers do in one step: the model run on shapes, kernels' calls counted by site.

Beside the gates' declared costs (`protocols.trace`: rounds and bytes) this counts what declarations do not hold: calls and
elements, nodes of trees, products. `rates.Rates` turns them into seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil

from ....kernels.dpf.keygen import one_hot_depth
from ....kernels.dpf.trees import small_depth
from ....models.decoder import forward
from ....protocols.base import Batch, Spec
from ....protocols.pair.attention import MaskCache, attention_cost
from ....protocols.pair.cost import Cost
from ....protocols.pair.deal import Shapes
from ....protocols.pair.norm import norm_cost
from ....protocols.pair.scales import ActivationPlan, AttentionPlan, NormPlan, Scales
from ....protocols.pair.secret import Shape
from ....protocols.pair.softmax import count_bits
from ....protocols.pair.spline import gated_cost, table_cost
from ....protocols.pair.weights import SPLIT
from .amounts import Amounts, total
from .trees import dealt, evaluated, generated, small_evaluated

FEW_ROWS = 8  # kernels.ring multiplies fewer rows another way
ROWS, COLUMNS, COLUMNS_FEW = 64, 256, 1024  # its blocks
DOT_ROWS = 4  # bmm_nt takes fewer rows by dot products
NEAR = 1 << 14  # elements that an operation's arrays may have and stay in a core's own cache


@dataclass(frozen=True, slots=True)
class SiteWork:
    """One place in one step. `kind`: norm, linear, attention, activation, embed, reveal."""

    site: str
    kind: str
    cost: Cost = field(default_factory=Cost)
    peer: Amounts = field(default_factory=dict)
    dealer: Amounts = field(default_factory=dict)

    @property
    def layer(self) -> int:
        """-1 outside of the layers."""
        first, _, rest = self.site.partition(".")
        return int(rest.partition(".")[0]) if first == "layers" else -1


class Work(Shapes):
    """Collects the sites of one step, in protocol order."""

    def __init__(self, spec: Spec, scales: Scales) -> None:
        super().__init__(spec, scales)
        self.sites: list[SiteWork] = []

    def _site(self, site: str, kind: str, counted: tuple[Cost, Amounts, Amounts]) -> None:
        self.sites.append(SiteWork(site, kind, *counted))

    def embed(self, tokens: int, batch: Batch) -> Shape:
        self._site("embed", "embed", (Cost(), embed_work(tokens, self.spec.vocab, self.spec.width), {}))
        return super().embed(tokens, batch)

    def linear(self, x: Shape, site: str) -> Shape:
        y = super().linear(x, site)
        self._site(site, "linear", (Cost(), product_work(x.shape[0], x.shape[1], y.shape[1], x.bits), {}))
        return y

    def add(self, x: Shape, y: Shape) -> Shape:
        self._site(f"{self.sites[-1].site}.add", "linear", (Cost(), elements("add", x.size), {}))
        return super().add(x, y)

    def scale(self, x: Shape, site: str) -> Shape:
        self._site(site, "linear", (Cost(), elements("add", 2 * x.size), {}))  # two passes of multiply and add
        return super().scale(x, site)

    def rms_norm(self, x: Shape, site: str) -> Shape:
        self._site(site, "norm", norm_work(self.scales.norm(site), x.shape[0]))
        return super().rms_norm(x, site)

    def attention(self, qkv: Shape, site: str, cache: MaskCache, batch: Batch) -> Shape:
        self._site(site, "attention", attention_work(self.scales.attention(site), batch))
        return super().attention(qkv, site, cache, batch)

    def activation(self, x: Shape, site: str) -> Shape:
        self._site(site, "activation", activation_work(self.scales.activation(site), x.size))
        return super().activation(x, site)

    def gated(self, gate_up: Shape, site: str) -> Shape:
        self._site(site, "activation", gated_work(self.scales.activation(site), gate_up.size // 2))
        return super().gated(gate_up, site)


def step_work(spec: Spec, scales: Scales, tokens: int, start: int) -> list[SiteWork]:
    """The sites of the step that takes `tokens` new tokens after `start` cached ones; the last one reveals the logits."""
    work = Work(spec, scales)
    forward(work, spec, tokens, work.new_cache(), Batch.one(tokens, start))
    reveal = {"step": 1.0, "step.logit": float(spec.revealed)}
    return [*work.sites, SiteWork("head.reveal", "reveal", Cost(), reveal)]


@lru_cache(maxsize=4096)
def norm_work(plan: NormPlan, rows: int) -> tuple[Cost, Amounts, Amounts]:
    """`protocols.pair.norm`."""
    cover = plan.table.cover
    peer = total([elements("norm", rows * plan.width), evaluated(cover, rows)])
    dealer = total([elements("deal.norm", rows * plan.width), dealt(cover, rows)])
    return norm_cost(rows, plan), peer, dealer


@lru_cache(maxsize=4096)
def attention_work(plan: AttentionPlan, batch: Batch) -> tuple[Cost, Amounts, Amounts]:
    """`protocols.pair.attention` and `softmax`, of one sequence."""
    rows, span = batch.rows, batch.longest
    seen = plan.heads * batch.pairs(plan.causal)
    queries, dense = plan.heads * rows, plan.heads * batch.dense
    qkv = rows * (plan.heads + 2 * plan.kv_heads) * plan.head_size
    tests = queries * plan.thresholds
    depth, narrow = small_depth(plan.tree_bits), small_depth(count_bits(span))
    kind = "rope" if plan.rope else "plain"
    group = rows * plan.heads // plan.kv_heads  # queries that meet one head's keys at a time
    scores = "dot" if group < DOT_ROWS else "bmm"
    products = dense * plan.head_size

    turned = 0 if scores == "dot" else plan.kv_heads * span * plan.head_size

    def products_of(times: int) -> dict[str, float]:
        against = {f"{scores}.product": times * products, "turned": times * turned}
        return total([against, {"bmm.product": times * products}])

    peer = total(
        [
            elements(f"attention.{kind}", qkv + queries * plan.head_size),
            {"attention.pair": seen, "attention.pair.far": max(0, seen - NEAR), "attention.dense": dense},
            {"attention.window": (queries << plan.tree_bits) + tests},
            products_of(2),
            small_evaluated("histogram", seen, depth),
            small_evaluated("points", tests, narrow),
            evaluated(plan.exp.cover, seen),
            evaluated(plan.reciprocal.cover, queries),
        ]
    )
    dealer = total(
        [
            elements(f"deal.attention.{kind}", qkv + queries * plan.head_size),
            {"deal.attention.pair": seen, "deal.attention.pair.far": max(0, seen - NEAR)},
            {"deal.attention.dense": dense, "deal.attention.window": tests},
            products_of(1),
            generated(seen, depth, 2),
            generated(tests, narrow, 2),
            dealt(plan.exp.cover, seen),
            dealt(plan.reciprocal.cover, queries),
        ]
    )
    return attention_cost(plan, batch), peer, dealer


@lru_cache(maxsize=4096)
def activation_work(plan: ActivationPlan, count: int) -> tuple[Cost, Amounts, Amounts]:
    """`protocols.pair.spline`, one operand."""
    cover = plan.table.cover
    peer = total([elements("activation", count), evaluated(cover, count)])
    dealer = total([elements("deal.activation", count), dealt(cover, count)])
    return table_cost(count, plan.table), peer, dealer


@lru_cache(maxsize=4096)
def gated_work(plan: ActivationPlan, count: int) -> tuple[Cost, Amounts, Amounts]:
    """`protocols.pair.spline.gated`: two operands, three factors."""
    cover = plan.table.cover
    peer = total([elements("gated", count), evaluated(cover, count, 3)])
    dealer = total([elements("deal.gated", count), dealt(cover, count, 3)])
    return gated_cost(count, plan.table, plan.bits_up), peer, dealer


@lru_cache(maxsize=4096)
def product_work(rows: int, inner: int, columns: int, bits: int = 64) -> Amounts:
    """`kernels.ring.matmul` by int16 weights, in row blocks of SPLIT (`weights.Matrix`)."""
    digits = ceil(bits / 8)
    if rows < FEW_ROWS:
        return {
            "few": ceil(inner / SPLIT) * ceil(columns / COLUMNS_FEW),
            "few.weight": inner * columns,
            "few.product": rows * digits * inner * columns,
            "few.output": rows * digits * columns,
        }
    return {
        "many": ceil(inner / SPLIT) * ceil(rows / ROWS) * ceil(columns / COLUMNS),
        "many.weight": ceil(rows / ROWS) * inner * columns,
        "many.product": rows * digits * inner * columns,
        "many.input": rows * digits * inner,
        "many.output": rows * digits * columns,
    }


def elements(name: str, count: int) -> Amounts:
    """A call over `count` elements, those apart that no longer fit beside each other into the core's cache."""
    return {name: 1, f"{name}.element": count, f"{name}.far": max(0, count - NEAR)}


def embed_work(tokens: int, vocab: int, width: int) -> Amounts:
    """The client's keys expanded to rows of the vocabulary, and their product with the table, 64 rows at a time."""
    leaves = tokens << one_hot_depth(vocab)
    whole, rest = divmod(tokens, ROWS)
    products = [product_work(ROWS, vocab, width)] * whole + ([product_work(rest, vocab, width)] if rest else [])
    return total([{"one_hot": 1, "one_hot.leaf": leaves}, *products])
