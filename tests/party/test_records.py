"""Records from outside: every field of every record is checked, and nothing else may come along."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tacit.errors import ConfigError, IdentityError, PeerError, PeerLost, RefusedError, TacitError, UsageError
from tacit.members import Roster
from tacit.records import MAX_RECORD_BYTES, error_from_json, error_to_json, parse_json
from tacit.sizes import Sizes
from tacit.wire import SessionRequest

REQUEST = SessionRequest("ab" * 16, "k" * 40, "stories", "pair", Sizes(1, 5, 15, 24))
GOOD = REQUEST.to_json()
SIZES = GOOD["sizes"]


def test_bytes_and_back() -> None:
    assert SessionRequest.from_bytes(REQUEST.to_bytes(), "client") == REQUEST
    assert REQUEST.to_bytes() == json.dumps(GOOD, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("session", "AB" * 16),
        ("session", "ab" * 15),
        ("session", "ab" * 16 + "\n"),
        ("session", 7),
        ("session", None),
        ("client_key", "k" * 39),
        ("client_key", "k" * 39 + '"'),
        ("client_key", ["k"] * 40),
        ("model", ""),
        ("model", "../etc/passwd"),
        ("model", "a" * 129),
        ("model", "a\x1b[2J"),
        ("protocol", "plain"),
        ("sizes", None),
        ("sizes", [1, 5, 15, 24]),
        ("sizes", {**SIZES, "more": 1}),
        ("sizes", {**SIZES, "sequences": 0}),
        ("sizes", {**SIZES, "sequences": 65}),
        ("sizes", {**SIZES, "step_tokens": 0}),
        ("sizes", {**SIZES, "step_tokens": -1}),
        ("sizes", {**SIZES, "step_tokens": 1.0}),
        ("sizes", {**SIZES, "step_tokens": True}),
        ("sizes", {**SIZES, "step_tokens": "5"}),
        ("sizes", {**SIZES, "step_pairs": 1 << 41}),
        ("sizes", {**SIZES, "kept_tokens": 1 << 21}),
        ("operators", "A"),
        ("operators", ["A", "A"]),
        ("operators", ["a/b"]),
        ("operators", [f"o{n}" for n in range(65)]),
        ("without", ["peer-0"]),
        ("without", None),
    ],
)
def test_a_wrong_value_is_named(field: str, value: object) -> None:
    with pytest.raises(PeerError, match=f"client: .*{field}"):
        SessionRequest.from_bytes(json.dumps({**GOOD, field: value}).encode(), "client")
    with pytest.raises(UsageError, match=field):
        SessionRequest(**{**GOOD, field: value})


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({**GOOD, "more": 1}).encode(),
        json.dumps({key: value for key, value in GOOD.items() if key != "model"}).encode(),
        json.dumps(GOOD).encode()[:-1] + b', "model": "other"}',
        json.dumps(GOOD).encode().replace(b"24", b"NaN"),
        json.dumps(GOOD).encode() + b" " * MAX_RECORD_BYTES,
    ],
    ids=range(11),
)
def test_anything_but_exactly_the_fields_is_refused(raw: bytes) -> None:
    with pytest.raises(PeerError, match="client: sent a malformed SessionRequest"):
        SessionRequest.from_bytes(raw, "client")


@given(st.binary(max_size=200))
def test_noise_never_escapes_as_another_error(raw: bytes) -> None:
    with pytest.raises(PeerError):
        SessionRequest.from_bytes(raw, "client")
    with contextlib.suppress(ValueError):
        parse_json(raw)


@pytest.mark.parametrize(
    "error",
    [
        UsageError("a"),
        ConfigError("b"),
        PeerError("p", "r"),
        IdentityError("p", "r"),
        RefusedError("p", "r"),
        PeerLost("p", "r"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_travel(error: TacitError) -> None:
    found = error_from_json(json.loads(json.dumps(error_to_json(error))), "sender")
    assert type(found) is type(error)
    assert str(found) == str(error)


@pytest.mark.parametrize("value", [None, 3, {}, {"type": "SystemExit", "message": "x"}, {"type": ["PeerError"]}, []])
def test_an_error_that_is_none_becomes_the_senders(value: object) -> None:
    found = error_from_json(value, "sender")
    assert type(found) is PeerError
    assert found.peer == "sender"


def test_an_errors_text_is_tidied() -> None:
    found = error_from_json({"type": "UsageError", "message": "a\x1b[2J\n" + "b" * 5000}, "sender")
    assert str(found).isprintable()
    assert len(str(found)) <= 500


def test_a_roster_that_is_none_is_a_config_error(tmp_path) -> None:
    with pytest.raises(ConfigError, match="cannot read the roster"):
        Roster.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"cluster": "x"}')
    with pytest.raises(ConfigError, match=r"bad\.json: .*Roster"):
        Roster.load(tmp_path / "bad.json")
