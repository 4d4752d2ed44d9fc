"""A coordinator that is killed: running sessions do not notice, and when it is started again it remembers."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest
from echo_cluster import EchoCluster, EchoSession
from tacit.errors import RefusedError
from tacit.records import error_from_json

READY = 2.0  # seconds
WORDS = np.arange(16, dtype=np.uint64)


def step(session: EchoSession, number: int) -> None:
    for link in (session.links.peer0, session.links.peer1):
        link.send("tokens", WORDS)
    for link in (session.links.peer0, session.links.peer1):
        assert np.array_equal(np.frombuffer(link.receive("logits").body, np.uint64), 2 * WORDS + np.uint64(number))


def restart(cluster: EchoCluster) -> float:
    """Kill the coordinator and start it again; seconds from its start until it serves models."""
    cluster.kill("coordinator", signal.SIGKILL)
    cluster.processes["coordinator"].wait()
    began = time.monotonic()
    cluster.start("coordinator")
    cluster.ready("coordinator")
    ready = time.monotonic()
    while not cluster.http.get("/v1/models").json():
        assert time.monotonic() - ready < READY
        time.sleep(0.01)
    print(f"the process was ready after {ready - began:.2f} s, its peers {time.monotonic() - ready:.3f} s later")
    return time.monotonic() - ready


def test_a_coordinator_killed_in_the_middle_harms_no_session_and_remembers(victims: EchoCluster) -> None:
    before = victims.session()
    for link in (before.links.peer0, before.links.peer1):
        link.send("end")
    before.close()
    session = victims.session(max_new_tokens=50)
    step(session, 0)
    taken = restart(victims)
    assert taken < READY
    step(session, 1)
    status = victims.http.get("/v1/status").json()
    assert status["sessions"]["opened"] == 2
    assert [one["session"] for one in status["sessions"]["recent"]] == [
        session.request.session[:8],
        before.request.session[:8],
    ]
    assert {peer["name"]: sum(peer["roles"].values()) for peer in status["peers"]} == {
        member.name: 2 for member in victims.roster.members
    }
    again = victims.http.post("/v1/sessions", content=before.request.to_bytes())
    error = error_from_json(again.json()["error"], "coordinator")
    assert isinstance(error, RefusedError)
    assert "is there already" in str(error)
    another = victims.session()
    step(another, 0)
    step(session, 2)
    for one, steps in ((another, 1), (session, 3)):
        for link in (one.links.peer0, one.links.peer1):
            link.send("end")
            assert link.receive("account").fields["steps"] == steps
        one.close()
    assert victims.http.get("/v1/status").json()["sessions"]["opened"] == 3


def test_why_a_peer_failed_is_remembered(victims: EchoCluster) -> None:
    victims.kill("peer-2")
    victims.processes["peer-2"].wait()

    def peer() -> dict:
        return victims.http.get("/v1/status").json()["peers"][2]

    deadline = time.monotonic() + 5
    while peer()["live"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    victims.kill("coordinator", signal.SIGKILL)
    victims.processes["coordinator"].wait()
    victims.start("coordinator")
    victims.ready("coordinator")
    found = peer()
    assert found["history"]["failures"] == 1
    assert "no answer" in found["history"]["last_reason"] or "peer-2" in found["history"]["last_reason"]
    assert 0 < found["seen_seconds_ago"] < 60


def test_a_state_that_cannot_be_read_is_named(victims: EchoCluster) -> None:
    victims.kill("coordinator")
    victims.processes["coordinator"].wait()
    state = victims.folder / "coordinator.sqlite"
    assert state.stat().st_mode & 0o777 == 0o600
    for file in victims.folder.glob("coordinator.sqlite*"):
        file.unlink()
    state.write_bytes(b"not a database" * 1000)
    victims.start("coordinator")
    with pytest.raises(KeyError):
        victims.ready("coordinator")
    assert victims.processes["coordinator"].wait(5) == 1
    assert "move it away" in victims.log("coordinator").read_text()
