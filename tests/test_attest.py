"""Attestations: real nodes, and a coordinator on the way that withholds, alters, swaps and replays what they say."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest
from local_mesh import PaperModel, hall
from tacit.attest import Attestation, ModelHash, Question, read_answer
from tacit.client.audit import audit, by_software, hear, worst
from tacit.client.show_audit import report
from tacit.errors import IdentityError, NetworkError, PeerError, UsageError
from tacit.party.identity import Identity
from tacit.party.mesh import ATTEST
from tacit.signed import Signed
from tacit.software import software_digest


@pytest.fixture(scope="module")
def there():
    with hall() as found:
        yield found


@pytest.fixture
def ask(there):
    """An honest coordinator."""
    return lambda peer_id, question: Signed.from_bytes(
        there.coordinator.request(peer_id, ATTEST, question.to_bytes()), "peer"
    )


def test_peers_say_who_they_are_and_what_they_run(there, ask):
    heard = audit(there.roster, ask, software_digest())
    assert [one.problems for one in heard] == [(), (), ()]
    assert worst(heard) == ""
    for one in heard:
        assert one.attestation.operator == one.member.operator
        assert one.attestation.software == software_digest()
        assert one.attestation.models == (ModelHash("paper", PaperModel().manifest_hash),)
        assert abs(one.attestation.made - time.time()) < 10
    assert [len(group) for group in by_software(heard).values()] == [3]
    told = json.loads(json.dumps(report(there.roster, heard, software_digest())))
    assert told["good"] is True
    assert any("which code" in words for words in told["does_not_prove"])


def test_every_question_is_another(there, ask):
    assert Question.fresh() != Question.fresh()
    nonces = {hear(there.roster.members[0], ask).attestation.nonce for _ in range(5)}
    assert len(nonces) == 5


def test_a_replayed_answer_is_caught(there, ask):
    kept = {}

    def replaying(peer_id, question):
        return kept.setdefault(peer_id, ask(peer_id, question))

    assert worst(audit(there.roster, replaying, software_digest())) == ""
    heard = audit(there.roster, replaying, software_digest())
    assert all(one.forged for one in heard)
    assert "alice" in worst(heard)
    assert "replays" in worst(heard)


def test_another_peers_answer_is_caught(there, ask):
    alice, bob, _ = there.roster.members

    def swapping(peer_id, question):
        return ask({alice.peer_id: bob.peer_id, bob.peer_id: alice.peer_id}.get(peer_id, peer_id), question)

    heard = audit(there.roster, swapping, software_digest())
    assert [one.forged for one in heard] == [True, True, False]
    assert "the signature is not by peer" in heard[0].problems[0]


def test_a_peer_cannot_speak_for_another(there, ask):
    """Bob signs with his own key what only alice may say."""
    alice, bob, _ = there.roster.members
    question = Question.fresh()
    said = Attestation.from_bytes(ask(alice.peer_id, question).payload, "alice")
    signed = there.identities["bob"].sign(said)
    with pytest.raises(IdentityError, match=r"alice.*not by peer"):
        read_answer(signed, question, alice)
    with pytest.raises(IdentityError, match=r"bob.*another peer's name"):
        read_answer(signed, question, bob)


def test_a_coordinator_that_alters_is_caught(there, ask):
    def altering(peer_id, question):
        signed = ask(peer_id, question)
        return dataclasses.replace(signed, payload=signed.payload.replace(b'"0.1.0"', b'"0.1.1"'))

    heard = audit(there.roster, altering, software_digest())
    assert all(one.forged for one in heard)


def test_a_coordinator_that_withholds_is_seen(there, ask):
    bob = there.roster.members[1]

    def withholding(peer_id, question):
        if peer_id == bob.peer_id:
            raise NetworkError("bob: no answer")
        return ask(peer_id, question)

    heard = audit(there.roster, withholding, software_digest())
    assert [bool(one.problems) for one in heard] == [False, True, False]
    assert not heard[1].forged
    assert worst(heard).startswith("bob")


def test_signatures_for_another_purpose_are_no_attestation(there):
    """What alice signs elsewhere cannot be passed off as an attestation."""
    alice = there.roster.members[0]
    question = Question.fresh()
    with pytest.raises(PeerError, match="malformed Attestation"):
        read_answer(there.identities["alice"].sign(question), question, alice)


def altered(there, ask, **changes):
    """Alice says something else about herself, under her own signature."""
    alice = there.roster.members[0].peer_id

    def found(peer_id, question):
        signed = ask(peer_id, question)
        if peer_id != alice:
            return signed
        said = Attestation.from_bytes(signed.payload, "alice")
        return there.identities["alice"].sign(dataclasses.replace(said, **changes))

    return found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"operator": "Mallory"}, "says that 'Mallory' runs it, pinned is"),
        ({"version": "9.9"}, "runs version 9.9, this installation is"),
        ({"software": "0" * 64}, "neither another peer nor this installation"),
        ({"models": (ModelHash("paper", "1" * 64),)}, "another paper than others"),
        ({"made": 1000}, "s behind of this machine's"),
        ({"made": 1 << 40}, "s ahead of this machine's"),
    ],
)
def test_what_is_not_as_it_should_be_is_named(there, ask, changes, words):
    heard = audit(there.roster, altered(there, ask, **changes), software_digest())
    assert [bool(one.problems) for one in heard] == [True, False, False]
    assert words in heard[0].problems[0]
    assert not heard[0].forged
    assert report(there.roster, heard, software_digest())["good"] is False


def test_peers_may_agree_on_software_that_is_not_installed_here(there, ask):
    heard = audit(there.roster, ask, "f" * 64)
    assert worst(heard) == ""


def test_where_everybody_runs_something_else_nobody_is_at_fault(there, ask):
    """Three operators with three minor versions of Python; the table shows the groups."""
    names = {member.peer_id: member.name for member in there.roster.members}

    def all_differ(peer_id, question):
        said = Attestation.from_bytes(ask(peer_id, question).payload, "somebody")
        own = str(list(names).index(peer_id)) * 64
        return there.identities[names[peer_id]].sign(dataclasses.replace(said, software=own))

    heard = audit(there.roster, all_differ, "f" * 64)
    assert worst(heard) == ""
    assert len(by_software(heard)) == 3
    assert worst(audit(there.roster, all_differ, "0" * 64)).startswith("bob")  # one of them runs the same as we


def test_where_nobody_can_tell_who_is_right_all_are_named():
    other = PaperModel(manifest=b'{"name":"paper","other":1}')
    with hall(("alice", "bob", "carol", "dora"), alice=other, bob=other) as there:
        heard = audit(
            there.roster,
            lambda peer_id, question: Signed.from_bytes(
                there.coordinator.request(peer_id, ATTEST, question.to_bytes()), "peer"
            ),
            software_digest(),
        )
    assert all("another paper" in one.problems[0] for one in heard)


def test_clocks_within_the_time_of_the_question_are_the_same(there, ask):
    alice = there.roster.members[0]
    ticks = iter([1000.4, 1003.0])
    assert hear(alice, altered(there, ask, made=1000), lambda: next(ticks)).skew == 0
    ticks = iter([1000.4, 1003.0])
    assert hear(alice, altered(there, ask, made=1043), lambda: next(ticks)).skew == 40
    ticks = iter([1000.5, 1003.0])
    assert hear(alice, altered(there, ask, made=900), lambda: next(ticks)).skew == pytest.approx(-99.5)


def test_fields_are_strict(there):
    alice = there.identities["alice"]
    with pytest.raises(UsageError):
        Question(b"short")
    handler = there.coordinator
    with pytest.raises(PeerError, match="malformed Question"):
        handler.request(alice.peer_id, ATTEST, b'{"nonce":"AAAA"}')
    with pytest.raises(PeerError, match="malformed Question"):
        handler.request(alice.peer_id, ATTEST, b"x" * 5000)
    assert Identity.create().peer_id != alice.peer_id
