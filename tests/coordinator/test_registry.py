"""Who is asked how often, whose word counts for what, and what is remembered of those that fail or leave."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import threading
import time

import pytest
from tacit.coordinator.describe import MAX_WAYS, describe
from tacit.coordinator.registry import SOONEST, Live, Registry
from tacit.coordinator.sessions import Sessions
from tacit.coordinator.store import Store
from tacit.errors import NetworkError, RefusedError
from tacit.members import Member, Members
from tacit.party.identity import Identity
from tacit.party.mesh import OFFER, STATUS
from tacit.party.quoting import Quoting
from tacit.quotes import Quote
from tacit.wire import ModelOffer, SessionReply
from test_coordinator import HASH, IDENTITIES, QUOTES, FakeMesh, ask, peer_status, roster, running, wait_until


class Changing:
    """Members that come and go, as in the libp2p mesh."""

    cluster, own = "test", False

    def __init__(self, members: tuple[Member, ...]) -> None:
        self.members = members
        self.by_id = {member.peer_id: member for member in members}

    def member(self, peer_id: str) -> Member | None:
        return self.by_id.get(peer_id)

    def name_of(self, peer_id: str) -> str:
        member = self.member(peer_id)
        return member.display if member else peer_id[:8]

    def is_coordinator(self, peer_id: str) -> bool:
        return False


class CountingMesh(FakeMesh):
    """Says who is there, and counts questions for a status."""

    def __init__(self, members: Members) -> None:
        super().__init__(roster())
        self.there = members
        self.answers: dict[str, bytes] = {}
        self.times: dict[str, list[float]] = {}

    def request(self, peer_id: str, protocol: str, question: bytes, timeout: float = 5.0) -> bytes:
        if protocol == STATUS:
            self.times.setdefault(peer_id, []).append(time.monotonic())
            if peer_id in self.answers:
                return self.answers[peer_id]
        return super().request(peer_id, protocol, question, timeout)

    @property
    def members(self) -> Members:
        return self.there


def test_members_that_leave_are_forgotten_and_such_as_come_are_asked() -> None:
    five = roster().members
    mesh = CountingMesh(Changing(five[:4]))
    store = Store()
    registry = Registry(mesh, store, interval=0.05, retry=0.05)
    registry.start()
    wait_until(lambda: len(registry.live()) == 4)
    mesh.down.add(five[3].peer_id)
    wait_until(lambda: len(registry.live()) == 3)
    mesh.there = Changing((*five[:2], five[4]))
    wait_until(lambda: {live.member.name for live in registry.live()} == {"peer-0", "peer-1", "peer-4"})
    asked = len(mesh.times[five[2].peer_id])
    time.sleep(0.3)
    assert len(mesh.times[five[2].peer_id]) == asked
    assert "no answer" in registry.silence(five[3].peer_id)  # the reason is kept
    assert store.history()[five[3].peer_id].failures == 1
    assert five[2].peer_id not in store.history()  # to leave is no failure
    mesh.there = Changing(five)
    mesh.down.clear()
    wait_until(lambda: len(registry.live()) == 5)
    registry.close()


def test_reports_of_clients_cannot_make_it_ask_more_often_than_it_may() -> None:
    mesh = CountingMesh(roster())
    registry = Registry(mesh, interval=30, patience=30)
    registry.start()
    wait_until(lambda: len(registry.live()) == 5)
    sessions, bad = Sessions(mesh, registry), roster().members[1].peer_id
    until = time.monotonic() + 0.8

    def complain() -> None:
        while time.monotonic() < until:
            with contextlib.suppress(RefusedError):  # all others are full after some sessions
                sessions.open(ask(without=(bad,)))

    threads = [threading.Thread(target=complain) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = mesh.times[bad]
    assert 3 <= len(times) <= 2 + 0.8 / SOONEST
    assert registry.store.history()[bad].reports > 10
    assert registry.store.history()[bad].failures == 0
    registry.close()


def test_requests_that_must_be_refused_do_not_either() -> None:
    mesh = CountingMesh(roster(3))
    mesh.sessions = 8
    registry = Registry(mesh, interval=30, patience=30)
    registry.start()
    wait_until(lambda: len(registry.live()) == 3)
    sessions = Sessions(mesh, registry)
    began = time.monotonic()
    while time.monotonic() < began + 0.6:
        with pytest.raises(RefusedError, match="3 busy"):
            sessions.open(ask())
    assert max(map(len, mesh.times.values())) <= 2 + 0.7 / SOONEST
    registry.close()


def test_a_peer_that_answers_again_is_found_before_a_client_is_refused() -> None:
    mesh = CountingMesh(roster(4))
    registry = Registry(mesh, interval=0.05, retry=5.0)
    registry.start()
    wait_until(lambda: len(registry.live()) == 4)
    failed, late = roster().members[1].peer_id, roster().members[2].peer_id
    mesh.down.add(late)
    registry.doubt(late, "did not answer an offer")
    wait_until(lambda: len(registry.live()) == 3 and mesh.times[late][-1] < time.monotonic() - 0.05)
    mesh.down.clear()
    assert isinstance(
        Sessions(mesh, registry).open(ask(without=(failed,))), SessionReply
    )  # not in five seconds, when its turn would come
    registry.close()


class Moving(CountingMesh):
    """A peer was started anew at another address, of which the coordinator hears with the next status."""

    def __init__(self, moved: str, back: bool) -> None:
        super().__init__(roster(3))
        self._moved, self._back = moved, back
        self.stale = False

    def request(self, peer_id: str, protocol: str, question: bytes, timeout: float = 5.0) -> bytes:
        if self.stale and peer_id == self._moved:
            if protocol == OFFER:
                self.stale = not self._back
                raise NetworkError(f"{self.there.name_of(peer_id)}: cannot reach its former address")
            if not self._back:
                raise NetworkError(f"{self.there.name_of(peer_id)}: no answer")
        return super().request(peer_id, protocol, question, timeout)


@pytest.mark.parametrize("back", [True, False])
def test_a_peer_that_was_started_anew_is_offered_the_session_once_more(back: bool) -> None:
    moved = roster().members[2].peer_id
    mesh = Moving(moved, back)
    registry = Registry(mesh, interval=30, patience=30)
    registry.start()
    wait_until(lambda: len(registry.live()) == 3)
    mesh.stale = True
    if back:
        assert isinstance(Sessions(mesh, registry).open(ask()), SessionReply)
    else:
        with pytest.raises(NetworkError, match="cannot reach its former address"):
            Sessions(mesh, registry).open(ask())
    registry.close()


def test_strangers_that_a_client_names_are_not_remembered() -> None:
    with running(roster()) as (_, registry, sessions):
        strangers = tuple(f"{number:042}A" for number in range(60))
        sessions.open(ask(without=strangers))
        assert registry.store.history() == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"quote": QUOTES[IDENTITIES[3].peer_id]}, r"peer-0 .*the signature is not by peer"),
        ({"peer_id": IDENTITIES[3].peer_id}, "reports another peer's status"),
        (
            {"quote": Quoting(IDENTITIES[0], clock=lambda: 5.0).current(), "clock": 5},
            r"its quote does not hold now; its clock is -\d+ s from the coordinator's",
        ),
    ],
    ids=["another's quote", "another's status", "a clock that is wrong"],
)
def test_a_status_that_is_not_in_order_keeps_a_peer_out(changes: dict, reason: str) -> None:
    mesh = CountingMesh(roster(4))
    odd = roster().members[0].peer_id
    status = peer_status(odd, (ModelOffer("stories", HASH, {}),), 0)
    mesh.answers[odd] = dataclasses.replace(status, **changes).to_bytes()
    registry = Registry(mesh, interval=0.05)
    registry.start()
    wait_until(lambda: len(registry.live()) == 3 and "yet" not in registry.silence(odd))
    assert re.search(reason, registry.silence(odd))
    registry.close()


def test_a_new_quote_takes_the_place_of_the_old_one() -> None:
    mesh = CountingMesh(roster(3))
    registry = Registry(mesh, interval=0.05)
    registry.start()
    wait_until(lambda: len(registry.live()) == 3)
    first = roster().members[0].peer_id
    dearer = Quoting(IDENTITIES[0], 9_000_000).current()
    mesh.answers[first] = peer_status(first, (), 0, quote=dearer).to_bytes()
    wait_until(lambda: any(live.quote == Quote.from_bytes(dearer.payload, "") for live in registry.live()))
    registry.close()


def test_a_store_that_cannot_be_written_keeps_nobody_from_serving_but_new_ids_are_refused() -> None:
    with running(roster()) as (_, registry, sessions):
        registry.store.close()
        time.sleep(0.3)
        assert len(registry.live()) == 5
        with pytest.raises(RefusedError, match="cannot keep its state"):
            sessions.open(ask())


def test_a_session_id_is_seated_once() -> None:
    with running(roster()) as (mesh, _, sessions):
        request = ask()
        assert isinstance(sessions.open(request), SessionReply)
        mesh.asked.clear()
        with pytest.raises(RefusedError, match="is there already"):
            sessions.open(ask(session=request.session))
        assert mesh.asked == []
        mesh.refusing = {member.peer_id for member in roster().members}
        refused = ask()
        with pytest.raises(RefusedError, match="busy"):
            sessions.open(refused)
        mesh.refusing.clear()
        assert isinstance(sessions.open(refused), SessionReply)


def test_a_status_of_many_members_is_bounded() -> None:
    """300 peers that each tell of 256 others; a client takes 8 MB, for ten times as many."""
    members = tuple(Member(f"peer-{n}", f"operator {n}", f"peer{n}".ljust(43, "A")) for n in range(300))
    registry = Registry(CountingMesh(Changing(members)), interval=60)
    quote = Quote.from_bytes(QUOTES[IDENTITIES[0].peer_id].payload, "")
    for member in members:
        trips = {other.peer_id: 90_000 - number for number, other in enumerate(members[:256])}
        status = peer_status(member.peer_id, (), 0, quote=QUOTES[IDENTITIES[0].peer_id], round_trips=trips)
        registry._live[member.peer_id] = Live(member, status, time.monotonic(), 0.001, quote)
    found = describe(registry.members, registry, time.time())
    assert len(json.dumps(found)) < 2 << 20
    assert set(found["peers"][0]["round_trips_us"]) == {
        member.peer_id for member in members[256 - MAX_WAYS // 300 : 256]
    }


def test_many_members_cost_little() -> None:
    identities = [Identity.create() for _ in range(64)]
    members = tuple(Member(f"peer-{n}", f"operator {n}", one.peer_id) for n, one in enumerate(identities))
    mesh = CountingMesh(Changing(members))
    for one in identities:
        trips = {other.peer_id: 1234 for other in identities if other is not one}
        offers = (ModelOffer("stories", HASH, {"vocab": 512, "context": 256}),)
        status = peer_status(one.peer_id, offers, 0, quote=Quoting(one).current(), round_trips=trips)
        mesh.answers[one.peer_id] = status.to_bytes()
    registry = Registry(mesh)
    registry.start()
    wait_until(lambda: len(registry.live()) == 64)
    began, asked = time.process_time(), sum(map(len, mesh.times.values()))
    time.sleep(2)
    assert (time.process_time() - began) / 2 < 0.15  # of a core; 0.02 on a quiet machine
    assert 150 <= sum(map(len, mesh.times.values())) - asked <= 64 * 6
    registry.close()
