"""What the lines between the parties of a session are made to be like: profiles, and which pair of parties has which.

    wan                                            a name of NAMED
    rtt=40ms,bandwidth=100mbit,jitter=2ms,loss=0.1%    or what it is made of; what is left out is unlimited or none
    wan,loss=0.5%                                  a name, and what differs

A `Network` is a profile for every pair, and others for some pairs: `alice:bob`, `client:alice` (the client is called
"client"). It is kept in network.json, {"default": profile, "pairs": {"A:B": profile}}.
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from .checks import is_name
from .errors import ConfigError, UsageError
from .records import parse_json, tidy

CLIENT = "client"
FILE = "network.json"
MAX_RTT, MAX_BANDWIDTH, MIN_BANDWIDTH, MAX_LOSS = 60.0, 1e12, 1e3, 0.5
_UNITS = {
    "rtt": {"us": 1e-6, "ms": 1e-3, "s": 1.0},
    "jitter": {"us": 1e-6, "ms": 1e-3, "s": 1.0},
    "bandwidth": {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9},
    "loss": {"%": 1e-2},
}
_EXAMPLE = "rtt=40ms,bandwidth=100mbit,jitter=2ms,loss=0.1%"
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([a-z%]*)")


@dataclass(frozen=True, slots=True)
class Profile:
    """One line, the same in both directions."""

    rtt: float = 0.0  # seconds there and back; each way takes half
    bandwidth: float = math.inf  # bits per second, each way
    jitter: float = 0.0  # seconds: each way's delay is uniform within this much of its mean; order is kept
    loss: float = 0.0  # chance that a packet is lost, and sent again

    def __post_init__(self) -> None:
        if not 0 <= self.rtt <= MAX_RTT:
            raise UsageError(f"a round trip of {self.rtt:g} s: it must be from 0 to {MAX_RTT:g} s")
        if not (MIN_BANDWIDTH <= self.bandwidth <= MAX_BANDWIDTH or self.bandwidth == math.inf):
            raise UsageError(f"a bandwidth of {self.bandwidth:g} bit/s: it must be from 1kbit to 1000gbit")
        if not 0 <= self.jitter <= self.rtt / 2:
            raise UsageError(f"a jitter of {1e3 * self.jitter:g} ms: it must be from 0 to half of the round trip")
        if not 0 <= self.loss <= MAX_LOSS:
            raise UsageError(f"a loss of {100 * self.loss:g} %: it must be from 0 to {100 * MAX_LOSS:g} %")

    @classmethod
    def parse(cls, text: str) -> Profile:
        """A name, a list of KEY=VALUE, or a name and what differs. Raises UsageError that says what is wrong."""
        found, changes = cls(), dict[str, float]()
        for number, part in enumerate(text.split(",")):
            key, equals, value = (one.strip().lower() for one in part.partition("="))
            if not equals:
                if number or key not in NAMED:
                    raise UsageError(
                        f"there is no network profile {tidy(part, 40)!r}: use {', '.join(NAMED)}, or {_EXAMPLE}"
                    )
                found = NAMED[key]
                continue
            if key not in _UNITS or key in changes:
                raise UsageError(f"a network profile has no {tidy(key, 40)!r} here: write it as {_EXAMPLE}")
            changes[key] = _quantity(key, value)
        return replace(found, **changes)

    @property
    def text(self) -> str:
        """As `parse` takes it; the name if it has one."""
        for name, profile in NAMED.items():
            if profile == self:
                return name
        plain = Profile()
        keys = [key for key in _UNITS if key == "rtt" or getattr(self, key) != getattr(plain, key)]
        return ",".join(f"{key}={_shown(key, getattr(self, key))}" for key in keys)

    @property
    def one_way(self) -> float:
        """Mean delay in seconds."""
        return self.rtt / 2


def _quantity(key: str, text: str) -> float:
    units = _UNITS[key]
    found = _QUANTITY.fullmatch(text)
    if found is None or found[2] not in units:
        raise UsageError(
            f"{key}={tidy(text, 40)}: it must be a number, zero or more, with {' or '.join(units)}, as in {_EXAMPLE}"
        )
    return float(found[1]) * units[found[2]]


def _shown(key: str, value: float) -> str:
    if key == "loss":
        return f"{_decimal(100 * value)}%"
    unit = {"rtt": "ms", "jitter": "ms", "bandwidth": "gbit" if value >= 1e9 else "mbit" if value >= 1e6 else "kbit"}[
        key
    ]
    return f"{_decimal(value / _UNITS[key][unit])}{unit}"


def _decimal(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


NAMED: Mapping[str, Profile] = {
    "lan": Profile(rtt=0.1e-3, bandwidth=10e9),
    "metro": Profile(rtt=4e-3, bandwidth=1e9),
    "wan": Profile(rtt=40e-3, bandwidth=100e6),
    "sigma-wan": Profile(rtt=60e-3, bandwidth=305e6),
    "global": Profile(rtt=150e-3, bandwidth=50e6),
}


@dataclass(frozen=True)
class Network:
    """Which line each pair of parties has."""

    default: Profile
    pairs: Mapping[frozenset[str], Profile] = field(default_factory=dict)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Network:
        """Of `--network` options: PROFILE for all pairs, A:B=PROFILE for one. Raises UsageError."""
        default: Profile | None = None
        pairs: dict[frozenset[str], Profile] = {}
        for text in texts:
            names, colon, rest = text.partition(":")
            if not colon:
                if default is not None:
                    raise UsageError(f"two profiles for all pairs, {default.text} and {tidy(text, 40)}: give one")
                default = Profile.parse(text)
                continue
            other, equals, profile = rest.partition("=")
            if not equals:
                raise UsageError(f"--network {tidy(text, 60)}: a profile for one pair is written alice:bob=wan")
            pairs[pair(f"{names}:{other}")] = Profile.parse(profile)
        return cls(default or Profile(), pairs)

    def between(self, one: str, other: str) -> Profile:
        return self.pairs.get(frozenset((one, other)), self.default)

    def changed(self, names: frozenset[str], profile: Profile) -> Network:
        """With another line between two parties."""
        return Network(self.default, {**self.pairs, names: profile})

    @property
    def text(self) -> str:
        """For people and for file names of a study: the default, and the pairs that differ."""
        return "; ".join([self.default.text, *(f"{name}={profile.text}" for name, profile in self._named())])

    def _named(self) -> list[tuple[str, Profile]]:
        return sorted((":".join(sorted(names)), profile) for names, profile in self.pairs.items())

    def save(self, path: Path) -> None:
        """Replaces the file as a whole, so that whoever reads it meanwhile sees one or the other."""
        body = json.dumps(
            {"default": self.default.text, "pairs": {name: profile.text for name, profile in self._named()}}, indent=1
        )
        try:
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(body + "\n")
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise ConfigError(f"{path}: the network's profiles cannot be written: {error.strerror}") from None

    @classmethod
    def load(cls, path: Path) -> Network:
        """Raises ConfigError naming the file."""
        try:
            found = parse_json(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ConfigError(f"{path}: is no network.json: {error}") from None
        if not isinstance(found, dict) or found.keys() != {"default", "pairs"} or not isinstance(found["pairs"], dict):
            raise ConfigError(f"{path}: is no network.json: it must have default and pairs")
        try:
            return cls(
                Profile.parse(_text(found["default"])),
                {pair(name): Profile.parse(_text(text)) for name, text in found["pairs"].items()},
            )
        except UsageError as error:
            raise ConfigError(f"{path}: {error}") from None


def pair(text: str) -> frozenset[str]:
    """Two names, A:B. Raises UsageError."""
    names = text.split(":")
    try:
        if len(names) != 2 or is_name(names[0]) == is_name(names[1]):
            raise ValueError
    except ValueError:
        raise UsageError(f"{tidy(text, 60)!r} is no pair of parties: write it as alice:bob, or client:alice") from None
    return frozenset(names)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise UsageError("a profile is a text such as 'wan'")
    return value
