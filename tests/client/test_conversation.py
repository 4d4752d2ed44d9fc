"""Conversations: what the peers are sent in each turn, and what stands when a turn ends in other ways than by its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from chat_models import CHAT, byte_level, facts
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.batch import Lengths
from tacit.client.conversation import Conversation
from tacit.client.feeds import Feed, batch_of, steps
from tacit.client.generation import Step, StepCost
from tacit.client.sampling import Sampling
from tacit.client.templates import ChatTemplate
from tacit.errors import NetworkError, PeerLost, UsageError
from tacit.quotes import Charge, Price
from tacit.sizes import Sizes

TOKENIZER = byte_level()
LETTERS = TOKENIZER.encode_markup("abcdefgh ")
END = TOKENIZER.token_id("<|im_end|>")


def logits_of(tokens: Sequence[int]) -> np.ndarray:
    """Letters that depend on all tokens; the turn ends sooner or later."""
    state = 7
    for token in tokens:
        state = (state * 31 + token + 1) % 100_003
    found = np.full(TOKENIZER.vocab, -50.0)
    found[LETTERS] = np.random.default_rng(state).normal(size=len(LETTERS))
    found[END] = 2.0 if state % 6 == 0 else -50.0
    return found


class Peers:
    """A session that holds what real ones hold, and refuses what they refuse."""

    peers, operators, resumes, receipts = ("a", "b", "c"), ("A", "B", "C"), (), ()

    def __init__(self, sizes: Sizes, world: World) -> None:
        self.sizes, self.held, self.fed = sizes, list[int](), list[Feed]()
        self.ended = ""
        self._world = world
        self._lengths = Lengths(*vars(sizes).values(), world.context)
        self._tokens = 0

    def step(self, feeds: Sequence[Feed], ahead: int, forget: Sequence[int] = ()) -> Step:
        assert not self.ended
        self._world.before_step()
        (feed,) = feeds
        assert feed.start <= len(self.held)
        for ((_, piece),) in steps(feeds, self.sizes):
            self._lengths.advance(batch_of([piece], ()))
        self.held[feed.start :] = feed.tokens
        self.fed.append(feed)
        self._tokens += len(feed.tokens)
        logits = logits_of(self.held)
        logits[END] -= 100.0 * self._world.endless
        return Step(logits[None], StepCost(rounds=10, online_bytes=len(feed.tokens)))

    @property
    def charge(self) -> Charge:
        return Charge(Price(2_000_000, "EUR"), self._tokens)

    def alive(self) -> bool:
        return not self.ended and self._world.peers_keep

    def finish(self) -> None:
        assert not self.ended
        self.ended = "finished"
        if not self._world.peers_keep:
            raise NetworkError("gone")

    def abort(self) -> None:
        self.ended = self.ended or "aborted"


class World:
    """Opens sessions, and lets things happen."""

    def __init__(self, context: int) -> None:
        self.context = context
        self.sessions: list[Peers] = []
        self.peers_keep = True
        self.endless = False
        self.before_step: Callable[[], None] = lambda: None
        self.notices: list[str] = []

    def start(self, sizes: Sizes) -> Peers:
        self.peers_keep = True
        self.sessions.append(Peers(sizes, self))
        return self.sessions[-1]

    def talk(self, **settings: Any) -> Conversation:
        settings = {"max_new_tokens": 12, "sampling": Sampling(temperature=1.0, seed=3), **settings}
        return Conversation(
            facts(TOKENIZER, self.context), TOKENIZER, TEMPLATE, self.start, notice=self.notices.append, **settings
        )


TEMPLATE = ChatTemplate(CHAT, TOKENIZER)


@pytest.fixture(scope="module", autouse=True)
def template():
    yield TEMPLATE
    TEMPLATE.close()


@pytest.fixture
def world():
    return World(400)


def prompt_of(talk: Conversation) -> list[int]:
    system = [{"role": "system", "content": talk.system}] if talk.system else []
    return TEMPLATE.encode([*system, *talk.messages[:-1]])


def test_a_turn_feeds_only_what_is_new(world):
    with world.talk(system="Be brief.") as talk:
        first = talk.say("Hello there").complete()
        (session,) = world.sessions
        assert (first.cached_tokens, first.usage.prompt_tokens) == (0, len(prompt_of(talk)))
        held = len(session.held)
        second = talk.say("And now?").complete()
        prompt = prompt_of(talk)
        fed = session.fed[-len(second.token_ids) - 1 :] if second.finish_reason == "stop" else session.fed[-12:]
        assert second.cached_tokens == fed[0].start >= held - 1
        assert list(fed[0].tokens) == prompt[fed[0].start :]
        assert second.fed_tokens == len(prompt) - second.cached_tokens + len(fed) - 1
        assert all(len(feed.tokens) == 1 for feed in fed[1:])
    assert session.ended == "finished"
    assert world.sessions == [session]
    assert [one["role"] for one in talk.messages] == ["user", "assistant"] * 2


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["say", "long", "retry", "undo", "stop", "close", "system", "gone", "lost"]), max_size=12)
)
def test_whatever_happens_the_model_sees_the_conversation_as_it_stands(happenings):
    """Every step is computed on a prefix of prompt and answer, so that no turn leaves anything of itself behind."""
    world = World(220)
    talk = world.talk()
    for number, what in enumerate(happenings):
        before = talk.messages
        if what == "undo":
            assert talk.undo() == bool(before)
            assert talk.messages == before[:-2]
        elif what == "system":
            talk.system = f"rule {number}"
        elif what == "gone":
            world.peers_keep = False
        elif what == "lost":

            def lose() -> None:
                raise PeerLost("a", "died")

            world.before_step = lose
            with pytest.raises(PeerLost):
                talk.say("oh").complete()
            world.before_step = lambda: None
            assert talk.messages == before
        else:
            if what == "retry" and not before and talk._refused is None:
                continue
            turn = talk.retry() if what == "retry" else talk.say(f"n{number} " + "long " * 20 * (what == "long"))
            if what in ("stop", "close"):
                next(turn, None)
                turn.stop() if what == "stop" else turn.close()
            said = turn.said if what == "close" else turn.complete()
            assert said is not None
            session = world.sessions[-1]
            everything = [*turn.answer.prompt, *turn.answer.token_ids]
            assert session.held == everything[: len(session.held)]
            assert len(session.held) >= len(turn.answer.prompt)
            if said.text:
                assert talk.messages[-1] == {"role": "assistant", "content": said.text}
            stats = talk.stats
            assert (stats.kept_tokens, stats.context) == (len(session.held), 220)
    talk.close()
    assert all(session.ended for session in world.sessions)


def test_a_retry_says_something_else_from_where_the_answer_began(world):
    with world.talk() as talk:
        first = talk.say("Tell me").complete()
        again = talk.retry().complete()
        assert again.text != first.text
        assert again.usage.prompt_tokens == first.usage.prompt_tokens
        assert again.cached_tokens == first.usage.prompt_tokens - 1  # its last token is fed for the logits after it
        assert [one["content"] for one in talk.messages] == ["Tell me", again.text]


def test_the_same_seed_gives_the_same_conversation():
    texts = []
    for _ in range(2):
        with World(400).talk() as talk:
            texts.append([talk.say("a").complete().text, talk.say("b").complete().text, talk.retry().complete().text])
    assert texts[0] == texts[1]


def test_stopping_keeps_the_session_and_what_was_said(world):
    world.endless = True
    with world.talk(max_new_tokens=50) as talk:
        turn = talk.say("Hello")
        pieces = [next(turn), next(turn)]
        turn.stop()
        pieces += list(turn)
        assert turn.said is not None
        assert turn.said.finish_reason is None
        assert turn.said.text == "".join(pieces) == talk.messages[-1]["content"]
        talk.say("Go on").complete()
    assert len(world.sessions) == 1


def test_an_interrupt_in_a_step_gives_the_session_up_and_the_next_turn_has_another(world):
    world.endless = True
    talk = world.talk(max_new_tokens=50)
    turn = talk.say("Hello")
    said = next(turn)

    def interrupt() -> None:
        raise KeyboardInterrupt

    world.before_step = interrupt
    with pytest.raises(KeyboardInterrupt):
        list(turn)
    world.before_step = lambda: None
    assert world.sessions[0].ended == "aborted"
    assert talk.messages[-1]["content"] == said
    assert talk.say("Still there?").complete().cached_tokens == 0
    talk.close()


def test_a_failed_turn_can_be_tried_again(world):
    with world.talk() as talk:
        talk.say("One").complete()

        def lose() -> None:
            raise PeerLost("b", "died")

        world.before_step = lose
        turn = talk.say("Two")
        with pytest.raises(PeerLost, match="b: died"):
            turn.complete()
        assert len(talk.messages) == 2
        world.before_step = lambda: None
        talk.retry().complete()
        assert [one["content"] for one in talk.messages[::2]] == ["One", "Two"]


def test_an_unread_turn_is_as_if_nothing_was_said(world):
    with world.talk() as talk:
        talk.say("never read")
        talk.say("read").complete()
        assert [one["content"] for one in talk.messages[::2]] == ["read"]
        turn = talk.say("x")
        turn.close()
        with pytest.raises(UsageError, match="given up"):
            turn.complete()


def test_a_session_that_ended_in_the_meantime_is_opened_anew(world):
    with world.talk() as talk:
        talk.say("Hello").complete()
        world.peers_keep = False
        said = talk.say("Still there?").complete()
        assert said.cached_tokens == 0
    assert [session.ended for session in world.sessions] == ["aborted", "finished"]
    assert talk.stats.sessions == 2


def test_after_a_silence_the_session_is_ended_in_order(world):
    talk = world.talk(idle=0.1)
    talk.say("Hello").complete()
    deadline = time.monotonic() + 10
    while not world.sessions[0].ended:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert world.sessions[0].ended == "finished"
    assert talk.stats.kept_tokens == 0
    talk.say("Again").complete()
    talk.close()
    assert [session.ended for session in world.sessions] == ["finished", "finished"]
    assert threading.active_count() < 20


def test_a_full_context_leaves_out_the_oldest_turns_and_says_so(world):
    with world.talk() as talk:
        for number in range(12):
            talk.say(f"{number} " + "word " * 8).complete()
            assert len(world.sessions[0].held) <= 400
        assert len(talk.messages) == 24
        assert len(world.sessions) == 1
    assert world.notices
    assert all("does not see the first" in notice for notice in world.notices)
    # after old turns went there is room for several new ones
    assert len(world.notices) <= 3


def test_a_message_that_never_fits_is_refused_and_sends_nothing(world):
    with world.talk() as talk:
        talk.say("Hello").complete()
        fed = len(world.sessions[0].fed)
        with pytest.raises(UsageError, match="room for 400") as caught:
            talk.say("zebedee " * 60)
        assert "zebedee" not in str(caught.value)
        assert len(talk.messages) == 2
        assert len(world.sessions[0].fed) == fed
        talk.say("short").complete()


def test_the_session_is_no_larger_than_the_context_asked_for():
    world = World(4096)
    with world.talk(context=1000) as talk:
        talk.say("Hello").complete()
    assert world.sessions[0].sizes == Sizes(1, 512, 512 * 513 // 2, 1000)
    for context in (1, 5000):
        with pytest.raises(UsageError, match="context"):
            world.talk(context=context)


def test_stats_add_up(world):
    with world.talk() as talk:
        assert talk.stats.last is None
        turns = [talk.say("One").complete(), talk.say("Two").complete(), talk.retry().complete()]
        stats = talk.stats
    assert stats.turns == 3
    assert stats.fed_tokens == sum(len(feed.tokens) for feed in world.sessions[0].fed)
    assert stats.cost.online_bytes == stats.fed_tokens
    assert stats.cost.rounds == 10 * len(world.sessions[0].fed)
    assert stats.price == f"{stats.fed_tokens * 2 / 1e6:f}".rstrip("0") + " EUR"
    assert stats.new_tokens == sum(len(said.token_ids) for said in turns)
    assert stats.peers == ("a", "b", "c")
