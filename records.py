"""The machinery under `tacit.wire`: records that check every field when they are made, and strict JSON.

A check takes what arrived and returns the value to keep, or raises ValueError saying what is wrong with it.
Errors travel as records too (`error_to_json`).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self, cast

from . import errors
from .errors import PeerError, PeerLost, TacitError, UsageError

MAX_RECORD_BYTES = 1 << 20

Check = Callable[[Any], Any]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def text(pattern: str, what: str) -> Check:
    compiled = re.compile(pattern)

    def check(value: Any) -> str:
        if not isinstance(value, str) or compiled.fullmatch(value) is None:
            raise ValueError(f"is not {what}: {_shown(value)}")
        return value

    return check


def integer(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"is not an integer from {low} to {high}: {_shown(value)}")
        return value

    return check


def constant(expected: str) -> Check:
    def check(value: Any) -> str:
        if value != expected:
            raise ValueError(f"is {_shown(value)}, expected {expected!r}")
        return expected

    return check


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"is not true or false: {_shown(value)}")
    return value


def maybe(check: Check) -> Check:
    return lambda value: value if value == "" else check(value)


def many(check: Check, low: int, high: int) -> Check:
    def checked(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or not low <= len(value) <= high:
            raise ValueError(f"is not a list of {low} to {high} items: {_shown(value)}")
        return tuple(check(item) for item in value)

    return checked


def distinct(check: Check) -> Check:
    def checked(value: Any) -> Any:
        value = check(value)
        if len(set(value)) != len(value):
            raise ValueError(f"repeats an entry: {_shown(value)}")
        return value

    return checked


def mapping(key: Check, value: Check, high: int) -> Check:
    """An object of at most `high` entries."""

    def checked(found: Any) -> dict[Any, Any]:
        if not isinstance(found, dict) or len(found) > high:
            raise ValueError(f"is not an object of at most {high} entries: {_shown(found)}")
        return {key(name): value(item) for name, item in found.items()}

    return checked


def record(cls: type[Record]) -> Check:
    def check(value: Any) -> Record:
        return value if isinstance(value, cls) else cls._from_object(value)

    return check


def plain_summary(value: Any) -> dict[str, Any]:
    """A flat description: at most 64 entries of text, numbers, truth values, null, or lists of whole numbers."""
    if not isinstance(value, dict) or len(value) > 64:
        raise ValueError(f"is not an object of at most 64 entries: {_shown(value)}")
    for key, item in value.items():
        items = item if isinstance(item, list) else [item]
        if not isinstance(key, str) or len(key) > 64 or len(items) > 64:
            raise ValueError(f"holds an oversized entry: {_shown(key)}")
        for one in items:
            if not (one is None or isinstance(one, bool | int | float) or (isinstance(one, str) and len(one) <= 256)):
                raise ValueError(f"holds a value that is not plain: {_shown(key)}: {_shown(one)}")
    return value


def bytes_of(count: int | None, limit: int = MAX_RECORD_BYTES) -> Check:
    """Bytes, written as standard base64 in JSON."""

    def check(value: Any) -> bytes:
        if isinstance(value, str) and len(value) <= 2 * limit:
            try:
                value = base64.b64decode(value, validate=True)
            except binascii.Error:
                raise ValueError("is not base64") from None
        if not isinstance(value, bytes) or len(value) > limit or (count is not None and len(value) != count):
            raise ValueError(f"is not {count if count is not None else 'at most ' + str(limit)} bytes")
        return value

    return check


@dataclass(frozen=True)
class Record:
    """One message: a frozen dataclass whose fields are checked whenever it is made, by us or from bytes."""

    CHECKS: ClassVar[dict[str, Check]] = {}

    def __post_init__(self) -> None:
        for name, check in self.CHECKS.items():
            try:
                object.__setattr__(self, name, check(getattr(self, name)))
            except ValueError as error:
                raise UsageError(f"{type(self).__name__}.{name} {error}") from None

    @classmethod
    def _from_object(cls, value: object) -> Self:
        names = {field.name for field in fields(cls)}
        if not isinstance(value, dict):
            raise ValueError(f"is not a {cls.__name__} object: {_shown(value)}")
        if set(value) != names:
            odd = sorted(map(str, set(value) ^ names))
            raise ValueError(f"{cls.__name__} has missing or unknown fields: {_shown(odd)}")
        try:
            return cls(**value)
        except UsageError as error:
            raise ValueError(str(error)) from None

    @classmethod
    def from_bytes(cls, raw: bytes, sender: str) -> Self:
        """The record in `raw`, which `sender` (for messages) sent. Raises PeerError naming the field that is wrong."""
        try:
            return cls._from_object(parse_json(raw))
        except ValueError as error:
            raise PeerError(sender, f"sent a malformed {cls.__name__}: {error}") from None

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, ASCII."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")).encode("ascii")

    def to_json(self) -> dict[str, Any]:
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is given twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def parse_json(raw: bytes, limit: int = MAX_RECORD_BYTES) -> object:
    """Strict JSON: bounded size, UTF-8, no repeated keys, no NaN. Raises ValueError."""
    if len(raw) > limit:
        raise ValueError(f"{len(raw)} bytes are more than the {limit} allowed")
    try:
        text = raw.decode("utf-8")
        return cast(object, json.loads(text, object_pairs_hook=_no_repeats, parse_constant=_no_constant))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None


ERROR_TYPES: dict[str, type[TacitError]] = {
    kind.__name__: kind
    for kind in (
        errors.UsageError,
        errors.ModelError,
        errors.ConfigError,
        errors.PeerError,
        errors.IdentityError,
        errors.RefusedError,
        errors.NetworkError,
        errors.PeerLost,
    )
}


def error_to_json(error: TacitError) -> dict[str, Any]:
    """{"type", "message"} and, where a peer is named, {"peer", "reason"}."""
    found: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, PeerError | PeerLost):
        found |= {"peer": error.peer, "reason": error.reason}
    return found


def error_from_json(value: object, sender: str) -> TacitError:
    """The error that `sender` reported; one that makes no sense becomes a PeerError of `sender`."""
    if isinstance(value, dict):
        kind = ERROR_TYPES.get(str(value.get("type")))
        if kind is not None and issubclass(kind, PeerError | PeerLost):
            return kind(tidy(value.get("peer", sender), 100), tidy(value.get("reason", "no reason given")))
        if kind is not None:
            return kind(tidy(value.get("message", "no reason given")))
    return PeerError(sender, "reported an error in a form not understood")


def tidy(value: object, limit: int = 500) -> str:
    """Text from outside, fit for a message or a log line: printable, one line, bounded."""
    return "".join(char if char.isprintable() else " " for char in str(value)[:limit])
