"""A coordinator with its status page, over peers that a test makes up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from tacit.coordinator.app import make_app
from tacit.coordinator.registry import Registry
from tacit.coordinator.server import HttpServer, listen
from tacit.coordinator.sessions import Sessions
from tacit.coordinator.statuspage.metrics import Allowed
from tacit.coordinator.store import Seating
from tacit.errors import NetworkError
from tacit.members import Roster
from tacit.wire import ModelOffer, Totals
from test_coordinator import HASH, SUMMARY, FakeMesh, peer_status, roster, wait_until

RUNNING, OVER = "0a1b2c3d", "4e5f6a7b"
ROUNDS, ONLINE, OFFLINE = 590, 250_000, 9_000_000  # a second


class BusyMesh(FakeMesh):
    """Peers 0 and 1 compute, peer 2 deals, at a steady pace; peer n is n + 1 round trips of 3 ms away from the others."""

    def __init__(self, members: Roster, summary: dict[str, Any], reason: str) -> None:
        super().__init__(members)
        self.summary, self.reason = summary, reason
        self.started = time.monotonic()
        self.busy = True

    def request(self, peer_id: str, protocol: str, question: bytes, timeout: float = 5.0) -> bytes:
        if peer_id in self.down:
            raise NetworkError(f"{self.roster.name_of(peer_id)}: {self.reason}")
        if protocol != "status":
            return super().request(peer_id, protocol, question, timeout)
        ids = [member.peer_id for member in self.roster.members]
        number, seconds = ids.index(peer_id), time.monotonic() - self.started
        works, deals = number < 2, number == 2
        totals = Totals(
            rounds=int(works * ROUNDS * seconds),
            online_bytes=int(works * ONLINE * seconds),
            offline_bytes=int(deals * OFFLINE * seconds),
            ended={"done": 7, "client": 2},
        )
        return peer_status(
            peer_id,
            (ModelOffer("stories", HASH, self.summary),),
            int(self.busy and number < 3),
            round_trips={other: 3000 * (number + 1) for other in ids if other != peer_id},
            seated=(RUNNING,) if self.busy and number < 3 else (),
            totals=totals,
        ).to_bytes()


@dataclass
class Served:
    url: str
    mesh: BusyMesh
    registry: Registry
    server: HttpServer
    http: httpx2.Client = field(repr=False)


@contextmanager
def served(
    peers: int = 5, summary: dict[str, Any] | None = None, reason: str = "no answer", metrics_for: Allowed | None = None
) -> Iterator[Served]:
    """Two sessions were seated, of which RUNNING runs."""
    members = roster(peers)
    mesh = BusyMesh(members, summary or dict(SUMMARY), reason)
    registry = Registry(mesh, interval=0.1, retry=0.05, patience=0.1)
    registry.start()
    names = tuple(member.display for member in members.members[:3])
    for session in (RUNNING, OVER):
        registry.store.seated(Seating(session, "stories", names, "2.10 EUR", time.time()))  # type: ignore[arg-type]
    try:
        wait_until(lambda: len(registry.live()) == peers)
        with listen("127.0.0.1", 0) as listener:
            app = make_app(members, registry, Sessions(mesh, registry), metrics_for=metrics_for)
            server = HttpServer(app, listener)
            server.await_start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx2.Client(base_url=url, trust_env=False) as http:
                yield Served(url, mesh, registry, server, http)
            server.close()
    finally:
        registry.close()
