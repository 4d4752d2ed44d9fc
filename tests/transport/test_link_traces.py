"""What a link tells its recorder, over memory and over sockets: all frames, credit and last words among them."""

from __future__ import annotations

import time

import pytest
from link_pairs import SESSION, both, memory, sockets
from tacit.errors import PeerLost, TacitError
from tacit.tracing.files import read_session
from tacit.tracing.recorder import Traces


@pytest.fixture(params=[memory, sockets], ids=["memory", "sockets"])
def traced(request, tmp_path):
    """An open pair of links with recorders, and how to read what they recorded."""
    with request.param() as pair:
        pair.open()
        recorders = []
        for role, link in enumerate((pair.alice, pair.bob)):
            link.recorder = Traces(tmp_path).open(SESSION, role, name=str(role), model="none", protocol="none")
            recorders.append(link.recorder)

        def read():
            for circle in pair.circles:
                circle.close()
            for recorder in recorders:
                recorder.close()
            return read_session(tmp_path, SESSION.hex())

        yield pair, read


def test_frames_large_and_small_and_credit(traced):
    pair, read = traced

    def send() -> None:
        for size in (0, 5, 1 << 19, (1 << 20) + 7, 3 << 20):  # beyond the window: credit has to come back
            pair.alice.send("data", bytes(size))

    def take() -> None:
        for _ in range(5):
            time.sleep(0.01)
            pair.bob.receive("data")

    assert both(send, take) == [None, None]
    stats = pair.alice.stats, pair.bob.stats
    trace = read()
    for role, link in enumerate((pair.alice, pair.bob)):
        mine = trace.parties[role].messages
        sent = [one for one in mine if one.sent and one.kind != "bye"]
        got = [one for one in mine if not one.sent]
        assert (len(sent), sum(one.bytes for one in sent)) == (stats[role].messages_sent, stats[role].bytes_sent)
        assert (len(got), sum(one.bytes for one in got)) == (stats[role].messages_received, stats[role].bytes_received)
        waited = sum(one.end - one.start for one in trace.parties[role].spans if one.name == "waiting")
        assert 1e-9 * waited == pytest.approx(link.stats.waiting_seconds + link.stats.stalled_seconds, abs=1e-6)
    kinds = {(one.sender, one.sent.kind) for one in trace.flights()}
    assert kinds >= {(0, "data"), (1, "credit")}
    for one in trace.flights():
        assert one.sent.start <= one.read.start <= one.read.end
        assert one.sent.bytes == one.read.bytes
        assert one.sent.end >= one.sent.start
    data = [one for one in trace.flights() if one.sent.kind == "data"]
    assert [one.sent.bytes >= size for one, size in zip(data, (0, 5, 1 << 19, (1 << 20) + 7, 3 << 20), strict=True)]
    assert pair.alice.stats.stalled_seconds > 0


def test_why_a_session_ended_is_in_both_records(traced):
    pair, read = traced

    def leave() -> None:
        pair.alice.abort(PeerLost("Carol", "is gone"))

    def wait() -> None:
        pair.bob.receive("data")

    _, error = both(leave, wait)
    assert isinstance(error, TacitError)
    trace = read()
    (abort,) = [one for one in trace.flights() if one.sent.kind == "abort"]
    assert (abort.sender, abort.receiver) == (0, 1)
    assert abort.sent.start <= abort.read.start
