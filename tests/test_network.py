"""Profiles and networks as text and as files."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tacit.errors import ConfigError, UsageError
from tacit.network import MAX_RTT, NAMED, Network, Profile, pair


def test_names_and_their_parts():
    assert Profile.parse("wan") == Profile(rtt=0.04, bandwidth=100e6)
    assert Profile.parse("jitter=2ms, RTT=40ms,bandwidth=1.5gbit,loss=0.1%") == Profile(0.04, 1.5e9, 0.002, 0.001)
    assert Profile.parse("wan,loss=1%") == Profile(0.04, 100e6, 0.0, 0.01)
    assert Profile.parse("rtt=500us").bandwidth == math.inf
    for name, profile in NAMED.items():
        assert Profile.parse(name) == profile
        assert profile.text == name


@given(
    st.floats(0, MAX_RTT),
    st.one_of(st.just(math.inf), st.floats(1e3, 1e12)),
    st.floats(0, 1),
    st.floats(0, 0.5),
)
def test_the_text_of_a_profile_is_that_profile(rtt, bandwidth, jitter, loss):
    """To the digits that are written."""
    profile = Profile(
        round(rtt, 6), bandwidth, round(jitter * rtt / 2, 6) if jitter * rtt / 2 < rtt / 2 - 1e-6 else 0, loss
    )
    again = Profile.parse(profile.text)
    for key in ("rtt", "bandwidth", "jitter", "loss"):
        assert getattr(again, key) == pytest.approx(getattr(profile, key), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("moon", "no network profile 'moon': use lan, metro"),
        ("", "no network profile ''"),
        ("rtt=40ms,wan", "no network profile 'wan'"),
        ("bandwidth=-1mbit", "bandwidth=-1mbit: it must be a number, zero or more, with kbit or mbit or gbit"),
        ("bandwidth=100", "with kbit or mbit or gbit"),
        ("bandwidth=0mbit", "it must be from 1kbit"),
        ("rtt=nan", "rtt=nan"),
        ("rtt=1e3ms", "rtt=1e3ms"),
        ("rtt=1000000ms", "from 0 to 60 s"),
        ("loss=60%", "from 0 to 50 %"),
        ("rtt=1ms,jitter=1ms", "half of the round trip"),
        ("rtt=1ms,rtt=2ms", "no 'rtt' here"),
        ("speed=3mbit", "no 'speed' here"),
    ],
)
def test_what_is_no_profile(text, words):
    with pytest.raises(UsageError, match=r"network profile|must be") as caught:
        Profile.parse(text)
    assert words in str(caught.value)


def test_a_network_and_its_file(tmp_path):
    network = Network.parse(["wan", "alice:bob=global", "client:alice=rtt=1ms"])
    assert network.between("bob", "alice") == NAMED["global"]
    assert network.between("alice", "client") == Profile(rtt=0.001)
    assert network.between("carol", "alice") == NAMED["wan"]
    path = tmp_path / "network.json"
    network.save(path)
    assert Network.load(path) == network
    changed = network.changed(pair("carol:bob"), NAMED["lan"])
    assert changed.between("bob", "carol") == NAMED["lan"]
    assert network.between("bob", "carol") == NAMED["wan"]
    assert [one.name for one in tmp_path.iterdir()] == ["network.json"]


def test_no_default_leaves_the_others_as_they_are():
    assert Network.parse(["alice:bob=wan"]).between("alice", "carol") == Profile()


@pytest.mark.parametrize("text", ["alice:bob", "alice:alice=wan", "alice:=wan", "a:b:c=wan", "alice:bob=moon"])
def test_what_is_no_pair(text):
    with pytest.raises(UsageError):
        Network.parse([text])


def test_two_defaults():
    with pytest.raises(UsageError, match="two profiles for all pairs"):
        Network.parse(["wan", "lan"])


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"default": 1, "pairs": {}}', '{"default": "wan", "pairs": {"a:a": "wan"}}',
             '{"default": "wan", "pairs": {"a:b": "moon"}}', '{"default": "wan", "pairs": {}, "more": 1}'],
)  # fmt: skip
def test_a_file_that_is_none(tmp_path, body):
    path = tmp_path / "network.json"
    path.write_text(body)
    with pytest.raises(ConfigError, match=r"network\.json"):
        Network.load(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        Network.load(tmp_path / "network.json")
    with pytest.raises(ConfigError, match="cannot be written"):
        Network.parse(["wan"]).save(tmp_path / "none" / "network.json")
