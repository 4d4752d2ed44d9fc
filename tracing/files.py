"""Traces read back: what each party recorded of a session, and the messages found at both of their ends.

A trace is as good as far as it goes: one that breaks off, because the process was killed or the disk full, is read up to
there. Times are nanoseconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .recorder import FORMAT, NOWHERE, ROLES, trace_path

COMPUTE, WAITING, SERIALISING = "compute", "waiting", "serialising"
_PHASES = {"waiting": WAITING, "seating": WAITING, "opening": WAITING}
_PHASES |= dict.fromkeys(("packing", "sending", "unpacking"), SERIALISING)
DEALER, CLIENT = 2, 3
_POLL = 0.02


@dataclass(frozen=True, slots=True)
class Span:
    """A time that a party spent; of a site also its rounds and payload bytes (see `recorder`)."""

    name: str
    start: int
    end: int
    step: int
    site: str
    remote: int = -1
    rounds: int = 0
    online: int = 0  # sent to the other compute peer
    offline: int = 0  # of the dealer's, used here

    @property
    def phase(self) -> str:
        """compute, waiting or serialising: what the time is spent on that no inner span takes."""
        return _PHASES.get(self.name, COMPUTE)


@dataclass(frozen=True, slots=True)
class Message:
    """A frame at one of its ends. Bytes are header and body, as in `LinkStats`."""

    sent: bool
    kind: str
    start: int
    end: int
    step: int
    site: str
    remote: int
    number: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Flight:
    """A frame from its sender (a role) to its receiver."""

    sender: int
    receiver: int
    sent: Message
    read: Message


@dataclass(frozen=True, slots=True)
class PartyTrace:
    """What one party recorded. `ended`: None where the record breaks off."""

    session: str
    role: int
    name: str
    model: str
    protocol: str
    machine: str
    started: float
    spans: list[Span]
    messages: list[Message]
    ended: str | None

    @property
    def party(self) -> str:
        return ROLES[self.role]

    def timeline(self) -> list[Span]:
        """All spans and the sending of messages, outer before inner: they nest, for a party is one thread."""
        sending = (
            Span("sending", one.start, one.end, one.step, one.site, one.remote) for one in self.messages if one.sent
        )
        order = {"step": 0, "site": 1}
        return sorted([*self.spans, *sending], key=lambda one: (one.start, -one.end, order.get(one.name, 2)))


@dataclass(slots=True)
class SessionTrace:
    """What the parties of a session recorded, by role; whoever recorded nothing is missing."""

    session: str
    parties: dict[int, PartyTrace] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what is not there, and why

    @property
    def origin(self) -> int:
        """When the client asked; the first that was recorded, where it left no trace."""
        who = [self.parties[CLIENT]] if CLIENT in self.parties else list(self.parties.values())
        starts = [one.start for party in who for one in party.spans] + [
            one.start for party in who for one in party.messages
        ]
        return min(starts, default=0)

    def flights(self) -> list[Flight]:
        """The messages recorded at both ends, in the order in which they were sent."""
        read = {
            (one.remote, role, one.number): one
            for role, party in self.parties.items()
            for one in party.messages
            if not one.sent
        }
        found = [
            Flight(role, one.remote, one, read[role, one.remote, one.number])
            for role, party in self.parties.items()
            for one in party.messages
            if one.sent and (role, one.remote, one.number) in read
        ]
        return sorted(found, key=lambda one: one.sent.start)


def self_times(spans: Iterable[Span]) -> Iterator[tuple[Span, int]]:
    """Of spans that nest, outer first (`PartyTrace.timeline`): each with the nanoseconds that none inside of it takes."""
    stack: list[tuple[Span, int]] = []
    for one in spans:
        while stack and stack[-1][0].end <= one.start and stack[-1][0].end < one.end:
            yield stack.pop()
        if stack:
            outer, rest = stack[-1]
            stack[-1] = (outer, rest - (one.end - one.start))
        stack.append((one, one.end - one.start))
    yield from reversed(stack)


def read_file(path: Path) -> PartyTrace:
    """One party's trace. Raises ConfigError naming the file and the line that is not as it should be."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    lines = text[: text.rfind(b"\n") + 1].splitlines()  # what was being written when the process was killed is left out
    head: Mapping[str, Any] = {}
    spans: list[Span] = []
    messages: list[Message] = []
    ended: str | None = None
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
            if number == 1:
                head = found
                if head["format"] != FORMAT or not 0 <= head["role"] < len(ROLES):
                    raise ValueError
            elif "name" in found:
                spans.append(_span(found))
            elif "ended" in found:
                ended = str(found["ended"])
            else:
                messages.append(_message(found))
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{path}, line {number}: is no trace of this version ({FORMAT})") from None
    if not head:
        raise ConfigError(f"{path}: holds nothing")
    facts = {key: head[key] for key in ("session", "role", "name", "model", "protocol", "machine", "started")}
    return PartyTrace(**facts, spans=spans, messages=messages, ended=ended)


def _span(found: Mapping[str, Any]) -> Span:
    counts = (int(found.get(key, 0)) for key in ("rounds", "online", "offline"))
    return Span(*(found[key] for key in ("name", "from", "to", "step", "site", "remote")), *counts)


def _message(found: Mapping[str, Any]) -> Message:
    sent = "sent" in found
    kind = found["sent" if sent else "read"]
    return Message(sent, kind, *(found[key] for key in ("from", "to", "step", "site", "remote", "number", "bytes")))


def sessions(folder: Path) -> list[str]:
    """The ids (hexadecimal) of the sessions that somebody left a trace of, oldest first."""
    found: dict[str, float] = {}
    for path in folder.glob("*.jsonl"):
        try:
            with path.open("rb") as file:
                started = float(json.loads(file.readline())["started"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # no trace, or one that was being made when the disk was full
        session = path.name.partition(".")[0]
        found[session] = min(started, found.get(session, started))
    return sorted(found, key=lambda session: found[session])


def read_session(folders: Path | Sequence[Path], session: str, patience: float = 0.0) -> SessionTrace:
    """What is there of a session, in one folder or several. Traces of machines with other clocks are left out, and noted.

    Parties write their last lines when the session is over: for these it waits `patience` seconds at most.
    Raises ConfigError for a file that is no trace.
    """
    places = [folders] if isinstance(folders, Path) else list(folders)
    deadline = time.monotonic() + patience
    while True:
        parties = {
            role: read_file(path)
            for role in range(len(ROLES))
            for folder in places
            if _has_lines(path := trace_path(folder, session, role))
        }
        if sum(one.ended is not None for one in parties.values()) == len(ROLES) or time.monotonic() > deadline:
            break
        time.sleep(_POLL)
    found = SessionTrace(session)
    reference = parties.get(CLIENT) or next(iter(parties.values()), None)
    for role, name in enumerate(ROLES):
        if role not in parties:
            found.notes.append(f"{name} left no trace")
        elif reference is not None and parties[role].machine != reference.machine:
            found.notes.append(f"{name} ran on another machine, whose clock is another")
        else:
            found.parties[role] = parties[role]
            if parties[role].ended is None:
                found.notes.append(f"{name}: its trace breaks off")
    return found


def _has_lines(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.readline().endswith(b"\n")
    except OSError:
        return False


def read_folder(folder: Path, patience: float = 0.0) -> list[SessionTrace]:
    """All sessions of a folder, oldest first."""
    return [read_session(folder, session, patience) for session in sessions(folder)]


__all__ = [
    "CLIENT",
    "COMPUTE",
    "DEALER",
    "NOWHERE",
    "SERIALISING",
    "WAITING",
    "Flight",
    "Message",
    "PartyTrace",
    "SessionTrace",
    "Span",
    "read_file",
    "read_folder",
    "read_session",
    "self_times",
    "sessions",
]
