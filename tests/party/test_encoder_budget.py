"""The estimate of an encoder session's memory against what engines really take, for one long text and for several."""

from __future__ import annotations

from pathlib import Path

import pytest
from alone import compute, deal
from tacit.batch import Batch, Part
from tacit.party.footprint import engine_bytes, largest_step
from tacit.party.links import SessionLimits
from tacit.party.served import ServedModel, load_model
from tacit.sizes import Sizes
from test_budget import peak
from tiny_encoder import write_encoder

SHAPE = {
    "hidden_size": 96,
    "intermediate_size": 320,
    "num_attention_heads": 6,
    "vocab_size": 900,
    "max_position_embeddings": 120,
}
TEXTS = {"one long text": [110], "several texts": [40, 40, 20, 10]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TACIT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        folder: Path = write_encoder(tmp_path_factory.mktemp("models") / "wide", tokenizer=False, **SHAPE)
        return load_model(str(folder))


@pytest.mark.parametrize("name", TEXTS)
def test_an_engine_takes_no_more_than_estimated_and_no_less_than_half(
    model: ServedModel, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = TEXTS[name]
    batch = Batch(tuple(Part(slot, slot, 0, rows) for slot, rows in enumerate(lengths)))
    limits = SessionLimits(Sizes(len(lengths), batch.rows, batch.dense, batch.rows))
    monkeypatch.setattr("alone.steps", lambda limits: [batch, batch])
    deal(model, limits)  # kernels are loaded
    step = largest_step(model.spec, model.scales, limits.sizes)
    dealt: list[list[list[int]]] = []
    taken = {2: peak(lambda: dealt.extend(deal(model, limits)))}
    for role in (0, 1):
        taken[role] = peak(lambda role=role: compute(model, role, limits, dealt[role]))
    for role, really in taken.items():
        estimate = engine_bytes(model.spec, role, limits.sizes, step)
        assert really <= estimate <= 2.1 * really + (1 << 20), f"role {role}: {estimate / really:.2f}"
    for role in (0, 1):
        need = model.need(role, limits.sizes)
        said = compute(model, role, limits, dealt[role])
        assert max(map(max, dealt[role])) <= need.frames[2]
        assert max(said.peer.sizes["open"]) <= need.frames[1 - role]
