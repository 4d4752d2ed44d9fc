"""Peers that the user pinned, by cluster: whoever is not among them gets nothing, whatever a coordinator says.

    <pins>/NAME.json     0600: a `PinFile`; replaced as a whole, under a lock

<pins> is `pins` beside config.toml. What a pin says of a peer's operator and name is the user's word; the peer's own does
not count. A key that changed is never taken for the old one, unless the old key signed for the new one (`succession`).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from ..checks import short_id
from ..config import config_path
from ..errors import ConfigError, PeerError, UsageError
from ..members import Member
from ..records import Check, Record, constant, many, record, text
from ..succession import MAX_LINKS, Chain, follow, is_chain, is_time, read_chain

FORMAT = "tacit pins/1"
BY_HAND, FIRST_USE = "by hand", "first use"
MAX_PINS = 4096


@dataclass(frozen=True)
class Pin(Member):
    """A pinned peer: since when (seconds since the epoch), how, and the successions that led to its present id."""

    pinned: int
    how: str
    successions: Chain = ()

    CHECKS: ClassVar[dict[str, Check]] = {
        **Member.CHECKS,
        "pinned": is_time,
        "how": text(r"[^\x00-\x1f\x7f]{1,200}", "a line of text"),
        "successions": is_chain,
    }

    @classmethod
    def of(cls, member: Member, how: str) -> Pin:
        """A peer, pinned now."""
        return cls(member.name, member.operator, member.peer_id, int(time.time()), how)

    @property
    def since(self) -> str:
        return f"{self.how}, {time.strftime('%Y-%m-%d', time.localtime(self.pinned))}"


Pins = tuple[Pin, ...]


@dataclass(frozen=True)
class PinFile(Record):
    """<pins>/NAME.json."""

    format: str
    cluster: str
    peers: Pins

    CHECKS: ClassVar[dict[str, Check]] = {
        "format": constant(FORMAT),
        "cluster": text(r"[^\x00-\x1f\x7f]{1,300}", "what a cluster is called"),
        "peers": many(record(Pin), 0, MAX_PINS),
    }


def added(pins: Pins, new: Pin) -> Pins:
    """With one more. Raises ConfigError if its id is pinned otherwise, or its name to another key."""
    for old in pins:
        if old.peer_id == new.peer_id:
            if (old.name, old.operator) == (new.name, new.operator):
                return pins
            raise ConfigError(
                f"{short_id(new.peer_id)}… is pinned already, as {old.name!r} of {old.operator!r} ({old.since}): to change "
                f"that, run: tacit peers forget {short_id(new.peer_id)}"
            )
        if old.name == new.name:
            raise ConfigError(key_changed(old, new.peer_id))
    return (*pins, new)


def forgotten(pins: Pins, who: str) -> Pins:
    """Without the peer that has this name or id, or the one whose id begins like this (8 characters or more)."""
    found = [pin for pin in pins if who in (pin.name, pin.peer_id)]
    if not found and len(who) >= 8:
        found = [pin for pin in pins if pin.peer_id.startswith(who)]
    if len(found) != 1:
        names = ", ".join(pin.display for pin in pins) or "none"
        raise UsageError(f"{who!r} is {'several' if found else 'none'} of the pinned peers: {names}")
    return tuple(pin for pin in pins if pin is not found[0])


def followed(pins: Pins, chains: Sequence[Chain]) -> tuple[Pins, tuple[str, ...]]:
    """The pins after these successions, and a sentence for each pin that has a new key by now.

    `chains` may come from anybody: what counts is that each key signed for the next. Raises IdentityError naming the peer
    where a pinned key has two successors.
    """
    found, words = [], []
    for pin in pins:
        before = read_chain(pin.successions, pin.display)
        first = before[0].old if before else pin.peer_id  # a second successor of any key on the way has to be noticed
        chain = follow(first, (), pin.display, [*chains, pin.successions])[len(before) :]
        if chain:
            said = chain[-1].verified(pin.display)
            words.append(f"{pin.display} has a new key, {said.new}, which its old key signed for: now pinned instead")
            how = f"successor of {short_id(pin.peer_id)}"
            known = (*pin.successions, *chain)[-MAX_LINKS:]
            pin = replace(pin, peer_id=said.new, pinned=int(time.time()), how=how, successions=known)
        found.append(pin)
    return tuple(found), tuple(words)


def key_changed(pin: Member, shown: str) -> str:
    """What is said, as loudly as ssh does, when somebody with another key goes by the name of a pinned peer."""
    since = f", {pin.since}" if isinstance(pin, Pin) else ""
    return (
        f"THE KEY OF {pin.name!r} HAS CHANGED, or somebody else goes by its name: pinned is {pin.peer_id}{since}; shown is "
        f"{shown}. Ask {pin.operator!r}, by another way than this network, which of them is theirs (tacit identity show). If "
        f"it is the new one, run: tacit peers forget {short_id(pin.peer_id)}, then: tacit peers pin {shown} --operator "
        f"{pin.operator!r} --name {pin.name!r}"
    )


class PinStore:
    """The pins of one cluster. `cluster`: its name in config.toml, or its coordinator's address."""

    def __init__(self, cluster: str, folder: Path | None = None) -> None:
        self.cluster = cluster
        # An address is quoted, so that it never is the file of a name, nor of another address.
        self.path = (folder or pins_folder()) / f"{quote(cluster, safe=' ')}.json"

    def read(self) -> Pins:
        """What is pinned. Raises ConfigError naming the file and the field that is wrong."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot read the pins: {error.strerror}") from None
        try:
            found = PinFile.from_bytes(raw, str(self.path))
        except PeerError as error:
            raise ConfigError(f"{self.path}: holds {error.reason.removeprefix('sent ')}") from None
        if found.cluster != self.cluster:
            raise ConfigError(f"{self.path}: holds the pins of {found.cluster!r}, not of {self.cluster!r}")
        for what in ("peer_id", "name"):
            if len({getattr(pin, what) for pin in found.peers}) != len(found.peers):
                raise ConfigError(f"{self.path}: two entries have the same {what}")
        return found.peers

    def change(self, change: Callable[[Pins], Pins]) -> Pins:
        """Replace what is pinned by what `change` makes of it; nobody else writes meanwhile. Raises as `change`, ConfigError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.path.parent / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self.read()
            after = change(before)
            if after != before:
                self._write(PinFile(FORMAT, self.cluster, after))
            return after
        finally:
            os.close(lock)

    def _write(self, content: PinFile) -> None:
        draft = self.path.with_name(f".{secrets.token_hex(8)}.draft")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.to_bytes() + b"\n")
                file.flush()
                os.fsync(descriptor)
            draft.replace(self.path)  # whole or not at all
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self.path}: pins cannot be kept ({error.strerror}): make the folder writable, or set TACIT_CONFIG to a file in "
            "one that is"
        )


def pins_folder() -> Path:
    """<pins>, which may not exist yet."""
    return config_path().parent / "pins"
