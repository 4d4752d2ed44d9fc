"""Distances between peers: measured over whatever mesh there is, in bounded numbers, and forgotten with their peer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from echo_cluster import EchoCluster
from tacit.errors import NetworkError
from tacit.members import Member, Members
from tacit.party.mesh import PING, Handler, Mesh
from tacit.party.ranging import SAMPLES, Ranging
from tacit.party.vitals import load_thousandths, resident_bytes
from tacit.wire import MAX_ROUND_TRIPS


def peer_id(number: int) -> str:
    return f"peer{number}".ljust(43, "A")


class Table:
    """Members that a test may change."""

    cluster, own = "test", False

    def __init__(self, count: int) -> None:
        self.members = tuple(Member(f"peer-{n}", "A", peer_id(n)) for n in range(count))

    def member(self, wanted: str) -> Member | None:
        return next((member for member in self.members if member.peer_id == wanted), None)

    def name_of(self, wanted: str) -> str:
        return wanted

    def is_coordinator(self, wanted: str) -> bool:
        return False


class SlowMesh(Mesh):
    """Every answer takes `seconds` of its peer; none comes from those that are down."""

    def __init__(self, count: int) -> None:
        self.table = Table(count)
        self.seconds: dict[str, float] = {}
        self.down: set[str] = set()
        self.asked: list[str] = []
        self.now = 0
        self.most = 0
        self._lock = threading.Lock()

    def request(self, peer_id: str, protocol: str, question: bytes, timeout: float = 5.0) -> bytes:
        assert (protocol, question) == (PING, b"")
        with self._lock:
            self.asked.append(peer_id)
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            if peer_id in self.down:
                raise NetworkError(f"{peer_id}: no answer")
            time.sleep(self.seconds.get(peer_id, 0.0))
            return b""
        finally:
            with self._lock:
                self.now -= 1

    def serve(self, protocol: str, handler: Handler, threads: int = 4) -> None:
        raise NotImplementedError

    @property
    def members(self) -> Members:
        return self.table

    def close(self) -> None:
        pass


@contextmanager
def ranging(mesh: SlowMesh, **times: float) -> Iterator[Ranging]:
    found = Ranging(mesh, peer_id(0), **{"interval": 0.1, "retry": 0.05, **times})  # type: ignore[arg-type]
    found.start()
    try:
        yield found
    finally:
        found.close()


def wait_until(condition) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_other_peer_is_measured_and_a_silent_one_has_no_value() -> None:
    mesh = SlowMesh(4)
    mesh.seconds[peer_id(2)] = 0.02
    mesh.down.add(peer_id(3))
    with ranging(mesh) as found:
        wait_until(lambda: len(found.round_trips()) == 2 and mesh.asked.count(peer_id(3)) >= 2)
        trips = found.round_trips()
        assert set(trips) == {peer_id(1), peer_id(2)}
        assert trips[peer_id(1)] < 20_000 <= trips[peer_id(2)]
        mesh.down = {peer_id(2)}
        wait_until(lambda: set(found.round_trips()) == {peer_id(1), peer_id(3)})


def test_a_slow_answer_now_and_then_does_not_move_a_peer_away() -> None:
    mesh = SlowMesh(2)
    with ranging(mesh) as found:
        wait_until(lambda: len(mesh.asked) >= SAMPLES)
        mesh.seconds[peer_id(1)] = 0.05
        wait_until(lambda: len(mesh.asked) >= SAMPLES + 1)
        mesh.seconds.clear()
        for _ in range(20):
            assert found.round_trips()[peer_id(1)] < 50_000
            time.sleep(0.01)


def test_only_so_many_are_asked_at_a_time_and_not_all_the_time() -> None:
    mesh = SlowMesh(30)
    mesh.seconds = {peer_id(n): 0.01 for n in range(30)}
    with ranging(mesh, interval=60) as found:
        wait_until(lambda: len(found.round_trips()) == 29)
        time.sleep(0.2)
        assert mesh.most <= 4
        assert len(mesh.asked) == 29 * SAMPLES


def test_those_that_leave_are_forgotten_and_those_that_come_are_measured() -> None:
    mesh = SlowMesh(3)
    with ranging(mesh) as found:
        wait_until(lambda: len(found.round_trips()) == 2)
        mesh.table = Table(2)
        wait_until(lambda: set(found.round_trips()) == {peer_id(1)})
        mesh.table = Table(4)
        wait_until(lambda: len(found.round_trips()) == 3)


def test_what_is_reported_is_bounded() -> None:
    mesh = SlowMesh(MAX_ROUND_TRIPS + 30)
    found = Ranging(mesh, peer_id(0))
    found._next()
    for number in range(1, MAX_ROUND_TRIPS + 30):
        found._keep(peer_id(number), 1000 - number)
    assert len(found.round_trips()) == MAX_ROUND_TRIPS
    assert peer_id(1) not in found.round_trips()  # the farthest
    assert peer_id(MAX_ROUND_TRIPS + 29) in found.round_trips()


def test_closing_does_not_wait_for_answers() -> None:
    mesh = SlowMesh(2)
    mesh.seconds[peer_id(1)] = 1.0
    with ranging(mesh) as found:
        wait_until(lambda: mesh.asked)
        began = time.monotonic()
        found.close()
        assert time.monotonic() - began < 0.7


def test_how_this_process_is_doing() -> None:
    held = bytearray(32 << 20)
    held[::4096] = b"x" * len(held[::4096])
    assert len(held) < resident_bytes() < 1 << 40
    assert 0 <= load_thousandths() < 1_000_000


def test_peers_report_each_other(cluster: EchoCluster) -> None:
    """Real processes: each of the three knows its distance to both others."""

    def all_known() -> bool:
        peers = cluster.http.get("/v1/status").json()["peers"]
        return all(len(peer["round_trips_us"]) == 2 for peer in peers)

    wait_until(all_known)
    for peer in cluster.http.get("/v1/status").json()["peers"]:
        assert peer["peer_id"] not in peer["round_trips_us"]
        assert all(0 < value < 1_000_000 for value in peer["round_trips_us"].values())
        assert abs(peer["clock_skew_seconds"]) <= 1
        assert peer["memory_bytes"] > 1 << 20
