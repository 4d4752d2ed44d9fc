"""One party's record of a session: spans of time and messages on CLOCK_MONOTONIC, which all processes of a machine share.

| line | fields |
| --- | --- |
| first | format, session, role, party, name, model, protocol, machine, started (seconds since the epoch) |
| a span | name, from, to (ns), step, site, remote (role or -1), rounds, online, offline (payload bytes, of a "site" alone) |
| a message | "sent" or "read": kind of frame, from, to (ns), step, site, remote, number (on its link and way), bytes |
| last | ended: "done", the kind of error, or FULL; missing where the process was killed |

Spans: "step", and in it one "site" after the other without a gap (as the model names them; "embed" also holds what comes
before it, "reveal" what comes after the head); in these "packing", "unpacking" and "waiting". What a party does outside of
its steps has step -1. A record knows names, times and sizes: no content, no key, no token.

A trace is at most MAX_BYTES long, about 600 tokens of the shipped model; what comes after that is not recorded. Records
are held back until the step is over, and written while others are at work. What cannot be written never ends a session.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..errors import ConfigError
from ..records import tidy

log = logging.getLogger("tacit.tracing")

FORMAT = "tacit-trace/1"
MAX_BYTES = 32 << 20  # of one party in one session
HELD = 1 << 14  # records, at most, until they are written
ROLES = ("compute 0", "compute 1", "dealer", "client")
DONE, FULL = "done", "full"
NOWHERE = -1  # the step of what belongs to none

clock = time.monotonic_ns


class SpanRecord(NamedTuple):
    name: str
    start: int
    end: int
    step: int
    site: str
    remote: int = -1
    rounds: int = 0
    online: int = 0
    offline: int = 0

    def line(self) -> str:
        counts = (
            f',"rounds":{self.rounds},"online":{self.online},"offline":{self.offline}' if self.name == "site" else ""
        )
        return (
            f'{{"name":"{self.name}","from":{self.start},"to":{self.end},"step":{self.step},"site":"{self.site}",'
            f'"remote":{self.remote}{counts}}}\n'
        )


class MessageRecord(NamedTuple):
    way: str  # "sent" or "read"
    kind: str
    start: int
    end: int
    step: int
    site: str
    remote: int
    number: int
    size: int

    def line(self) -> str:
        kind = json.dumps(tidy(self.kind, 30))  # the other side's word, until it is checked
        return (
            f'{{"{self.way}":{kind},"from":{self.start},"to":{self.end},"step":{self.step},"site":"{self.site}",'
            f'"remote":{self.remote},"number":{self.number},"bytes":{self.size}}}\n'
        )


class Recorder:
    """Writes one file. Of one thread, but for `sent` and `close`, which any may call. Nothing here raises."""

    def __init__(self, descriptor: int, path: Path, head: dict[str, object], say: Callable[[str], None]) -> None:
        """Made by `Traces.open`."""
        self.path = path
        self._descriptor: int | None = descriptor
        self._say = say
        self._left = MAX_BYTES
        self._lock = threading.Lock()
        self._records: list[SpanRecord | MessageRecord] = []
        self._step, self._site = NOWHERE, ""
        self._step_since = self._site_since = 0
        self._rounds = self._online = self._offline = 0
        self._write(json.dumps(head) + "\n")

    # Where the party is ----------------------------------------------------------------------------------------------

    def begin(self, step: int, site: str) -> None:
        """A step starts, at `site`."""
        self._step, self._site = step, site
        self._step_since = self._site_since = clock()

    def enter(self, site: str) -> None:
        """From here on it is at `site`: one of the model's own names, which need no quoting."""
        now = clock()
        self._leave(now)
        self._site, self._site_since = site, now

    def end(self) -> None:
        """The step is over."""
        if self._step == NOWHERE:
            return
        now = clock()
        self._leave(now)
        self._records.append(SpanRecord("step", self._step_since, now, self._step, ""))
        self._step, self._site = NOWHERE, ""

    def _leave(self, now: int) -> None:
        counts = self._rounds, self._online, self._offline
        self._records.append(SpanRecord("site", self._site_since, now, self._step, self._site, -1, *counts))
        self._rounds = self._online = self._offline = 0

    def round(self, size: int) -> None:
        """One more round at this site, with `size` payload bytes sent."""
        self._rounds += 1
        self._online += size

    def consumed(self, size: int) -> None:
        """Payload bytes of the dealer's that were used at this site."""
        self._offline += size

    # What it does ----------------------------------------------------------------------------------------------------

    def span(self, name: str, since: int, remote: int = -1, until: int | None = None) -> None:
        """Something that began at `since` (of `clock`) and ended at `until`, which is now if left out."""
        end = clock() if until is None else until
        self._records.append(SpanRecord(name, since, end, self._step, self._site, remote))
        if len(self._records) > HELD:
            self.flush()

    def sent(self, kind: str, since: int, remote: int, number: int, size: int) -> None:
        """A frame went to the role `remote`."""
        self._records.append(MessageRecord("sent", kind, since, clock(), self._step, self._site, remote, number, size))

    def last_word(self, kind: str, remote: int, number: int, size: int) -> None:
        """A frame that says goodbye, or why not, is about to go: a point in time, for any thread may send it."""
        now = clock()
        self._records.append(MessageRecord("sent", kind, now, now, self._step, self._site, remote, number, size))

    def read(self, kind: str, since: int, remote: int, number: int, size: int) -> None:
        """A frame of the role `remote` is in hand; `since`: when its first part was."""
        self._records.append(MessageRecord("read", kind, since, clock(), self._step, self._site, remote, number, size))

    # The file --------------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what is held back."""
        records, self._records = self._records, []
        self._write("".join([record.line() for record in records]))

    def close(self, ended: str = DONE) -> None:
        """The session is over; closing again does nothing."""
        self.end()
        self.flush()
        with self._lock:
            if self._descriptor is not None:
                self._last(ended)

    def _write(self, text: str) -> None:
        with self._lock:
            if self._descriptor is None:
                return
            body = text.encode()
            if len(body) > self._left:
                self._say(f"{self.path}: the trace has {MAX_BYTES >> 20} MiB, its most; the session goes on without it")
                self._last(FULL)
                return
            try:
                self._left -= len(body)
                while body:
                    body = body[os.write(self._descriptor, body) :]
            except OSError as error:
                self._say(
                    f"{self.path}: the trace cannot be written ({error.strerror}); the session goes on without it"
                )
                os.close(self._descriptor)
                self._descriptor = None

    def _last(self, ended: str) -> None:
        if self._descriptor is None:
            return
        with suppress(OSError):  # it is read without its last line, too
            os.write(self._descriptor, (json.dumps({"ended": ended}) + "\n").encode())
        os.close(self._descriptor)
        self._descriptor = None


class Traces:
    """The folder in which a party leaves a trace of each session, as SESSION.ROLE.jsonl (0600)."""

    def __init__(self, folder: str | Path, say: Callable[[str], None] = log.warning) -> None:
        """Makes the folder (0700) where there is none. `say` hears what could not be written later.

        Raises ConfigError if nothing can be written there.
        """
        self.folder = Path(folder).expanduser().absolute()
        self._say = say
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as trial:
                trial.write(b"\n")
        except OSError as error:
            raise ConfigError(
                f"{self.folder}: traces cannot be written there: {error.strerror}; name another folder, or leave out --trace"
            ) from None

    def open(self, session: bytes, role: int, *, name: str, model: str, protocol: str) -> Recorder | None:
        """The record of one session by the party of this `role`, called `name`; None, once that was said, if there can be none."""
        path = trace_path(self.folder, session.hex(), role)
        head: dict[str, object] = {
            "format": FORMAT,
            "session": session.hex(),
            "role": role,
            "party": ROLES[role],
            "name": tidy(name, 100),
            "model": tidy(model, 200),
            "protocol": protocol,
            "machine": machine(),
            "started": time.time(),
        }
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            self._say(f"{path}: the trace cannot be written ({error.strerror}); the session goes on without it")
            return None
        return Recorder(descriptor, path, head, self._say)


def trace_path(folder: Path, session: str, role: int) -> Path:
    """Where the party of this role leaves its trace of a session (its id in hexadecimal)."""
    return folder / f"{session}.{ROLES[role].replace(' ', '-')}.jsonl"


def machine() -> str:
    """What tells the machines apart whose clocks differ: the id of this start of the kernel; "" where it has none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
