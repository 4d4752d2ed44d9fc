"""Predictions for crypten: rounds and bytes as the whole model run on shapes has them, times bounded by the network."""

from __future__ import annotations

import pytest
from measured_rates import rates
from tacit.batch import Batch
from tacit.coordinator.study.estimate import Subject, estimate, read_subject
from tacit.models.decoder import forward
from tacit.network import NAMED, Network
from tacit.protocols.crypten import library
from tacit.protocols.crypten.plans import plans
from tacit.protocols.crypten.shapes import Shapes

pytestmark = pytest.mark.skipif(not library.installed(), reason=f"CrypTen is not installed: {library.HOW}")


@pytest.fixture(scope="module")
def stories() -> Subject:
    return read_subject("stories")


@pytest.mark.parametrize(("tokens", "start"), [(6, 0), (1, 12)])
def test_rounds_and_bytes_are_those_of_the_whole_model(stories: Subject, tokens: int, start: int) -> None:
    from tacit.coordinator.study.estimate.crypten import step_work

    shapes = Shapes(stories.spec, plans(stories.spec, stories.ranges))
    with shapes.running():
        forward(shapes, stories.spec, tokens, shapes.filled(start), Batch.one(tokens, start))
    sites = step_work(stories.spec, stories.ranges, tokens, start)
    assert [(site.site, site.cost) for site in sites if site.cost.rounds] == shapes.sites


def test_a_token_takes_its_rounds_one_way_and_not_much_more_on_a_long_line(
    stories: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tacit.coordinator.study.estimate import crypten

    taken = {crypten.ROUND: 2e-4, crypten.BYTE: 2e-9, crypten.PRODUCT: 2e-9}
    monkeypatch.setattr(crypten, "rates", lambda: taken | {crypten.DEAL_ROUND: 2e-4, crypten.DEAL_BYTE: 7e-9})
    line = NAMED["global"]
    found = estimate(stories, 4, 3, Network(line), rates=rates(), protocol="crypten")
    least = 1e3 * found.token_cost.rounds * line.rtt / 2
    assert least < found.token.all < 1.2 * least
    assert found.token_cost.rounds > 5 * estimate(stories, 4, 3, Network(line), rates=rates()).token_cost.rounds
