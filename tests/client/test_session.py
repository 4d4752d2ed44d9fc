"""The client's side of a session: keys out, shares back, and what it refuses."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from committee import DEALER_US, OFFLINE, ONLINE, ROUNDS, Committee, toy_logits
from tacit.batch import Batch
from tacit.client.answer import Answer, ModelFacts
from tacit.client.feeds import Feed
from tacit.client.generation import Generation
from tacit.client.sampling import Sampling
from tacit.client.session import PrivateSession
from tacit.client.tokens import IdTokenizer
from tacit.errors import NetworkError, PeerError, PeerLost, UsageError
from tacit.kernels.dpf.keygen import one_hot_key_bytes
from tacit.sizes import Sizes

VOCAB = 41
FACTS = ModelFacts("toy", "pair", "0" * 64, VOCAB, 32, 2, None, ())


def open_session(committee: Committee, timeout: float = 5.0) -> PrivateSession:
    session = os.urandom(16)
    circle, links = committee.connect(session)
    return PrivateSession(
        circle,
        links,
        session=session,
        peers=("a", "b", "c"),
        vocab=committee.vocab,
        layers=committee.layers,
        timeout=timeout,
    )


def generation(committee: Committee, prompt, *, facts=FACTS, sampling=None, stop=(), **settings) -> Generation:
    def start(sizes: Sizes) -> PrivateSession:
        committee.asked = sizes
        return open_session(committee)

    asked = Answer(
        facts,
        IdTokenizer(facts.vocab),
        prompt,
        max_new_tokens=settings.get("max_new_tokens", 5),
        sampling=sampling or Sampling(),
        stop=stop,
    )
    return Generation(asked, start)


def greedy(prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(np.argmax(toy_logits(tokens, VOCAB))))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("vocab", [3, 41, 512])
def test_logits_are_the_sum_of_the_shares(vocab):
    committee = Committee(vocab)
    session = open_session(committee)
    for tokens in ([0, vocab - 1, 1], [2]):
        step = session.step([Feed(0, 0, len(committee.tokens), tuple(tokens))], 4)
        assert np.abs(step.logits - toy_logits(committee.tokens, vocab)).max() <= 2.0**-17
    session.finish()
    committee.join()
    assert committee.tokens == [0, vocab - 1, 1, 2]
    assert all(seen.ended for seen in committee.seen)


def test_negative_logits_and_wrapping_shares():
    extremes = np.array([-30000.0, 32767.0, 0.0, -(2.0**-16)])
    committee = Committee(4, logits=lambda tokens, vocab: extremes)
    session = open_session(committee)
    for at in range(20):  # whatever the mask, the ring takes it away
        assert (session.step([Feed(0, 0, at, (1,))], 0).logits == extremes).all()
    session.finish()


def test_an_answer_equals_the_plaintext_model_and_accounts_for_itself():
    committee = Committee(VOCAB)
    answer = generation(committee, [3, 1, 4], max_new_tokens=6)
    pieces = list(answer)
    expected = greedy([3, 1, 4], 6)
    assert list(answer.token_ids) == expected
    assert "".join(pieces) == answer.result.text == "".join(f" {token}" for token in expected)
    assert [token for piece in pieces for token in piece.token_ids] == expected
    result = answer.result
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (3, 6)
    assert result.finish_reason == "length"
    assert result.layers == 2
    assert result.traffic.rounds_per_token == ROUNDS
    assert result.traffic.online_bytes_per_token == 2 * ONLINE
    assert result.traffic.offline_bytes_per_token == 2 * OFFLINE
    assert result.timings.offline_ms_per_token == pytest.approx(DEALER_US / 1e3)
    assert result.timings.per_token_ms > 0
    assert result.timings.first_token_ms > 0
    # The client's own traffic: a key to each peer, V words back, and small headers.
    payload = 2 * (one_hot_key_bytes(VOCAB) + 4 * VOCAB)
    assert payload < result.traffic.client_bytes_per_token < payload + 2000
    committee.join()
    assert committee.asked == Sizes.of([3], 6)
    # The last token is not fed back: its step would be for nothing.
    assert committee.tokens == [3, 1, 4, *expected[:-1]]
    for seen in committee.seen:
        batches = [Batch.from_bytes(step["batch"]) for step in seen.steps]
        assert batches == [Batch.one(3), *(Batch.one(1, at) for at in range(3, 8))]
        assert [step["ahead"] for step in seen.steps] == [5, 4, 3, 2, 1, 0]
        assert [step["step"] for step in seen.steps] == [0, 1, 2, 3, 4, 5]
        assert seen.ended
        assert seen.error is not None  # the goodbye that the double waited for


def test_the_json_object_has_exactly_the_promised_keys():
    found = generation(Committee(VOCAB), [1], max_new_tokens=2).complete().to_dict()
    keys = ["text", "token_ids", "model", "protocol", "usage", "timings", "traffic", "layers"]
    assert list(found) == keys
    assert list(found["usage"]) == ["prompt_tokens", "completion_tokens", "currency", "price_per_million", "cost"]
    assert list(found["timings"]) == ["first_token_ms", "per_token_ms", "offline_ms_per_token"]
    assert list(found["traffic"]) == ["rounds_per_token", "online_bytes_per_token", "offline_bytes_per_token"]


def test_one_token_is_measured_by_the_prompts_own_step():
    result = generation(Committee(VOCAB), [1, 2], max_new_tokens=1).complete()
    assert result.timings.per_token_ms == result.timings.first_token_ms > 0
    assert result.traffic.rounds_per_token == ROUNDS


def test_keys_are_fresh_and_their_sizes_say_nothing_but_the_count():
    prompts = ([5, 5, 5, 5], [40, 0, 17, 3])
    committees = [Committee(VOCAB), Committee(VOCAB)]
    for committee, prompt in zip(committees, prompts, strict=True):
        generation(committee, prompt, max_new_tokens=3).complete()
        committee.join()
    bodies = [[[len(body) for body in seen.bodies] for seen in one.seen] for one in committees]
    assert bodies[0] == bodies[1]
    steps = [[seen.steps for seen in one.seen] for one in committees]
    assert steps[0] == steps[1]
    size = one_hot_key_bytes(VOCAB)
    for seen in committees[0].seen:
        keys = [body[at : at + size] for body in seen.bodies for at in range(0, len(body), size)]
        assert len({key[16:] for key in keys}) == len(keys)  # even for equal tokens


def test_end_of_text_ends_the_answer_and_is_not_part_of_it():
    expected = greedy([7], 8)
    eos = expected[3]
    first = expected.index(eos)
    facts = ModelFacts("toy", "pair", "0" * 64, VOCAB, 32, 2, None, (eos,))
    committee = Committee(VOCAB)
    result = generation(committee, [7], facts=facts, max_new_tokens=20).complete()
    assert list(result.token_ids) == expected[:first]
    assert result.finish_reason == "stop"
    committee.join()
    assert len(committee.tokens) == 1 + first
    assert all(seen.ended for seen in committee.seen)


def test_a_stop_string_ends_the_answer_before_it():
    expected = greedy([7], 8)
    text = "".join(f" {token}" for token in expected)
    stop = f" {expected[2]} {expected[3]}"
    result = generation(Committee(VOCAB), [7], stop=(stop,), max_new_tokens=20).complete()
    assert result.text == text[: text.index(stop)]
    assert result.finish_reason == "stop"
    assert len(result.token_ids) <= 4


def test_the_context_bounds_the_answer():
    facts = ModelFacts("toy", "pair", "0" * 64, VOCAB, 5, 2, None, ())
    committee = Committee(VOCAB)
    result = generation(committee, [1, 2, 3], facts=facts, max_new_tokens=50).complete()
    assert len(result.token_ids) == 3  # two more positions, and the token behind the last one
    assert result.finish_reason == "length"
    assert committee.asked == Sizes.of([3], 3)
    assert len(committee.tokens) == 5


def test_a_prompt_beyond_the_context_is_refused_before_a_session_exists():
    committee = Committee(VOCAB)
    with pytest.raises(UsageError, match="33 tokens"):
        generation(committee, [1] * 33)
    with pytest.raises(UsageError, match="max_new_tokens"):
        generation(committee, [1], max_new_tokens=0)
    assert not hasattr(committee, "session")
    generation(committee, [1])  # not iterated: nothing is sent either
    assert not hasattr(committee, "session")


def test_sampling_repeats_with_a_seed_and_logprobs_come_along():
    sampling = Sampling(temperature=1.5, seed=11, logprobs=True, top_logprobs=3)
    first, second = (
        generation(Committee(VOCAB), [9], sampling=sampling, max_new_tokens=8).complete() for _ in range(2)
    )
    assert first.token_ids == second.token_ids != tuple(greedy([9], 8))
    assert first.logprobs is not None
    assert len(first.logprobs) == 8
    tokens = [9]
    for chosen in first.logprobs:
        logits = toy_logits(tokens, VOCAB)
        expected = logits - np.log(np.exp(logits).sum())
        assert chosen.logprob == pytest.approx(expected[chosen.token_id], abs=1e-3)
        assert chosen.top[0][0] == int(np.argmax(logits))
        tokens.append(chosen.token_id)


def test_leaving_early_ends_the_session_in_order():
    committee = Committee(VOCAB)
    answer = generation(committee, [1], max_new_tokens=20)
    for piece in answer:
        assert piece
        break
    answer.close()
    committee.join()
    assert all(seen.ended for seen in committee.seen)
    assert len(answer.token_ids) == 1
    with pytest.raises(UsageError, match="not finished"):
        _ = answer.result


def test_a_reader_that_is_slow_does_not_count_as_the_model():
    answer = generation(Committee(VOCAB), [1], max_new_tokens=3)
    for _ in answer:
        threading.Event().wait(0.2)
    assert answer.result.timings.per_token_ms < 150


def spoiling(name: str, value: int):
    return lambda role, fields, body: ({**fields, name: value} if role == 1 else fields, body)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoiling("step", 7), "step"),
        (spoiling("bits", 64), "bits"),
        (spoiling("count", VOCAB - 1), "count"),
        (spoiling("layers", 3), "layers"),
        (spoiling("scale", 31), "scale"),
        (spoiling("scale", 15), "another scale"),
        (spoiling("rounds", -1), "rounds"),
        (lambda role, fields, body: (fields, body[4:] if role == 1 else body), "body of"),
        (
            lambda role, fields, body: ({k: v for k, v in fields.items() if k != "dealer_us" or role == 0}, body),
            "dealer_us",
        ),
    ],
)
def test_nonsense_from_a_peer_ends_the_session_and_names_it(spoil, words):
    committee = Committee(VOCAB, spoil=spoil)
    answer = generation(committee, [30, 31])
    with pytest.raises(PeerError, match=words) as caught:
        list(answer)
    assert caught.value.peer == "peer-1"
    committee.join()
    for seen in committee.seen:  # the other peer hears whose fault it was
        assert seen.error is not None
        assert not seen.ended
    assert "peer-1" in str(committee.seen[0].error)


def test_a_peer_that_dies_is_named_and_what_came_before_is_kept():
    committee = Committee(VOCAB, die_at=2)
    answer = generation(committee, [30], max_new_tokens=10)
    with pytest.raises(PeerLost, match="peer-0"):
        list(answer)
    assert list(answer.token_ids) == greedy([30], 2)
    assert answer.text == "".join(f" {token}" for token in greedy([30], 2))
    with pytest.raises(UsageError):
        _ = answer.result


def test_a_peer_that_stalls_runs_into_the_timeout():
    release = threading.Event()

    def stall(role, fields, body):
        if role == 0:
            release.wait(10)
        return fields, body

    session = open_session(Committee(VOCAB, spoil=stall), timeout=0.3)
    with pytest.raises(NetworkError, match=r"peer-0.*0\.3"):
        session.step([Feed(0, 0, 0, (1,))], 0)
    release.set()
