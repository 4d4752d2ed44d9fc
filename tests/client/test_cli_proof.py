"""`tacit verify`, `tacit doctor`, `tacit identity rotate` as a user meets them: processes over a real coordinator."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from ports import closed
from tacit import __version__
from tacit.members import Roster
from tacit.party.identity import Identity
from test_client import free_port
from toy_cluster import ToyCluster

TACIT = [sys.executable, "-P", "-m", "tacit.client.cli"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    operators = ("Alice", "Bob", "Carol", "Dora")
    found = ToyCluster(tmp_path_factory.mktemp("cluster"), free_port, own=False, operators=operators)
    yield found
    found.close()


@pytest.fixture
def tacit(tmp_path, monkeypatch):
    monkeypatch.setenv("TACIT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("TACIT_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.delenv("TACIT_CLUSTER", raising=False)
    (tmp_path / "config.toml").write_text("")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*TACIT, *arguments], capture_output=True, text=True, timeout=60, check=False)

    return run


def changed(cluster, tmp_path, **changes) -> str:
    """The cluster's file, with something else about peer-1, or another address of the coordinator (`url`)."""
    found = cluster.roster.to_json()
    if "url" in changes:
        found["coordinator"]["url"] = changes.pop("url")
    found["members"][1].update(changes)
    path = tmp_path / "changed.json"
    Roster._from_object(found).save(path)
    return str(path)


def test_verify(tacit, cluster):
    done = tacit("verify", "--cluster", str(cluster.path))
    assert done.returncode == 0, done.stderr
    for words in ("peer-3", "Dora", "answered, as pinned", "as here: peer-0, peer-1, peer-2, peer-3", "not prove"):
        assert words in done.stdout
    done = tacit("verify", "--json", "--cluster", str(cluster.path))
    told = json.loads(done.stdout)
    assert told["good"] is True
    assert [one["said"]["version"] for one in told["peers"]] == [__version__] * 4


def test_verify_names_an_operator_that_is_not_the_pinned_one(tacit, cluster, tmp_path):
    done = tacit("verify", "--cluster", changed(cluster, tmp_path, operator="Mallory"))
    assert done.returncode == 1
    assert "pinned is 'Mallory'" in done.stdout
    assert done.stderr.startswith("error: verify: not all is in order; peer-1")


def test_verify_names_a_peer_that_is_not_there(tacit, cluster, tmp_path):
    path = changed(cluster, tmp_path, peer_id=Identity.create().peer_id)
    done = tacit("verify", "--json", "--cluster", path)
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert [one["answered"] for one in told["peers"]] == [True, False, True, True]
    assert "unknown peer" in told["peers"][1]["problems"][0]


def test_doctor_finds_nothing(tacit, cluster):
    done = tacit("doctor", "--cluster", str(cluster.path), "--model", "toy")
    assert done.returncode == 0, done.stdout
    assert "all is well" in done.stdout
    assert "fail" not in done.stdout


def test_doctor_finds_a_closed_port(tacit, cluster, tmp_path):
    with closed() as port:
        done = tacit("doctor", "--json", "--cluster", changed(cluster, tmp_path, url=f"http://127.0.0.1:{port}"))
    assert done.returncode == 1
    (failure,) = [one for one in json.loads(done.stdout)["findings"] if one["verdict"] == "fail"]
    assert failure["cause"] == "closed"
    assert str(port) in failure["seen"]


def test_doctor_finds_a_missing_model(tacit, cluster):
    done = tacit("doctor", "--json", "--cluster", str(cluster.path), "--model", "gpt2")
    assert done.returncode == 1
    (failure,) = [one for one in json.loads(done.stdout)["findings"] if one["verdict"] == "fail"]
    assert failure["cause"] == "model"
    assert "--model gpt2" in failure["advice"]


def test_doctor_finds_a_peer_that_is_not_the_pinned_one(tacit, cluster, tmp_path):
    done = tacit("doctor", "--json", "--cluster", changed(cluster, tmp_path, operator="Mallory"))
    (failure,) = [one for one in json.loads(done.stdout)["findings"] if one["verdict"] == "fail"]
    assert failure["cause"] == "pins"


def test_doctor_reads_the_configuration(tacit, tmp_path):
    (tmp_path / "config.toml").write_text("nonsense = 1\n")
    done = tacit("doctor")
    assert done.returncode == 1
    assert "nonsense" in done.stdout
    (tmp_path / "config.toml").write_text("")
    done = tacit("doctor")
    assert done.returncode == 1
    assert "tacit up" in done.stdout


def test_doctor_knows_of_a_peer_on_this_machine(tacit, cluster, tmp_path, monkeypatch):
    path = tmp_path / "peer.identity"
    monkeypatch.setenv("TACIT_IDENTITY", str(path))
    assert "doctor --node" not in tacit("doctor", "--cluster", str(cluster.path)).stdout
    Identity.create().save(path)
    assert "doctor --node" in tacit("doctor", "--cluster", str(cluster.path)).stdout
    path.chmod(0o644)
    done = tacit("doctor", "--node", "--json")  # which identity is meant is a setting as well
    assert done.returncode == 1
    (failure,) = [
        one for one in json.loads(done.stdout)["findings"] if one["verdict"] == "fail" and one["check"] == "identity"
    ]
    assert failure["advice"] == f"chmod 600 {path}"


def test_rotation(tacit, tmp_path):
    path = tmp_path / "peer.identity"
    old = json.loads(tacit("identity", "new", str(path)).stdout)
    assert "successions" not in old
    done = tacit("identity", "rotate", str(path))
    new = json.loads(done.stdout)
    assert new["successions"][0]["old"] == old["peer_id"]
    assert new["successions"][0]["new"] == new["peer_id"] != old["peer_id"]
    assert "cluster.json" in done.stderr
    assert json.loads(tacit("identity", "show", str(path)).stdout) == new
    path.chmod(0o644)
    done = tacit("identity", "rotate", str(path))
    assert done.returncode == 1
    assert "chmod 600" in done.stderr
