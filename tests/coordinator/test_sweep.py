"""`tacit estimate --sweep`: what is predicted over round trips and bandwidths, drawn."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("altair", reason="the [study] extra is not installed")
pytest.importorskip("vl_convert", reason="the [study] extra is not installed")

from measured_rates import rates
from tacit.client import show_estimate
from tacit.coordinator.study.estimate import Placement, read_subject
from tacit.coordinator.study.estimate.sweep import MAP_BANDWIDTHS, MAP_RTTS, sweep
from tacit.coordinator.study.report import figures
from tacit.errors import UsageError
from tacit.network import NAMED, Profile


@pytest.fixture(scope="module")
def swept():
    found = rates()
    return sweep(read_subject("stories"), "pair", 8, 16, rates=found, where=Placement(found.cores))


def test_every_line_is_predicted(swept):
    assert not swept.answers
    pair = {each.case.network: each for each in swept.predictions if each.case.protocol == "pair"}
    assert set(NAMED) <= set(pair)
    points = [each for each in swept.crossings if each.protocol == "pair"]
    assert len(points) == len(MAP_RTTS) * len(MAP_BANDWIDTHS)
    for network, each in pair.items():
        assert each.tpot_ms >= each.rounds * 1e3 * Profile.parse(network).one_way
    for bandwidth in MAP_BANDWIDTHS:
        times = [each.tpot_ms for each in points if each.bandwidth_mbit == bandwidth / 1e6]
        assert times == pytest.approx(
            sorted(times), rel=0.01
        )  # where the dealer is what is waited for, delay is nothing


def test_the_page_has_the_plots_of_a_study(swept):
    found = figures(swept)
    assert {
        "ttft-rtt",
        "tpot-rtt",
        "ttft-bandwidth",
        "tpot-bandwidth",
        "token-by-gate",
        "token-by-layer",
        "layers",
    } <= set(found)
    assert {"map", "crossover"} & set(found)
    assert found["tpot-rtt"].summary.startswith("Predicted time per token")


def test_the_command_draws_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(show_estimate, "_rates", rates)
    asked = {
        "model": "stories",
        "prompt": 8,
        "new": 4,
        "network": ["wan"],
        "protocol": "pair",
        "machines": 1,
        "cores": None,
        "as_json": False,
    }
    show_estimate.run_estimate(**asked, sweep=tmp_path / "lines.html")
    page = (tmp_path / "lines.html").read_text(encoding="utf-8")
    assert "Predicted latency" in page
    assert "nothing was measured" in page
    with pytest.raises(UsageError, match=r"a page is written as \.html"):
        show_estimate.run_estimate(**asked, sweep=tmp_path / "lines.png")
