"""Traces as one file for a viewer: the trace event format of Chrome and Perfetto (https://ui.perfetto.dev), all parties on one clock.

Every party is a process with one thread. Slices nest: a step, its sites, and in these packing, sending, waiting and unpacking;
what none of the inner slices takes of a site is computation. "reading" ends a wait. An arrow leads from the sending of a
message to where its receiver has it in hand. Times are microseconds since the client asked.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .files import CLIENT, Flight, Message, PartyTrace, SessionTrace, Span
from .recorder import NOWHERE, ROLES

Event = dict[str, Any]


def events(traces: Sequence[SessionTrace], steps: Collection[int] | None = None) -> list[Event]:
    """Of one session, or of all that an answer took, one after the other. `steps`: these alone, as each party counts them."""
    origin = min((trace.origin for trace in traces if trace.parties), default=0)
    found: list[Event] = []
    for index, trace in enumerate(traces):
        for role in sorted(trace.parties, key=lambda role: -1 if role == CLIENT else role):
            party = trace.parties[role]
            pid = 10 * index + role + 1
            found += _names(party, pid, len(found), len(traces) > 1)
            slices = [
                _slice(one, pid, origin) for one in party.timeline() if _wanted(one, steps) and one.name != "sending"
            ]
            slices += [_message(one, pid, origin) for one in party.messages if _wanted(one, steps)]
            found += sorted(slices, key=lambda event: (event["ts"], -event["dur"]))  # outer before inner
        for number, one in enumerate(trace.flights()):
            if _wanted(one.sent, steps) and _wanted(one.read, steps):
                found += _arrow(one, f"{index}.{number}", 10 * index, origin)
    return found


def _wanted(one: Span | Message, steps: Collection[int] | None) -> bool:
    return steps is None or one.step in steps


def _names(party: PartyTrace, pid: int, order: int, several: bool) -> list[Event]:
    called = party.party if party.role == CLIENT else f"{party.party} ({party.name})"
    if several:
        called = f"{called}, session {party.session[:8]}"
    facts = {
        "process_name": {"name": called},
        "process_sort_index": {"sort_index": order},
        "thread_name": {"name": "session"},
    }
    return [{"ph": "M", "name": name, "pid": pid, "tid": 1, "args": args} for name, args in facts.items()]


def _slice(one: Span, pid: int, origin: int) -> Event:
    args: Event = {"phase": one.phase}
    if one.step != NOWHERE:
        args |= {"step": one.step}
    if one.site:
        args |= {"site": one.site}
    if one.name == "site":
        args |= {"rounds": one.rounds, "online_bytes": one.online, "offline_bytes": one.offline}
    if one.remote >= 0:
        args |= {"of": _role(one.remote)}
    name = one.site if one.name == "site" else f"step {one.step}" if one.name == "step" else one.name
    return _complete(name, "site" if one.name == "site" else one.phase, one.start, one.end, pid, origin, args)


def _message(one: Message, pid: int, origin: int) -> Event:
    args: Event = {"phase": "serialising" if one.sent else "waiting", "bytes": one.bytes, "frame": one.kind}
    args["to" if one.sent else "from"] = _role(one.remote)
    if one.step != NOWHERE:
        args |= {"step": one.step, "site": one.site}
    return _complete("sending" if one.sent else "reading", "message", one.start, one.end, pid, origin, args)


def _complete(name: str, category: str, start: int, end: int, pid: int, origin: int, args: Event) -> Event:
    since = _microseconds(start - origin)
    times = {"ts": since, "dur": _microseconds(end - origin) - since}
    return {"ph": "X", "name": name, "cat": category, **times, "pid": pid, "tid": 1, "args": args}


def _arrow(one: Flight, name: str, base: int, origin: int) -> list[Event]:
    common = {"name": one.sent.kind, "cat": "message", "id": name, "tid": 1}
    return [
        {"ph": "s", **common, "pid": base + one.sender + 1, "ts": _microseconds(one.sent.start - origin)},
        {"ph": "f", "bp": "e", **common, "pid": base + one.receiver + 1, "ts": _microseconds(one.read.start - origin)},
    ]


def _microseconds(nanoseconds: int) -> float:
    """In eighths, which are exact in binary: a viewer that rounds sees slices nest as they do, and drops none as overlapping."""
    return (nanoseconds // 125) / 8


def _role(role: int) -> str:
    return ROLES[role] if 0 <= role < len(ROLES) else str(role)


def document(traces: Sequence[SessionTrace], steps: Collection[int] | None = None) -> dict[str, Any]:
    """The whole file as an object; what is missing of the traces is said in it."""
    facts = next((party for trace in traces for party in trace.parties.values()), None)
    return {
        "displayTimeUnit": "ms",
        "otherData": {
            "sessions": [trace.session for trace in traces],
            "model": facts.model if facts else "",
            "protocol": facts.protocol if facts else "",
            "missing": [note for trace in traces for note in trace.notes],
        },
        "traceEvents": events(traces, steps),
    }


def write(path: Path, traces: Sequence[SessionTrace], steps: Collection[int] | None = None) -> None:
    """Save it (0600), replacing an older file as a whole. Raises ConfigError; what was there stays then."""
    body = json.dumps(document(traces, steps), separators=(",", ":"))
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(body)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise ConfigError(f"{path}: the trace cannot be written: {error.strerror}") from None
