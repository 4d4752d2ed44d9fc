"""Dial-back: a member asks another whether it can be reached from there, at the addresses under which the cluster knows it.

| record     | from -> to      | what it says                                                                       |
| ---------- | --------------- | ----------------------------------------------------------------------------------- |
| `Callback` | asker -> member | a port for links besides the mesh's, and the words that whoever listens will say     |
| `Report`   | member -> asker | what came of each address, as which IP address the asker was seen, version and clock |

So that nobody can use a member to look around elsewhere: it dials only hosts that the asker's own entry names (cluster.json,
member record), a bounded number, one question of an asker at a time and none within a second of the last; and private
addresses only for an asker that itself comes from a private one. It tells whether the port was open, nothing of what is there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

from .. import __version__
from ..checks import is_version
from ..errors import RefusedError
from ..reach import TIMEOUT, Outcome, is_outside, knock, resolve
from ..records import Check, Record, bytes_of, constant, integer, many, maybe, record, text
from .mesh import Mesh

MAX_TRIED = 8
ANSWER_SECONDS = TIMEOUT + 5.0  # what an asker should wait
PAUSE_SECONDS = 1.0
WORD_BYTES = 16
MESH_PORT, LINK_PORT = "mesh", "link"

is_host = text(r"[0-9A-Za-z.:_-]{1,253}", "a host")
is_ip = text(r"[0-9A-Fa-f.:]{2,45}", "an IP address")


@dataclass(frozen=True)
class Callback(Record):
    """`link_port`: where the asker listens just now for the sake of this question, 0 if it does not."""

    link_port: int
    word: bytes

    CHECKS: ClassVar[dict[str, Check]] = {"link_port": integer(0, 65535), "word": bytes_of(WORD_BYTES)}


@dataclass(frozen=True)
class Tried(Record):
    """One address and its `reach.Outcome`. `what`: whether it is the mesh's, or that of the links."""

    what: str
    host: str
    port: int
    outcome: str

    CHECKS: ClassVar[dict[str, Check]] = {
        "what": text(f"{MESH_PORT}|{LINK_PORT}", "mesh or link"),
        "host": is_host,
        "port": integer(1, 65535),
        "outcome": text("|".join(Outcome), "an outcome"),
    }


@dataclass(frozen=True)
class Report(Record):
    """`seen`: the IP address that the asker came from, "" if that is not known. `clock`: seconds since the epoch."""

    context: str
    seen: str
    tried: tuple[Tried, ...]
    version: str
    clock: int

    CONTEXT: ClassVar[str] = "tacit/dialback/1"
    CHECKS: ClassVar[dict[str, Check]] = {
        "context": constant(CONTEXT),
        "seen": maybe(is_ip),
        "tried": many(record(Tried), 0, MAX_TRIED),
        "version": is_version,
        "clock": integer(0, 1 << 40),
    }


class DialBack:
    """Handler of the protocol "dialback"."""

    def __init__(self, mesh: Mesh, clock: Callable[[], float] = time.monotonic) -> None:
        self._mesh = mesh
        self._clock = clock
        self._asked: dict[str, float] = {}  # peer id -> when its next question may come; infinite while one is answered
        self._lock = threading.Lock()

    def __call__(self, sender: str, question: bytes) -> bytes:
        name = self._mesh.members.name_of(sender)
        asked = Callback.from_bytes(question, name)
        self._must_be_patient(sender, name)
        try:
            return self._report(sender, asked).to_bytes()
        finally:
            with self._lock:
                self._asked[sender] = self._clock() + PAUSE_SECONDS

    def _must_be_patient(self, sender: str, name: str) -> None:
        with self._lock:
            now = self._clock()
            for peer_id in [one for one, until in self._asked.items() if until <= now]:
                del self._asked[peer_id]
            if sender in self._asked:
                raise RefusedError(name, f"asked to be dialled back already; not more than once in {PAUSE_SECONDS:g} s")
            self._asked[sender] = float("inf")

    def _report(self, sender: str, asked: Callback) -> Report:
        there = self._mesh.whereabouts(sender)
        places = [(MESH_PORT, host, port) for host, port in there.places]
        if asked.link_port:
            places += [(LINK_PORT, host, asked.link_port) for host in dict.fromkeys(host for host, _ in there.places)]
        places = places[:MAX_TRIED]
        with ThreadPoolExecutor(MAX_TRIED, thread_name_prefix="dialback") as pool:
            outcomes = list(pool.map(lambda place: self._dial(place[1], place[2], there.seen, asked.word), places))
        return Report(
            context=Report.CONTEXT,
            seen=there.seen,
            tried=tuple(
                Tried(what, host, port, outcome) for (what, host, port), outcome in zip(places, outcomes, strict=True)
            ),
            version=__version__,
            clock=int(time.time()),
        )

    def _dial(self, host: str, port: int, seen: str, word: bytes) -> Outcome:
        addresses = resolve(host)
        if not addresses:
            return Outcome.UNKNOWN
        if not is_outside(addresses[0]) and (is_outside(seen) or not seen):
            return Outcome.UNTRIED
        return knock(
            addresses[0], port, TIMEOUT, word
        ).outcome  # the address that was looked at, whatever the name says next
