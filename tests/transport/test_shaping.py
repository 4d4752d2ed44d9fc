"""The model of a line, without time: what is due when, and how often what."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.network import NAMED, Profile
from tacit.shaping import FRAMING, SEGMENT, Bandwidth, ShapedLine, line_bytes, line_seconds

GOODPUT = SEGMENT / (SEGMENT + FRAMING)


def line(text: str, seed: int = 1) -> ShapedLine:
    profile = Profile.parse(text)
    return ShapedLine(lambda: profile, np.random.default_rng(seed))


def test_a_small_message_takes_the_delay_and_a_large_one_the_bandwidth():
    assert line("wan").begin(5.0, 64) == pytest.approx(5.0 + 0.020 + 8 * (64 + FRAMING) / 100e6, abs=1e-12)
    due = line("wan").begin(5.0, 16_000_000)
    assert 8 * 16_000_000 / (due - 5.0 - 0.020) == pytest.approx(100e6 * GOODPUT, rel=1e-4)
    assert 93e6 < 8 * 16_000_000 / (due - 5.0) < 100e6  # with the delay


@pytest.mark.parametrize("name", NAMED)
def test_every_named_profile(name):
    profile = NAMED[name]
    assert line(name).begin(0, 1448) == pytest.approx(profile.rtt / 2 + 8 * 1514 / profile.bandwidth)
    assert line_seconds(1449, profile) == 8 * line_bytes(1449) / profile.bandwidth == 8 * 1581 / profile.bandwidth


def test_an_unlimited_line_without_delay_does_nothing():
    free = line("rtt=0ms")
    assert [free.begin(at, 1 << 30) for at in (0.0, 0.0, 3.5)] == [0.0, 0.0, 3.5]


def test_what_is_sent_at_once_goes_one_after_the_other():
    wan, one = line("wan"), 8 * line_bytes(100_000) / 100e6
    assert [wan.begin(1.0, 100_000) for _ in range(3)] == pytest.approx([1.02 + one, 1.02 + 2 * one, 1.02 + 3 * one])
    assert wan.begin(9.0, 100_000) == pytest.approx(9.02 + one)  # it was free since


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=12))
def test_parts_of_a_message_take_as_long_as_the_whole(parts):
    whole, cut = line("wan"), line("wan")
    due = cut.begin(1.0, parts[0])
    for part in parts[1:]:
        due = cut.go_on(part)
    assert due == pytest.approx(whole.begin(1.0, sum(parts)), abs=1e-12)


def test_a_change_of_the_profile_holds_from_the_next_message():
    now = Profile.parse("rtt=100ms")
    moving = ShapedLine(lambda: now, np.random.default_rng(1))
    assert moving.begin(0.0, 10) == 0.05
    now = Profile.parse("rtt=10ms")
    assert moving.one_way == 0.005
    assert moving.begin(0.01, 10) == 0.05  # never before what was sent before it
    assert moving.begin(0.1, 10) == pytest.approx(0.105)


def delays(text: str, size: int, count: int, seed: int = 1, apart: float = 10.0) -> np.ndarray:
    """Of messages far enough apart not to meet, without the mean delay and the time that their bits take."""
    found, profile = line(text, seed), Profile.parse(text)
    expected = profile.one_way + line_seconds(size, profile)
    return np.array([found.begin(apart * k, size) - apart * k for k in range(count)]) - expected


def test_jitter_is_uniform():
    """Kolmogorov and Smirnov's distance of 20000 draws; it is over this bound by chance once in 10^6 seeds."""
    found, n = np.sort(delays("rtt=40ms,bandwidth=100mbit,jitter=4ms", 200, 20_000)), 20_000
    assert -0.004 <= found[0] < found[-1] <= 0.004
    uniform = (found + 0.004) / 0.008
    distance = max(np.max(np.arange(1, n + 1) / n - uniform), np.max(uniform - np.arange(n) / n))
    assert distance < math.sqrt(math.log(2 / 1e-6) / (2 * n))
    by_order = delays("rtt=40ms,jitter=4ms", 200, 20_000)
    assert abs(np.corrcoef(by_order[1:], by_order[:-1])[0, 1]) < 5 / math.sqrt(n)


def test_jitter_keeps_the_order():
    shaky = line("rtt=40ms,jitter=20ms")
    due = [shaky.begin(0.001 * k, 64) for k in range(2000)]
    assert due == sorted(due)
    assert len(set(due)) < 1900  # some had to wait for one before them


@pytest.mark.parametrize(("loss", "size"), [(0.1, 100), (0.02, 100_000), (0.3, 100), (0.5, 20_000)])
def test_loss_costs_round_trips_as_often_as_it_says(loss, size):
    """Of n segments each of which is lost k times in a row or more with probability p^k, the worst one counts."""
    count, segments = 20_000, -(-size // SEGMENT)
    found = delays(f"rtt=40ms,loss={100 * loss:g}%", size, count, seed=7)
    trips = np.rint(found / 0.040).astype(int)
    assert np.allclose(found, 0.040 * trips, atol=1e-9)
    for k in range(4):
        expected = (1 - loss ** (k + 1)) ** segments  # at most k trips
        spread = math.sqrt(expected * (1 - expected) / count)
        assert abs(np.mean(trips <= k) - expected) < 5 * spread + 1e-12


def test_segments_sent_again_take_bandwidth_too():
    """A long stream at a loss of p goes at 1 - p of the rate: each segment is sent 1 / (1 - p) times on average."""
    lossy, size, count = line("rtt=0ms,bandwidth=100mbit,loss=10%"), 144_800, 500
    due = [lossy.begin(0.0, size) for _ in range(count)][-1]
    rate = 8 * size * count / due
    # 50000 segments: the standard deviation of the sum of what is sent again is 0.15 % of all
    assert rate == pytest.approx(100e6 * GOODPUT * 0.9, rel=0.007)


def test_the_same_seed_gives_the_same_line():
    text = "rtt=40ms,bandwidth=10mbit,jitter=5ms,loss=5%"
    assert np.array_equal(delays(text, 5000, 300, seed=3), delays(text, 5000, 300, seed=3))
    assert not np.array_equal(delays(text, 5000, 300, seed=3), delays(text, 5000, 300, seed=4))


def slots(asked: list[tuple[int, int]]) -> list[int]:
    """The same by hand: time in slots, each message takes the first ones that are free."""
    busy: set[int] = set()
    through = []
    for sent, length in asked:
        at = sent
        for _ in range(length):
            while at in busy:
                at += 1
            busy.add(at)
            at += 1
        through.append(at)
    return through


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=40))
def test_a_line_shared_by_sessions_takes_the_first_free_time(asked):
    shared = Bandwidth()
    assert [shared.take(float(sent), float(length)) for sent, length in asked] == slots(asked)


def test_what_two_sessions_send_adds_up():
    """Two that send at once get half each, in whichever order their receivers look."""
    profile, shared = Profile.parse("rtt=0ms,bandwidth=8mbit"), Bandwidth()
    lines = [ShapedLine(lambda: profile, np.random.default_rng(k), shared) for k in range(2)]
    first = [lines[0].begin(0.001 * k, 1448) for k in range(100)]
    second = [lines[1].begin(0.001 * k, 1448) for k in range(100)]
    assert max(*first, *second) == pytest.approx(200 * 8 * 1514 / 8e6)
    assert all(b > a for a, b in itertools.pairwise(second))


def test_a_line_forgets_idle_times_long_past():
    shared = Bandwidth()
    for k in range(5000):
        shared.take(float(k), 0.5)
    assert len(shared._starts) < 300
    assert shared.take(5000.0, 0.5) == 5000.5
