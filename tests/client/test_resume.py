"""Answers that lose a peer on the way: the text goes on, nothing is said twice, and nothing is told to who should not know."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from committee import Committee, toy_logits
from tacit.batch import Batch
from tacit.client import resume as resume_module
from tacit.client.answer import Answer, ModelFacts
from tacit.client.generation import Generation
from tacit.client.policy import Policy
from tacit.client.results import Resume
from tacit.client.resume import ResumingSession
from tacit.client.sampling import Sampling
from tacit.client.session import PrivateSession
from tacit.client.tokens import IdTokenizer
from tacit.errors import IdentityError, NetworkError, PeerError, PeerLost, RefusedError, TacitError
from tacit.sizes import Sizes

VOCAB = 41
FACTS = ModelFacts("toy", "pair", "0" * 64, VOCAB, 64, 2, None, ())
PROMPT = [3, 1, 4]
PEERS = {"id0": "A", "id1": "B", "id2": "C", "id3": "A", "id4": "D"}  # id -> operator


@dataclass(frozen=True)
class Seat:
    peer_id: str
    operator: str


@dataclass
class FakeRoster:
    own: bool = False


@dataclass
class Sitting:
    """What the opener was asked for, and the committee that it gave."""

    operators: tuple[str, ...]
    without: tuple[str, ...]
    sizes: Sizes
    session: bytes
    seats: list[Seat]
    committee: Committee


@dataclass
class FakeOpener:
    """Committees of toy peers, as `plan` says: settings of `Committee`, or an error of the coordinator or of dialling."""

    plan: list[dict | TacitError | Callable[[], TacitError]]
    pinned: FakeRoster = field(default_factory=FakeRoster)
    sat: list[Sitting] = field(default_factory=list)
    asked: int = 0

    def seat(self, sizes: Sizes, operators: Sequence[str] = (), without: Sequence[str] = ()) -> Sitting:
        self.asked += 1
        if isinstance(self.plan[0], TacitError):
            raise self.plan.pop(0)
        free = [Seat(*one) for one in PEERS.items() if one[0] not in without and (not operators or one[1] in operators)]
        seats = [next(seat for seat in free if seat.operator == one) for one in sorted({s.operator for s in free})][:3]
        if len(seats) < 3 and self.pinned.own:
            seats = free[:3]
        if len(seats) < 3:
            raise RefusedError("coordinator", "needs three free peers")
        found = self.plan.pop(0)
        settings = found if isinstance(found, dict) else {"dial": found()}
        committee = Committee(VOCAB, **{key: value for key, value in settings.items() if key != "dial"})
        committee.dial = settings.get("dial")
        self.sat.append(Sitting(tuple(operators), tuple(sorted(without)), sizes, os.urandom(16), seats, committee))
        return self.sat[-1]

    def dial(self, sitting: Sitting) -> PrivateSession:
        if sitting.committee.dial is not None:
            raise sitting.committee.dial
        circle, links = sitting.committee.connect(sitting.session, self.names(sitting))
        return PrivateSession(
            circle,
            links,
            session=sitting.session,
            peers=self.names(sitting),
            vocab=VOCAB,
            layers=2,
            timeout=5.0,
        )

    def names(self, sitting: Sitting) -> tuple[str, ...]:
        return tuple(f"peer-{seat.peer_id} (short)" for seat in sitting.seats)


def dying(step: int, role: int = 0) -> dict:
    return {"die_at": step, "dying": role}


def answer(
    opener: FakeOpener, policy: Policy | None = None, count: int = 8, **sampling
) -> tuple[Generation, list[Resume]]:
    heard: list[Resume] = []

    def start(sizes: Sizes) -> ResumingSession:
        return ResumingSession(opener, policy or Policy(), sizes, heard.append)

    asked = Answer(FACTS, IdTokenizer(VOCAB), PROMPT, max_new_tokens=count, sampling=Sampling(**sampling))
    return Generation(asked, start), heard


def greedy(count: int) -> list[int]:
    tokens = list(PROMPT)
    for _ in range(count):
        tokens.append(int(np.argmax(toy_logits(tokens, VOCAB))))
    return tokens[len(PROMPT) :]


@pytest.mark.parametrize("step", [0, 1, 5, 7])
@pytest.mark.parametrize("role", [0, 1])
def test_the_text_goes_on_without_a_lost_or_repeated_token(step: int, role: int) -> None:
    opener = FakeOpener([dying(step, role), {}], FakeRoster(own=True))
    made, heard = answer(opener)
    result = made.complete()
    assert list(result.token_ids) == greedy(8)
    assert result.resumes == tuple(heard)
    [resume] = heard
    lost = opener.sat[0].seats[role]
    assert resume.after_tokens == step
    assert resume.lost == f"peer-{lost.peer_id} (short)"
    assert resume.lost in resume.reason
    assert resume.peers == result.peers == opener.names(opener.sat[1])
    second = opener.sat[1]
    assert second.without == (lost.peer_id,)
    assert lost not in second.seats
    assert (second.sizes.step_tokens, second.sizes.kept_tokens) == (len(PROMPT) + step, len(PROMPT) + 7)
    rows = [Batch.from_bytes(row["batch"]).rows for row in second.committee.seen[0].steps]
    assert rows == [len(PROMPT) + step] + [1] * (7 - step)
    assert second.committee.tokens == PROMPT + greedy(7)
    assert result.to_dict()["resumes"][0]["after_tokens"] == step


def test_sampling_goes_on_where_it_was() -> None:
    undisturbed, _ = answer(FakeOpener([{}]), temperature=1.5, seed=7)
    disturbed, heard = answer(
        FakeOpener([dying(3), dying(2, 1), {}]), temperature=1.5, seed=7, policy=Policy(same_operators=False)
    )
    assert disturbed.complete().token_ids == undisturbed.complete().token_ids
    assert [resume.after_tokens for resume in heard] == [3, 5]


def test_nothing_but_the_tokens_is_used_twice() -> None:
    opener = FakeOpener([dying(2), {}])
    made, _ = answer(opener)
    made.complete()
    first, second = (sitting.committee.seen for sitting in opener.sat)
    assert opener.sat[0].session != opener.sat[1].session
    blocks = [set(), set()]
    for number, seen in enumerate((first, second)):
        for one in seen:
            for body in one.bodies:
                blocks[number] |= {body[at : at + 16] for at in range(0, len(body), 16)}
    assert blocks[0]
    assert not blocks[0] & blocks[1]


def test_a_peer_that_sends_nonsense_is_left_out() -> None:
    def spoil(role: int, fields: dict, body: bytes) -> tuple[dict, bytes]:
        return ({**fields, "count": 7}, body) if role == 1 and fields["step"] == 2 else (fields, body)

    opener = FakeOpener([{"spoil": spoil}, {}], FakeRoster(own=True))
    made, heard = answer(opener)
    assert list(made.complete().token_ids) == greedy(8)
    assert heard[0].lost == "peer-id1 (short)"
    assert opener.sat[1].without == ("id1",)


def test_resumes_stay_with_the_operators_that_began() -> None:
    opener = FakeOpener([dying(2), {}])
    made, _ = answer(opener)
    made.complete()
    assert opener.sat[0].operators == ()
    assert set(opener.sat[1].operators) == {"A", "B", "C"} == {seat.operator for seat in opener.sat[1].seats}

    opener = FakeOpener([dying(2, 1), {}])  # B has no other peer
    made, _ = answer(opener)
    with pytest.raises(PeerLost, match=r"peer-id1 .*could not go on: .*needs three free peers.*of A, B, C only"):
        made.complete()
    assert list(made.token_ids) == greedy(2)

    opener = FakeOpener([dying(2, 1), {}])
    made, _ = answer(opener, Policy(same_operators=False))
    assert list(made.complete().token_ids) == greedy(8)
    assert {seat.operator for seat in opener.sat[1].seats} == {"A", "C", "D"}

    opener = FakeOpener([dying(2, 1), {}])
    made, _ = answer(opener, Policy(same_operators=False, operators=frozenset("ABC")))
    with pytest.raises(PeerLost, match="three free peers"):
        made.complete()


def test_three_resumes_and_no_more() -> None:
    opener = FakeOpener([dying(1), dying(1), dying(1), dying(1), {}], FakeRoster(own=True))
    made, heard = answer(opener)
    # Five peers, one lost each time: after three losses only two are left, so the third resume finds none.
    with pytest.raises(PeerLost, match="needs three free peers"):
        made.complete()
    assert len(heard) == 2

    def unreachable() -> TacitError:
        return NetworkError("nobody in particular: did not connect within 5 s")

    opener = FakeOpener([dying(1), unreachable, unreachable, unreachable, {}], FakeRoster(own=True))
    made, heard = answer(opener)
    with pytest.raises(NetworkError, match="3 other committees were tried already"):
        made.complete()
    assert len(opener.sat) == 4
    assert heard == []
    assert list(made.token_ids) == greedy(1)


def test_no_resume_if_the_policy_says_so() -> None:
    made, heard = answer(FakeOpener([dying(2), {}]), Policy(max_resumes=0))
    with pytest.raises(PeerLost) as caught:
        made.complete()
    assert "could not go on" not in str(caught.value)
    assert heard == []


def test_where_nobody_is_named_others_are_tried_first_and_then_all() -> None:
    def unreachable() -> TacitError:
        return NetworkError("something went wrong")

    opener = FakeOpener([unreachable, {}], FakeRoster(own=True))
    made, heard = answer(opener)
    assert list(made.complete().token_ids) == greedy(8)
    assert opener.asked == 3  # two of five peers are not enough, so all five were asked again
    assert opener.sat[1].without == ()
    assert heard[0].lost == ""
    assert heard[0].after_tokens == 0


def test_who_waited_in_vain_is_not_the_culprit() -> None:
    """A compute peer whose partner fell silent reports a timeout, which arrives under its own name."""
    error = PeerError("peer-id0 (short)", "peer-id2 (short): sent no 'open' within 30 s")
    opener = FakeOpener([lambda: error, {}], FakeRoster(own=True))
    answer(opener)[0].complete()
    assert opener.sat[1].without == ("id2",)


def test_a_coordinator_that_is_starting_again_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume_module, "_PAUSE", 0.01)
    away, empty = NetworkError("no coordinator"), RefusedError("coordinator", "needs three free peers, found 0")
    made, heard = answer(FakeOpener([dying(2), away, away, empty, {}]))
    assert list(made.complete().token_ids) == greedy(8)
    assert len(heard) == 1
    monkeypatch.setattr(resume_module, "PATIENCE", 0.05)
    made, _ = answer(FakeOpener([dying(2), *[away] * 50]))
    with pytest.raises(PeerLost, match="could not go on: no coordinator"):
        made.complete()


def test_a_coordinator_that_cheats_at_a_resume_is_named_at_once() -> None:
    opener = FakeOpener([dying(2), IdentityError("coordinator", "seated somebody else"), {}])
    made, heard = answer(opener)
    with pytest.raises(IdentityError, match="seated somebody else"):
        made.complete()
    assert (opener.asked, heard) == (2, [])


def test_a_peer_lost_at_the_end_takes_nothing_with_it() -> None:
    opener = FakeOpener([{"die_at_end": True}])
    made, _ = answer(opener)
    assert list(made.complete().token_ids) == greedy(8)
