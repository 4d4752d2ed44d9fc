"""Rotation in the libp2p mesh: members follow a key to its successor, and the key that was given up is let in no more."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from meshes import P2pMeshes, eventually
from ports import listening
from tacit.client.directory import Directory
from tacit.client.pins import BY_HAND, Pin, followed
from tacit.coordinator.app import make_app
from tacit.coordinator.registry import Registry
from tacit.coordinator.server import HttpServer, listen
from tacit.coordinator.sessions import Sessions
from tacit.coordinator.store import Store
from tacit.errors import ConfigError, IdentityError, TacitError
from tacit.members import Member
from tacit.party.dialback import Callback, DialBack, Report
from tacit.party.identity import Identity
from tacit.party.mesh import DIALBACK


@pytest.fixture
def there() -> Iterator[P2pMeshes]:
    found = P2pMeshes(("peer-0", "peer-1"))
    yield found
    found.close()


def ids(mesh) -> set[str]:
    return {member.peer_id for member in mesh.members.members}


def test_members_follow_a_successor_and_shut_out_the_key_before(there):
    old = there.identities["peer-1"]
    there.meshes["peer-1"].close()
    new = old.successor()
    mesh = there.start("peer-1", identity=new)
    first = there.meshes["peer-0"]
    eventually(lambda: new.peer_id in ids(first))
    assert old.peer_id not in ids(first)
    mesh.close()
    again = there.start("old", identity=old)  # a copy of the old file
    with pytest.raises(ConfigError, match=f"gave this key up; its successor is {new.peer_id[:8]}"):
        again.join()
    assert old.peer_id not in ids(first)


def test_the_second_successor_of_a_key_is_refused(there):
    old = there.identities["peer-1"]
    there.meshes["peer-1"].close()
    left, right = old.successor(), old.successor()
    there.start("left", identity=left)
    eventually(lambda: left.peer_id in ids(there.meshes["peer-0"]))
    with pytest.raises(ConfigError, match="has two successors"):
        there.start("right", identity=right).join()


def test_successions_that_lead_elsewhere_are_refused(there):
    stolen = there.identities["peer-1"].successor().successions
    thief = Identity.create()
    thief = Identity(thief.seed, thief.mesh, stolen)
    with pytest.raises((ConfigError, IdentityError), match="do not begin at"):
        there.start("thief", identity=thief).join()


def test_a_list_of_members_follows():
    from tacit.party.p2p.invite import Invite
    from tacit.party.p2p.record import PEER, MemberRecord, now_ms
    from tacit.party.p2p.table import Table

    invite, old = Invite.create("test"), Identity.create()
    new = old.successor().successor()
    table = Table(invite, "own", listed={old.peer_id: Member("alice", "Alice", old.peer_id)})

    def record(identity: Identity) -> MemberRecord:
        return MemberRecord(
            MemberRecord.CONTEXT, "test", identity.peer_id, "claimed", "Claimed", PEER, (), "", now_ms(),
            identity.successions, bytes(32),
        )  # fmt: skip

    found = table.admit(record(new).signed(new, invite), "sender")
    assert found is not None
    assert (found.name, found.operator, found.peer_id) == ("alice", "Alice", new.peer_id)
    with pytest.raises(IdentityError, match="gave this key up"):
        table.admit(record(old).signed(old, invite), "sender")
    stranger = Identity.create().successor()
    with pytest.raises(IdentityError, match="not in the list"):
        table.admit(record(stranger).signed(stranger, invite), "sender")


def test_dialling_back_over_libp2p(there):
    first, second = there.meshes["peer-0"], there.meshes["peer-1"]
    first.serve(DIALBACK, DialBack(first))
    word = secrets.token_bytes(16)
    with listening(word) as link:
        raw = second.request(there.identities["peer-0"].peer_id, DIALBACK, Callback(link, word).to_bytes(), 8.0)
    report = Report.from_bytes(raw, "peer-0")
    assert report.seen == "127.0.0.1"
    assert [(one.what, one.host, one.outcome) for one in report.tried] == [
        ("mesh", "127.0.0.1", "open"),
        ("link", "127.0.0.1", "expected"),
    ]
    with suppress(TacitError):
        second.close()


def test_a_coordinator_shows_clients_how_a_peer_came_by_its_key(there, tmp_path):
    """From the member's record through HTTP into the pins, over a real coordinator's face."""
    there.meshes["peer-1"].close()
    old = there.identities["peer-1"]
    new = old.successor()
    there.start("peer-1", identity=new)
    there.identities["coordinator"] = Identity.create()
    mesh = there.start("coordinator")
    eventually(lambda: new.peer_id in ids(mesh))
    store = Store(tmp_path / "coordinator.sqlite")
    registry = Registry(mesh, store)
    with closing(store), listen("127.0.0.1", 0) as listener:
        server = HttpServer(make_app(mesh.members, registry, Sessions(mesh, registry)), listener)
        with closing(server), closing(Directory(f"http://127.0.0.1:{listener.getsockname()[1]}")) as directory:
            server.await_start()
            listed = directory.peers()
        registry.close()
    chains = [one.successions for one in listed if one.successions]
    assert chains == [new.successions]
    pin = Pin.of(Member("peer-1", "operator of peer-1", old.peer_id), BY_HAND)
    (now,), (words,) = followed((pin,), chains)
    assert now.peer_id == new.peer_id
    assert new.peer_id in words
