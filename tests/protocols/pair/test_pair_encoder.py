"""Encoders on shares: against float64, at the declared cost, with rounds that a batch shares and nothing kept of it."""

import numpy as np
import pytest
from encoder_runs import cosines, embedded, in_the_clear, together
from pair_plans import Model
from tacit.batch import Batch
from tacit.models.checkpoint import load_checkpoint
from tacit.models.decoder import forward
from tacit.models.fold import fold
from tacit.models.scales import plan
from tacit.protocols.pair.attention import new_cache
from tacit.protocols.pair.deal import Shapes
from tacit.protocols.pair.weights import prepare
from tacit.protocols.trace.trace import Trace
from tiny_encoder import CLS, SEP, write_encoder

IDS = [CLS, 9, 4, 4, 30, 61, 8, SEP]
TEXTS = [IDS, [CLS, 17, SEP], [CLS, *range(20, 42), SEP]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    checkpoint = load_checkpoint(write_encoder(tmp_path_factory.mktemp("tiny")))
    spec, folded = fold(checkpoint)
    check = plan(spec, folded, None, "tiny", checkpoint.tokenizer)
    return Model(spec, folded, check, prepare(spec, check.scales, folded))


def test_a_batch_on_shares_is_float64s(tiny: Model) -> None:
    found = embedded(tiny, TEXTS)
    want = in_the_clear(tiny, TEXTS)
    assert 1 - cosines(found.rows[0], want).min() < 2e-5
    assert np.abs(found.rows[0] - want).max() < 2e-2
    assert np.abs(want).max() > 1.0  # so that the bound above says something


def test_rounds_are_those_of_one_text_and_costs_the_declared_ones(tiny: Model) -> None:
    steps = ([IDS], TEXTS, [TEXTS[1], TEXTS[1]])
    found = embedded(tiny, *steps)
    for texts, counted in zip(steps, found.costs, strict=True):
        trace, batch = Trace(tiny.spec, tiny.check.scales), together(list(texts))
        forward(trace, tiny.spec, batch.rows, trace.new_cache(), batch)
        total = trace.total
        assert (total.rounds, total.online, total.offline0, total.offline1) == counted
        assert total.rounds == 3 + 13 * tiny.spec.layers
        assert trace.layer_rounds() == 13


def test_later_steps_begin_anew(tiny: Model) -> None:
    """The same slot holds another text in the next step; nothing of the first is seen."""
    found = embedded(tiny, [TEXTS[2]], [TEXTS[1]], [TEXTS[2]])
    want = in_the_clear(tiny, [TEXTS[1]])
    assert 1 - cosines(found.rows[1], want).min() < 2e-5
    assert np.abs(found.rows[0] - found.rows[2]).max() < 2e-2


def test_nothing_of_a_step_is_kept(tiny: Model) -> None:
    cache = new_cache(tiny.check.scales.attention("layers.0.attention"))
    first = cache.take(Batch.one(3))
    assert list(cache) == []
    assert cache.take(Batch.one(3))[0] is not first[0]


def test_every_opening_of_a_step_is_uniform(tiny: Model) -> None:
    """Each bit of what is opened is 1 half of the time, within six deviations."""
    found = embedded(tiny, TEXTS, watch=True)
    large = [opening for opening in found.run.openings if opening.total.size >= 800]
    assert len(large) > 6 * tiny.spec.layers
    for opening in large:
        for bit in range(opening.bits):
            ones = int((opening.total >> np.uint64(bit) & np.uint64(1)).sum())
            deviation = abs(ones - opening.total.size / 2) / np.sqrt(opening.total.size / 4)
            assert deviation < 6, (opening.bits, bit)


def test_peers_with_other_vectors_have_another_digest(tiny: Model) -> None:
    changed = dict(tiny.folded)
    changed["layers.0.skip1.scale"] = changed["layers.0.skip1.scale"] + 1e-6
    assert prepare(tiny.spec, tiny.check.scales, changed).digest != tiny.weights.digest


def test_the_dealer_knows_the_shape_of_what_is_revealed(tiny: Model) -> None:
    shapes, batch = Shapes(tiny.spec, tiny.check.scales), together(TEXTS)
    out = forward(shapes, tiny.spec, batch.rows, shapes.new_cache(), batch)
    assert out.shape == (len(TEXTS), tiny.spec.width)
