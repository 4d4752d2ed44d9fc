"""A cluster that is known by its coordinator's address, the peers pinned by hand or on first use: what a coordinator can
and cannot do to such a client."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
import tacit
from tacit.client.directory import Directory, Listed
from tacit.client.pinned import PinnedPeers
from tacit.client.pins import BY_HAND, Pin, PinStore
from tacit.client.receipts import Book
from tacit.errors import ConfigError, IdentityError, PeerError, RefusedError
from tacit.members import Member
from tacit.party.identity import Identity
from tacit.succession import Chain, SignedSuccession, Succession
from toy_cluster import ToyCluster
from toy_model import BOS

OPERATORS = ("A", "B", "C", "A")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Four peers; tests pin the first three."""
    found = ToyCluster(tmp_path_factory.mktemp("cluster"), free_port, own=False, operators=OPERATORS)
    yield found
    found.close()


@pytest.fixture
def url(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("TACIT_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("TACIT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("TACIT_RECEIPTS", str(tmp_path / "receipts"))
    (tmp_path / "config.toml").write_text("")
    return cluster.roster.coordinator.url


def pin(cluster: ToyCluster, url: str, *numbers: int, **changed: str) -> None:
    members = [cluster.roster.members[number] for number in numbers]
    pins = tuple(
        Pin.of(Member(one.name, changed.get(one.name.replace("-", ""), one.operator), one.peer_id), BY_HAND)
        for one in members
    )
    PinStore(url).change(lambda before: pins)


def ask(url: str, **settings) -> tacit.Completion:
    with tacit.Client(url, model="ids", timeout=10, **settings) as client:
        return client.complete([BOS, 7], max_new_tokens=2)


def said_to(cluster: ToyCluster) -> int:
    """How many prompts the peers were sent anything of."""
    return sum(1 for committee in cluster.sessions.values() for seen in committee.seen if seen.bodies)


def seat(monkeypatch: pytest.MonkeyPatch, *wanted: str) -> None:
    """The coordinator pays no heed to the client's wishes, and seats those of these names."""
    real = Directory.open_session

    def careless(self, request):
        others = [one.peer_id for one in Directory.peers(self) if one.name not in wanted]
        return real(self, replace(request, without=tuple(others), operators=()))

    monkeypatch.setattr(Directory, "open_session", careless)


def test_pinned_peers_answer(cluster, url):
    pin(cluster, url, 0, 1, 2)
    result = ask(url)
    assert {name.split()[0] for name in result.peers} == {"peer-0", "peer-1", "peer-2"}
    assert len(result.receipts) == 2


def test_nothing_pinned_says_what_to_do_and_asks_nobody(cluster, url, monkeypatch):
    monkeypatch.setattr(Directory, "_bytes", lambda *arguments: pytest.fail("somebody was asked"))
    with pytest.raises(ConfigError, match=r"no peer of http.* is pinned.*tacit peers list.*--trust-on-first-use"):
        tacit.Client(url)


def test_a_peer_that_is_not_pinned_is_ruled_out_and_never_seated(cluster, url):
    pin(cluster, url, 1, 2, 3)
    for _ in range(4):
        assert {name.split()[0] for name in ask(url).peers} == {"peer-1", "peer-2", "peer-3"}


def test_without_three_pinned_operators_the_coordinator_has_nobody(cluster, url):
    pin(cluster, url, 0, 1, 3)
    with pytest.raises(RefusedError):
        ask(url)


def test_a_coordinator_that_seats_a_peer_that_is_not_pinned_is_found_out(cluster, url, monkeypatch):
    pin(cluster, url, 0, 1, 2)
    seat(monkeypatch, "peer-1", "peer-2", "peer-3")
    before = said_to(cluster)
    stranger = cluster.roster.members[3].peer_id
    with pytest.raises(IdentityError, match="calls it 'peer-3' of 'A'; nothing was sent") as caught:
        ask(url)
    assert stranger[:8] in str(caught.value)
    assert said_to(cluster) == before


def test_a_stranger_under_a_pinned_name_is_said_loudly(cluster, url, monkeypatch):
    pin(cluster, url, 0, 1, 2)
    mine = Identity.create().peer_id
    PinStore(url).change(lambda pins: (replace(pins[0], peer_id=mine, name="peer-3"), *pins[1:]))
    seat(monkeypatch, "peer-1", "peer-2", "peer-3")
    before = said_to(cluster)
    with pytest.raises(IdentityError, match="THE KEY OF 'peer-3' HAS CHANGED") as caught:
        ask(url)
    assert mine in str(caught.value)
    assert cluster.roster.members[3].peer_id in str(caught.value)
    assert said_to(cluster) == before


def test_a_peer_that_is_not_even_shown_is_found_out(cluster, url, monkeypatch):
    pin(cluster, url, 0, 1, 2)
    seat(monkeypatch, "peer-1", "peer-2", "peer-3")
    real = Directory.peers
    hidden = cluster.roster.members[3].peer_id
    calls = []

    def hiding(self):
        calls.append(self)
        found = real(self)
        # The client's own question comes first; the second is the careless coordinator of this test looking around.
        return [one for one in found if one.peer_id != hidden] if len(calls) == 1 else found

    monkeypatch.setattr(Directory, "peers", hiding)
    with pytest.raises(IdentityError, match="seated a peer that it does not even show"):
        ask(url)


def test_the_operator_is_what_the_user_pinned_whatever_the_peer_claims(cluster, url):
    pin(cluster, url, 0, 1, 2, peer0="Z")
    before = said_to(cluster)
    with pytest.raises(IdentityError, match=r"peer-0 .*says that 'A' runs it, pinned is 'Z'"):
        ask(url)
    assert said_to(cluster) == before


def test_first_use_pins_only_when_asked_and_only_once(cluster, url, monkeypatch):
    said: list[str] = []
    result = ask(url, trust_on_first_use=True, notice=said.append)
    assert len(result.peers) == 3
    pins = PinStore(url).read()
    assert {one.peer_id for one in pins} == {one.peer_id for one in cluster.roster.members}
    assert {one.how for one in pins} == {"first use"}
    for one in cluster.roster.members:
        assert any(one.peer_id in line and f"{one.name} of {one.operator}" in line for line in said)
    newcomer = Listed("peer-9", "D", Identity.create().peer_id, True)
    real = Directory.peers
    monkeypatch.setattr(Directory, "peers", lambda self: [*real(self), newcomer])
    ask(url, trust_on_first_use=True, notice=said.append)
    assert PinStore(url).read() == pins
    assert not any("peer-9" in line for line in said)


def test_after_first_use_a_swapped_peer_is_refused(cluster, url, monkeypatch):
    real = Directory.peers
    first_three = {one.peer_id for one in cluster.roster.members[:3]}
    with monkeypatch.context() as patch:
        patch.setattr(Directory, "peers", lambda self: [one for one in real(self) if one.peer_id in first_three])
        tacit.Client(url, trust_on_first_use=True, notice=lambda what: None).close()
    assert {one.peer_id for one in PinStore(url).read()} == first_three
    seat(monkeypatch, "peer-1", "peer-2", "peer-3")
    before = said_to(cluster)
    with pytest.raises(IdentityError, match="calls it 'peer-3'"):
        ask(url, trust_on_first_use=True)
    assert {one.peer_id for one in PinStore(url).read()} == first_three
    assert said_to(cluster) == before


def test_first_use_takes_no_fewer_than_three_and_tells_namesakes_apart(cluster, url, monkeypatch):
    real = Directory.peers
    with monkeypatch.context() as patch:
        patch.setattr(Directory, "peers", lambda self: real(self)[:2])
        with pytest.raises(PeerError, match="shows 2 peers"):
            tacit.Client(url, trust_on_first_use=True)
    assert PinStore(url).read() == ()
    monkeypatch.setattr(Directory, "peers", lambda self: [replace(one, name="host") for one in real(self)])
    tacit.Client(url, trust_on_first_use=True, notice=lambda what: None).close()
    assert len({one.name for one in PinStore(url).read()}) == 4


def test_of_two_first_uses_at_once_the_first_one_holds(cluster, url, monkeypatch):
    real = Directory.peers

    def overtaken(self):
        pin(cluster, url, 0, 1, 2)
        return real(self)

    monkeypatch.setattr(Directory, "peers", overtaken)
    said: list[str] = []
    tacit.Client(url, trust_on_first_use=True, notice=said.append).close()
    assert {one.how for one in PinStore(url).read()} == {BY_HAND}
    assert said == []


def test_first_use_is_not_for_files(cluster, url):
    with pytest.raises(ConfigError, match="pins its peers"):
        tacit.Client(cluster.path, trust_on_first_use=True)


def test_a_new_key_that_the_old_one_signed_for_is_followed(cluster, url, monkeypatch):
    """Pinned is what peer-0 was before; the coordinator shows how it came by its present key."""
    old = Identity.create()
    # The toy peers' keys are made by themselves, so the chain is signed here as the peer would have.
    present = cluster.identities["peer-0"]
    chain = (succession(old, present),)
    pin(cluster, url, 0, 1, 2)
    PinStore(url).change(lambda pins: (replace(pins[0], peer_id=old.peer_id), *pins[1:]))
    with pytest.raises(RefusedError):
        ask(url)
    show_successions(monkeypatch, present.peer_id, chain)
    told: list[str] = []
    assert {name.split()[0] for name in ask(url, notice=told.append).peers} == {"peer-0", "peer-1", "peer-2"}
    assert len(told) == 1
    assert present.peer_id in told[0]
    assert PinStore(url).read()[0].peer_id == present.peer_id
    *_, kept = Book().read()
    pinned = PinnedPeers(PinStore(url), "c", url, False)
    assert kept.verified(pinned)
    assert pinned.ever(old.peer_id)
    assert pinned.member(old.peer_id) is None
    assert not pinned.ever(cluster.roster.members[3].peer_id)


def succession(old: Identity, new: Identity) -> SignedSuccession:
    said = Succession(Succession.CONTEXT, old.peer_id, new.peer_id, 1_800_000_000)
    return SignedSuccession(said.to_bytes(), old.sign(said).signature, new.sign(said).signature)


def show_successions(monkeypatch: pytest.MonkeyPatch, peer_id: str, chain: Chain) -> None:
    real = Directory.peers

    def showing(self):
        return [replace(one, successions=chain) if one.peer_id == peer_id else one for one in real(self)]

    monkeypatch.setattr(Directory, "peers", showing)


def test_a_cluster_file_pins_its_peers_and_follows_their_keys(cluster, url, tmp_path, monkeypatch):
    old, present = Identity.create(), cluster.identities["peer-0"]
    ids = [old.peer_id, *(one.peer_id for one in cluster.roster.members[1:3])]
    file = tmp_path / "cluster.toml"
    file.write_text(
        f'[cluster]\nname = "friends"\n[coordinator]\nurl = "{url}"\n'
        f'peer_id = "{cluster.roster.coordinator.peer_id}"\naddress = "/ip4/127.0.0.1/tcp/7449"\n'
        + "".join(
            f'[[peer]]\nname = "p{number}"\noperator = "{"ABC"[number]}"\npeer_id = "{peer_id}"\n'
            f'address = "/ip4/127.0.0.1/tcp/{7450 + number}"\n'
            for number, peer_id in enumerate(ids)
        )
    )
    with pytest.raises(RefusedError):
        ask(str(file))
    show_successions(monkeypatch, present.peer_id, (succession(old, present),))
    told: list[str] = []
    assert {name.split()[0] for name in ask(file, notice=told.append).peers} == {"p0", "p1", "p2"}
    assert len(told) == 1
    assert f"{present.peer_id}, which its old key signed for" in told[0]
    assert str(file) in told[0]
    before = said_to(cluster)
    seat(monkeypatch, "peer-1", "peer-2", "peer-3")
    with pytest.raises(IdentityError, match="calls it 'peer-3'"):
        ask(file)
    assert said_to(cluster) == before


def test_nonsense_in_the_list_of_peers_is_the_coordinators_fault(cluster, url, monkeypatch):
    real = Directory._bytes
    entry = {"name": "x", "operator": "y", "peer_id": "s" * 43, "live": True}
    for wrong in ({}, [1], [{}], [entry | {"live": 1}], [entry, entry], [entry | {"successions": [{}]}]):
        raw = json.dumps(wrong).encode()
        monkeypatch.setattr(
            Directory, "_bytes", lambda self, *rest, raw=raw: raw if rest[1] == "/v1/peers" else real(self, *rest)
        )
        with pytest.raises(PeerError, match="coordinator at"):
            tacit.Client(url, trust_on_first_use=True)
    assert PinStore(url).read() == ()


# The command line ----------------------------------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "tacit.client.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))


def test_from_an_address_to_an_answer_by_the_command_line(cluster, url, tmp_path):
    (tmp_path / "config.toml").write_text(
        f'default_cluster = "friends"\n[clusters.friends]\ncoordinator = "{url}"\nmodel = "ids"\n[client]\nmax_new_tokens = 2\n'
    )
    prompt = f"{BOS} 7"
    refused = run("ask", prompt)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "no peer of friends is pinned" in refused.stderr
    listed = run("peers", "list")
    ids = {one.name: one.peer_id for one in cluster.roster.members}
    assert all(peer_id in listed.stdout for peer_id in ids.values())
    assert "not pinned" in listed.stdout
    for name, operator in (("peer-0", "A"), ("peer-1", "B")):
        assert run("peers", "pin", ids[name], "--operator", operator).returncode == 0
    last = run("peers", "pin", ids["peer-2"], "--operator", "C", "--name", "third")
    assert "3 peers of 3 operators are pinned for friends" in last.stdout
    answered = run("ask", prompt, "--json")
    assert answered.returncode == 0, answered.stderr
    assert json.loads(answered.stdout)["usage"]["completion_tokens"] == 2
    shown = json.loads(run("peers", "list", "--json").stdout)
    assert {(one["name"], one["operator"], one["state"]) for one in shown["pinned"]} == {
        ("peer-0", "A", "ready"),
        ("peer-1", "B", "ready"),
        ("third", "C", "ready"),
    }
    assert [one["name"] for one in shown["not_pinned"]] == ["peer-3"]
    assert run("receipts", "--cluster", "friends").returncode == 0
    assert run("peers", "forget", "third").returncode == 0
    assert len(json.loads(run("peers", "list", "--json", "--cluster", url).stdout)["pinned"]) == 2


def test_pinning_says_what_looks_wrong(cluster, url):
    one, other = cluster.roster.members[0], Identity.create().peer_id
    odd = run("peers", "pin", one.peer_id, "--operator", "Z", "--cluster", url)
    assert odd.returncode == 0
    assert "says that 'A' runs it" in odd.stderr
    changed = run("peers", "pin", other, "--operator", "A", "--name", one.name, "--cluster", url)
    assert changed.returncode == 1
    assert "HAS CHANGED" in changed.stderr
    assert run("peers", "pin", "x", "--operator", "A", "--cluster", url).returncode == 1
    assert run("peers", "pin", one.peer_id, "--cluster", url).returncode == 2
    run("peers", "forget", one.peer_id, "--cluster", url)
    run("peers", "pin", other, "--operator", "A", "--name", one.name, "--cluster", url)
    assert "WARNING: THE KEY OF 'peer-0' HAS CHANGED" in " ".join(run("peers", "list", "--cluster", url).stderr.split())


def test_pinning_from_a_file_and_first_use_by_the_command_line(cluster, url):
    done = run("peers", "pin", "--from", str(cluster.path), "--cluster", url)
    assert "4 peers of 3 operators" in done.stdout, done.stderr
    assert {one.how for one in PinStore(url).read()} == {"from cluster.json"}
    PinStore(url).change(lambda pins: ())
    status = run("status", "--cluster", url, "--trust-on-first-use")
    assert status.returncode == 0
    assert all(one.peer_id in status.stderr for one in cluster.roster.members)
    assert len(PinStore(url).read()) == 4
    file = run("peers", "forget", "peer-0", "--cluster", str(cluster.path))
    assert (file.returncode, "change that file" in file.stderr) == (1, True)


def test_clusters_are_named_in_one_way_everywhere(cluster, url, tmp_path, monkeypatch):
    (tmp_path / "config.toml").write_text(
        f'[clusters.friends]\ncoordinator = "{url}"\n[clusters.lab]\nfile = "{cluster.path}"\n'
    )
    pins = tuple(Pin.of(Member(one.name, one.operator, one.peer_id), BY_HAND) for one in cluster.roster.members[:3])
    PinStore("friends").change(lambda before: pins)
    for name in ("friends", "lab", url, url + "/", str(cluster.path), cluster.path):
        with tacit.Client(name) as client:
            assert client.models() == ["ids", "toy"]
    for wrong in ("nothing", "frends", "http://", "ftp://x"):
        with pytest.raises(ConfigError) as caught:
            tacit.Client(wrong)
        assert "friends, lab" in str(caught.value) or "http(s) address" in str(caught.value)
    monkeypatch.setenv("TACIT_CLUSTER", "nothing")
    with pytest.raises(ConfigError, match=r"TACIT_CLUSTER is 'nothing', which is no cluster.*friends, lab"):
        tacit.Client()
    monkeypatch.setenv("TACIT_CLUSTER", "lab")
    with tacit.Client() as client:
        assert client.models() == ["ids", "toy"]
    monkeypatch.delenv("TACIT_CLUSTER")
    (tmp_path / "config.toml").write_text('default_cluster = "gone"\n')
    with pytest.raises(ConfigError, match=r"config\.toml: default_cluster is 'gone'"):
        tacit.Client()


def test_a_clusters_rules_hold(cluster, url, tmp_path):
    pin(cluster, url, 0, 1, 2)
    (tmp_path / "config.toml").write_text(
        f'[clusters.friends]\ncoordinator = "{url}"\noperators = ["A", "B", "X"]\n[client]\nmax_resumes = 0\n'
    )
    PinStore("friends").change(lambda before: PinStore(url).read())
    with pytest.raises(tacit.UsageError, match="operator 'X' is not"):
        tacit.Client("friends")
    with tacit.Client("friends", policy=tacit.Policy()) as client:
        assert client.models()
