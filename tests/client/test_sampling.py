"""Choosing tokens: the distribution, its cuts, determinism and bad settings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tacit.client.sampling import Sampler, Sampling
from tacit.errors import UsageError

LOGITS = np.log(np.array([0.05, 0.4, 0.25, 0.2, 0.1]))


def draws(sampling: Sampling, count: int, logits=LOGITS) -> list[int]:
    sampler = Sampler(sampling)
    return [sampler.choose(logits) for _ in range(count)]


def test_greedy_takes_the_peak_and_the_lowest_id_on_a_tie():
    assert Sampler(Sampling()).choose(LOGITS) == 1
    assert Sampler(Sampling()).choose(np.array([0.0, 3.0, 3.0])) == 1


def test_frequencies_follow_the_softmax():
    counts = np.bincount(draws(Sampling(temperature=1, seed=3), 20000), minlength=5) / 20000
    # Five standard deviations of a binomial share.
    assert np.all(np.abs(counts - np.exp(LOGITS)) < 5 * np.sqrt(np.exp(LOGITS) / 20000))


def test_temperature_sharpens_and_flattens():
    for temperature in (0.5, 2.0):
        expected = np.exp(LOGITS / temperature)
        expected /= expected.sum()
        counts = np.bincount(draws(Sampling(temperature=temperature, seed=5), 20000), minlength=5) / 20000
        assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected / 20000))


def test_a_tiny_temperature_is_greedy_and_does_not_overflow():
    assert set(draws(Sampling(temperature=1e-9, seed=1), 50, LOGITS * 1e3)) == {1}


def test_top_k_keeps_exactly_k_even_on_ties():
    assert set(draws(Sampling(temperature=1, top_k=2, seed=1), 500)) == {1, 2}
    assert set(draws(Sampling(temperature=1, top_k=2, seed=1), 500, np.zeros(5))) == {0, 1}
    assert set(draws(Sampling(temperature=1, top_k=99, seed=1), 2000)) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.01, {1}), (0.39, {1}), (0.41, {1, 2}), (0.7, {1, 2, 3}), (1.0, {0, 1, 2, 3, 4})]
)
def test_top_p_keeps_the_smallest_set_that_holds_p(top_p, kept):
    assert set(draws(Sampling(temperature=1, top_p=top_p, seed=2), 3000)) == kept


def test_top_k_comes_before_top_p():
    # Of {1, 2} alone token 1 holds 0.4/0.65 = 0.62, so 0.6 keeps it only; over all five it would keep both.
    assert set(draws(Sampling(temperature=1, top_k=2, top_p=0.6, seed=2), 500)) == {1}


def test_same_seed_same_answer_and_other_seed_other_answer():
    assert draws(Sampling(temperature=1, seed=7), 100) == draws(Sampling(temperature=1, seed=7), 100)
    assert draws(Sampling(temperature=1, seed=7), 100) != draws(Sampling(temperature=1, seed=8), 100)
    assert draws(Sampling(temperature=1), 100) != draws(Sampling(temperature=1), 100)


def test_a_seed_means_the_same_on_every_machine():
    # Worked out apart from the code: SHA-256 by hand, inverse transform over tokens 1, 2, 3, 4, 0.
    assert draws(Sampling(temperature=1, seed=0), 12) == [3, 3, 1, 1, 4, 2, 2, 1, 2, 4, 4, 4]


@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=40),
    st.floats(0, 5),
    st.none() | st.integers(1, 50),
    st.none() | st.floats(0.001, 1),
    st.integers(),
)
def test_any_setting_chooses_a_token_that_exists(logits, temperature, top_k, top_p, seed):
    chosen = Sampler(Sampling(temperature, top_k, top_p, seed)).choose(np.array(logits))
    assert 0 <= chosen < len(logits)
    if top_k == 1 or temperature == 0:
        assert logits[chosen] == max(logits)


def test_logprobs_are_the_models_own_whatever_the_sampling():
    sampler = Sampler(Sampling(temperature=0.3, top_k=1, logprobs=True, top_logprobs=2))
    found = sampler.logprob(LOGITS + 11, 2)
    assert found is not None
    assert found.logprob == pytest.approx(math.log(0.25))
    assert [token_id for token_id, _ in found.top] == [1, 2]
    assert found.top[0][1] == pytest.approx(math.log(0.4))
    assert Sampler(Sampling()).logprob(LOGITS, 2) is None


@pytest.mark.parametrize(
    "setting",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": math.nan},
        {"top_logprobs": -1},
        {"top_logprobs": 101},
        {"top_logprobs": 3},
    ],
)
def test_settings_out_of_range_are_refused_by_name(setting):
    with pytest.raises(UsageError, match=next(iter(setting))):
        Sampling(**setting)


@pytest.mark.parametrize(
    "logits", [np.zeros(0), np.array([1.0, math.nan]), np.array([math.inf, 1.0]), np.zeros((1, 2))]
)
def test_logits_that_are_none_are_refused(logits):
    with pytest.raises(UsageError, match="finite"):
        Sampler(Sampling(temperature=1)).choose(logits)
