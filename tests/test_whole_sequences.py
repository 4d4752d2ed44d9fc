"""Steps of a model that takes sequences whole: what may come next, and what a session of such steps announces."""

import pytest
from tacit.batch import Batch, Part
from tacit.sizes import Sizes

SIZES = Sizes(sequences=3, step_tokens=20, step_pairs=150, kept_tokens=20)


def step(*rows: int) -> Batch:
    return Batch(tuple(Part(slot, slot, 0, count) for slot, count in enumerate(rows)))


def test_each_step_begins_anew() -> None:
    lengths = SIZES.lengths(16, causal=False)
    for rows in ((12,), (5, 5, 5), (12,), (10, 7)):
        lengths.advance(step(*rows))
        assert not lengths.kept


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (Batch((Part(0, 0, 2, 1),)), "goes on from tokens that are not there"),
        (Batch((Part(0, 1, 0, 3),)), "not there"),
        (step(13), "169 pairs of tokens, announced were at most 150"),  # all of 13 x 13, not half of it
        (step(9, 9), "162 pairs"),
        (step(7, 7, 7), "21 new tokens"),
        (step(1, 1, 1, 1), "1 to 3 different sequences"),
        (step(3, 0), "no new token"),
        (step(17), "a context of 16"),
    ],
)
def test_steps_that_are_refused(batch: Batch, said: str) -> None:
    lengths = SIZES.lengths(16, causal=False)
    with pytest.raises(ValueError, match=said):
        lengths.advance(batch)


def test_a_sequence_is_never_gone_on_with() -> None:
    lengths = SIZES.lengths(16, causal=False)
    lengths.advance(step(5))
    with pytest.raises(ValueError, match="not there"):
        lengths.advance(Batch((Part(0, 0, 5, 1),)))
    with pytest.raises(ValueError, match="not there"):
        lengths.advance(Batch((Part(1, 0, 5, 1),)))


def test_a_causal_model_of_the_same_size_takes_more_pairs() -> None:
    SIZES.lengths(16).advance(step(13))
    with pytest.raises(ValueError, match="pairs of tokens"):
        SIZES.lengths(16, causal=False).advance(step(13))
