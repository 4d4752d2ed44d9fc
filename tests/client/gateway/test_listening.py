"""Where the gateway listens, and what it takes to be let in from elsewhere."""

from __future__ import annotations

import os
import stat

import pytest
from tacit.client.gateway.listening import only_here, rules_of, token_of
from tacit.errors import ConfigError, NetworkError

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1"])
def test_others_are_let_in_with_a_token_only(host):
    with pytest.raises(ConfigError, match="token"):
        rules_of(host, (), (), "")
    assert rules_of(host, (), (), TOKEN).token == TOKEN


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_needs_none(host):
    assert only_here(host)
    assert rules_of(host, (), (), "").token == ""


def test_a_name_that_is_none_is_said_so():
    with pytest.raises(NetworkError, match="no address"):
        only_here("no-such-host.invalid")


def test_the_address_that_is_named_is_a_host_to_be_asked_for():
    rules = rules_of("192.0.2.1", ["Gate.Example"], ["https://App.Example"], TOKEN)
    assert rules.allows_host("192.0.2.1:8080")
    assert rules.allows_host("gate.example")
    assert not rules.allows_host("192.0.2.2")
    assert rules.origins == {"https://app.example"}
    assert not rules_of("0.0.0.0", (), (), TOKEN).allows_host("0.0.0.0")


@pytest.mark.parametrize("host", ["http://gate.example", "gate.example:8080", "", "a b", "me@gate"])
def test_a_host_that_is_none(host):
    with pytest.raises(ConfigError, match="--allow-host"):
        rules_of("127.0.0.1", [host], (), "")


@pytest.mark.parametrize(
    "origin", ["*", "null", "app.example", "https://", "https://app.example/", "ftp://app.example"]
)
def test_an_origin_that_is_none(origin):
    with pytest.raises(ConfigError, match="--allow-origin"):
        rules_of("127.0.0.1", (), [origin], "")


def test_a_token_is_made_once_and_for_its_owner_alone(tmp_path):
    file = tmp_path / "token"
    before = os.umask(0)
    try:
        made = token_of(file, None)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(made) >= 40
    assert token_of(file, "another-token-0123456789") == made


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_token_that_others_can_read_is_none(tmp_path, mode):
    file = tmp_path / "token"
    token_of(file, None)
    file.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        token_of(file, None)


@pytest.mark.parametrize("text", ["", "short", "two words of a token", "schlüssel-schlüssel", "\x00" * 20])
def test_a_token_that_is_none(tmp_path, text):
    file = tmp_path / "token"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="is no token") as caught:
        token_of(file, None)
    assert not text or text not in str(caught.value)
    if text:
        with pytest.raises(ConfigError, match="TACIT_SERVE_TOKEN"):
            token_of(None, text)


def test_a_file_that_cannot_be(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the token"):
        token_of(tmp_path / "nothing" / "token", None)
    file = tmp_path / "token"
    file.write_bytes(b"\xff" * 20)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="not text"):
        token_of(file, None)


def test_no_token_is_no_token():
    assert token_of(None, None) == ""
