"""Signed words, changed in one field at a time: every change is refused, by client, binder and dialler."""

from __future__ import annotations

import dataclasses
import json

import pytest
from echo_cluster import free_ports, make_roster
from tacit.errors import IdentityError, PeerError
from tacit.members import Roster
from tacit.party.identity import Identity
from tacit.party.session import check_binding, check_introduction
from tacit.quotes import Quotes
from tacit.records import Record
from tacit.signed import Signed
from tacit.sizes import Sizes
from tacit.transport import CurveKeys
from tacit.wire import Binding, Introduction, Offer, SessionReply, SessionRequest, Statement, check_statements

NAMES = ("peer-0", "peer-1", "peer-2", "peer-3")
IDENTITIES = {name: Identity.create() for name in (*NAMES, "coordinator")}
ROSTER = make_roster(IDENTITIES, free_ports(5))
IDS = tuple(IDENTITIES[name].peer_id for name in NAMES)
PEERS = (IDS[0], IDS[1], IDS[2])
REQUEST = SessionRequest("ab" * 16, CurveKeys.fresh().public, "stories", "pair", Sizes.of([5], 20))
KEYS = [CurveKeys.fresh().public for _ in range(4)]
REQUEST_ONLY = ("operators", "without", "max_price", "currency")
SEAT = {"quotes": ("1" * 64, "2" * 64, "3" * 64)} | {
    name: value for name, value in REQUEST.to_json().items() if name not in REQUEST_ONLY
}
OFFER = Offer(role=0, peers=PEERS, **SEAT)


def statement(role: int, **changes: object) -> Statement:
    member = ROSTER.member(PEERS[role])
    assert member is not None
    fields = {
        **SEAT,
        "context": Statement.CONTEXT,
        "role": role,
        "peer_id": PEERS[role],
        "operator": member.operator,
        "peers": PEERS,
        "manifest_hash": "c" * 64,
        "endpoint": "" if role == 2 else f"tcp://127.0.0.1:{4000 + role}",
        "curve_key": "" if role == 2 else KEYS[role],
        **changes,
    }
    return Statement(**fields)  # type: ignore[arg-type]


NO_QUOTES: Quotes = (Signed(b"", bytes(64)), Signed(b"", bytes(64)), Signed(b"", bytes(64)))  # client/verify reads them


def reply(*signed: Signed) -> SessionReply:
    return SessionReply(REQUEST.session, (signed[0], signed[1], signed[2]), NO_QUOTES)


def good() -> list[Signed]:
    return [IDENTITIES[NAMES[role]].sign(statement(role)) for role in range(3)]


def test_good_statements_pass() -> None:
    found = check_statements(REQUEST, SessionReply.from_bytes(reply(*good()).to_bytes(), "coordinator"), ROSTER)
    assert [one.peer_id for one in found] == list(PEERS)


CHANGES: dict[str, object] = {
    "session": "cd" * 16,
    "role": 1,
    "peer_id": IDS[3],
    "operator": "operator of peer-1",
    "peers": (IDS[0], IDS[1], IDS[3]),
    "model": "other",
    "manifest_hash": "d" * 64,
    "endpoint": "",
    "curve_key": "",
    "client_key": KEYS[3],
    "sizes": Sizes.of([6], 20),
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_statement_signed_about_something_else_is_refused(field: str) -> None:
    """By the right peer, but not what was asked: e.g. an old statement, or one for another client."""
    words = good()
    words[0] = IDENTITIES["peer-0"].sign(dataclasses.replace(statement(0), **{field: CHANGES[field]}))  # type: ignore[arg-type]
    with pytest.raises(PeerError):
        check_statements(REQUEST, reply(*words), ROSTER)


@pytest.mark.parametrize("field", [*CHANGES, "context", "protocol"])
@pytest.mark.parametrize("role", [0, 2])
def test_a_statement_changed_on_the_way_is_refused(field: str, role: int) -> None:
    words = good()
    content = json.loads(words[role].payload)
    change = CHANGES.get(field, "tacit/binding/1" if field == "context" else "plain")
    content[field] = change.to_json() if isinstance(change, Sizes) else change
    if content == json.loads(words[role].payload):
        content[field] = "tcp://127.0.0.1:9" if field == "endpoint" else KEYS[3]
    words[role] = dataclasses.replace(words[role], payload=json.dumps(content).encode())
    with pytest.raises(PeerError):
        check_statements(REQUEST, reply(*words), ROSTER)


def test_even_the_spelling_is_signed() -> None:
    words = good()
    words[1] = dataclasses.replace(words[1], payload=words[1].payload + b" ")
    with pytest.raises(IdentityError, match="peer-1"):
        check_statements(REQUEST, reply(*words), ROSTER)


def test_signatures_cannot_be_swapped() -> None:
    words = good()
    words[0] = dataclasses.replace(words[0], signature=words[1].signature)
    with pytest.raises(IdentityError, match="peer-0"):
        check_statements(REQUEST, reply(*words), ROSTER)


def test_roles_cannot_be_swapped() -> None:
    words = good()
    with pytest.raises(PeerError, match="signed role 1, expected 0"):
        check_statements(REQUEST, reply(words[1], words[0], words[2]), ROSTER)


def test_a_stranger_with_a_valid_signature_is_refused() -> None:
    stranger = Identity.create()
    words = good()
    words[2] = stranger.sign(statement(2, peer_id=stranger.peer_id))
    with pytest.raises(IdentityError, match="not in the pinned roster"):
        check_statements(REQUEST, reply(*words), ROSTER)


def test_one_curve_key_for_two_peers_is_refused() -> None:
    words = good()
    words[1] = IDENTITIES["peer-1"].sign(statement(1, curve_key=KEYS[0]))
    with pytest.raises(IdentityError, match="not all different"):
        check_statements(REQUEST, reply(*words), ROSTER)


def test_three_friends_are_refused_unless_the_cluster_is_our_own() -> None:
    """Same operator for all: fine for a cluster of one's own, never when an untrusted coordinator seats them."""
    members = tuple(dataclasses.replace(member, operator="one") for member in ROSTER.members)
    words = [IDENTITIES[NAMES[role]].sign(statement(role, operator="one")) for role in range(3)]
    with pytest.raises(IdentityError, match="three operators"):
        check_statements(REQUEST, reply(*words), dataclasses.replace(ROSTER, members=members))
    check_statements(REQUEST, reply(*words), dataclasses.replace(ROSTER, members=members, own=True))


# Between peers -------------------------------------------------------------------------------------------------------

INTRODUCTION = Introduction(Introduction.CONTEXT, REQUEST.session, IDS[2], IDS[0], 2, 0, KEYS[0], "c" * 64)
BINDING = Binding(
    Binding.CONTEXT, REQUEST.session, IDS[0], IDS[2], 0, 2, "tcp://127.0.0.1:4000", KEYS[1], KEYS[0], "c" * 64
)


def changed(record: Record, field: str) -> Record:
    values = {
        "session": "cd" * 16,
        "sender": IDS[3],
        "receiver": IDS[1],
        "sender_role": 1,
        "receiver_role": 1,
        "admitted": KEYS[3],
        "manifest_hash": "d" * 64,
        "key": KEYS[0],
    }
    return dataclasses.replace(record, **{field: values[field]})  # type: ignore[arg-type]


def introduce(signed: Signed, sender: str = IDS[2]) -> Introduction:
    return check_introduction(signed, OFFER, sender, IDS[0], ROSTER)


def test_a_good_introduction_and_binding_pass() -> None:
    assert introduce(IDENTITIES["peer-2"].sign(INTRODUCTION)) == INTRODUCTION
    assert check_binding(IDENTITIES["peer-0"].sign(BINDING), INTRODUCTION, "peer-0") == BINDING


@pytest.mark.parametrize("field", ["session", "sender", "receiver", "sender_role", "receiver_role"])
def test_an_introduction_about_something_else_is_refused(field: str) -> None:
    with pytest.raises(PeerError, match="peer-2"):
        introduce(IDENTITIES["peer-2"].sign(changed(INTRODUCTION, field)))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(INTRODUCTION)])
def test_an_introduction_changed_on_the_way_is_refused(field: str) -> None:
    signed = IDENTITIES["peer-2"].sign(INTRODUCTION)
    content = json.loads(signed.payload)
    other = "tacit/statement/1" if field == "context" else getattr(changed(BINDING, field), field)
    content[field] = KEYS[3] if field == "key" else other
    assert content != json.loads(signed.payload)
    with pytest.raises(IdentityError):
        introduce(dataclasses.replace(signed, payload=json.dumps(content).encode()))


@pytest.mark.parametrize("sender", [IDS[1], IDS[3]])
def test_an_introduction_passed_on_by_another_member_is_refused(sender: str) -> None:
    with pytest.raises(IdentityError):
        introduce(IDENTITIES["peer-2"].sign(INTRODUCTION), sender)


def test_a_lower_role_does_not_introduce_itself_to_a_higher_one() -> None:
    offer = dataclasses.replace(OFFER, role=2)
    backwards = dataclasses.replace(INTRODUCTION, sender=IDS[0], receiver=IDS[2], sender_role=0, receiver_role=2)
    with pytest.raises(IdentityError, match="should dial it"):
        check_introduction(IDENTITIES["peer-0"].sign(backwards), offer, IDS[0], IDS[2], ROSTER)


@pytest.mark.parametrize(
    "field", ["session", "sender", "receiver", "sender_role", "receiver_role", "admitted", "manifest_hash", "key"]
)
def test_a_binding_about_something_else_is_refused(field: str) -> None:
    with pytest.raises(IdentityError, match="peer-0"):
        check_binding(IDENTITIES["peer-0"].sign(changed(BINDING, field)), INTRODUCTION, "peer-0")


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(BINDING)])
def test_a_binding_changed_on_the_way_is_refused(field: str) -> None:
    signed = IDENTITIES["peer-0"].sign(BINDING)
    content = json.loads(signed.payload)
    others = {"context": "tacit/statement/1", "endpoint": "tcp://127.0.0.1:9"}
    content[field] = others.get(field) or getattr(changed(BINDING, field), field)
    assert content != json.loads(signed.payload)
    with pytest.raises(IdentityError):
        check_binding(dataclasses.replace(signed, payload=json.dumps(content).encode()), INTRODUCTION, "peer-0")


def test_a_word_for_one_purpose_is_no_word_for_another() -> None:
    """The coordinator's, client's and peers' contexts keep signatures apart even where the fields are the same."""
    content = json.loads(IDENTITIES["peer-2"].sign(INTRODUCTION).payload)
    content["context"] = "tacit/something/1"
    payload = json.dumps(content).encode()
    signature = IDENTITIES["peer-2"]._private.sign(payload)
    with pytest.raises(PeerError, match="context"):
        introduce(Signed(payload, signature))


def test_the_roster_refuses_twins() -> None:
    content = ROSTER.to_json()
    for field in ("peer_id", "mesh_key", "name", "mesh_endpoint"):
        twins = json.loads(json.dumps(content))
        twins["members"][1][field] = twins["members"][0][field]
        with pytest.raises(PeerError, match=f"same {field}"):
            Roster.from_bytes(json.dumps(twins).encode(), "cluster.json")


def test_no_new_peer_id_reads_as_an_option() -> None:
    """One key in 64 has such an id: `tacit peers pin` refused it."""
    assert not [True for _ in range(500) if Identity.create().peer_id.startswith("-")]
