"""Bias and what a form allows: before temperature and cuts, greedy or not, and only among tokens that there are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.client.sampling import Sampler, Sampling, check_bias
from tacit.errors import UsageError

LOGITS = np.array([1.0, 3.0, 2.0, 0.0])


def test_bias_moves_the_most_likely_token_and_leaves_the_logits_alone():
    logits = LOGITS.copy()
    assert Sampler(Sampling(), bias={3: 3.5}).choose(logits) == 3
    assert Sampler(Sampling(), bias={1: -100}).choose(logits) == 2
    assert (logits == LOGITS).all()


def test_bias_comes_before_temperature_and_before_cuts():
    """At temperature 2 a bias of 2 log 3 makes a token three times as likely."""
    flat = np.zeros(2)
    sampler = Sampler(Sampling(temperature=2.0, seed=1), bias={0: 2 * math.log(3)})
    share = np.mean([sampler.choose(flat) == 0 for _ in range(4000)])
    assert share == pytest.approx(0.75, abs=0.03)
    assert Sampler(Sampling(temperature=1.0, top_k=1), bias={3: 10}).choose(LOGITS) == 3


@settings(deadline=None)
@given(
    st.sets(st.integers(0, 30), min_size=1),
    st.integers(0, 999),
    st.sampled_from([None, 1, 3]),
    st.sampled_from([None, 0.1, 1.0]),
)
def test_only_what_is_allowed_is_chosen(allowed, seed, top_k, top_p):
    mask = np.zeros(31, bool)
    mask[list(allowed)] = True
    logits = np.random.default_rng(seed).normal(size=31) * 5
    best = max(allowed, key=lambda one: logits[one])
    assert Sampler(Sampling()).choose(logits, mask) == best
    sampler = Sampler(Sampling(temperature=1.5, top_k=top_k, top_p=top_p, seed=seed))
    chosen = {sampler.choose(logits, mask) for _ in range(20)}
    assert chosen <= allowed
    assert top_k != 1 or chosen == {best}


def test_all_allowed_is_as_if_nothing_were_said():
    first, second = (Sampler(Sampling(temperature=1.0, top_p=0.9, seed=4)) for _ in range(2))
    for seed in range(50):
        logits = np.random.default_rng(seed).normal(size=20)
        assert first.choose(logits) == second.choose(logits, np.ones(20, bool))


@pytest.mark.parametrize("bias", [{4: 1}, {-1: 1}, {True: 1}, {"1": 1}, {1: 101}, {1: math.nan}, {1: "much"}])
def test_bias_that_is_none_is_refused(bias):
    with pytest.raises(UsageError, match="bias"):
        check_bias(bias, 4)
