"""Pins: what may be changed and what not, the file they are in, and keys that were signed over."""

from __future__ import annotations

import json
import threading

import pytest
from tacit.client.pins import BY_HAND, Pin, PinStore, added, followed, forgotten
from tacit.errors import ConfigError, IdentityError, UsageError
from tacit.members import Member
from tacit.party.identity import Identity

ALICE, BOB, CAROL = (Identity.create() for _ in range(3))


def pin(identity: Identity, name: str, operator: str = "") -> Pin:
    return Pin.of(Member(name, operator or name.title(), identity.peer_id), BY_HAND)


PINS = (pin(ALICE, "alice"), pin(BOB, "bob"), pin(CAROL, "carol"))


def test_a_pin_is_never_replaced_silently():
    stranger = Identity.create()
    assert added(PINS, pin(ALICE, "alice")) == PINS
    assert len(added(PINS, pin(stranger, "dave"))) == 4
    with pytest.raises(ConfigError, match=r"pinned already, as 'alice' of 'Alice'.*tacit peers forget"):
        added(PINS, pin(ALICE, "alice", "Mallory"))
    with pytest.raises(ConfigError, match="pinned already, as 'alice'"):
        added(PINS, pin(ALICE, "another"))
    with pytest.raises(ConfigError, match="THE KEY OF 'alice' HAS CHANGED") as caught:
        added(PINS, pin(stranger, "alice"))
    for word in (ALICE.peer_id, stranger.peer_id, "'Alice'", "tacit identity show", "tacit peers forget"):
        assert word in str(caught.value)


def test_forgetting_takes_a_name_an_id_or_its_beginning():
    for who in ("bob", BOB.peer_id, BOB.peer_id[:8]):
        assert forgotten(PINS, who) == (PINS[0], PINS[2])
    for who in ("dave", BOB.peer_id[:7], ""):
        with pytest.raises(UsageError, match="none of the pinned peers: alice"):
            forgotten(PINS, who)


def test_the_file_is_private_and_complete_at_every_moment(tmp_path):
    store = PinStore("friends", tmp_path / "pins")
    assert store.read() == ()
    store.change(lambda pins: PINS)
    assert store.read() == PINS
    assert store.path == tmp_path / "pins" / "friends.json"
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.path.parent.stat().st_mode & 0o777 == 0o700
    before = store.path.read_bytes()

    def fail(pins):
        raise ConfigError("no")

    with pytest.raises(ConfigError, match=r"^no$"):
        store.change(fail)
    assert store.path.read_bytes() == before
    assert sorted(one.name for one in store.path.parent.iterdir()) == [".lock", "friends.json"]


def test_changes_at_once_are_all_kept(tmp_path):
    identities = [Identity.create() for _ in range(16)]

    def work(number: int) -> None:
        new = pin(identities[number], f"peer-{number}")
        PinStore("friends", tmp_path).change(lambda pins: added(pins, new))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.peer_id for one in PinStore("friends", tmp_path).read()} == {one.peer_id for one in identities}


def test_clusters_never_share_a_file(tmp_path):
    names = ["a", "A b", "http://a", "http://a:1", "http://a/1", "http-a", "http%3A%2F%2Fa"]
    paths = {PinStore(name, tmp_path).path for name in names}
    assert len(paths) == len(names)
    assert {path.parent for path in paths} == {tmp_path}
    PinStore("a", tmp_path).change(lambda pins: PINS)
    (tmp_path / "a.json").rename(tmp_path / "b.json")
    with pytest.raises(ConfigError, match="holds the pins of 'a', not of 'b'"):
        PinStore("b", tmp_path).read()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: found.update(format="x"), "format"),
        (lambda found: found["peers"][0].update(peer_id="x"), "peer_id"),
        (lambda found: found["peers"][0].update(name="bob"), "two entries have the same name"),
        (lambda found: found["peers"][0].update(peer_id=BOB.peer_id), "two entries have the same peer_id"),
        (lambda found: found.update(more=1), "unknown fields"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, change, words):
    store = PinStore("friends", tmp_path)
    store.change(lambda pins: PINS)
    found = json.loads(store.path.read_text())
    change(found)
    store.path.write_text(json.dumps(found))
    with pytest.raises(ConfigError, match=words) as caught:
        store.read()
    assert str(store.path) in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"pins cannot be kept.*TACIT_CONFIG"):
        PinStore("friends", tmp_path / "file" / "pins").change(lambda pins: PINS)


def test_a_key_that_was_signed_over_is_followed_once_and_for_all(tmp_path):
    second = ALICE.successor()
    third = second.successor()
    pins, words = followed(PINS, [second.successions])
    assert [one.peer_id for one in pins] == [second.peer_id, BOB.peer_id, CAROL.peer_id]
    assert (pins[0].name, pins[0].operator) == ("alice", "Alice")
    assert pins[0].how == f"successor of {ALICE.peer_id[:8]}"
    assert len(words) == 1
    assert second.peer_id in words[0]
    assert followed(pins, [second.successions]) == (pins, ())
    assert followed(pins, []) == (pins, ())
    assert followed(PINS, [third.successions])[0][0].peer_id == third.peer_id
    assert followed(pins, [third.successions])[0][0].peer_id == third.peer_id
    store = PinStore("friends", tmp_path)
    store.change(lambda before: pins)
    assert store.read() == pins


def test_nobody_elses_succession_is_followed():
    stranger, mallory = Identity.create().successor(), BOB.successor()
    assert followed(PINS[:1], [stranger.successions, mallory.successions]) == (PINS[:1], ())
    forged = tuple(
        type(one)(one.payload, one.by_old[:-1] + bytes([one.by_old[-1] ^ 1]), one.by_new)
        for one in ALICE.successor().successions
    )
    assert followed(PINS, [forged]) == (PINS, ())
    with pytest.raises(IdentityError, match=r"alice .*has two successors"):
        followed(PINS, [ALICE.successor().successions, ALICE.successor().successions])
