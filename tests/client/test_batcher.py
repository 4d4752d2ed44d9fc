"""Answers that share a session: each is as if alone, rounds are shared, room is kept, cancelled ones are forgotten."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.batch import Batch, Lengths
from tacit.client.answer import Answer, ModelFacts
from tacit.client.batcher import Batcher
from tacit.client.events import Ended, Event, Failed, Finished, Opened, Progress, Said
from tacit.client.feeds import Feed, batch_of, steps
from tacit.client.generation import Step, StepCost
from tacit.client.many import complete_all
from tacit.client.sampling import Sampling
from tacit.client.tokens import IdTokenizer
from tacit.errors import PeerLost, UsageError
from tacit.quotes import Charge, Price
from tacit.sizes import Sizes

VOCAB, CONTEXT = 50, 64
FACTS = ModelFacts("toy", "pair", "", VOCAB, CONTEXT, 1, None, (0,))


def logits_of(tokens: Sequence[int]) -> np.ndarray:
    """Those of a model whose next token depends on all tokens."""
    state = 7
    for token in tokens:
        state = (state * 31 + token + 1) % 100_003
    return np.random.default_rng(state).normal(size=VOCAB)


def alone(prompt: Sequence[int], count: int, seed: int | None = None, number: int = 0) -> Answer:
    made = answer(prompt, count, seed, number)
    tokens = list(prompt)
    while not made.done:
        made.take(logits_of(tokens))
        tokens = [*prompt, *made.token_ids]
    return made


def answer(prompt: Sequence[int], count: int, seed: int | None = None, number: int = 0, **settings: Any) -> Answer:
    sampling = Sampling() if seed is None else Sampling(temperature=1.0, seed=seed)
    return Answer(
        FACTS, IdTokenizer(VOCAB), list(prompt), max_new_tokens=count, sampling=sampling, number=number, **settings
    )


class Peers:
    """A runner over `logits_of` that holds what peers would hold, and refuses what they would refuse."""

    peers, operators, resumes, receipts = ("a", "b", "c"), ("A", "B", "C"), (), ()

    def __init__(self, sizes: Sizes, world: World) -> None:
        self.lengths = sizes.lengths(CONTEXT)
        self.held: dict[int, list[int]] = {}
        self.world = world
        self.batches: list[Batch] = []
        self.aheads: list[int] = []
        self.tokens = 0
        self.ended = ""

    @property
    def charge(self) -> Charge:
        return Charge(Price(3_000_000, "EUR"), self.tokens)

    def step(self, feeds: Sequence[Feed], ahead: int, forget: Sequence[int] = ()) -> Step:
        assert not self.ended
        self.world.entered.set()
        self.world.gate.wait(5)
        time.sleep(self.world.pause)
        if self.world.faults:
            raise self.world.faults.pop(0)
        batch = batch_of(feeds, forget)
        self.lengths.advance(batch)
        before = {slot: list(tokens) for slot, tokens in self.held.items() if slot not in forget}
        self.held = dict(before)
        for feed in feeds:
            self.held[feed.slot] = before.get(feed.source, [])[: feed.start] + list(feed.tokens)
        assert {slot: len(tokens) for slot, tokens in self.held.items()} == dict(self.lengths.kept)
        self.batches.append(batch)
        self.aheads.append(ahead)
        self.tokens += batch.rows
        return Step(np.stack([logits_of(self.held[feed.slot]) for feed in feeds]), StepCost())

    def finish(self) -> None:
        self.ended = "in order"

    def abort(self) -> None:
        self.ended = "aborted"


class World:
    """Sessions that were opened."""

    def __init__(self) -> None:
        self.sessions: list[Peers] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.faults: list[Exception] = []
        self.pause = 0.0  # seconds that a step takes

    def start(self, sizes: Sizes) -> Peers:
        self.sessions.append(Peers(sizes, self))
        return self.sessions[-1]


class Listener:
    """What was heard of a request."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._done: queue.Queue[Event] = queue.Queue()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Finished | Failed):
            self._done.put(event)

    def end(self) -> Event:
        return self._done.get(timeout=10)

    def finished(self) -> Finished:
        found = self.end()
        assert isinstance(found, Finished), found
        return found


@pytest.fixture
def world() -> World:
    return World()


def batcher(world: World, **settings: Any) -> Batcher:
    return Batcher(FACTS, world.start, **{"idle": 30.0, **settings})


def test_answers_that_come_together_are_each_as_if_alone(world: World) -> None:
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10], [1, 2, 3, 4]]
    made = [[answer(prompt, 6 + number, seed=number)] for number, prompt in enumerate(prompts)]
    heard = [Listener() for _ in made]
    with batcher(world) as one:
        one.submit_all(list(zip(made, heard, strict=True)))
        ends = [listener.finished() for listener in heard]
    for number, ([got], prompt) in enumerate(zip(made, prompts, strict=True)):
        want = alone(prompt, 6 + number, seed=number)
        assert (got.token_ids, got.text, got.finish_reason) == (want.token_ids, want.text, want.finish_reason)
    [session] = world.sessions
    assert session.ended == "in order"
    longest = max(len(got.token_ids) + (got.finish_reason == "stop") for [got] in made)
    assert len(session.batches) == longest  # steps as of the longest answer alone
    assert session.batches[0].rows == sum(map(len, prompts))
    assert [end.operators for end in ends] == [("A", "B", "C")] * 4
    for end, listener, [got] in zip(ends, heard, made, strict=True):
        kinds = [type(event) for event in listener.events]
        assert kinds[:2] == [Opened, Progress]
        assert kinds[-2:] == [Ended, Finished]
        said = [event for event in listener.events if isinstance(event, Said)]
        assert "".join(piece for event in said for piece in event.pieces) == got.text
        fed = len(got.prompt) + len(got.token_ids) - (got.finish_reason == "length")
        assert end.usage.cost == Charge(Price(3_000_000, "EUR"), fed).cost


def test_answers_to_one_prompt_share_it(world: World) -> None:
    made = [answer([3, 1, 4], 8, seed=5, number=number) for number in range(4)]
    heard = Listener()
    with batcher(world) as one:
        one.submit(made, heard)
        end = heard.finished()
    assert len({got.token_ids for got in made}) > 1  # they draw differently
    for number, got in enumerate(made):
        assert got.token_ids == alone([3, 1, 4], 8, seed=5, number=number).token_ids
    [session] = world.sessions
    assert session.batches[0].rows == 3  # the prompt goes in once
    assert {part.source for part in session.batches[1].parts} == {session.batches[0].parts[0].slot}
    assert end.usage.prompt_tokens == 3
    assert end.usage.completion_tokens == sum(len(got.token_ids) for got in made)


def test_one_that_comes_later_joins_and_the_first_does_not_wait(world: World) -> None:
    first, second = answer([1, 2], 20), answer([9, 8, 7], 5)
    heard = Listener(), Listener()
    with batcher(world) as one:
        world.gate.clear()
        one.submit([first], heard[0])
        one.submit([second], heard[1])
        world.gate.set()
        for listener in heard:
            listener.finished()
    assert first.token_ids == alone([1, 2], 20).token_ids
    assert second.token_ids == alone([9, 8, 7], 5).token_ids
    assert any(len(batch.parts) == 2 for batch in world.sessions[0].batches)


def test_a_conversation_goes_on_from_what_the_peers_hold(world: World) -> None:
    with batcher(world) as one:
        heard = Listener()
        first = answer([1, 2, 3, 4, 5], 6, seed=1)
        one.submit([first], heard)
        heard.finished()
        prompt = [1, 2, 3, 4, 5, *first.token_ids, 30, 31]
        second, heard = answer(prompt, 4, seed=2), Listener()
        one.submit([second], heard)
        end = heard.finished()
    assert second.token_ids == alone(prompt, 4, seed=2).token_ids
    [session] = world.sessions
    held = 5 + len(first.token_ids) - (first.finish_reason == "length")
    assert end.cached == held
    assert session.tokens == held + (len(prompt) - held) + len(second.token_ids) - (second.finish_reason == "length")


def test_another_prompt_does_not_destroy_a_conversation_while_there_is_room(world: World) -> None:
    long = list(range(1, 30))
    with batcher(world) as one:
        for prompt in (long, [1, 2, 40], [*long, 7]):
            heard = Listener()
            one.submit([answer(prompt, 2)], heard)
            end = heard.finished()
    assert end.cached >= len(long)


def test_a_long_prompt_goes_in_by_pieces_and_says_so(world: World) -> None:
    sizes = Sizes(4, 10, 200, 100)
    other, long = answer([1], 10), answer(list(range(1, 36)), 3)
    heard = Listener(), Listener()
    with batcher(world, sizes=sizes) as one:
        one.submit_all([([other], heard[0]), ([long], heard[1])])
        for listener in heard:
            listener.finished()
    assert long.token_ids == alone(range(1, 36), 3).token_ids
    done = [event.done for event in heard[1].events if isinstance(event, Progress)]
    assert done == sorted(done)
    assert done[-1] == 35
    assert len(done) > 3
    assert all(batch.rows <= 10 for batch in world.sessions[0].batches)
    # Those in progress go on meanwhile.
    assert all(
        any(part.slot == 0 for part in batch.parts) for batch in world.sessions[0].batches[: len(other.token_ids)]
    )


def test_what_finds_no_room_waits_and_what_needs_more_gets_a_session_of_its_own(world: World) -> None:
    sizes = Sizes(2, 20, 400, 30)
    made = [answer([n + 1] * 10, 5) for n in range(4)] + [answer([9] * 40, 20)]
    heard = [Listener() for _ in made]
    with batcher(world, sizes=sizes) as one:
        one.submit_all([([got], listener) for got, listener in zip(made, heard, strict=True)])
        for listener in heard:
            listener.finished()
        small = Listener()
        one.submit([answer([4], 2)], small)
        small.finished()
    for got in made:
        assert got.token_ids == alone(got.prompt, got.max_new_tokens).token_ids
    assert [session.ended for session in world.sessions] == ["in order"] * len(world.sessions)
    assert len(world.sessions) == 2
    assert world.sessions[1].tokens >= 40


def test_a_cancelled_request_is_forgotten_and_the_last_ends_the_session(world: World) -> None:
    heard = [Listener(), Listener()]
    world.pause = 0.01
    with batcher(world) as one:
        world.gate.clear()
        tickets = one.submit_all([([answer([n + 1], 60, ignore_eos=True)], heard[n]) for n in range(2)])
        assert world.entered.wait(5)  # both are in the first step
        for number, ticket in enumerate(tickets):
            ticket.cancel()
            ticket.cancel()
            world.gate.set()
            wait_for(lambda number=number: one.busy == 1 - number)
        wait_for(lambda: world.sessions[0].ended == "in order")
        assert one.peers == ()
        again = Listener()
        one.submit([answer([5], 2)], again)  # and the batcher goes on
        again.finished()
    [first, _] = world.sessions
    gone = [batch for batch in first.batches if batch.forget]
    assert len(gone) == 1
    assert gone[0].forget == (0,)
    assert not any(isinstance(event, Finished | Failed) for listener in heard for event in listener.events)


def test_a_request_that_is_cancelled_while_its_session_opens_is_never_fed(world: World) -> None:
    opening, go_on, heard = threading.Event(), threading.Event(), Listener()

    def start(sizes: Sizes) -> Peers:
        opening.set()
        assert go_on.wait(5)
        return world.start(sizes)

    with Batcher(FACTS, start, idle=30.0) as one:
        ticket = one.submit([answer([1, 2], 5)], heard)
        assert opening.wait(5)
        ticket.cancel()
        go_on.set()
        wait_for(lambda: bool(world.sessions) and bool(world.sessions[0].ended))
    assert world.sessions[0].batches == []
    assert heard.events == []


def test_a_lost_session_fails_what_was_in_progress_and_the_next_request_gets_another(world: World) -> None:
    heard = [Listener() for _ in range(3)]
    with batcher(world) as one:
        world.faults.append(PeerLost("b", "is gone"))
        one.submit_all([([answer([1], 3)], heard[0]), ([answer([2], 3)], heard[1])])
        for listener in heard[:2]:
            end = listener.end()
            assert isinstance(end, Failed)
            assert isinstance(end.error, PeerLost)
        one.submit([answer([3], 3)], heard[2])
        heard[2].finished()
    assert [session.ended for session in world.sessions] == ["aborted", "in order"]


def test_a_listener_that_fails_ends_its_own_request_only(world: World) -> None:
    def broken(event: Event) -> None:
        raise ValueError("no")

    heard = Listener()
    with batcher(world) as one:
        one.submit_all([([answer([1], 30, ignore_eos=True)], broken), ([answer([2], 30, ignore_eos=True)], heard)])
        heard.finished()
        wait_for(lambda: one.busy == 0)


def test_closing_ends_what_is_in_progress(world: World) -> None:
    heard = Listener()
    one = batcher(world)
    world.gate.clear()
    one.submit([answer([1], 60, ignore_eos=True)], heard)
    closing = threading.Thread(target=one.close)
    closing.start()
    world.gate.set()
    assert isinstance(heard.end(), Failed)
    closing.join(5)
    assert not closing.is_alive()
    with pytest.raises(UsageError, match="closed"):
        one.submit([answer([1], 2)], heard)


def test_an_idle_session_is_given_back(world: World) -> None:
    heard = Listener()
    with batcher(world, idle=0.05) as one:
        one.submit([answer([1], 2)], heard)
        heard.finished()
        wait_for(lambda: bool(world.sessions[0].ended))
    assert world.sessions[0].ended == "in order"


def test_requests_that_cannot_be_are_refused(world: World) -> None:
    with batcher(world, sequences=2) as one:
        with pytest.raises(UsageError, match="at most 2"):
            one.submit([answer([1], 2, number=n) for n in range(3)], Listener())
        with pytest.raises(UsageError, match="one prompt"):
            one.submit([answer([1], 2), answer([2], 2)], Listener())
        with pytest.raises(UsageError, match="at least one answer"):
            one.submit([], Listener())
    assert not world.sessions


def test_steps_are_foreseen_when_nothing_changes(world: World) -> None:
    with batcher(world) as one:
        heard = Listener()
        one.submit([answer([1, 2], 6, ignore_eos=True)], heard)
        heard.finished()
    assert world.sessions[0].aheads == [5, 4, 3, 2, 1, 0]


def test_many_prompts_at_once_take_the_steps_of_one(world: World) -> None:
    prompts = [[n + 1] * (n + 1) for n in range(8)]
    found = complete_all(FACTS, world.start, [[answer(prompt, 5, ignore_eos=True)] for prompt in prompts])
    [session] = world.sessions
    assert len(session.batches) == 5
    for prompt, one in zip(prompts, found, strict=True):
        assert one.choices[0].token_ids == tuple(_greedy(prompt, 5))
    world.faults.append(PeerLost("a", "is gone"))
    with pytest.raises(PeerLost):
        complete_all(FACTS, world.start, [[answer([1], 5)]])


def _greedy(prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(logits_of(tokens).argmax()))
    return tokens[len(prompt) :]


requests = st.lists(
    st.tuples(
        st.lists(st.integers(1, 3), min_size=1, max_size=20),  # few tokens: prompts often begin alike
        st.integers(1, 12),
        st.integers(1, 3),
        st.sampled_from(["now", "later", "cancel"]),
    ),
    min_size=1,
    max_size=10,
)


@settings(max_examples=60, deadline=None)
@given(requests, st.integers(3, 6), st.integers(4, 30), st.integers(80, 200))
def test_any_requests_in_any_sizes(drawn: list[Any], sequences: int, rows: int, kept: int) -> None:
    """Whatever comes: each answer is as if alone, and the peers are never asked for what their sizes do not allow."""
    world = World()
    with batcher(world, sizes=Sizes(sequences, max(rows, sequences), max(4 * kept, 300), kept)) as one:
        expected = []
        for prompt, count, copies, manner in drawn:
            made = [answer(prompt, count, seed=3, number=number) for number in range(copies)]
            heard = Listener()
            ticket = one.submit(made, heard)
            if manner == "cancel":
                ticket.cancel()
                continue
            expected.append((prompt, count, made, heard))
            if manner == "later":
                heard.finished()
        for prompt, count, made, heard in expected:
            if not any(isinstance(event, Finished) for event in heard.events):
                heard.finished()
            for number, got in enumerate(made):
                assert got.token_ids == alone(prompt, count, seed=3, number=number).token_ids


def wait_for(condition: Any) -> None:
    pause = threading.Event()
    for _ in range(500):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("waited in vain")


# Feeds and sizes ------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 30)), min_size=1, max_size=6),
    st.integers(1, 25),
    st.integers(50, 400),
)
def test_feeds_are_cut_to_what_a_session_takes(drawn: list[tuple[int, int]], rows: int, pairs: int) -> None:
    sizes = Sizes(6, rows, pairs, 1000)
    lengths = Lengths(6, 30, 10_000, 1000, 100)
    for slot, (start, _) in enumerate(drawn):
        if start:
            lengths.advance(Batch.from_bytes(batch_of([Feed(slot, slot, 0, (1,) * start)]).to_bytes()))
    allowed = sizes.lengths(100)
    allowed._kept = dict(lengths.kept)
    feeds = [Feed(slot, slot, start, tuple(range(count))) for slot, (start, count) in enumerate(drawn)]
    got: dict[int, list[int]] = {}
    for step in steps(feeds, sizes):
        allowed.advance(batch_of([feed for _, feed in step]))
        for number, feed in step:
            got.setdefault(number, []).extend(feed.tokens)
    assert [got[number] for number in range(len(feeds))] == [list(feed.tokens) for feed in feeds]


def test_a_token_for_which_there_is_no_room_is_refused() -> None:
    with pytest.raises(UsageError, match="does not fit"):
        steps([Feed(0, 0, 60, (1,))], Sizes(1, 4, 50, 100))
