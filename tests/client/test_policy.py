"""Whom a client accepts, whatever the coordinator proposes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from tacit.client.policy import Policy, check_choice
from tacit.errors import IdentityError, UsageError
from tacit.members import CoordinatorEntry, Roster, RosterMember
from tacit.party.identity import Identity

IDENTITIES = [Identity.create() for _ in range(6)]


def roster(operators: str = "ABCDA", own: bool = False) -> Roster:
    return Roster(
        "test",
        own,
        CoordinatorEntry("coordinator", "http://127.0.0.1:1", IDENTITIES[5].peer_id, IDENTITIES[5].mesh_key),
        tuple(
            RosterMember(f"peer-{n}", operator, one.peer_id, f"tcp://127.0.0.1:{9000 + n}", one.mesh_key)
            for n, (operator, one) in enumerate(zip(operators, IDENTITIES, strict=False))
        ),
    )


@dataclass(frozen=True)
class Seat:
    peer_id: str
    operator: str


SEATS = [Seat(member.peer_id, member.operator) for member in roster().members[:3]]


def test_a_committee_as_asked_for_passes() -> None:
    check_choice(SEATS, roster(), (), ())
    check_choice(SEATS, roster(), {"A", "B", "C"}, {IDENTITIES[3].peer_id})


def test_a_coordinator_that_seats_who_was_ruled_out_is_named() -> None:
    with pytest.raises(IdentityError, match=r"coordinator .*seated peer-1 .*which this client had left out"):
        check_choice(SEATS, roster(), (), {IDENTITIES[1].peer_id})
    with pytest.raises(IdentityError, match=r"coordinator .*seated peer-2 .* of 'C', an operator .* does not allow"):
        check_choice(SEATS, roster(), {"A", "B", "D"}, ())


def test_resumes_stay_with_the_operators_that_began_unless_told_otherwise() -> None:
    assert Policy().first_choice() == frozenset()
    assert Policy().later_choice({"A", "B", "C"}, roster()) == {"A", "B", "C"}
    assert Policy(same_operators=False).later_choice({"A", "B", "C"}, roster()) == frozenset()
    wide = Policy(frozenset("ABCD"), same_operators=False)
    assert wide.first_choice() == wide.later_choice({"A", "B", "C"}, roster()) == {"A", "B", "C", "D"}
    assert Policy().later_choice({"A"}, roster("AAAAA", own=True)) == frozenset()


def test_policies_that_cannot_be_met_are_refused() -> None:
    assert Policy(frozenset("ABC")).admitted(roster()).operators == {"A", "B", "C"}
    with pytest.raises(UsageError, match="operator 'E' is not in the roster, which has A, B, C, D"):
        Policy(frozenset("ABE")).admitted(roster())
    with pytest.raises(UsageError, match="2 operators are allowed, three are needed"):
        Policy(frozenset("AB")).admitted(roster())
    assert Policy(frozenset("A")).admitted(roster("AAAAA", own=True))
    for count in (-1, 4):
        with pytest.raises(UsageError, match=f"max_resumes is {count}"):
            Policy(max_resumes=count)
    with pytest.raises(UsageError, match="an allowed operator is not a name"):
        Policy(frozenset({"a/b"}))
