"""What stands in the way to a port, told apart over real sockets."""

from __future__ import annotations

import time

import pytest
from ports import closed, listening, silent
from tacit import reach
from tacit.reach import Outcome, is_outside, knock, own_address_towards


def test_ports_are_told_apart():
    with listening() as port:
        assert knock("127.0.0.1", port).outcome is Outcome.OPEN
    with closed() as port:
        assert knock("127.0.0.1", port).outcome is Outcome.REFUSED
    with silent() as port:
        began = time.monotonic()
        assert knock("127.0.0.1", port, 0.5).outcome is Outcome.TIMEOUT
        assert 0.4 < time.monotonic() - began < 3


def test_names_and_ways_that_are_not_there():
    assert knock("no-such-host.invalid", 80).outcome is Outcome.UNKNOWN
    assert knock("x" * 70 + ".invalid", 80).outcome is Outcome.UNKNOWN  # not even a name
    assert knock("255.255.255.255", 80).outcome is Outcome.UNREACHABLE


def test_the_program_meant_is_told_from_another():
    with listening(b"the word") as port:
        assert knock("127.0.0.1", port, expected=b"the word").outcome is Outcome.EXPECTED
        assert knock("127.0.0.1", port, expected=b"the wood").outcome is Outcome.OPEN
        assert knock("127.0.0.1", port, expected=b"the word and more").outcome is Outcome.OPEN


def test_the_best_of_several_addresses_counts(monkeypatch):
    with listening() as port:
        monkeypatch.setattr(reach, "resolve", lambda host: ["127.0.0.2", "127.0.0.1"])
        found = knock("both", port)
    assert found.outcome is Outcome.OPEN
    assert found.address == "127.0.0.1"
    assert found.place == f"both:{port}"


@pytest.mark.parametrize(
    ("address", "outside"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("10.1.2.3", False), ("192.168.0.1", False), ("100.64.0.1", False),
        ("127.0.0.1", False), ("fe80::1", False), ("fd00::1", False), ("", False), ("alice.example", False),
    ],
)  # fmt: skip
def test_which_addresses_are_of_the_internet(address, outside):
    assert is_outside(address) is outside


def test_own_address():
    assert own_address_towards("127.0.0.1") == "127.0.0.1"
    assert own_address_towards("no-such-host.invalid") == ""
