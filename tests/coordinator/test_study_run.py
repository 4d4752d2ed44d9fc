"""Plans that are refused before anything starts; runs that are interrupted, resumed, and meet faults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from studies import PROVENANCE, ToyBench, answer, plan
from tacit.coordinator.study import forwarded, predicted, run
from tacit.coordinator.study.plan import ModelFact, parse_lengths, parse_networks, read_models
from tacit.coordinator.study.records import Crossing, Prediction, Results
from tacit.coordinator.study.run import INTERRUPTED, Study, Watcher
from tacit.errors import ConfigError, ModelError, PeerLost, UsageError


@pytest.fixture
def bench(monkeypatch):
    """Installs a bench in the place of clusters, and gives it."""

    def install(**settings):
        found = ToyBench(**settings)
        monkeypatch.setattr(run, "_SHARE", 0)  # toy answers come faster than they can be written
        monkeypatch.setattr(run, "ShapedBench", lambda *_, **__: found)
        monkeypatch.setattr(run, "provenance", lambda: PROVENANCE)
        return found

    return install


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"protocols": ("pear",)}, "no protocol 'pear'"),
        ({"protocols": ()}, "at least one protocol"),
        ({"networks": {}}, "at least one network"),
        ({"prompts": (0,)}, "prompts of 0 tokens"),
        ({"new": (-1,)}, "answers of -1 tokens"),
        ({"prompts": (60,), "new": (6,)}, "needs 65"),
        ({"repetitions": 0}, "at least once"),
        ({"warmup": -1}, "zero or more"),
        ({"repetitions": 30_000}, "too many"),
        ({"models": (ModelFact("toy", "a/toy", 9), ModelFact("toy", "b/toy", 9))}, "two models are called toy"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(changes, words):
    with pytest.raises(UsageError, match=words):
        plan(**changes)


@pytest.mark.parametrize("text", ["wam", "bandwidth=-5mbit", "rtt=1", "rtt=90s", "", "wan; lan", "wan; peer-0=lan"])
def test_a_network_that_cannot_be_is_refused(text):
    with pytest.raises(UsageError):
        parse_networks([text])


def test_networks_may_differ_by_pair():
    (network,) = parse_networks(["wan;peer-0:client=global", "wan; client:peer-0=global"]).values()
    assert network is not None
    assert network.between("peer-0", "client").rtt == 0.15
    assert network.between("peer-0", "peer-1").rtt == 0.04


def test_lengths_are_lists():
    assert parse_lengths(["8,64", "8"], "--prompt") == (8, 64)
    for text in ("8,", "x", "-1", "1.5", "٣", "9" * 9):
        with pytest.raises(UsageError, match="--prompt"):
            parse_lengths([text], "--prompt")


def test_models_are_read_before_anything_starts(tmp_path):
    (model,) = read_models(["stories"])
    assert (model.name, model.context) == ("stories", 512)
    with pytest.raises(ModelError, match="no model"):
        read_models(["nowhere"])
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"config\.json"):
        read_models([str(tmp_path)])


def test_every_answer_is_kept_and_as_long_as_planned(bench, tmp_path):
    toy = bench()
    found = Study(plan(), tmp_path / "a" / "b").run()
    assert [(one.case.network, one.repetition) for one in found.answers] == [
        ("lan", 0),
        ("wan", 0),
        ("lan", 1),
        ("wan", 1),
    ]
    assert len(toy.asked) == 5  # the first warms up
    assert toy.asked[0].network == toy.networks[0] == "lan"
    assert {one.tokens for one in found.answers} == {4}
    assert all(len(one.itl_ms) == 3 and one.rounds == [3] * 4 for one in found.answers)
    assert toy.closed
    assert Results.load(tmp_path / "a" / "b") == found
    assert not found.missing


def test_what_was_measured_survives_an_interrupt_and_is_not_measured_again(bench, tmp_path):
    def interrupt(case):
        if len(toy.asked) == 2:
            raise KeyboardInterrupt

    toy = bench(fault=interrupt)
    with pytest.raises(KeyboardInterrupt):
        Study(plan(), tmp_path).run()
    assert toy.closed
    kept = Results.load(tmp_path)
    assert [one.case.network for one in kept.answers] == ["lan"]
    assert list(kept.missing.values()) == [INTERRUPTED]
    with pytest.raises(ConfigError, match="--resume"):
        Study(plan(), tmp_path)
    again = bench()
    found = Study(plan(), tmp_path, resume=True).run()
    assert found.answers[0] == kept.answers[0]
    assert len(found.answers) == 4
    assert len(again.asked) == 4  # one to warm up and three that were missing
    assert not found.missing


def test_a_study_is_not_continued_under_other_conditions(bench, tmp_path, monkeypatch):
    bench()
    Study(plan(), tmp_path).run()
    monkeypatch.setattr(run, "provenance", lambda: replace(PROVENANCE, commit="b" * 40))
    with pytest.raises(ConfigError, match="commit"):
        Study(plan(), tmp_path, resume=True)


def test_a_case_that_fails_is_left_out_and_the_others_go_on(bench, tmp_path):
    def lose(case):
        if case.network == "wan":
            raise PeerLost("peer-1", "ended with status 9")

    toy = bench(fault=lose)
    found = Study(plan(), tmp_path).run()
    assert {one.case.network for one in found.answers} == {"lan"}
    assert list(found.missing.values()) == ["peer-1: ended with status 9"]
    assert sum(one.network == "wan" for one in toy.asked) == 0


def test_a_cluster_that_lost_a_process_is_replaced(bench, tmp_path):
    def lose(case):
        if len(toy.asked) == 1:
            toy.asked.append(case)
            raise PeerLost("peer-1", "killed")

    toy = bench(fault=lose)

    def ended():
        raise PeerLost("peer-1", "killed")

    toy.check = ended
    found = Study(plan(), tmp_path).run()
    assert toy.closed
    assert {one.case.network for one in found.answers} == {"wan"}
    assert len(found.answers) == 2


def test_repetitions_end_with_the_time(bench, tmp_path):
    toy = bench()
    toy.answer = lambda case, number: answer(case, number, ttft=60_000 if case.network == "wan" else 10)
    found = Study(plan(repetitions=5), tmp_path, within=50).run()
    assert [one.case.network for one in found.answers].count("wan") == 1  # once, whatever it takes
    assert [one.case.network for one in found.answers].count("lan") == 5
    assert not found.missing


def test_a_full_disk_loses_no_answer(bench, tmp_path, monkeypatch):
    bench()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    save = Results.save

    def full(self, folder):
        if folder == tmp_path and len(self.answers) == 3:
            raise ConfigError(f"{folder}: No space left on device; what was there is kept")
        return save(self, folder)

    monkeypatch.setattr(Results, "save", full)
    with pytest.raises(ConfigError, match="No space left") as failure:
        Study(plan(), tmp_path).run()
    assert len(Results.load(tmp_path).answers) == 2
    (other,) = elsewhere.glob("*/results.json")
    assert str(other) in str(failure.value)
    assert len(Results.load(other).answers) == 3


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from studies import ToyBench, plan
from tacit.coordinator.study import run
run.ShapedBench, run._SHARE = lambda *_, **__: ToyBench(), 0
folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500))  # a write beyond fails, as on a full disk
run.Study(plan(repetitions=50), folder).run()
"""


def test_when_nothing_can_be_written_the_last_whole_file_stays(tmp_path):
    done = subprocess.run(
        [sys.executable, "-P", "-c", FULL, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "ConfigError" in done.stderr
    assert "cannot be written: File too large" in done.stderr.splitlines()[-1]
    kept = Results.load(tmp_path)
    assert 0 < len(kept.answers) < 50
    assert sorted(os.listdir(tmp_path)) == ["results.json"]  # no half-written file is left behind


def tacit(*words):
    return subprocess.run(
        [sys.executable, "-P", "-m", "tacit.client.cli", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--network", "wam"], "no network profile 'wam'"),
        (["--network", "bandwidth=-5mbit"], "bandwidth=-5mbit"),
        (["--protocol", "pear"], "no protocol 'pear'"),
        (["--cluster", "/nowhere/cluster.json"], "/nowhere/cluster.json"),
        (["--cluster", "x.json", "--network", "wan"], "leave --network"),
        (["--prompt", "8;9"], "--prompt '8;9'"),
        (["--model", "nothing-like-it"], "no model 'nothing-like-it'"),
    ],
)
def test_what_cannot_be_studied_is_said_before_anything_starts(tmp_path, words, said):
    done = tacit("study", "--out", str(tmp_path / "out"), *words)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_real_study_in_the_clear_and_its_comparison(tmp_path):
    pytest.importorskip("torch")
    for name in ("one", "two"):
        done = tacit(
            "study",
            "--out",
            str(tmp_path / name),
            *["--protocol", "plain", "--network", "wan", "--repeat", "3", "--no-predict"],
        )
        assert done.returncode == 0, done.stderr
        assert "plain" in done.stdout
    found = json.loads((tmp_path / "one" / "results.json").read_text())
    assert [len(one["itl_ms"]) for one in found["answers"]] == [7] * 3
    assert (tmp_path / "one" / "results.csv").read_text().count("\n") == 2
    done = tacit("study", "compare", str(tmp_path / "one"), str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert "TPOT" in done.stdout
    assert "fewer than 5" in done.stderr
    done = tacit("study", "compare", str(tmp_path / "one"), str(tmp_path / "three"))
    assert done.returncode == 1
    assert "three" in done.stderr


def test_what_the_kernel_carries_is_measured_beside_what_is_shaped():
    cases = plan(protocols=("pair", "plain"), forwarded=True).cases()
    assert [(one.protocol, one.network, one.forwarded) for one in cases] == [
        ("pair", "lan", False), ("pair", "lan", True), ("plain", "lan", False),
        ("pair", "wan", False), ("pair", "wan", True), ("plain", "wan", False),
    ]  # fmt: skip
    assert len({one.key for one in cases}) == len(cases)


def test_going_on_with_other_cases_keeps_what_was_predicted_before(bench, tmp_path, monkeypatch):
    def predictions(plan, cases, say):
        found = [Prediction(one, 1.0, 1.0, 3, 1.0, 0.0, 0.0) for one in cases]
        return found, [Crossing(protocol, "toy", 1.0, 1.0, 1.0) for protocol in plan.protocols]

    monkeypatch.setattr(predicted, "predict_cases", predictions)
    bench()
    for protocol in ("pair", "crypten"):
        study = Study(plan(protocols=(protocol,)), tmp_path, resume=protocol == "crypten")
        study.run()
        study.predict()
    found = Results.load(tmp_path)
    assert [one.case for one in found.predictions] == found.cases()
    assert [one.protocol for one in found.crossings] == ["pair", "crypten"]


def test_what_is_left_is_counted_for_the_plan_at_hand(bench, tmp_path):
    bench()
    Study(plan(), tmp_path).run()
    told = []
    watcher = Watcher()
    watcher.begins = lambda answers, there: told.append((answers, there))
    Study(plan(networks=("lan", "metro")), tmp_path, resume=True, watcher=watcher).run()
    assert told == [(4, 2)]


def test_without_privileges_a_check_is_left_out_and_said(bench, tmp_path, monkeypatch):
    bench()
    said = []
    watcher = Watcher()
    watcher.warn = said.append
    monkeypatch.setattr(forwarded, "why_not", lambda: "it takes root")
    study = Study(plan(), tmp_path, watcher=watcher)
    study.run()
    study.check_lines()
    assert not study.results.lines
    assert "it takes root" in said[0]
