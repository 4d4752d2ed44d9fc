"""Keys that change, for a client whose peers are pinned by a cluster.toml: followed, remembered, never taken back."""

from __future__ import annotations

import pytest
from tacit.address import to_libp2p
from tacit.client.directory import Listed
from tacit.client.pinned import PinnedPeers
from tacit.client.resolve import need
from tacit.config import Config
from tacit.errors import IdentityError
from tacit.party.identity import Identity

NAMES = ("alice", "bob", "carol")


@pytest.fixture
def keys() -> dict[str, Identity]:
    return {name: Identity.create() for name in (*NAMES, "coordinator")}


@pytest.fixture
def pinned(tmp_path, monkeypatch, keys):
    """A new client each time it is called; what it says is kept in `said`."""
    monkeypatch.setenv("TACIT_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text("")
    path = tmp_path / "cluster.toml"

    def write(**ids: str) -> None:
        ids = {name: key.peer_id for name, key in keys.items()} | ids
        lines = ['[cluster]\nname = "friends"\n[coordinator]\nname = "coordinator"\nurl = "http://127.0.0.1:7440"']
        lines.append(f'peer_id = "{ids["coordinator"]}"\naddress = "/ip4/127.0.0.1/tcp/7449"')
        for number, name in enumerate(NAMES):
            address = f"/ip4/127.0.0.1/tcp/{7450 + number}/p2p/{to_libp2p(ids[name])}"
            lines.append(f'[[peer]]\nname = "{name}"\noperator = "{name} inc"\npeer_id = "{ids[name]}"')
            lines.append(f'address = "{address}"')
        path.write_text("\n".join(lines) + "\n")

    def load() -> PinnedPeers:
        found = need(str(path), Config.load()).pinned(say=load.said.append)
        assert isinstance(found, PinnedPeers)
        return found

    load.said, load.write, load.path = [], write, path
    write()
    return load


def shown(identity: Identity, name: str = "bob") -> Listed:
    return Listed(name, f"{name} inc", identity.peer_id, True, identity.successions)


def test_the_file_holds_as_long_as_nothing_changes(pinned, keys):
    found = pinned()
    found.follow([shown(keys["bob"])])
    assert [member.peer_id for member in found.members] == [keys[name].peer_id for name in NAMES]
    assert (found.cluster, found.own, found.url) == ("friends", False, "http://127.0.0.1:7440")
    assert "coordinator" in found.coordinator_name
    assert pinned.said == []


def test_new_keys_are_followed_and_remembered(pinned, keys):
    new = keys["bob"].successor()
    found = pinned()
    found.follow([shown(new)])
    assert found.member(new.peer_id).operator == "bob inc"
    assert found.member(keys["bob"].peer_id) is None
    assert new.peer_id in pinned.said[0]
    assert str(pinned.path) in pinned.said[0]
    again = pinned()  # and the coordinator shows the old key again, or a chain cut short
    again.follow([shown(keys["bob"])])
    assert again.member(new.peer_id).name == "bob"
    assert again.member(keys["bob"].peer_id) is None
    newest = new.successor()
    again.follow([shown(newest)])
    last = pinned()
    last.follow([shown(new)])
    assert last.member(newest.peer_id) is not None
    assert last.member(new.peer_id) is None
    assert len(pinned.said) == 2


def test_a_file_that_was_brought_up_to_date(pinned, keys):
    new = keys["bob"].successor()
    pinned().follow([shown(new)])
    pinned.write(bob=new.peer_id)
    assert pinned().member(new.peer_id).name == "bob"
    assert len(pinned.said) == 1


def test_forks_and_forgeries_are_refused(pinned, keys):
    left, right = keys["bob"].successor(), keys["bob"].successor()
    with pytest.raises(IdentityError, match="two successors"):
        pinned().follow([shown(left), shown(right, "bob 2")])
    stranger = Identity.create()
    found = pinned()
    found.follow([shown(stranger), shown(stranger.successor())])
    assert found.member(keys["bob"].peer_id) is not None
    found.follow([shown(left)])
    with pytest.raises(IdentityError, match="two successors"):  # seen one after the other
        pinned().follow([shown(right)])
