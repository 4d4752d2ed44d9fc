"""Nodes as processes over libp2p: three peers and a coordinator that know one address, a session, and what goes wrong."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from echo_cluster import HERE, EchoSession, free_ports
from meshes import eventually
from tacit.address import Address
from tacit.errors import NetworkError
from tacit.members import CoordinatorEntry, Roster, RosterMember
from tacit.party.identity import Identity
from tacit.party.mesh import STATUS
from tacit.party.p2p.invite import Invite
from tacit.transport import CurveKeys
from test_sessions import run

pytest.importorskip("libp2p", reason="the [mesh] extra is not installed")

from tacit.party.p2p.mesh import P2pMesh, P2pSettings
from tacit.party.p2p.start import closed_invite

LOCAL = "/ip4/127.0.0.1/tcp/0"


class Nodes:
    """Processes in a folder, each with its identity, its log and its ready line."""

    models = "echo"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.ready: dict[str, dict[str, Any]] = {}

    def start(self, name: str, *options: str, invite: str | None = None, module: str = "peer") -> subprocess.Popen[str]:
        files = ["--identity", str(self.folder / f"{name}.identity"), "--no-mdns"]
        program = (
            [str(HERE / "echo_peer.py"), "echo"]
            if module == "peer"
            else ["-m", "tacit.coordinator.server", "--port", "0"]
        )
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("TACIT_", "JOURNAL_"))}
        if invite is not None:
            environment["TACIT_INVITE"] = invite
        with (self.folder / f"{name}.log").open("a") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-P", *program, *files, *options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        return self.processes[name]

    def await_ready(self, *names: str) -> None:
        for name in names:
            stdout = self.processes[name].stdout
            assert stdout is not None
            line = stdout.readline()
            assert "ready" in line, line + self.log(name)
            self.ready[name] = json.loads(line)["ready"]

    def error(self, name: str) -> dict[str, str]:
        out, _ = self.processes[name].communicate(timeout=20)
        assert self.processes[name].returncode == 1
        return json.loads(out.splitlines()[-1])["error"]

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    @property
    def roster(self) -> Roster:
        """As a client that pinned the peers by hand. (cluster.json wants mesh keys, which libp2p nodes do not use.)"""
        ready = self.ready["coordinator"]
        return Roster(
            cluster="friends",
            own=False,
            coordinator=CoordinatorEntry("coordinator", ready["url"], ready["peer_id"], CurveKeys.fresh().public),
            members=tuple(
                RosterMember(
                    name, f"house {name}", one["peer_id"], f"tcp://127.0.0.1:{number + 1}", CurveKeys.fresh().public
                )
                for number, (name, one) in enumerate(self.ready.items())
                if name != "coordinator"
            ),
        )

    def session(self) -> EchoSession:
        eventually(lambda: self.http.get("/v1/models").json())
        return EchoSession(self, 4, 8)  # type: ignore[arg-type]

    @property
    def http(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.ready["coordinator"]["url"], trust_env=False, timeout=20)

    def stop(self) -> dict[str, int]:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        return {name: process.wait(5) for name, process in self.processes.items()}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    found = Nodes(tmp_path)
    yield found
    for process in found.processes.values():
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_three_peers_and_a_coordinator_with_one_address(nodes: Nodes) -> None:
    """The first node founds the cluster; what it prints is all the others know. They meet, and a session runs."""
    first = 20_000 + (os.getpid() * 7) % 30_000
    last = first + 40
    ports = ["--link-ports", f"{first}-{last}"]
    nodes.start("a", "--listen", LOCAL, "--operator", "house a", "--cluster-name", "friends", "--name", "a", *ports)
    nodes.await_ready("a")
    eventually(lambda: "tacit peer --join" in nodes.log("a"))
    (command,) = [line for line in nodes.log("a").splitlines() if line.startswith("tacit peer --join")]
    words = shlex.split(command)
    address, invite = words[3], words[5]
    assert address == nodes.ready["a"]["multiaddrs"][0]
    assert stat.S_IMODE((nodes.folder / "a.identity.cluster").stat().st_mode) == 0o600
    for name in "bc":
        join = ["--join", address, "--operator", f"house {name}", "--name", name]
        nodes.start(name, "--listen", LOCAL, *join, *ports, invite=invite)
    nodes.start("coordinator", "--listen", LOCAL, "--join", address, "--invite", invite, module="coordinator")
    nodes.await_ready("b", "c", "coordinator")
    session = nodes.session()
    endpoints = {statement.endpoint for statement in session.statements if statement.endpoint}
    assert all(first <= int(endpoint.rpartition(":")[2]) <= last for endpoint in endpoints)
    run(session, 3)
    assert f"--cluster {nodes.ready['coordinator']['url']}" in nodes.log("coordinator")

    # The node that everybody joined by ends for good: the rest goes on, and a fourth peer joins by another one.
    nodes.processes["a"].kill()
    del nodes.ready["a"]
    nodes.start(
        "d", "--listen", LOCAL, "--join", nodes.ready["b"]["multiaddrs"][0], "--operator", "house d", invite=invite
    )
    nodes.await_ready("d")
    nodes.ready["d"]["name"] = "d"
    nodes.ready["d"] = nodes.ready.pop("d")

    def live() -> set[str]:
        return {peer["peer_id"] for peer in nodes.http.get("/v1/status").json()["peers"] if peer["live"]}

    eventually(lambda: live() == {nodes.ready[name]["peer_id"] for name in "bcd"})
    run(nodes.session(), 3)

    # A peer that was there before needs neither address nor invite: it kept both.
    nodes.processes["c"].terminate()
    assert nodes.processes["c"].wait(3) == 0
    nodes.start("c", "--listen", LOCAL, "--operator", "house c", "--name", "c", *ports)
    nodes.await_ready("c")
    eventually(lambda: live() == {nodes.ready[name]["peer_id"] for name in "bcd"})
    run(nodes.session(), 3)
    ended = nodes.stop()
    assert {name: status for name, status in ended.items() if name != "a"} == dict.fromkeys(
        ("b", "c", "d", "coordinator"), 0
    )
    for name in ("a", "b", "c", "coordinator"):
        assert "Traceback" not in nodes.log(name), nodes.log(name)
        assert invite.partition(":")[2] not in nodes.log(name).replace(command, "").replace("--invite " + invite, "")


def test_the_wrong_invite(nodes: Nodes) -> None:
    nodes.start("a", "--listen", LOCAL, "--operator", "a", "--cluster-name", "friends")
    nodes.await_ready("a")
    wrong = Invite.create("friends")
    nodes.start(
        "b", "--listen", LOCAL, "--operator", "b", "--join", nodes.ready["a"]["multiaddrs"][0], invite=wrong.text
    )
    error = nodes.error("b")
    assert error["type"] == "ConfigError"
    assert "does not hold the invite of cluster 'friends'" in error["message"]
    assert wrong.text not in error["message"] + nodes.log("a") + nodes.log("b")


SOMEBODY = "/ip4/127.0.0.1/tcp/7/p2p/12D3KooWLyR4vd4CG9MMnmsizE8hxLKDSKySTpka9zsvZ8Q8QDWd"
START_ERRORS = {
    "no operator": (f"--listen {LOCAL}", "--operator (or TACIT_OPERATOR)"),
    "no invite": (f"--operator x --join {SOMEBODY}", "--join needs --invite"),
    "no peer": (f"--operator x --invite a:{'A' * 22} --join /ip4/127.0.0.1/tcp/7", "says no peer"),
    "bad --listen": ("--operator x --listen 127.0.0.1:7", "--listen: '127.0.0.1:7' is not an address"),
    "bad --invite": ("--operator x --invite hunter2", "NAME:SECRET"),
    "bad ports": (f"--operator x --listen {LOCAL} --link-ports 9-3", "--link-ports 9-3"),
    "two forms": ("--operator x --roster cluster.json", "--operator: for a cluster across machines"),
}


@pytest.mark.parametrize("case", START_ERRORS)
def test_what_is_wrong_is_said(nodes: Nodes, case: str) -> None:
    options, words = START_ERRORS[case]
    nodes.start("x", *options.split())
    error = nodes.error("x")
    assert error["type"] == "ConfigError"
    assert words in error["message"]
    assert "hunter2" not in error["message"]


def test_a_port_in_use(nodes: Nodes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        place = f"/ip4/127.0.0.1/tcp/{held.getsockname()[1]}"
        nodes.start("x", "--operator", "x", "--listen", place)
        error = nodes.error("x")
    assert error["type"] == "NetworkError"
    assert place in error["message"]
    assert "in use" in error["message"]


@pytest.mark.parametrize("missing", ["libp2p", "fastecdsa", "gmp"])
def test_without_libp2p(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Says what to install, also when it is a compiler or a header that is missing."""
    from tacit.errors import ConfigError
    from tacit.party.p2p.start import need_libp2p

    def fails(name: str) -> None:
        if missing == "gmp":
            raise ImportError("libgmp.so.10: cannot open shared object file")
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr("importlib.import_module", fails)
    with pytest.raises(ConfigError) as caught:
        need_libp2p()
    for word in ("tacit[mesh]", "libgmp-dev", "gmp-devel", "brew install gmp"):
        assert word in str(caught.value)


def test_the_roster_form_needs_no_libp2p() -> None:
    """The commonest use, `tacit up`, must not pay for it."""
    code = "import sys, tacit.party.server, tacit.coordinator.server; assert not {'libp2p', 'trio'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_a_cluster_file_says_it_all(nodes: Nodes) -> None:
    """Identity and name are all that a node is told besides; whoever is not listed is not let in, invite or not."""
    names = ("a", "b", "c", "coordinator")
    identities = {name: Identity.create() for name in names}
    ports = dict(zip(names, free_ports(4), strict=True))
    text = '[cluster]\nname = "friends"\n\n'
    for name, identity in identities.items():
        identity.save(nodes.folder / f"{name}.identity")
        text += (
            '[coordinator]\nurl = "http://127.0.0.1:1"\n'
            if name == "coordinator"
            else f'[[peer]]\noperator = "house {name}"\n'
        )
        text += f'name = "{name}"\npeer_id = "{identity.peer_id}"\naddress = "/ip4/127.0.0.1/tcp/{ports[name]}"\n\n'
    path = nodes.folder / "cluster.toml"
    path.write_text(text)
    for name in names:
        nodes.start(name, "--cluster-file", str(path), module="coordinator" if name == "coordinator" else "peer")
    nodes.await_ready(*names)
    assert nodes.ready["b"]["multiaddrs"] == [
        str(Address.parse(f"/ip4/127.0.0.1/tcp/{ports['b']}").of(identities["b"].peer_id))
    ]
    run(nodes.session(), 2)
    stranger = ["--operator", "house a", "--listen", LOCAL, "--join", nodes.ready["b"]["multiaddrs"][0]]
    nodes.start("x", *stranger, invite=closed_invite("friends").text)
    assert "is not in the list of members" in nodes.error("x")["message"]
    nodes.start("y", "--cluster-file", str(path))
    assert "does not list this node's identity" in nodes.error("y")["message"]


def test_a_stopped_peer_costs_the_time_given_and_a_killed_one_none(nodes: Nodes) -> None:
    nodes.start("a", "--listen", LOCAL, "--operator", "a", "--cluster-name", "friends")
    nodes.await_ready("a")
    invite = Invite.load(nodes.folder / "a.identity.cluster")
    assert invite is not None
    address, peer_id = nodes.ready["a"]["multiaddrs"][0], nodes.ready["a"]["peer_id"]
    mesh = P2pMesh(Identity.create(), invite, P2pSettings("asker", "asker", (LOCAL,), join=(address,)))
    try:
        mesh.start()
        mesh.join()
        assert mesh.request(peer_id, STATUS, b"")
        nodes.processes["a"].send_signal(signal.SIGSTOP)
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(NetworkError, match="within 1 s"):
                mesh.request(peer_id, STATUS, b"", timeout=1.0)
            assert 0.9 < time.monotonic() - started < 4.0
        nodes.processes["a"].send_signal(signal.SIGCONT)
        assert mesh.request(peer_id, STATUS, b"", timeout=15.0)
        nodes.processes["a"].kill()
        nodes.processes["a"].wait()
        started = time.monotonic()
        with pytest.raises(NetworkError, match="cannot reach"):
            mesh.request(peer_id, STATUS, b"", timeout=10.0)
        assert time.monotonic() - started < 5.0
        nodes.start("a", "--listen", Address.parse(address).place, "--operator", "a")
        nodes.await_ready("a")
        assert mesh.request(peer_id, STATUS, b"", timeout=15.0)
    finally:
        mesh.close()
