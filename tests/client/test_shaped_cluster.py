"""A cluster whose links are made like lines, from `tacit up --network` to the last token; and `tacit network`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tacit
from tacit.client import cli, launch, state
from tacit.errors import ConfigError, PeerError, UsageError
from tacit.network import Network, Profile, pair
from typer.testing import CliRunner

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TACIT_STATE", str(tmp_path_factory.mktemp("state")))
        patch.delenv("TACIT_CLUSTER", raising=False)
        with tacit.Cluster(network=["rtt=4ms,bandwidth=1gbit"]) as found:
            yield found


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Clusters of toy peers, in a state directory of their own."""
    monkeypatch.setenv("TACIT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.delenv("TACIT_CLUSTER", raising=False)
    monkeypatch.setattr(launch, "PEER_MODULE", "toy_peer")
    monkeypatch.setattr(launch, "is_warm", lambda: True)


def run(*words: str) -> str:
    done = CliRunner().invoke(cli.app, ["network", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_an_answer_survives_every_change(cluster):
    """Each round takes one delay between the compute peers, and a step one to them and one back."""
    cluster.set_network("rtt=4ms,bandwidth=1gbit")
    with tacit.Client(cluster) as client:
        before = client.complete("Once upon a time", max_new_tokens=3).token_ids
        answer = client.generate("Once upon a time", max_new_tokens=12, ignore_eos=True)
        pieces = iter(answer)
        while len(answer.seconds) < 6:
            next(pieces)
        cluster.set_network("rtt=20ms")
        quick = len(answer.seconds)
        while len(answer.seconds) < quick + 3:
            next(pieces)
        run("set", "rtt=1ms")
        slow = len(answer.seconds)
        list(pieces)
    result, seconds = answer.result, answer.seconds
    assert result.resumes == ()
    assert result.token_ids[:3] == before
    assert len(result.token_ids) == 12
    delays = result.traffic.rounds_per_token + 2
    assert min(seconds[:quick]) >= delays * 0.002
    assert min(seconds[quick + 1 : slow]) >= delays * 0.010  # the first of them may have been under way
    assert delays * 0.0005 <= min(seconds[slow + 1 :]) < delays * 0.010


def test_different_lines_for_different_pairs(cluster):
    """How long a token takes tells which two peers compute."""
    rtt = {"peer-0:peer-1": 0.008, "peer-0:peer-2": 0.016, "peer-1:peer-2": 0.024}
    cluster.set_network(Network(Profile(), {pair(names): Profile(rtt=one) for names, one in rtt.items()}))
    with tacit.Client(cluster) as client:
        answer = client.generate("Once upon a time", max_new_tokens=5, ignore_eos=True)
        result = answer.complete()
    compute = sorted(name.partition(" ")[0] for name in result.peers[:2])
    least = result.traffic.rounds_per_token * rtt[":".join(compute)] / 2
    assert least <= min(answer.seconds[1:]) < least + 0.2


def test_a_client_that_knows_the_address_alone_shapes_too(cluster, written, monkeypatch):
    monkeypatch.setenv("TACIT_STATE", str(cluster.roster_path.parents[1]))
    written(f'[clusters.here]\ncoordinator = "{cluster.url}"\nown = true\n')
    cluster.set_network("rtt=4ms")
    with tacit.Client("here", trust_on_first_use=True, notice=lambda what: None) as client:
        assert client.complete("Once", max_new_tokens=2).usage.completion_tokens == 2


def test_a_client_that_does_not_shape_is_told_why(cluster, tmp_path):
    alone = tmp_path / "cluster.json"
    shutil.copy(cluster.roster_path, alone)
    complaint = r"shapes this link, this end does not: .*name it by its cluster\.json"
    with tacit.Client(alone) as client, pytest.raises(PeerError, match=complaint):
        client.complete("Once", max_new_tokens=2)
    Network(Profile()).save(tmp_path / "network.json")
    with tacit.Client(alone) as client:
        assert client.complete("Once", max_new_tokens=2).usage.completion_tokens == 2


def test_network_show_and_set(cluster):
    cluster.set_network("wan")
    assert "peer-0:peer-1" in run("show")
    assert run("set", "peer-2:client", "global") == "links are made like: wan; client:peer-2=global\n"
    run("set", "peer-0:peer-1=rtt=60ms,loss=1%")
    shown = json.loads(run("show", "--json"))
    assert len(shown) == 6
    assert shown["peer-2:client"]["profile"] == "global"
    assert shown["peer-0:peer-1"] == {
        "profile": "rtt=60ms,loss=1%",
        "rtt_ms": pytest.approx(60),
        "bandwidth_bits": None,
        "jitter_ms": 0,
        "loss": pytest.approx(0.01),
    }
    assert shown["peer-0:client"]["bandwidth_bits"] == pytest.approx(100e6)
    assert run("set", "lan") == "links are made like: lan\n"
    for words, complaint in {
        ("set", "moon"): "no network profile 'moon'",
        ("set", "bandwidth=-1mbit"): "must be a number, zero or more",
        ("set", "peer-0:bob", "wan"): "no 'bob' in this cluster: its parties are peer-0, peer-1, peer-2, client",
        ("set", "peer-0", "wan"): "no pair of parties",
        ("set", "peer-0:peer-0", "wan"): "no pair of parties",
    }.items():
        with pytest.raises(UsageError, match=complaint):
            run(*words)
    assert cluster.network == Network.parse(["lan"])


def test_a_network_that_cannot_be(toy):
    with pytest.raises(UsageError, match="no network profile 'moon'"):
        tacit.Cluster(network="moon")
    with pytest.raises(UsageError, match="no 'alice' in this cluster"):
        tacit.Cluster(network=["wan", "alice:peer-1=lan"])
    with pytest.raises(UsageError, match="no 'peer-3' in this cluster"):
        tacit.Cluster(network="peer-3:peer-1=lan")
    assert tacit.Cluster(network="peer-3:client=lan", peers=4).network is not None


def test_up_hands_its_network_on(monkeypatch):
    given = {}

    def cluster(**settings):
        given.update(settings)
        raise UsageError("as far as this test goes")

    monkeypatch.setattr(launch, "Cluster", cluster)
    CliRunner().invoke(cli.app, ["up", "--network", "wan", "--network", "peer-0:client=lan"])
    assert given["network"] == ["wan", "peer-0:client=lan"]
    CliRunner().invoke(cli.app, ["up"])
    assert given["network"] is None


def test_a_cluster_that_was_started_without_one(toy, tmp_path):
    with tacit.Cluster() as cluster:
        assert not (cluster.roster_path.parent / "network.json").exists()
        with pytest.raises(UsageError, match=r"not shaped: start it with Cluster\(network="):
            cluster.set_network("wan")
        for words in (("show",), ("set", "wan"), ("set", "wan", "--cluster", str(cluster.roster_path))):
            with pytest.raises(ConfigError, match="not shaped: start it with `tacit up --network lan`"):
                run(*words)
    with pytest.raises(ConfigError, match="no cluster is running"):
        run("show")
    with pytest.raises(ConfigError, match="no cluster of this machine"):
        run("set", "wan", "--cluster", "http://192.0.2.1:7440")
    assert state.running() == []


def test_a_damaged_network_file_is_named(toy):
    with tacit.Cluster(network="lan") as cluster:
        path = cluster.roster_path.parent / "network.json"
        path.write_text("{}")
        with pytest.raises(ConfigError, match=r"network\.json: is no network\.json"):
            tacit.Client(cluster)
        with pytest.raises(ConfigError, match=r"network\.json: is no network\.json"):
            run("show")
        run("set", "wan")  # as a whole, so this mends it
        assert Network.load(path) == Network.parse(["wan"])
