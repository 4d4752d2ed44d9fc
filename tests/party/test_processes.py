"""Starting and stopping the processes: what goes wrong at start is said in one line, and nothing is left running."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from echo_cluster import HERE, free_ports, make_roster
from tacit.errors import ConfigError
from tacit.members import Roster, RosterMember
from tacit.party.identity import Identity
from tacit.party.setup import main as setup

IDENTITIES = {name: Identity.create() for name in ("peer-0", "peer-1", "peer-2", "coordinator")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_roster(IDENTITIES, free_ports(4)).save(tmp_path / "cluster.json")
    for name, identity in IDENTITIES.items():
        identity.save(tmp_path / f"{name}.identity")
    return tmp_path


def peer(folder: Path, *options: str, identity: str = "peer-0", roster: str = "cluster.json") -> list[str]:
    files = ["--identity", str(folder / f"{identity}.identity"), "--roster", str(folder / roster)]
    return [sys.executable, "-P", str(HERE / "echo_peer.py"), "echo", *files, *options]


def coordinator(folder: Path, *options: str, identity: str = "coordinator") -> list[str]:
    files = ["--identity", str(folder / f"{identity}.identity"), "--roster", str(folder / "cluster.json")]
    return [sys.executable, "-P", "-m", "tacit.coordinator.server", *files, *options]


def failure(command: list[str]) -> dict[str, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    return json.loads(line)["error"]


def test_a_mesh_port_in_use(folder: Path) -> None:
    endpoint = json.loads((folder / "cluster.json").read_text())["members"][0]["mesh_endpoint"]
    with socket.create_server(("127.0.0.1", int(endpoint.rpartition(":")[2]))):
        error = failure(peer(folder))
    assert error["type"] == "NetworkError"
    assert endpoint in error["message"]
    assert "in use" in error["message"]


def test_an_http_port_in_use(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = str(held.getsockname()[1])
        error = failure(coordinator(folder, "--port", port))
    assert error["type"] == "NetworkError"
    assert port in error["message"]
    assert "in use" in error["message"]


def test_wrong_files(folder: Path) -> None:
    assert "cannot read the identity" in failure(peer(folder, identity="nobody"))["message"]
    assert "cannot read the roster" in failure(peer(folder, roster="none.json"))["message"]
    assert "names another coordinator" in failure(coordinator(folder, "--port", "0", identity="peer-0"))["message"]
    Identity.create().save(folder / "stranger.identity")
    error = failure(peer(folder, identity="stranger"))
    assert error["type"] == "ConfigError"
    assert "does not list" in error["message"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", [peer, coordinator])
def test_a_signal_ends_a_process_tidily_within_a_second(folder: Path, kind, number: signal.Signals) -> None:
    options = ["--port", "0"] if kind is coordinator else []
    process = subprocess.Popen(kind(folder, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())["ready"]
    assert ready["peer_id"] == IDENTITIES["coordinator" if kind is coordinator else "peer-0"].peer_id
    limits = Path(f"/proc/{process.pid}/limits").read_text().split("Max core file size")[1].split()
    assert limits[:2] == ["0", "0"]  # the hard limit too: many shells start with a soft one of 0
    started = time.monotonic()
    process.send_signal(number)
    assert process.wait(5) == 0
    assert time.monotonic() - started < 1.5
    _, errors = process.communicate()
    assert "Traceback" not in errors


def test_an_identity_is_private(tmp_path: Path) -> None:
    path = tmp_path / "a.identity"
    made = Identity.create()
    made.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = Identity.load(path)
    assert (loaded.peer_id, loaded.mesh_key) == (made.peer_id, made.mesh_key)
    assert len(made.peer_id) == 43
    for secret in (made.seed.hex(), made.mesh.secret):
        assert secret in path.read_text()
        assert secret not in f"{made!r} {made}"
    with pytest.raises(ConfigError, match="already"):
        made.save(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        Identity.load(path)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": "tacit identity/1"}', "\x00" * 10, "x" * 9999])
def test_a_damaged_identity_is_refused_without_being_shown(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.identity"
    path.touch(0o600)
    os.truncate(path, 0)
    path.write_text(content)
    with pytest.raises(ConfigError, match="is not an identity file") as caught:
        Identity.load(path)
    assert content == "" or content not in str(caught.value)


def test_a_local_cluster_is_set_up_in_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "cluster"
    assert setup(["local", str(folder), "--peers", "4", "--port", "7441"]) == 0
    commands = capsys.readouterr().out.splitlines()
    assert len(commands) == 5
    roster = Roster.load(folder / "cluster.json")
    assert roster.own
    assert roster.coordinator.url == "http://127.0.0.1:7441"
    for member in roster.members:
        assert Identity.load(folder / f"{member.name}.identity").peer_id == member.peer_id
        assert any(f"{member.name}.identity" in command for command in commands)
    assert setup(["local", str(folder)]) == 1  # never over existing identities
    assert "already" in capsys.readouterr().err


def test_members_of_a_shared_cluster_make_their_own_entries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "me.identity"
    words = ["identity", str(file), "--name", "p", "--operator", "Acme", "--mesh-endpoint", "tcp://10.0.0.1:7450"]
    assert setup(words) == 0
    entry = RosterMember.from_bytes(capsys.readouterr().out.encode(), "setup")
    identity = Identity.load(file)
    assert (entry.peer_id, entry.mesh_key, entry.operator) == (identity.peer_id, identity.mesh_key, "Acme")
    words[1], words[-1] = str(tmp_path / "b.identity"), "10.0.0.1"
    assert setup(words) == 1
    assert not (tmp_path / "b.identity").exists()
    assert "mesh_endpoint" in capsys.readouterr().err
