"""Hidden prompt lengths: what is sent depends on the padded length alone, and the right pairs are hidden."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tacit.client.answer import Answer, ModelFacts
from tacit.client.feeds import Feed
from tacit.client.padding import SHORTEST, bucket, hidden_pairs, shares_of
from tacit.client.sampling import Sampling
from tacit.client.tokens import IdTokenizer
from tacit.errors import UsageError

FACTS = ModelFacts("toy", "pair", "", 50, 100, 1, None, (0,))


def answer(prompt: list[int], facts: ModelFacts = FACTS) -> Answer:
    return Answer(facts, IdTokenizer(50), prompt, max_new_tokens=90, sampling=Sampling(), padded=True)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_few_lengths_and_each_long_enough(tokens: int, context: int) -> None:
    if tokens > context:
        return
    found = bucket(tokens, context)
    assert tokens <= found <= max(context, tokens)
    assert found == context or found in (SHORTEST << k for k in range(20))
    assert bucket(found, context) == found
    assert found == tokens or found < 2 * max(tokens, SHORTEST)


def test_the_prompt_ends_where_it_ended_and_the_rest_is_its_first_token() -> None:
    made = answer([7, 8, 9])
    assert (made.prompt, made.pad) == ([7] * 13 + [7, 8, 9], 13)
    assert made.max_new_tokens == 100 - 16 + 1
    assert answer([1] * 100).pad == 0


def test_models_and_protocols_that_cannot_are_refused() -> None:
    with pytest.raises(UsageError, match="learned positions"):
        answer([1], ModelFacts("toy", "pair", "", 50, 100, 1, None, (), rotary=False))
    with pytest.raises(UsageError, match="crypten"):
        answer([1], ModelFacts("toy", "crypten", "", 50, 100, 1, None, ()))


def test_tokens_that_count_do_not_see_those_that_do_not() -> None:
    """A padded sequence of 2 + 3 tokens, of which the last two are new, beside one without padding."""
    found = hidden_pairs([Feed(0, 0, 3, (1, 1), 2), Feed(1, 1, 0, (1, 1), 0)])
    assert found.tolist() == [*[True, True, False, False], *[True, True, False, False, False], *[False] * 3]
    # The padding sees itself, as any text would: nothing there leaves the range of a text.
    assert hidden_pairs([Feed(0, 0, 0, (1, 1, 1), 2)]).tolist() == [False, False, False, True, True, False]


def test_a_share_alone_says_nothing() -> None:
    """Each of 64 bits of either share is set in half of 4,000 draws, whatever is hidden."""
    for hidden in (np.zeros(2, bool), np.ones(2, bool)):
        draws = [shares_of(hidden) for _ in range(4000)]
        for side in (0, 1):
            bits = np.unpackbits(np.array([np.frombuffer(one[side], np.uint8) for one in draws]), axis=1).mean(0)
            assert np.abs(bits - 0.5).max() < 0.05  # six standard deviations
        first, second = (np.frombuffer(draws[0][side], "<u4") for side in (0, 1))
        assert np.array_equal(first + second, hidden)
