"""Metrics, rows, comparisons and the time left: what a study says of its answers."""

from __future__ import annotations

import csv
import getpass
import json
import platform
import subprocess
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import answer, case, results
from tacit.coordinator.study import metrics, table
from tacit.coordinator.study.compare import compare
from tacit.coordinator.study.provenance import commit, provenance
from tacit.coordinator.study.timing import TimeLeft
from tacit.errors import ConfigError, UsageError


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.sampled_from((0, 50, 90, 99, 100)))
def test_percentiles_are_those_of_numpy(samples, p):
    assert metrics.percentile(sorted(samples), p) == pytest.approx(np.percentile(samples, p))


def test_metrics_are_vllms():
    one, other = answer(case(), 0, ttft=100, itl=10), answer(case(), 1, ttft=300, itl=20)
    found = metrics.summaries([one, other])
    assert {name: summary.n for name, summary in found.items()} == {"ttft": 2, "tpot": 2, "itl": 6, "e2e": 2}
    assert found["ttft"].mean == 200
    assert found["ttft"].p90 == pytest.approx(280)
    assert metrics.tpot_ms(one) == (one.e2e_ms - one.ttft_ms) / (one.tokens - 1)
    alone = answer(case(new=1))
    assert metrics.summaries([alone]).keys() == {"ttft", "e2e"}
    assert metrics.per_step([alone], "token") is None


def test_rows_are_flat_and_know_the_line():
    found = results(answer(case("rtt=10ms,loss=1%; client:peer-0=wan")), answer(case("as it is")))
    (first, second) = found.rows()
    assert (first["rtt_ms"], first["bandwidth_mbit"], first["loss"]) == (10, None, 0.01)
    assert (second["rtt_ms"], second["network"]) == (None, "as it is")
    assert all(value is None or isinstance(value, str | int | float) for row in found.rows() for value in row.values())
    steps = found.rows("steps")
    assert [row["step"] for row in steps] == [0, 1, 2, 3] * 2
    assert sum(row["step_ms"] for row in steps[:4]) == first["e2e_ms"]
    assert [row["ttft_n"] for row in found.rows("cases")] == [1, 1]
    with pytest.raises(UsageError, match="layers"):
        found.rows("layers")


def test_the_table_can_be_read_again(tmp_path):
    found = results(*(answer(case(), i, ttft=100 + i) for i in range(3)))
    with table.save_csv(found, tmp_path).open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["ttft_p50_ms"]) == 101
    assert row["network"] == "wan"
    with pytest.raises(ConfigError, match=r"results\.json is whole"):
        table.save_csv(found, tmp_path / "nowhere")


def test_a_difference_is_told_from_chance():
    g = np.random.default_rng(1)

    def measured(factor, network="wan"):
        times = factor * g.normal(1000, 20, 12)
        return [answer(case(network), i, ttft=t, itl=t / 10) for i, t in enumerate(times)]

    slower = compare(results(*measured(1)), results(*measured(1.1)))
    assert {one.metric for one in slower.differences} == {"ttft", "tpot", "e2e"}
    for one in slower.differences:
        assert one.clear
        assert one.low < 10 < one.high
        assert one.low < one.percent < one.high
    same = compare(results(*measured(1)), results(*measured(1)))
    assert not any(one.clear for one in same.differences)
    assert not same.warnings


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    g = np.random.default_rng(2)
    inside = 0
    for _ in range(60):
        sides = [[answer(case(new=1), i, ttft=t) for i, t in enumerate(g.normal(100, 10, 15))] for _ in range(2)]
        one = compare(results(*sides[0]), results(*sides[1])).differences[0]
        inside += not one.clear
    assert 51 <= inside <= 60


def test_a_comparison_says_what_is_missing_and_what_differs():
    first = results(answer(case("wan")), answer(case("lan")))
    second = results(answer(case("wan")), answer(case("global")), processor="another", commit="b" * 40 + "+")
    found = compare(first, second)
    assert found.only_first == (case("lan"),)
    assert found.only_second == (case("global"),)
    assert {one.case for one in found.differences} == {case("wan")}
    assert all(one.low is None and not one.clear for one in found.differences)
    words = " ".join(found.warnings)
    for word in ("different processor: a CPU and another", "different commit", "with changes", "fewer than 5"):
        assert word in words


def test_provenance_says_what_and_not_who(tmp_path):
    found = json.dumps(asdict(provenance()))
    assert '"numpy"' in found
    for word in (platform.node(), str(tmp_path.home())):
        assert len(word) < 3 or word not in found
    assert getpass.getuser() == "root" or getpass.getuser() not in found


def test_a_commit_is_this_checkouts_own(tmp_path):
    def git(*words):
        author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *author, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "one")
    found = commit(tmp_path)
    assert len(found) == 40
    (tmp_path / "file").write_text("two")
    assert commit(tmp_path) == found + "+"
    (tmp_path / "inner").mkdir()
    assert commit(tmp_path / "inner") == ""  # a package installed inside somebody's repository


def test_the_time_left_follows_the_lines_delay():
    left = TimeLeft()
    assert left.of(case("lan")) is None
    left.learn(answer(case("rtt=0ms"), ttft=50, itl=10), warmup=True)  # 4 steps of 7 rounds
    crossings = 4 * 7 + 2 * 4 + 4
    assert left.of(case("rtt=100ms")) == pytest.approx(0.080 + 0.050 * crossings)
    assert left.of(case("rtt=0ms", protocol="plain")) is None
    left.learn(answer(case("rtt=100ms"), ttft=3000, itl=0))
    assert left.of(case("rtt=100ms")) == 3.0
    assert left.total([case("rtt=100ms")] * 4) == 12.0
