"""What a step of a model costs under `pair`: the model run on shapes, the gates' declarations added up by site."""

from __future__ import annotations

from ..base import Batch, Spec
from ..pair.attention import MaskCache, attention_cost
from ..pair.cost import Cost
from ..pair.deal import Shapes
from ..pair.norm import norm_cost
from ..pair.scales import Scales
from ..pair.secret import Shape
from ..pair.spline import gated_cost, table_cost


class Trace(Shapes):
    """Collects (site, cost) in protocol order; nothing is executed."""

    def __init__(self, spec: Spec, scales: Scales) -> None:
        super().__init__(spec, scales)
        self.sites: list[tuple[str, Cost]] = []

    @property
    def total(self) -> Cost:
        """All sites together."""
        return sum((cost for _, cost in self.sites), Cost())

    def layer_rounds(self) -> int:
        """Rounds of the first layer."""
        return sum(cost.rounds for site, cost in self.sites if site.startswith("layers.0."))

    def rms_norm(self, x: Shape, site: str) -> Shape:
        self.sites.append((site, norm_cost(x.shape[0], self.scales.norm(site))))
        return super().rms_norm(x, site)

    def attention(self, qkv: Shape, site: str, cache: MaskCache, batch: Batch) -> Shape:
        self.sites.append((site, attention_cost(self.scales.attention(site), batch)))
        return super().attention(qkv, site, cache, batch)

    def activation(self, x: Shape, site: str) -> Shape:
        self.sites.append((site, table_cost(x.size, self.scales.activation(site).table)))
        return super().activation(x, site)

    def gated(self, gate_up: Shape, site: str) -> Shape:
        plan = self.scales.activation(site)
        self.sites.append((site, gated_cost(gate_up.size // 2, plan.table, plan.bits_up)))
        return super().gated(gate_up, site)
