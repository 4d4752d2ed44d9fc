"""Whole studies on real clusters: everything that a study writes is there and fits together."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import report_browser
import tacit
from measured_rates import rates
from tacit.coordinator.study import metrics, predicted
from tacit.coordinator.study.plan import Plan, parse_networks, read_models
from tacit.coordinator.study.records import Results
from tacit.coordinator.study.report import figures
from tacit.coordinator.study.run import Study

pytest.importorskip("torch")
ALL = os.environ.get("TACIT_ALL") == "1"
COMMAND = [sys.executable, "-P", "-m", "tacit.client.cli", "study"]


@pytest.fixture(scope="module", autouse=True)
def state(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TACIT_STATE", str(tmp_path_factory.mktemp("state")))
        patch.delenv("TACIT_CLUSTER", raising=False)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A short study on two shaped networks; predicted with rates of another machine, which would take long to measure."""
    found = tmp_path_factory.mktemp("studies") / "short"
    networks = ["rtt=2ms", "rtt=8ms,bandwidth=200mbit"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predicted, "calibrated", lambda say: rates())
        tacit.study(found, networks=networks, prompts=[4], new=[3], repetitions=2, check=False)
    return found


def test_everything_is_measured_as_planned(folder):
    results = Results.load(folder)
    assert not results.missing
    assert len(results.answers) == 2 * 2 * 2
    for answer in results.answers:
        assert answer.tokens == len(answer.rounds) == 3
        assert answer.e2e_ms == pytest.approx(answer.ttft_ms + sum(answer.itl_ms))
        assert (answer.rounds[1] > 0) == (answer.case.protocol == "pair")


def test_delays_are_those_of_the_network(folder):
    """A token takes one delay for each round and two for the client, whatever else it takes."""
    for answer in Results.load(folder).answers:
        if answer.case.protocol == "pair":
            one_way = 4.0 if answer.case.network.startswith("rtt=8ms") else 1.0
            assert min(answer.itl_ms) > one_way * (answer.rounds[1] + 2)
            assert min(answer.itl_ms) < one_way * (answer.rounds[1] + 2) + 400  # of work, on a busy machine


def test_sites_and_messages_add_up_to_what_was_measured(folder):
    results = Results.load(folder)
    pair = [case for case in results.cases() if case.protocol == "pair"]
    assert {site.case for site in results.sites} == set(pair)
    for case in pair:
        token = [site for site in results.sites if site.case == case and site.phase == "token"]
        measured = metrics.per_step(results.of(case), "token")
        assert sum(site.rounds for site in token) == measured.rounds
        assert sum(site.offline_bytes for site in token) == pytest.approx(measured.offline_bytes, rel=0.02)
        sent = [one for one in results.transfers if one.case == case and one.step == 1]
        between = [one for one in sent if one.sender.startswith("compute") and one.receiver.startswith("compute")]
        assert len(between) == 2 * measured.rounds
        assert all(one.read_ms > one.sent_ms for one in sent)


def test_every_measured_case_is_predicted(folder):
    results = Results.load(folder)
    assert {one.case for one in results.predictions} == set(results.cases())
    for one in results.predictions:
        assert one.rounds == metrics.per_step(results.of(one.case), "token").rounds
    assert {one.protocol for one in results.crossings} >= {"pair", "plain"}


def test_files_are_whole_and_say_nothing_of_the_prompt(folder):
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    with (folder / "results.csv").open(newline="") as file:
        assert [int(row["answers"]) for row in csv.DictReader(file)] == [2] * 4
    assert {event["ph"] for event in json.loads((folder / "trace.json").read_text())["traceEvents"]} >= {"M", "X"}
    for path in folder.iterdir():
        text = path.read_text()
        for word in ("Once upon", "little girl", str(Path.home()), str(folder)):
            assert len(word) < 6 or word not in text, path.name


@pytest.mark.skipif(bool(reason := report_browser.why_not()), reason=str(reason))
def test_the_page_is_drawn_in_a_browser(folder):
    """All plots that these results have, at both widths, without a message on the console or a request elsewhere."""
    names = set(figures(Results.load(folder)))
    assert names >= {
        "ttft-rtt",
        "tpot-rtt",
        "token-by-gate",
        "token-by-layer",
        "layers",
        "planes",
        "timeline",
        "accuracy",
    }
    with report_browser.browsing() as browser:
        for width in (1100, 320):
            with report_browser.opened(browser, folder / "report.html", width) as page:
                report_browser.check_drawn(page, names)
                assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_interrupt_keeps_what_was_measured_and_a_resume_does_the_rest(tmp_path):
    out = tmp_path / "cut"
    options = ["--out", str(out), "--network", "rtt=60ms", "--protocol", "pair", "--protocol", "plain"]
    options += ["--prompt", "2", "--new", "2", "--repeat", "2", "--warmup", "0", "--no-check", "--no-predict"]
    running = subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("2/4"):
            break
    time.sleep(0.3)  # in the middle of the third
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "2 answers are kept" in said
    assert "--resume" in said
    kept = Results.load(out)
    assert len(kept.answers) == 2
    again = Plan(("pair", "plain"), parse_networks(["rtt=60ms"]), read_models(["stories"]), (2,), (2,), 2, 0)
    found = Study(again, out, resume=True).run()
    assert found.answers[:2] == kept.answers
    assert len(found.answers) == 4
    assert len(found.rows()) == 4


@pytest.mark.skipif(not ALL, reason="takes three minutes: TACIT_ALL=1")
def test_a_quick_study_takes_three_minutes(tmp_path):
    began = time.monotonic()
    done = subprocess.run(
        [*COMMAND, "--quick", "--out", str(tmp_path / "quick")],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 180
    results = Results.load(tmp_path / "quick")
    assert not results.missing
    assert {case.network for case in results.cases()} == {"lan", "metro", "wan", "sigma-wan", "global"}
    for one in results.predictions:
        if one.case.protocol == "pair":
            measured = metrics.summaries(results.of(one.case))
            assert one.tpot_ms == pytest.approx(measured["tpot"].p50, rel=0.2), one.case.key
            assert one.ttft_ms == pytest.approx(measured["ttft"].p50, rel=0.2), one.case.key
