"""tacit doctor: every kind of trouble is told from every other. Real sockets for ports, a made-up clock and status else."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from local_mesh import make_roster
from ports import closed, listening, silent
from tacit import __version__
from tacit.client.doctor import cluster, coordinator
from tacit.client.doctor.finding import Finding, Verdict
from tacit.party.identity import Identity
from tacit.reach import knock

ROSTER = make_roster({name: Identity.create() for name in ("alice", "bob", "carol", "dora", "coordinator")})


def quick(host: str, port: int) -> Any:
    return knock(host, port, 0.5)


def peer(name: str, **changes: Any) -> dict[str, Any]:
    member = next(one for one in ROSTER.members if one.name == name)
    found = {
        "name": name,
        "peer_id": member.peer_id,
        "operator": member.operator,
        "live": True,
        "reason": None,
        "version": __version__,
        "models": ["stories"],
        "clock_skew_seconds": 0,
    }
    return {**found, **changes}


def status(**changes: dict[str, Any]) -> dict[str, Any]:
    peers = [
        peer(name, **changes.get(name, {})) for name in ("alice", "bob", "carol", "dora") if changes.get(name) != {}
    ]
    return {"cluster": "hall", "version": __version__, "peers": peers, "models": ["stories"]}


@contextmanager
def http(answers: dict[str, Any], headers: dict[str, str] | None = None) -> Iterator[str]:
    """A server that answers these paths."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path)
            body = b"not here" if found is None else json.dumps(found).encode()
            self.send_response_only(404 if found is None else 200)
            for name, value in {"Date": self.date_time_string(), "Server": "fake", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *ignored: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


HEALTHY = {"/health": {"status": "ok"}, "/v1/status": status(), "/v1/models": [{"name": "stories"}]}


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    assert len({one.check for one in findings}) == len(findings)
    return {one.check: one for one in findings}


def the_failure(findings: list[Finding]) -> Finding:
    (found,) = [one for one in findings if one.verdict in (Verdict.FAIL, Verdict.WARN)]
    assert found.advice
    return found


# The way to the coordinator --------------------------------------------------------------------------------------------


def test_all_is_well():
    with http(HEALTHY) as url:
        found = coordinator.visit(url)
    assert [one.verdict for one in found.findings] == [Verdict.OK] * 5
    assert found.status == HEALTHY["/v1/status"]


@pytest.mark.parametrize(("port", "cause"), [(closed, "closed"), (silent, "filtered")])
def test_closed_and_filtered_ports(port, cause):
    with port() as number:
        found = coordinator.visit(f"http://127.0.0.1:{number}", reach=quick)
    failure = the_failure(found.findings)
    assert (failure.check, failure.cause) == (coordinator.PORT, cause)
    assert str(number) in failure.seen
    assert found.status is None
    assert [one.verdict for one in found.findings] == [Verdict.OK, Verdict.FAIL, *[Verdict.SKIPPED] * 3]


def test_no_way_and_no_name():
    failure = the_failure(coordinator.visit("http://255.255.255.255:7440", reach=quick).findings)
    assert (failure.check, failure.cause) == (coordinator.PORT, "unreachable")
    failure = the_failure(coordinator.visit("http://no-such-host.invalid:7440").findings)
    assert (failure.check, failure.cause) == (coordinator.NAME, "name")


def test_another_program():
    with listening(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
        failure = the_failure(coordinator.visit(f"http://127.0.0.1:{port}").findings)
    assert failure.cause == "other program"
    with http({"/": "hello"}) as url:
        failure = the_failure(coordinator.visit(url).findings)
        assert failure.cause == "other program"
        assert "404" in failure.seen
        assert "'fake'" in failure.seen
        assert the_failure(coordinator.visit(url.replace("http", "https")).findings).cause == "other program"
    with http({"/health": {"status": "ok"}}) as url:
        assert the_failure(coordinator.visit(url).findings).cause == "other program"


def test_a_coordinator_that_hangs(monkeypatch):
    monkeypatch.setattr(coordinator, "_SECONDS", 0.3)
    with listening_without_words() as port:
        failure = the_failure(coordinator.visit(f"http://127.0.0.1:{port}").findings)
    assert failure.cause == "hangs"


@contextmanager
def listening_without_words() -> Iterator[int]:
    import socket

    with socket.create_server(("127.0.0.1", 0), backlog=8) as server:
        yield int(server.getsockname()[1])


@pytest.mark.parametrize("seconds", [120.0, -120.0])
def test_clock_skew(seconds):
    with http(HEALTHY) as url:
        found = coordinator.visit(url, clock=lambda: time.time() + seconds)
        failure = the_failure(found.findings)
        assert (failure.check, failure.cause) == (coordinator.CLOCK, "clock")
        assert ("behind" if seconds > 0 else "ahead of") in failure.seen
        assert abs(float(failure.seen.split(" s ")[0].split()[-1]) - 120) <= 2
        assert found.status is not None
        assert not [
            one
            for one in coordinator.visit(url, clock=lambda: time.time() + 20).findings
            if one.verdict is Verdict.FAIL
        ]


def test_a_server_without_a_clock():
    with http(HEALTHY, {"Date": "yesterday"}) as url:
        assert by_check(coordinator.visit(url).findings)[coordinator.CLOCK].verdict is Verdict.SKIPPED


def test_another_version():
    with http({**HEALTHY, "/v1/status": {**status(), "version": "9.9"}}) as url:
        failure = the_failure(coordinator.visit(url).findings)
    assert (failure.check, failure.cause) == (coordinator.VERSION, "version")
    assert "9.9" in failure.seen
    assert __version__ in failure.seen


def test_proxies_are_mentioned(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    found = coordinator.visit("http://coordinator.invalid:7440").findings
    assert found[0].cause == "proxy"
    with http(HEALTHY) as url:  # not for this machine
        assert coordinator.visit(url).findings[0].verdict is Verdict.OK


# What the coordinator tells --------------------------------------------------------------------------------------------


def examine(
    told: dict[str, Any] | None, model: str | None = None, served: tuple[str, ...] = ("stories",)
) -> list[Finding]:
    return cluster.examine(told, [{"name": name} for name in served], ROSTER, model)


def test_a_cluster_in_order():
    assert [one.verdict for one in examine(status())] == [Verdict.OK] * 6
    assert [one.verdict for one in examine(status(), "stories")] == [Verdict.OK] * 6
    assert [one.verdict for one in examine(None)] == [Verdict.SKIPPED] * 6


def test_silent_peers():
    gone = {"live": False, "reason": "no answer from tcp://10.0.0.1:7450"}
    found = the_failure(examine(status(alice=gone)))
    assert (found.verdict, found.cause) == (Verdict.WARN, "peers")
    assert "10.0.0.1" in found.seen
    found = by_check(examine(status(alice=gone, bob=gone), served=()))[cluster.PEERS]
    assert (found.verdict, found.cause) == (Verdict.FAIL, "peers")


def test_a_peer_of_another_version():
    found = the_failure(examine(status(bob={"version": "0.0.9"})))
    assert (found.check, found.cause) == (cluster.VERSIONS, "version")
    assert "bob" in found.seen
    assert "0.0.9" in found.seen


def test_a_peer_whose_clock_is_wrong():
    found = the_failure(examine(status(bob={"clock_skew_seconds": -301})))
    assert (found.check, found.cause) == (cluster.CLOCKS, "clock")
    assert "301 s behind" in found.seen


def test_a_missing_model():
    found = by_check(examine(status(), "gpt2"))
    assert {name for name, one in found.items() if one.verdict is Verdict.FAIL} == {cluster.MODEL}
    assert "gpt2 is served by 0 peers" in found[cluster.MODEL].seen
    found = by_check(examine(status(alice={"models": ["stories", "gpt2"]}), "gpt2"))[cluster.MODEL]
    assert found.cause == "model"
    assert "alice" not in found.seen
    assert "bob" in found.seen
    assert "--model gpt2" in found.advice
    none = {"models": []}
    found = by_check(examine(status(alice=none, bob=none), served=()))[cluster.MODEL]
    assert "stories is served by 2 peers" in found.seen
    assert "alice" in found.seen
    assert "bob" in found.seen
    assert "carol" not in found.seen


def test_copies_of_a_model_that_differ():
    found = the_failure(examine(status(), "stories", served=()))
    assert found.check == cluster.MODEL
    assert "the same copy" in found.seen


def test_too_few_operators():
    told = status()
    found = cluster.examine(told, [{"name": "stories"}], ROSTER, None)
    assert by_check(found)[cluster.OPERATORS].verdict is Verdict.OK
    same = ROSTER.to_json()
    for member in same["members"]:
        member["operator"] = "one"
    pinned = type(ROSTER)._from_object(same)
    for one in told["peers"]:
        one["operator"] = "one"
    found = the_failure(cluster.examine(told, [{"name": "stories"}], pinned, None))
    assert (found.check, found.cause) == (cluster.OPERATORS, "operators")
    own = type(ROSTER)._from_object({**same, "own": True})
    assert by_check(cluster.examine(told, [{"name": "stories"}], own, None))[cluster.OPERATORS].verdict is Verdict.OK


def test_pins():
    found = the_failure(examine(status(dora={})))
    assert (found.check, found.cause, found.verdict) == (cluster.PINS, "pins", Verdict.WARN)
    assert "does not know dora" in found.seen
    found = the_failure(examine(status(dora={"operator": "Mallory"})))
    assert (found.check, found.verdict) == (cluster.PINS, Verdict.FAIL)
    assert "Mallory" in found.seen
    stranger = {"peer_id": Identity.create().peer_id}
    found = the_failure(examine(status(dora=stranger)))
    assert (found.check, found.verdict) == (cluster.PINS, Verdict.WARN)
    found = by_check(examine(status(dora=stranger, carol={"peer_id": Identity.create().peer_id})))
    assert found[cluster.PINS].verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "told",
    [{}, {"peers": 3}, {"peers": [3, None, {}]}, {"peers": [{"models": 5, "version": [], "clock_skew_seconds": "x"}]}],
)
def test_a_status_that_makes_no_sense(told):
    assert len(examine(told)) == 6
