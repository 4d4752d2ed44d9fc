"""What a seat costs is known before it is taken, given back when it ends, and kept for nobody who only sits there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from echo_cluster import EchoCluster, EchoSession
from tacit.errors import NetworkError, PeerError, RefusedError, TacitError

WORDS = np.arange(16, dtype=np.uint64)


@pytest.fixture(scope="module")
def weighed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EchoCluster]:
    """Peers that allow sessions 50 MB together and 40 MB each; a client must be quick."""
    options = ("--max-memory", "50MB", "--max-session-memory", "40MB", "--client-timeout", "2")
    found = EchoCluster(tmp_path_factory.mktemp("weighed"), options=options, models="weighed")
    yield found
    assert set(found.stop().values()) == {0}


def settled(cluster: EchoCluster) -> None:
    deadline = time.monotonic() + 5
    while any(cluster.status_of(f"peer-{number}")["sessions"] for number in range(3)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ended(session: EchoSession) -> TacitError:
    with pytest.raises(TacitError) as caught:
        session.links.peer0.receive("logits")
    session.close()
    return caught.value


def peak_of(cluster: EchoCluster, name: str, anew: bool = False) -> int:
    """Most memory that a peer had resident since it was last asked `anew`."""
    folder = Path(f"/proc/{cluster.processes[name].pid}")
    if anew:
        (folder / "clear_refs").write_text("5")
    status = (folder / "status").read_text()
    return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")


def test_a_session_that_is_too_large_is_refused_with_the_sizes(weighed: EchoCluster) -> None:
    with pytest.raises(RefusedError) as caught:
        weighed.session(35, 6)
    words = str(caught.value)
    assert "needs 41 MB for 40 tokens as compute peer 0; it allows a session 40 MB" in words
    assert "ask for fewer tokens or raise --max-session-memory" in words


def test_what_is_taken_is_refused_to_others_and_given_back(weighed: EchoCluster) -> None:
    for _ in range(3):  # were it not given back, the second round would find nothing free
        settled(weighed)
        session = weighed.session(20, 15)
        with pytest.raises(RefusedError, match=r"needs 20 MB for 19 tokens .*; 15 MB of the 50 MB it may use are free"):
            weighed.session(10, 10)
        second = weighed.session(5, 10)
        for one in (session, second):
            one.close()


def test_a_client_that_says_nothing_loses_its_seats(weighed: EchoCluster) -> None:
    settled(weighed)
    started = time.monotonic()
    session = weighed.session()
    error = ended(session)
    assert time.monotonic() - started < 4
    assert "within 2 s" in str(error)
    settled(weighed)


@needs_proc
def test_a_client_that_floods_is_cut_off_and_costs_little(weighed: EchoCluster) -> None:
    settled(weighed)
    session = weighed.session(4, 8)
    link = session.links.peer1
    name = weighed.name_in_role(session, 1)
    before = peak_of(weighed, name, anew=True)
    # Compute peer 1 reads one prompt and then waits for its partner; this client ignores how much it has unread.
    link._ledger._window = 1 << 60
    body = bytes(1 << 20)
    started, sent = time.monotonic(), 0
    try:
        while sent < 1 << 31:
            link.send("tokens", body)
            sent += len(body)
    except (PeerError, NetworkError):
        pass
    assert time.monotonic() - started < 10
    session.close()
    settled(weighed)
    grown = peak_of(weighed, name) - before
    assert grown < 300 << 20, f"{sent >> 20} MB were sent, memory grew by {grown >> 20} MB"
    log = weighed.log(name).read_text()
    assert "client: sent" in log
    assert "ahead of being read, in a session where at most 4 MB can be" in log
