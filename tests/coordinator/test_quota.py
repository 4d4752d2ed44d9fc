"""What one address may ask of a coordinator."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tacit.coordinator.app import make_app
from tacit.coordinator.quota import LOOPBACK, Quota, TooMany
from tacit.errors import ConfigError, RefusedError
from tacit.records import error_from_json
from tacit.sizes import Sizes

PEERS = ("a", "b", "c")


class World:
    """A clock, and peers that say what they sit in."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sitting: dict[str, tuple[str, ...]] = dict.fromkeys(PEERS, ())
        self.heard = -1.0

    def live(self) -> list[Any]:
        return [
            SimpleNamespace(
                member=SimpleNamespace(peer_id=one), status=SimpleNamespace(seated=sat), seen=self.heard, latency=0.0
            )
            for one, sat in self.sitting.items()
        ]

    def quota(self, **options: Any) -> Quota:
        return Quota(self, clock=lambda: self.now, **options)  # type: ignore[arg-type]

    def hear(self, *sessions: str) -> None:
        self.now += 1
        self.heard = self.now
        self.sitting = dict.fromkeys(PEERS, tuple(one[:8] for one in sessions))


def test_an_address_gets_a_burst_and_then_a_rate() -> None:
    world = World()
    quota = world.quota(per_minute=30)
    for _ in range(12):
        quota.admit("203.0.113.7")
    with pytest.raises(TooMany, match=r"203\.0\.113\.7 asks for sessions too often .*; try again in 2 s"):
        quota.admit("203.0.113.7")
    quota.admit("203.0.113.8")  # another address is another client
    world.now += 2
    quota.admit("203.0.113.7")
    with pytest.raises(RefusedError):
        quota.admit("203.0.113.7")


def test_an_address_may_have_so_many_sessions_that_are_not_over() -> None:
    world = World()
    quota = world.quota(unfinished=2)
    ids = ["1" * 32, "2" * 32]
    for session in ids:
        quota.admit("203.0.113.7")
        quota.seated("203.0.113.7", session, PEERS)
    with pytest.raises(TooMany, match="has 2 sessions that are not over"):
        quota.admit("203.0.113.7")  # nobody was asked since: they count
    world.hear(*ids)
    with pytest.raises(TooMany):
        quota.admit("203.0.113.7")
    world.hear(ids[1])
    quota.admit("203.0.113.7")


def test_a_session_whose_peers_fell_silent_counts_for_a_while_only() -> None:
    world = World()
    quota = world.quota(unfinished=1)
    quota.seated("203.0.113.7", "1" * 32, PEERS)
    world.sitting = {}
    with pytest.raises(TooMany):
        quota.admit("203.0.113.7")
    world.now += 6
    quota.admit("203.0.113.7")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:203.0.113.7", "203.0.113.7", True),
        ("", "no address", True),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, same: bool) -> None:
    quota = World().quota(unfinished=1)
    quota.seated(one, "1" * 32, PEERS)
    if same:
        with pytest.raises(TooMany):
            quota.admit(other)
    else:
        quota.admit(other)


def test_programs_on_this_machine_get_much_more_and_tables_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    quota = world.quota(unfinished=1)
    for address in ("127.0.0.1", "::1"):
        for number in range(LOOPBACK):
            quota.admit(address)
            quota.seated(address, f"{number:08x}" * 4, PEERS)
        with pytest.raises(TooMany):
            quota.admit(address)
    monkeypatch.setattr("tacit.coordinator.quota.MAX_ADDRESSES", 10)
    for number in range(50):
        world.now += 0.001
        quota.admit(f"203.0.113.{number}")
    assert len(quota._clients) == 10
    for wrong in ({"unfinished": 0}, {"per_minute": 0.0}):
        with pytest.raises(ConfigError):
            world.quota(**wrong)


def test_over_http_it_is_status_429_and_says_when() -> None:
    world = World()
    quota = world.quota(per_minute=6)
    app = make_app(SimpleNamespace(), SimpleNamespace(), SimpleNamespace(), quota=quota)  # type: ignore[arg-type]
    for _ in range(12):
        quota.admit("testclient")
    body = {
        "session": "0" * 32, "client_key": "1" * 40, "model": "m", "protocol": "pair",
        "sizes": Sizes.of([1], 1).to_json(), "operators": [], "without": [], "max_price": 0, "currency": "", "padded": False,
    }  # fmt: skip
    answer = TestClient(app).post("/v1/sessions", json=body)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "10"
    error = error_from_json(answer.json()["error"], "coordinator")
    assert type(error) is RefusedError
    assert "try again in 10 s" in str(error)
