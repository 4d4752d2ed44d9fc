"""A party that dies, freezes, breaks or talks nonsense: the others learn within seconds, and learn who it was."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest
from echo_cluster import EchoCluster, EchoSession
from echo_peer import BREAK, NONSENSE, SECRET, STALL
from tacit.errors import NetworkError, PeerError, PeerLost, TacitError

NOTICED = 3.0  # seconds
WORDS = np.arange(16, dtype=np.uint64)


def steps_until_failure(session: EchoSession) -> TacitError:
    try:
        while True:
            for link in (session.links.peer0, session.links.peer1):
                link.send("tokens", WORDS)
            for link in (session.links.peer0, session.links.peer1):
                link.receive("logits")
    except TacitError as error:
        return error


def one_step(session: EchoSession) -> None:
    for link in (session.links.peer0, session.links.peer1):
        link.send("tokens", WORDS)
    for link in (session.links.peer0, session.links.peer1):
        assert np.array_equal(np.frombuffer(link.receive("logits").body, np.uint64), 2 * WORDS)


def idle(cluster: EchoCluster, name: str) -> bool:
    peers = cluster.http.get("/v1/status").json()["peers"]
    return next(peer for peer in peers if peer["name"] == name)["sessions"] == 0


@pytest.mark.parametrize("role", [0, 1, 2])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_or_frozen_peer_is_noticed_and_named(victims: EchoCluster, role: int, number: signal.Signals) -> None:
    session = victims.session(max_new_tokens=200)
    one_step(session)
    culprit = victims.name_in_role(session, role)
    started = time.monotonic()
    victims.kill(culprit, number)
    error = steps_until_failure(session)
    session.close()
    assert time.monotonic() - started < NOTICED
    assert isinstance(error, PeerLost), repr(error)
    assert error.peer.startswith(culprit + " (")
    for name in {"peer-0", "peer-1", "peer-2"} - {culprit}:
        while f"PeerLost: {culprit}" not in victims.log(name).read_text():
            assert time.monotonic() - started < NOTICED, f"{name} did not give the session up in time"
            time.sleep(0.02)
        assert victims.processes[name].poll() is None


def test_a_frozen_peer_is_noticed_by_one_who_only_waits(victims: EchoCluster) -> None:
    session = victims.session(prompt_tokens=STALL)
    for link in (session.links.peer0, session.links.peer1):
        link.send("tokens", WORDS)
    culprit = victims.name_in_role(session, 1)
    time.sleep(0.2)
    started = time.monotonic()
    victims.kill(culprit, signal.SIGSTOP)
    with pytest.raises(PeerLost, match=culprit):
        session.links.peer0.receive("logits")  # not the link of the frozen peer
    assert time.monotonic() - started < NOTICED
    session.close()


def test_a_peer_that_shuts_down_says_so(victims: EchoCluster) -> None:
    session = victims.session(max_new_tokens=200)
    one_step(session)
    culprit = victims.name_in_role(session, 2)
    started = time.monotonic()
    victims.kill(culprit, signal.SIGTERM)
    error = steps_until_failure(session)
    session.close()
    assert victims.processes[culprit].wait(1.5) == 0
    assert time.monotonic() - started < 1.5
    assert isinstance(error, PeerLost)
    assert error.peer.startswith(culprit)
    assert "shutting down" in error.reason


def test_the_coordinator_is_not_needed_by_a_running_session(victims: EchoCluster) -> None:
    session = victims.session(max_new_tokens=200)
    victims.kill("coordinator")
    victims.processes["coordinator"].wait()
    one_step(session)
    session.close()


def test_what_breaks_inside_is_reported_without_its_content(cluster: EchoCluster) -> None:
    session = cluster.session(prompt_tokens=BREAK)
    error = steps_until_failure(session)
    session.close()
    culprit = cluster.name_in_role(session, 1)
    assert isinstance(error, PeerError)
    assert error.peer.startswith(culprit)
    started = time.monotonic()
    while "ValueError at echo_peer.py:" not in cluster.log(culprit).read_text():  # it tells the client first
        assert time.monotonic() - started < NOTICED
        time.sleep(0.02)
    logs = "".join(cluster.log(name).read_text() for name in cluster.processes)
    assert SECRET not in logs + str(error)


def test_nonsense_between_peers_ends_the_session_and_names_its_sender(cluster: EchoCluster) -> None:
    session = cluster.session(prompt_tokens=NONSENSE)
    error = steps_until_failure(session)
    session.close()
    assert isinstance(error, PeerError)
    assert error.peer.startswith(cluster.name_in_role(session, 1))
    assert "'nonsense', expected 'open'" in error.reason


def test_a_client_that_leaves_frees_its_peers(cluster: EchoCluster) -> None:
    session = cluster.session()
    one_step(session)
    session.close()
    started = time.monotonic()
    while not all(idle(cluster, member.name) for member in cluster.roster.members):
        assert time.monotonic() - started < NOTICED
        time.sleep(0.05)


def test_a_session_is_refused_when_a_needed_peer_is_dead(victims: EchoCluster) -> None:
    victims.kill("peer-1")
    victims.processes["peer-1"].wait()
    started = time.monotonic()
    with pytest.raises((NetworkError, PeerError)):
        victims.session()
    assert time.monotonic() - started < 10
    victims.start("peer-1")
    victims.ready("peer-1")
    deadline = time.monotonic() + 5
    while True:
        try:
            session = victims.session()
            break
        except TacitError:
            assert time.monotonic() < deadline, "the peer came back, the sessions did not"
            time.sleep(0.1)
    one_step(session)
    session.close()
