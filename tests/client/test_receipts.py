"""Receipts: agreed, tied to what the client saw, kept, and found out when they were changed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import tacit
from tacit.client.receipts import Auditor, Book, Kept, Seen
from tacit.errors import ConfigError, IdentityError, PeerError
from tacit.members import CoordinatorEntry, Roster, RosterMember
from tacit.party.identity import Identity
from tacit.party.quoting import Quoting
from tacit.quotes import quote_hash
from tacit.receipts import Receipt, read_pair
from tacit.sizes import Sizes
from tacit.wire import Statement

WHO = [Identity.create() for _ in range(4)]
IDS = (WHO[0].peer_id, WHO[1].peer_id, WHO[2].peer_id)
NAMES = ("peer-0 (a)", "peer-1 (b)")
ROSTER = Roster(
    "test",
    False,
    CoordinatorEntry("coordinator", "http://127.0.0.1:1", WHO[3].peer_id, WHO[3].mesh_key),
    tuple(
        RosterMember(f"peer-{n}", "ABC"[n], WHO[n].peer_id, f"tcp://127.0.0.1:{9000 + n}", WHO[n].mesh_key)
        for n in range(3)
    ),
)
QUOTES = tuple(Quoting(who, 1_500_000, 200_000).current() for who in WHO[:3])
SEEN = Seen(7, 3, 30, (400, 400), (10, 900))


def receipt(role: int, **changes: object) -> Receipt:
    fields = {
        "context": Receipt.CONTEXT,
        "session": "ab" * 16,
        "role": role,
        "peer_id": IDS[role],
        "peers": IDS,
        "model": "stories",
        "protocol": "pair",
        "manifest_hash": "c" * 64,
        "version": "0.1.0",
        "tokens": 7,
        "steps": 3,
        "rounds": 30,
        "online_bytes": 400,
        "offline_bytes": (10, 900)[role],
        "transcript": "d" * 64,
        "quotes": tuple(map(quote_hash, QUOTES)),
    }
    return Receipt(**(fields | changes))


def pair(first: dict | None = None, second: dict | None = None):
    return WHO[0].sign(receipt(0, **(first or {}))), WHO[1].sign(receipt(1, **(second or {})))


def seats() -> tuple[Statement, ...]:
    made = []
    for role in range(3):
        fields = {
            name: getattr(receipt(0), name)
            for name in ("session", "peers", "model", "protocol", "manifest_hash", "quotes")
        }
        made.append(
            Statement(
                **fields,
                context=Statement.CONTEXT,
                role=role,
                peer_id=IDS[role],
                operator="ABC"[role],
                endpoint="" if role == 2 else "tcp://127.0.0.1:1",
                curve_key="" if role == 2 else str(role) * 40,
                client_key="k" * 40,
                sizes=Sizes.of([5], 9),
            )
        )
    return tuple(made)


def test_receipts_that_agree_are_taken_and_kept(tmp_path) -> None:
    book = Book(tmp_path)
    found = Auditor(seats(), QUOTES, ROSTER, book).settle(pair(), SEEN)
    assert [one.role for one in found] == [0, 1]
    [kept] = book.read()
    assert kept.verified(ROSTER) == found
    assert kept.names[2].startswith("peer-2")
    assert book.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"transcript": "e" * 64}, "different transcripts .* do not rely on the answer"),
        ({"rounds": 31}, "rounds differs"),
        ({"manifest_hash": "e" * 64}, "manifest_hash differs"),
        ({"quotes": ("e" * 64,) * 3}, "quotes differs"),
    ],
)
def test_peers_that_disagree_are_both_named(tmp_path, changes: dict, words: str) -> None:
    book = Book(tmp_path)
    with pytest.raises(PeerError, match=rf"peer-0 .* and peer-1 .*{words}"):
        Auditor(seats(), QUOTES, ROSTER, book).settle(pair({}, changes), SEEN)
    assert list(book.read()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"session": "cd" * 16},
        {"steps": 4},
        {"tokens": 8},
        {"rounds": 29},
        {"online_bytes": 0},
        {"model": "other"},
        {"quotes": ("e" * 64,) * 3},
    ],
)
def test_receipts_about_something_else_are_refused_though_the_peers_agree(tmp_path, changes: dict) -> None:
    with pytest.raises(PeerError, match=rf"peer-0 .*another {next(iter(changes))}"):
        Auditor(seats(), QUOTES, ROSTER, Book(tmp_path)).settle(pair(changes, changes), SEEN)


def test_signatures_are_checked() -> None:
    first, second = pair()
    with pytest.raises(IdentityError, match="peer-1"):
        read_pair((first, WHO[2].sign(receipt(1))), NAMES)
    with pytest.raises(IdentityError, match="peer-0"):
        read_pair((replace(first, payload=first.payload.replace(b"stories", b"storied")), second), NAMES)
    with pytest.raises(PeerError, match="another seat"):
        read_pair((second, first), NAMES)
    with pytest.raises(PeerError, match="malformed Receipt"):
        read_pair((WHO[0].sign(ROSTER.members[0]), second), NAMES)


def test_what_was_kept_is_checked_again(tmp_path) -> None:
    book = Book(tmp_path)
    book.add(Kept(1, "test", ("peer-0", "peer-1", "peer-2"), pair(), QUOTES))
    strangers = replace(ROSTER, members=(*(replace(one, peer_id=WHO[3].peer_id) for one in ROSTER.members[:1]),
                        *ROSTER.members[1:]), coordinator=replace(ROSTER.coordinator, peer_id=WHO[0].peer_id))  # fmt: skip
    [kept] = book.read()
    with pytest.raises(PeerError, match="peer-0: is not in the pinned roster"):
        kept.verified(strangers)
    book.path.write_bytes(book.path.read_bytes() + b"{}\n")
    with pytest.raises(PeerError, match="line 2"):
        list(book.read())


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_asked(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TACIT_RECEIPTS", str(tmp_path / "file" / "receipts"))
    roster = tmp_path / "cluster.json"
    ROSTER.save(roster)
    with pytest.raises(ConfigError, match="TACIT_RECEIPTS"):
        tacit.Client(roster)
    tacit.Client(roster, keep_receipts=False).close()


def test_the_command_shows_and_verifies(tmp_path, monkeypatch, capsys) -> None:
    from tacit.client.ledger import run_receipts

    monkeypatch.setenv("TACIT_RECEIPTS", str(tmp_path))
    run_receipts(last=20, cluster=None, as_json=False)
    assert "no receipts are kept yet" in capsys.readouterr().out
    ROSTER.save(tmp_path / "cluster.json")
    book = Book()
    book.add(Kept(1, "test", ("peer-0", "peer-1", "peer-2"), pair(), QUOTES))
    run_receipts(last=20, cluster=tmp_path / "cluster.json", as_json=False)
    shown = capsys.readouterr().out
    for word in ("stories", "peer-0, peer-1", "good, peers pinned", "abababab", "dddddddddddddddd"):
        assert word in shown
    book.add(Kept(2, "test", ("peer-0", "peer-1", "peer-2"), pair({}, {"transcript": "e" * 64}), QUOTES))
    with pytest.raises(PeerError, match=r"not all are in order.*different transcripts"):
        run_receipts(last=20, cluster=None, as_json=True)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["verdict"][:4] for row in rows] == ["good", "peer"]
