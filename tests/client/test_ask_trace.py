"""`tacit ask --trace`: what is said, and when, where its file cannot be written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tacit.client.ask_trace import traced
from tacit.errors import ConfigError, PeerLost
from tacit.tracing.recorder import Traces, clock

SESSION = bytes(range(16))


def leave_a_trace(folder, role: int) -> None:
    recorder = Traces(folder).open(SESSION, role, name="somebody", model="toy", protocol="pair")
    assert recorder is not None
    recorder.begin(0, "keys")
    recorder.sent("prompt", clock(), 0, 0, 100)
    recorder.end()
    recorder.close()


def answer(file: Path, said: list[str], error: BaseException | None, meanwhile: Callable[[], object] = int) -> None:
    """With a trace of the client's, something that happens meanwhile, and an error at its end."""
    with traced(file, None, said.append) as folder:
        assert folder is not None
        leave_a_trace(folder, 3)
        meanwhile()
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_happens_to_the_answer_is_not_the_traces(tmp_path, error):
    """`tacit ask … | head` ends as it does without a trace."""
    with pytest.raises(type(error)) as found:
        answer(tmp_path / "one.json", [], error)
    assert found.value is error
    assert parties(tmp_path / "one.json") == {"client"}


def parties(file) -> set[str]:
    events = json.loads(file.read_text())["traceEvents"]
    return {event["args"]["name"].partition(" (")[0] for event in events if event["name"] == "process_name"}


def test_without_a_file_nothing_is_recorded():
    with traced(None, None, print) as folder:
        assert folder is None


def test_parts_come_together_from_the_clients_and_the_peers_folder(tmp_path):
    peers = tmp_path / "peers"
    roster = tmp_path / "cluster.json"
    roster.with_name("tracing.json").write_text(json.dumps({"folder": str(peers)}))
    said: list[str] = []
    Traces(peers)
    with traced(tmp_path / "one.json", roster, said.append) as folder:
        leave_a_trace(folder, 3)
        for role in range(3):
            leave_a_trace(peers, role)
    assert parties(tmp_path / "one.json") == {"client", "compute 0", "compute 1", "dealer"}
    assert "4 parties on one clock" in said[0]
    assert not folder.exists()


def test_what_is_missing_is_said(tmp_path):
    said: list[str] = []
    with traced(tmp_path / "one.json", None, said.append) as folder:
        for role in (0, 3):
            leave_a_trace(folder, role)
    assert parties(tmp_path / "one.json") == {"client", "compute 0"}
    assert "2 parties on one clock" in said[0]
    assert "compute 1 left no trace; dealer left no trace" in said[0]


def test_an_answer_that_fails_leaves_a_trace_and_its_own_error(tmp_path):
    said: list[str] = []
    with pytest.raises(PeerLost, match="peer-1"):
        answer(tmp_path / "one.json", said, PeerLost("peer-1", "went away"))
    assert parties(tmp_path / "one.json") == {"client"}
    assert "this client's part alone" in said[0]


def test_a_file_that_cannot_be_written_after_the_answer_is_an_error_that_names_it(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(ConfigError, match=r"place/one\.json: the trace cannot be written: No such file"):
        answer(place / "one.json", [], None, place.rmdir)


def test_it_does_not_hide_the_answers_error(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    said: list[str] = []
    with pytest.raises(PeerLost):
        answer(place / "one.json", said, PeerLost("peer-1", "went away"), place.rmdir)
    assert "the trace cannot be written" in said[0]


def test_no_session_no_file(tmp_path):
    said: list[str] = []
    with traced(tmp_path / "one.json", None, said.append):
        pass
    assert said == [f"{tmp_path / 'one.json'}: not written, there was no session to trace"]
    assert not (tmp_path / "one.json").exists()


@pytest.mark.parametrize("text", ["[]", '{"folder": 5}', "nonsense"])
def test_wrong_word_of_the_peers_folder_is_named(tmp_path, text):
    (tmp_path / "tracing.json").write_text(text)
    with (
        pytest.raises(ConfigError, match=r"tracing\.json"),
        traced(tmp_path / "one.json", tmp_path / "cluster.json", print),
    ):
        pass
