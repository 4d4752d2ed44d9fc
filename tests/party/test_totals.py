"""What peers count of their sessions, and how sessions end in their books; with processes where ends matter."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from echo_cluster import EchoCluster
from echo_peer import NONSENSE
from prometheus_client.parser import text_string_to_metric_families
from tacit.ends import LinkStats
from tacit.errors import ConfigError, NetworkError, PeerError, PeerLost, RefusedError, TacitError, UsageError
from tacit.party.totals import Tallies, Work, outcome, work
from tacit.wire import CLIENT_LEFT, DEALER, DONE, HERE, PEER, UNOPENED, Totals
from test_failures import one_step, steps_until_failure
from test_sessions import run

OWN, OTHER = "peer-0 (aaaaaaaa)", "peer-1 (bbbbbbbb)"


@pytest.mark.parametrize(
    ("error", "opened", "expected"),
    [
        (None, True, DONE),
        (PeerLost("client", "left the session"), True, CLIENT_LEFT),
        (NetworkError("client: sent no 'prompt' within 15 s"), True, CLIENT_LEFT),
        (PeerLost(OTHER, "is gone"), True, PEER),
        (PeerError(OTHER, "sent nonsense"), True, PEER),
        (NetworkError(f"{OTHER}: sent no 'open' within 30 s"), True, PEER),
        (PeerLost("client 7 (cccccccc)", "a peer may be called so"), True, PEER),
        (PeerLost(OWN, "is shutting down"), True, HERE),
        (ConfigError("no room"), True, HERE),
        (RefusedError("coordinator", "withdrew the offer"), False, UNOPENED),
        (None, False, UNOPENED),
    ],
)
def test_how_a_session_ended(error: TacitError | None, opened: bool, expected: str) -> None:
    assert outcome(error, opened=opened, own_name=OWN) == expected


def test_what_a_seat_has_done() -> None:
    stats = {role: LinkStats(bytes_sent=10**role, sends=role + 5) for role in range(4)}
    assert work(0, stats) == Work(rounds=6, online_bytes=10)
    assert work(1, stats) == Work(rounds=5, online_bytes=1)
    assert work(DEALER, stats) == Work(offline_bytes=11)
    assert work(0, {}) == work(DEALER, {}) == Work()


def test_totals_never_fall_while_seats_come_and_go() -> None:
    tallies = Tallies()
    seat: Any = SimpleNamespace(work=Work(3, 30, 0), outcome=DONE)
    dealing: Any = SimpleNamespace(work=Work(0, 0, 500), outcome=PEER)
    assert tallies.totals([]) == Totals()
    assert tallies.totals([seat, dealing]) == Totals(3, 30, 500)
    tallies.end(seat)
    assert tallies.totals([dealing]) == Totals(3, 30, 500, {DONE: 1})
    tallies.end(dealing)
    assert tallies.totals([]) == Totals(3, 30, 500, {DONE: 1, PEER: 1})


@pytest.mark.parametrize(
    "wrong",
    [
        {"rounds": -1},
        {"online_bytes": 1 << 54},
        {"ended": {"prompt": 1}},
        {"ended": {DONE: -1}},
        {"offline_bytes": 1.5},
    ],
)
def test_totals_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="Totals"):
        Totals(**wrong)


# Real processes -------------------------------------------------------------------------------------------------------


def counted(cluster: EchoCluster) -> dict[tuple[str, str], float]:
    """(peer, "rounds" | plane | outcome) -> total."""
    found = {}
    for family in text_string_to_metric_families(cluster.http.get("/metrics").text):
        for one in family.samples:
            labels = one.labels
            if one.name == "tacit_peer_rounds_total":
                found[labels["peer"], "rounds"] = one.value
            elif one.name in ("tacit_peer_sent_bytes_total", "tacit_peer_sessions_ended_total"):
                found[labels["peer"], labels.get("plane") or labels["outcome"]] = one.value
    return found


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_work_and_ends_reach_the_metrics(victims: EchoCluster) -> None:
    names = ("peer-0", "peer-1", "peer-2")

    def ended(how: str) -> list[float]:
        found = counted(victims)
        return [found.get((name, how), 0) for name in names]

    session = victims.session(max_new_tokens=5)
    seats = [victims.name_in_role(session, role) for role in range(3)]
    one_step(session)
    eventually(lambda: counted(victims)[seats[0], "rounds"] > 0)  # while it runs
    found = counted(victims)
    assert found[seats[0], "online"] > 0 < found[seats[1], "online"]
    assert found[seats[2], "offline"] > 0
    assert found[seats[2], "online"] == found[seats[0], "offline"] == found[seats[1], "offline"] == 0
    session.close()  # in the middle of an answer
    eventually(lambda: ended(CLIENT_LEFT) == [1, 1, 1])
    run(victims.session(max_new_tokens=2), 2)
    eventually(lambda: ended(DONE) == [1, 1, 1])
    session = victims.session(prompt_tokens=NONSENSE)
    culprit = victims.name_in_role(session, 1)
    steps_until_failure(session)
    session.close()
    eventually(lambda: sum(ended(PEER)) == 2)
    assert counted(victims)[culprit, PEER] == 0
    assert all(now >= 0 for now in counted(victims).values())
