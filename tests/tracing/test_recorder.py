"""The file of one party: what it holds, how far it goes, and that nothing that happens to it reaches the session."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from pathlib import Path

import pytest
from tacit.errors import ConfigError
from tacit.tracing import recorder as recording
from tacit.tracing.files import SERIALISING, WAITING, Span, read_file, read_folder, read_session, self_times, sessions
from tacit.tracing.recorder import FULL, Recorder, Traces, clock, trace_path

SESSION = bytes(range(16))


def opened(folder: Path, role: int = 0, say=print, session: bytes = SESSION) -> Recorder:
    found = Traces(folder, say).open(session, role, name="alice", model="toy", protocol="pair")
    assert found is not None
    return found


def step(recorder: Recorder, number: int) -> None:
    recorder.begin(number, "embed")
    recorder.enter("layers.0.attention")
    since = clock()
    recorder.sent("open", since, 1, number, 100)
    recorder.round(64)
    recorder.consumed(32)
    since = clock()
    recorder.read("open", clock(), 1, number, 100)
    recorder.span("waiting", since, 1)
    recorder.end()


def test_what_was_recorded_is_read_back(tmp_path):
    recorder = opened(tmp_path)
    step(recorder, 0)
    recorder.close()
    found = read_file(trace_path(tmp_path, SESSION.hex(), 0))
    assert (found.session, found.role, found.party, found.name, found.model) == (
        SESSION.hex(),
        0,
        "compute 0",
        "alice",
        "toy",
    )
    assert found.ended == "done"
    assert [(one.name, one.site) for one in found.timeline()] == [
        ("step", ""),
        ("site", "embed"),
        ("site", "layers.0.attention"),
        ("sending", "layers.0.attention"),
        ("waiting", "layers.0.attention"),
    ]
    place = found.timeline()[2]
    assert (place.rounds, place.online, place.offline) == (1, 64, 32)
    assert [(one.sent, one.kind, one.remote, one.number, one.bytes) for one in found.messages] == [
        (True, "open", 1, 0, 100),
        (False, "open", 1, 0, 100),
    ]


def test_only_its_owner_reads_a_trace(tmp_path):
    folder = tmp_path / "new" / "traces"
    opened(folder).close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]


def test_a_trace_has_a_most_and_says_so_once(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "MAX_BYTES", 20_000)
    said: list[str] = []
    recorder = opened(tmp_path, say=said.append)
    for number in range(200):
        step(recorder, number)
        recorder.flush()
    recorder.close()
    path = trace_path(tmp_path, SESSION.hex(), 0)
    assert 18_000 < path.stat().st_size <= 20_000 + len('{"ended": "full"}\n')
    assert len(said) == 1
    assert "the session goes on without it" in said[0]
    found = read_file(path)
    assert found.ended == FULL
    assert [one.step for one in found.spans if one.name == "step"] == list(range(len(found.messages) // 2))


def test_records_are_not_held_back_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "HELD", 100)
    recorder = opened(tmp_path)
    for _ in range(350):
        recorder.span("packing", clock())
    path = trace_path(tmp_path, SESSION.hex(), 0)
    assert len(path.read_bytes().splitlines()) > 300
    recorder.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to stand for a full disk")
def test_a_full_disk_ends_the_trace_and_not_the_session(tmp_path):
    said: list[str] = []
    recorder = opened(tmp_path, say=said.append)
    step(recorder, 0)
    recorder.flush()
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, recorder._descriptor)
    os.close(full)
    for number in (1, 2):
        step(recorder, number)
        recorder.flush()
    recorder.close()
    assert len(said) == 1
    assert os.strerror(errno.ENOSPC) in said[0]
    assert "goes on without it" in said[0]
    found = read_file(trace_path(tmp_path, SESSION.hex(), 0))
    assert found.ended is None
    assert [one.step for one in found.spans if one.name == "step"] == [0]


def test_a_folder_that_cannot_be_written_is_said_before_anything_starts(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/traces: traces cannot be written there: Not a directory"):
        Traces(tmp_path / "file" / "traces")


def test_a_folder_that_went_away_costs_the_trace_alone(tmp_path):
    said: list[str] = []
    traces = Traces(tmp_path / "traces", said.append)
    (tmp_path / "traces").rmdir()
    assert traces.open(SESSION, 0, name="alice", model="toy", protocol="pair") is None
    assert "No such file" in said[0]


def test_a_session_is_recorded_once(tmp_path):
    said: list[str] = []
    opened(tmp_path).close()
    assert Traces(tmp_path, said.append).open(SESSION, 0, name="x", model="toy", protocol="pair") is None
    assert "File exists" in said[0]


def test_a_trace_that_breaks_off_is_read_as_far_as_it_goes(tmp_path):
    recorder = opened(tmp_path)
    step(recorder, 0)
    step(recorder, 1)
    recorder.flush()
    path = trace_path(tmp_path, SESSION.hex(), 0)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    found = read_file(path)
    assert found.ended is None
    assert len(found.spans) + len(found.messages) == len(whole.splitlines()) - 2
    assert read_session(tmp_path, SESSION.hex()).notes[0] == "compute 0: its trace breaks off"
    recorder.close()


@pytest.mark.parametrize("line", ["{}", "[]", "nonsense", '{"name": "x"}', '{"sent": "x", "from": 1}'])
def test_what_is_no_trace_is_named_by_its_line(tmp_path, line):
    recorder = opened(tmp_path)
    recorder.close()
    path = trace_path(tmp_path, SESSION.hex(), 0)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ConfigError, match=r"compute-0\.jsonl, line 3: is no trace"):
        read_file(path)


def test_another_machines_clock_is_left_out(tmp_path):
    for role in (0, 1, 3):
        opened(tmp_path, role).close()
    path = trace_path(tmp_path, SESSION.hex(), 1)
    head, rest = path.read_text().split("\n", 1)
    path.write_text(json.dumps({**json.loads(head), "machine": "another"}) + "\n" + rest)
    found = read_session(tmp_path, SESSION.hex())
    assert set(found.parties) == {0, 3}
    assert found.notes == ["compute 1 ran on another machine, whose clock is another", "dealer left no trace"]


def test_a_reader_waits_for_the_last_lines(tmp_path):
    recorders = [opened(tmp_path, role) for role in range(4)]

    def finish() -> None:
        for recorder in recorders:
            step(recorder, 0)
            recorder.close()

    timer = threading.Timer(0.2, finish)
    timer.start()
    found = read_session(tmp_path, SESSION.hex(), patience=10)
    timer.join()
    assert found.notes == []
    assert [found.parties[role].ended for role in range(4)] == ["done"] * 4


def test_sessions_are_told_apart_oldest_first(tmp_path):
    names = [bytes([9 - number] * 16) for number in range(3)]
    for name in names:
        opened(tmp_path, 3, session=name).close()
    (tmp_path / "cut-off.jsonl").write_text('{"form')
    assert sessions(tmp_path) == [name.hex() for name in names]
    assert [one.session for one in read_folder(tmp_path)] == [name.hex() for name in names]


def test_a_kind_of_frame_is_the_other_sides_word(tmp_path):
    recorder = opened(tmp_path)
    recorder.read('x"},\n{"y' * 100, clock(), 1, 0, 5)
    recorder.close()
    (message,) = read_file(trace_path(tmp_path, SESSION.hex(), 0)).messages
    assert len(message.kind) == 30
    assert message.bytes == 5


def test_self_times_are_what_no_inner_span_takes():
    def span(name: str, start: int, end: int) -> Span:
        return Span(name, start, end, 0, "here")

    spans = [
        span("step", 0, 100),
        span("site", 0, 60),
        span("unpacking", 10, 40),
        span("waiting", 15, 35),
        span("site", 60, 100),
        span("sending", 90, 100),
    ]
    rest = {(one.name, one.start): time for one, time in self_times(spans)}
    assert rest == {
        ("step", 0): 0,
        ("site", 0): 30,
        ("unpacking", 10): 10,
        ("waiting", 15): 20,
        ("site", 60): 30,
        ("sending", 90): 10,
    }
    assert {one.name: one.phase for one in spans} == {
        "step": "compute",
        "site": "compute",
        "unpacking": SERIALISING,
        "waiting": WAITING,
        "sending": SERIALISING,
    }
