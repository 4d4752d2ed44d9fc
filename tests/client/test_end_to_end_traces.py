"""Traces of real peers, through the launcher, the client and the command line: one clock, all four parties, no content."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import tacit
from tacit.coordinator.study.records import Case
from tacit.coordinator.study.trace_files import sites, transfers
from tacit.tracing.chrome import document, write
from tacit.tracing.files import SessionTrace, read_folder, read_session, sessions
from tacit.tracing.whereabouts import FILE

CANARY = "Zebedee juggled nine lemons"
COUNT = 6


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TACIT_STATE", str(tmp_path_factory.mktemp("state")))
        patch.delenv("TACIT_CLUSTER", raising=False)
        with tacit.Cluster(trace=tmp_path_factory.mktemp("traces") / "here", network="lan") as found:
            yield found


@pytest.fixture(scope="module")
def answered(cluster) -> tuple[tacit.Completion, tuple[tacit.TacitError, ...] | tuple, SessionTrace]:
    """An answer to the canary, what each step of it cost, and its trace."""
    with tacit.Client(cluster) as client:
        generation = client.generate(CANARY, max_new_tokens=COUNT)
        result = generation.complete()
    (trace,) = read_folder(cluster.trace, patience=5)
    return result, generation.costs, trace


def check_document(found: dict) -> Counter[str]:
    """The trace event format, as far as this file uses it; how many slices each thread has, by process."""
    assert set(found) == {"displayTimeUnit", "otherData", "traceEvents"}
    slices: dict[tuple[int, int], list[tuple[float, float]]] = {}
    flows: dict[str, dict[str, dict]] = {}
    named: set[int] = set()
    for event in found["traceEvents"]:
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        match event["ph"]:
            case "M":
                assert event["name"] in ("process_name", "process_sort_index", "thread_name")
                named.add(event["pid"])
            case "X":
                assert event["dur"] >= 0
                assert (8 * event["ts"]).is_integer()
                assert (8 * event["dur"]).is_integer()
                assert event["args"]["phase"] in ("compute", "waiting", "serialising")
                slices.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["ts"] + event["dur"]))
            case "s" | "f":
                assert event["ph"] not in flows.setdefault(event["id"], {})
                flows[event["id"]][event["ph"]] = event
            case other:
                raise AssertionError(other)
    assert {pid for pid, _ in slices} == named
    edges = {place: {start for start, _ in times} for place, times in slices.items()}
    for both in flows.values():
        assert both["s"]["ts"] <= both["f"]["ts"]
        assert both["f"]["bp"] == "e"
        for end in both.values():  # it is drawn where a slice of that thread begins: of sending, of reading
            assert end["ts"] in edges[end["pid"], end["tid"]]
    for times in slices.values():
        stack: list[float] = []
        assert times == sorted(
            times, key=lambda one: (one[0], -one[1])
        )  # outer before inner, for viewers that keep the order
        for start, end in times:
            while stack and stack[-1] <= start and stack[-1] < end:
                stack.pop()
            assert not stack or end <= stack[-1]
            stack.append(end)
    return Counter({pid: len(times) for (pid, _), times in slices.items()})


def test_all_four_parties_are_there(answered):
    _, _, trace = answered
    assert trace.notes == []
    assert sorted(trace.parties) == [0, 1, 2, 3]
    assert len({party.name for party in trace.parties.values()}) == 4


def test_the_sums_are_what_the_answer_cost(answered):
    result, costs, trace = answered
    assert len(costs) == COUNT
    for step, cost in enumerate(costs):
        for role in (0, 1):
            here = [one for one in trace.parties[role].spans if one.name == "site" and one.step == step]
            assert sum(one.rounds for one in here) == cost.rounds
        both = [one for role in (0, 1) for one in trace.parties[role].spans if one.name == "site" and one.step == step]
        assert sum(one.online for one in both) == cost.online_bytes
        assert sum(one.offline for one in both) == cost.offline_bytes
        mine = [one for one in trace.parties[3].messages if one.step == step]
        assert sum(one.bytes for one in mine) == cost.client_bytes
    case = Case("pair", "", result.model, result.usage.prompt_tokens, COUNT)
    tokens = [one for one in sites(case, [trace]) if one.phase == "token"]
    assert sum(one.rounds for one in tokens) == result.traffic.rounds_per_token
    assert sum(one.online_bytes for one in tokens) == pytest.approx(
        result.traffic.online_bytes_per_token, abs=len(tokens)
    )
    assert sum(one.offline_bytes for one in tokens) == pytest.approx(
        result.traffic.offline_bytes_per_token, abs=len(tokens)
    )
    took = sum(one.compute_ms + one.waiting_ms + one.serialising_ms for one in tokens)
    assert 0.3 * result.timings.per_token_ms < took < result.timings.per_token_ms


def test_every_read_has_its_send_before_it_across_processes(answered):
    _, _, trace = answered
    flights = trace.flights()
    assert len(flights) == sum(not one.sent for party in trace.parties.values() for one in party.messages)
    assert all(one.sent.start <= one.read.start <= one.read.end for one in flights)
    sent = sum(one.sent for party in trace.parties.values() for one in party.messages)
    assert sent - len(flights) <= 10  # goodbyes that nobody stayed to read
    moved = transfers(Case("pair", "", "stories", 1, 1), trace)
    assert moved[0].sender == "client"
    assert 0 < moved[0].sent_ms < moved[-1].read_ms


def test_no_trace_holds_a_word_of_prompt_or_answer(cluster, answered, tmp_path):
    result, _, trace = answered
    write(tmp_path / "one.json", [trace])
    text = "".join(path.read_text() for path in (*cluster.trace.iterdir(), tmp_path / "one.json"))
    assert "layers.0.attention" in text
    words = [*CANARY.split(), *(word for word in result.text.split() if len(word) > 3)]
    assert not [word for word in words if word in text]
    for path in cluster.trace.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_one_file_for_a_viewer(answered):
    _, _, trace = answered
    whole = document([trace])
    assert len(check_document(whole)) == 4
    names = {event["args"]["name"] for event in whole["traceEvents"] if event["name"] == "process_name"}
    assert {name.partition(" (")[0] for name in names} == {"client", "compute 0", "compute 1", "dealer"}
    assert whole["otherData"]["missing"] == []
    arrows = Counter(event["ph"] for event in whole["traceEvents"])
    assert arrows["s"] == arrows["f"] == len(trace.flights())
    one = document([trace], steps=(2,))
    assert check_document(one).total() < check_document(whole).total() / 3
    sized = [event for event in one["traceEvents"] if event["ph"] == "X" and event["args"].get("bytes")]
    assert sized
    assert all(event["args"]["site"] for event in sized)


def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "tacit.client.cli", "ask", CANARY, "--max-new-tokens", "3", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_brings_all_parties_together(cluster, tmp_path):
    file = tmp_path / "trace.json"
    done = ask("--cluster", str(cluster.roster_path), "--trace", str(file))
    assert done.returncode == 0, done.stderr
    assert "4 parties on one clock" in done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(check_document(json.loads(file.read_text()))) == 4


@pytest.mark.skipif("TACIT_ALL" not in os.environ, reason="starts a cluster more; set TACIT_ALL=1")
def test_the_command_starts_a_cluster_that_traces(tmp_path, monkeypatch):
    monkeypatch.setenv("TACIT_STATE", str(tmp_path / "state"))
    done = ask("--trace", str(tmp_path / "trace.json"))
    assert done.returncode == 0, done.stderr
    assert "4 parties on one clock" in done.stderr
    assert len(check_document(json.loads((tmp_path / "trace.json").read_text()))) == 4


def test_the_command_says_when_only_the_clients_part_is_there(cluster, tmp_path, monkeypatch):
    """As where the cluster was started without --trace."""
    told = cluster.roster_path.with_name(FILE)
    told.rename(tmp_path / FILE)
    try:
        done = ask("--cluster", str(cluster.roster_path), "--trace", str(tmp_path / "trace.json"))
    finally:
        (tmp_path / FILE).rename(told)
    assert done.returncode == 0, done.stderr
    assert "this client's part alone" in done.stderr
    assert "tacit up --trace FOLDER" in done.stderr
    assert len(check_document(json.loads((tmp_path / "trace.json").read_text()))) == 1


@pytest.mark.parametrize(("name", "words"), [("none/x.json", "No such file"), (".", "is a folder")])
def test_a_file_that_cannot_be_written_is_said_before_anything_is_asked(cluster, tmp_path, name, words):
    done = ask("--cluster", str(cluster.roster_path), "--trace", str(tmp_path / name))
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stdout == ""


def test_a_clients_own_folder(cluster, tmp_path):
    with tacit.Client(cluster.roster_path, trace=tmp_path) as client:
        client.complete(CANARY, max_new_tokens=2)
    (session,) = sessions(tmp_path)
    assert set(read_session(tmp_path, session).parties) == {3}
    assert set(read_session([tmp_path, cluster.trace], session, patience=5).parties) == {0, 1, 2, 3}


def test_a_lines_delay_is_between_sending_and_reading(cluster, tmp_path):
    """On one clock, 10 ms one way are 10 ms at the least, and most of what the compute peers wait for."""
    cluster.set_network("rtt=20ms")
    try:
        with tacit.Client(cluster.roster_path, trace=tmp_path) as client:
            result = client.complete(CANARY, max_new_tokens=2)
    finally:
        cluster.set_network("lan")
    trace = read_session([tmp_path, cluster.trace], sessions(tmp_path)[0], patience=5)
    times = [1e-6 * (one.read.end - one.sent.start) for one in trace.flights()]
    assert len(times) > 200
    assert min(times) >= 10
    tokens = [one for one in sites(Case("pair", "", "stories", 1, 2), [trace]) if one.phase == "token"]
    waited = sum(one.waiting_ms for one in tokens)
    assert waited >= 0.8 * 10 * result.traffic.rounds_per_token
    assert sum(one.compute_ms + one.serialising_ms for one in tokens) < waited


def test_peers_that_cannot_write_serve_on_and_say_so(cluster):
    aside = cluster.trace.with_name("aside")
    cluster.trace.rename(aside)
    try:
        with tacit.Client(cluster.roster_path) as client:
            assert client.complete(CANARY, max_new_tokens=2).token_ids
    finally:
        aside.rename(cluster.trace)
    logs = [path.read_text() for path in cluster.roster_path.parent.glob("peer-*.log")]
    assert sum("the session goes on without it" in log for log in logs) == 3


def test_a_killed_peer_leaves_what_it_had_written(cluster):
    """Last in this module: it takes the cluster with it."""
    before = set(sessions(cluster.trace))
    pids = {process.name: process.pid for process in cluster.processes}
    with tacit.Client(cluster) as client:
        answer = client.generate(CANARY, max_new_tokens=300)
        for _ in range(4):
            next(answer)
        os.kill(pids["peer-1"], signal.SIGKILL)
        with pytest.raises(tacit.PeerLost, match="peer-1"):
            list(answer)
    (session,) = set(sessions(cluster.trace)) - before
    trace = read_session(cluster.trace, session, patience=3)
    killed = [party for party in trace.parties.values() if party.name.startswith("peer-1")]
    assert [party.ended for party in killed] == [None]
    assert {party.ended for party in trace.parties.values() if party not in killed} <= {"PeerLost", "PeerError"}
    assert any("breaks off" in note for note in trace.notes)
    assert all(max(one.step for one in party.spans if one.name == "step") >= 2 for party in trace.parties.values())
    assert all(one.sent.start <= one.read.start for one in trace.flights())
    assert len(check_document(document([trace]))) == 4
    assert Path(cluster.trace).is_dir()
