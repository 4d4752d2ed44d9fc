"""Predictions of an encoder: one step of a whole text, at the declared cost."""

from dataclasses import replace

import pytest
from measured_rates import rates
from tacit.batch import Batch
from tacit.coordinator.study.estimate import Subject, estimate, subject_of
from tacit.coordinator.study.estimate.session import sites_of, total_cost
from tacit.errors import UsageError
from tacit.models.decoder import forward
from tacit.network import Network, Profile
from tacit.party.footprint import need
from tacit.party.links import SessionLimits
from tacit.protocols.trace.trace import Trace
from tacit.sizes import Sizes

MINILM = {
    "model_type": "bert", "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12,
    "vocab_size": 30522, "max_position_embeddings": 512, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
}  # fmt: skip


@pytest.fixture(scope="module")
def minilm() -> Subject:
    return subject_of(MINILM, "minilm")


def test_costs_are_the_declared_ones(minilm: Subject) -> None:
    trace = Trace(minilm.spec, minilm.scales)
    forward(trace, minilm.spec, 40, trace.new_cache(), Batch.one(40))
    sites = sites_of(minilm, 40, 0)
    assert total_cost(sites) == trace.total
    assert [(s.site, s.cost) for s in sites if s.cost.rounds] == trace.sites
    assert {s.site for s in sites} >= {"layers.0.skip1", "layers.5.skip2", "head"}


def test_a_text_is_one_step(minilm: Subject) -> None:
    line = Network(Profile(rtt=0.1))
    found = estimate(minilm, 40, 64, line, rates=rates())  # 64: what `tacit estimate` says by itself
    assert found.rounds_per_layer == 13
    assert found.token == found.first
    assert found.prompt_cost == found.token_cost
    assert found.prompt_cost.rounds == 81
    assert found.first.latency == pytest.approx(83 * 50, rel=0.05)
    limits = SessionLimits(Sizes(1, 40, 1600, 40))
    assert found.memory[0] == need(minilm.spec, minilm.scales, 0, limits, 64 << 20).total
    longer = estimate(minilm, 500, 1, line, rates=rates())
    assert longer.first.compute > 5 * found.first.compute
    assert longer.prompt_cost.rounds == 81
    assert longer.first.latency <= 1.05 * found.first.latency


def test_the_clear_is_estimated_and_crypten_is_not(minilm: Subject) -> None:
    plain = estimate(minilm, 40, 1, Network(Profile()), rates=rates(), protocol="plain")
    assert 0 < plain.first.all < estimate(minilm, 40, 1, Network(Profile()), rates=rates()).first.all
    with pytest.raises(UsageError, match="minilm is an encoder: crypten runs none"):
        estimate(minilm, 40, 1, Network(Profile()), rates=rates(), protocol="crypten")


def test_lengths_that_peers_refuse_are_refused(minilm: Subject) -> None:
    with pytest.raises(UsageError, match="512 tokens"):
        estimate(minilm, 513, 1, Network(Profile()), rates=rates())
    shorter = replace(minilm, spec=replace(minilm.spec, context=256))
    with pytest.raises(UsageError, match="256 tokens"):
        estimate(shorter, 257, 1, Network(Profile()), rates=rates())
