"""Successions of keys: every way to forge one, to fork it, and to take somebody back to a key that was given up."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
from tacit.errors import ConfigError, IdentityError, PeerError, UsageError
from tacit.party import identity as module
from tacit.party.identity import Identity, rotate
from tacit.party.setup import make_local
from tacit.succession import (
    MAX_LINKS,
    SignedSuccession,
    Succession,
    current,
    follow,
    is_chain,
    read_chain,
)


def line(count: int) -> list[Identity]:
    """An identity and its successors, one of the other."""
    found = [Identity.create()]
    for _ in range(count):
        found.append(found[-1].successor())
    return found


def link(
    old: Identity, new: Identity, by_old: Identity, by_new: Identity, made: int = 1_800_000_000
) -> SignedSuccession:
    said = Succession(Succession.CONTEXT, old.peer_id, new.peer_id, made)
    return SignedSuccession(said.to_bytes(), by_old.sign(said).signature, by_new.sign(said).signature)


def test_pins_follow_one_and_two_rotations():
    first, second, third = line(2)
    assert current(second.successions, first.peer_id, "p") == second.peer_id
    assert current(third.successions, first.peer_id, "p") == third.peer_id
    assert current(third.successions, second.peer_id, "p") == third.peer_id
    assert [one.new for one in read_chain(third.successions, "p")] == [second.peer_id, third.peer_id]
    assert follow(first.peer_id, third.successions, "p") == third.successions
    assert follow(third.peer_id, third.successions, "p") == ()


def test_only_the_pinned_peers_own_chain_is_followed():
    chain = line(2)[-1].successions
    stranger = Identity.create().peer_id
    with pytest.raises(IdentityError, match="do not begin at"):
        current(chain, stranger, "p")
    assert follow(stranger, chain, "p") == ()


@pytest.mark.parametrize("missing", ["old", "new"])
@pytest.mark.parametrize("instead", ["nobody", "the other key", "a third key"])
def test_both_keys_have_to_sign(missing, instead):
    old, new, third = (Identity.create() for _ in range(3))
    good = link(old, new, old, new)
    assert current((good,), old.peer_id, "p") == new.peer_id
    other = {"old": good.by_new, "new": good.by_old}[missing]
    forged = {"nobody": bytes(64), "the other key": other, "a third key": link(old, new, third, third).by_old}[instead]
    bad = dataclasses.replace(good, **{f"by_{missing}": forged})
    with pytest.raises(IdentityError, match=f"is not signed by the {missing} key"):
        current((bad,), old.peer_id, "p")
    with pytest.raises(IdentityError):
        follow(old.peer_id, (bad,), "p")


def test_signatures_for_another_purpose_are_worthless():
    """Same keys, same fields, but what was signed is not called a succession."""
    (signed,) = line(1)[1].successions
    payload = signed.payload.replace(b"tacit/succession/1", b"tacit/something/1")
    with pytest.raises(PeerError, match="context"):
        read_chain((dataclasses.replace(signed, payload=payload),), "p")


def test_chains_have_to_join_in_order_and_in_time():
    first, second, third = line(2)
    one, two = third.successions
    with pytest.raises(IdentityError, match="do not join"):
        read_chain((two, one), "p")
    late, early = link(first, second, first, second, 2000), link(second, third, second, third, 1999)
    with pytest.raises(IdentityError, match="times go back"):
        read_chain((late, early), "p")
    with pytest.raises(IdentityError, match="given up"):
        read_chain((*third.successions, link(third, first, third, first, 1 << 40)), "p")


def test_chains_are_short():
    chain = line(MAX_LINKS + 1)
    assert len(chain[-1].successions) == MAX_LINKS
    assert current(chain[-1].successions, chain[1].peer_id, "p") == chain[-1].peer_id
    too_long = (*chain[MAX_LINKS].successions, chain[-1].successions[-1])
    with pytest.raises(IdentityError, match=f"{MAX_LINKS + 1} successions"):
        read_chain(too_long, "p")
    with pytest.raises(ValueError, match="list of"):
        is_chain([one.to_json() for one in too_long])


def test_a_fork_is_refused_and_names_both():
    first = Identity.create()
    left, right = first.successor(), first.successor()
    for shown, seen in ((left, right), (right, left)):
        with pytest.raises(IdentityError, match="two successors") as caught:
            follow(first.peer_id, shown.successions, "alice", [seen.successions])
        assert left.peer_id[:8] in str(caught.value)
        assert right.peer_id[:8] in str(caught.value)
        assert "alice" in str(caught.value)
    # a fork further on, with a successor of one side
    with pytest.raises(IdentityError, match="two successors"):
        follow(first.peer_id, left.successor().successions, "alice", [right.successor().successions])
    # whoever pinned one side knows which is right
    assert follow(left.peer_id, left.successor().successions, "alice", [right.successions])


def test_a_shorter_chain_takes_nobody_back():
    first, second, third = line(2)
    assert follow(first.peer_id, second.successions, "p", [third.successions]) == third.successions
    assert follow(second.peer_id, second.successions, "p", [third.successions]) == third.successions[1:]
    assert follow(first.peer_id, (), "p", [third.successions]) == third.successions


def test_what_others_show_out_of_order_is_not_heard():
    first, second, third = line(2)
    nonsense = (third.successions[1], third.successions[0])
    assert follow(first.peer_id, second.successions, "p", [nonsense]) == second.successions


def test_no_key_takes_the_place_of_two_peers():
    """Or one key could hold two seats of a committee."""
    one, two = Identity.create(), Identity.create()
    new = one.successor()
    (by_one,) = new.successions
    with pytest.raises(IdentityError, match="took the place of two"):
        follow(one.peer_id, (by_one,), "p", [(link(two, new, two, new),)])


def test_fields_are_strict():
    with pytest.raises(UsageError):
        SignedSuccession(b"x" * 1025, bytes(64), bytes(64))
    with pytest.raises(UsageError):
        Succession(Succession.CONTEXT, "short", Identity.create().peer_id, 1)


# The identity file ----------------------------------------------------------------------------------------------------


def test_rotation_replaces_the_file_and_keeps_the_mode(tmp_path):
    path = tmp_path / "peer.identity"
    old = Identity.create()
    old.save(path)
    before = path.read_bytes()
    new = rotate(path)
    again = rotate(path)
    found = Identity.load(path)
    assert found == again
    assert current(found.successions, old.peer_id, "p") == found.peer_id != new.peer_id
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]  # neither a draft nor the old key
    assert old.seed.hex().encode() in before
    assert old.seed.hex().encode() not in path.read_bytes()
    assert new.seed.hex().encode() not in path.read_bytes()


def test_rotation_never_loses_the_key(tmp_path, monkeypatch):
    path = tmp_path / "peer.identity"
    Identity.create().save(path)
    before = path.read_bytes()

    def no_room(*ignored):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", no_room)
    with pytest.raises(ConfigError, match="No space left"):
        module.rotate(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_two_rotations_at_once_make_no_fork(tmp_path, monkeypatch):
    path = tmp_path / "peer.identity"
    Identity.create().save(path)
    replace = Identity.replace

    def meanwhile(self, where):
        with pytest.raises(ConfigError, match="another process is just rotating"):
            module.rotate(path)
        replace(self, where)

    monkeypatch.setattr(Identity, "replace", meanwhile)
    new = module.rotate(path)
    assert Identity.load(path) == new


def test_files_of_the_first_format_are_read(tmp_path):
    path = tmp_path / "peer.identity"
    old = Identity.create()
    old.save(path)
    document = json.loads(path.read_text())
    del document["successions"]
    path.write_text(json.dumps({**document, "format": "tacit identity/1"}))
    assert Identity.load(path) == old


def test_a_key_that_was_given_up_does_not_start(tmp_path):
    """Somebody put an old key back, with the chain that leads away from it."""
    path = tmp_path / "peer.identity"
    _, second, third = line(2)
    third.save(path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "ed25519_seed": second.seed.hex()}))
    with pytest.raises(ConfigError, match="was given up"):
        Identity.load(path)
    path.write_text(json.dumps({**document, "ed25519_seed": Identity.create().seed.hex()}))
    with pytest.raises(ConfigError, match="do not begin at"):
        Identity.load(path)
    document["successions"].reverse()
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="do not join"):
        Identity.load(path)


def test_a_roster_that_lists_the_old_key_says_what_to_do(tmp_path):
    make_local(tmp_path, 3, 7440, 7450)
    path = tmp_path / "peer-1.identity"
    old = Identity.load(path)
    new = rotate(path)
    options = ["--identity", str(path), "--roster", str(tmp_path / "cluster.json"), "--model", "stories"]
    command = [sys.executable, "-P", "-m", "tacit.party.server", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    words = json.loads(done.stdout)["error"]["message"]
    assert f"lists peer-1 under the id {old.peer_id[:8]}" in words
    assert new.peer_id in words
    assert new.mesh_key in words
