"""The dealer's protocol: the same model on shapes, leaving behind the correlations each gate needs."""

from __future__ import annotations

from ..base import Batch, Protocol, Spec
from .attention import MaskCache, deal_attention, new_mask_cache
from .norm import deal_norm
from .party import Dealer
from .scales import Scales
from .secret import Shape
from .spline import deal_gated, deal_table


class Shapes(Protocol[Shape, int, MaskCache]):
    """What dealer and tracer share: how shapes and scales pass through the operations without a round."""

    def __init__(self, spec: Spec, scales: Scales) -> None:
        self.spec = spec
        self.scales = scales

    def new_cache(self) -> list[MaskCache]:
        return [new_mask_cache(self.scales.attention(f"layers.{i}.attention")) for i in range(self.spec.layers)]

    def embed(self, tokens: int, batch: Batch) -> Shape:
        return Shape((batch.rows, self.spec.width), self.scales.frac_x, 64)

    def linear(self, x: Shape, site: str) -> Shape:
        spec, kind = self.spec, site.rpartition(".")[2]
        columns = {
            "qkv": spec.qkv_width, "gate_up": 2 * spec.hidden, "up": spec.hidden, "head": spec.vocab,
        }.get(kind, spec.width)  # fmt: skip
        return Shape((x.shape[0], columns), x.frac + self.scales.weight, x.bits)

    def add(self, x: Shape, y: Shape) -> Shape:
        return x.plus(y.drop(x.frac))

    def last(self, x: Shape, batch: Batch) -> Shape:
        return Shape((len(batch.parts), *x.shape[1:]), x.frac, x.bits)

    def pool(self, x: Shape, batch: Batch) -> Shape:
        return Shape((len(batch.parts), *x.shape[1:]), x.frac, x.bits)

    def scale(self, x: Shape, site: str) -> Shape:
        return Shape(x.shape, x.frac + self.scales.scaling(site).frac, x.bits).drop(self.scales.frac_x)

    def rms_norm(self, x: Shape, site: str) -> Shape:
        return Shape(x.shape, self.scales.norm(site).frac_out, 64)

    def attention(self, qkv: Shape, site: str, cache: MaskCache, batch: Batch) -> Shape:
        return Shape((qkv.shape[0], self.spec.heads * self.spec.head_size), self.scales.attention(site).frac_out, 64)

    def activation(self, x: Shape, site: str) -> Shape:
        plan = self.scales.activation(site)
        return Shape(x.shape, plan.table.frac_out, 64).drop(plan.frac_out)

    def gated(self, gate_up: Shape, site: str) -> Shape:
        return Shape((gate_up.shape[0], self.spec.hidden), self.scales.activation(site).frac_out, 64)


class PairDealer(Shapes):
    """Runs ahead of the peers; sees token counts and nothing else."""

    def __init__(self, dealer: Dealer, spec: Spec, scales: Scales) -> None:
        super().__init__(spec, scales)
        self.dealer = dealer

    def rms_norm(self, x: Shape, site: str) -> Shape:
        deal_norm(self.dealer, x.shape[0], self.scales.norm(site))
        return super().rms_norm(x, site)

    def attention(self, qkv: Shape, site: str, cache: MaskCache, batch: Batch) -> Shape:
        deal_attention(self.dealer, self.scales.attention(site), cache, batch)
        return super().attention(qkv, site, cache, batch)

    def activation(self, x: Shape, site: str) -> Shape:
        deal_table(self.dealer, self.scales.activation(site).table, x.size)
        return super().activation(x, site)

    def gated(self, gate_up: Shape, site: str) -> Shape:
        plan = self.scales.activation(site)
        deal_gated(self.dealer, plan.table, plan.bits_up, gate_up.size // 2)
        return super().gated(gate_up, site)
