"""From what the coordinator knows (`describe`) to what the page shows: rows of text, no number left to format.

Rates are rounded to two digits and are those of the last seconds: the page is for everybody who reaches the coordinator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...checks import short_id
from ...records import tidy
from ..describe import ROLES
from .words import age, counted, significant, size

MOST_PEERS = 100
MOST_IN_MATRIX = 24
MOST_SESSIONS = 20
STEPS = (2_000, 10_000, 40_000, 120_000)  # microseconds: where the shades of round trips change
UNKNOWN = "–"

Status = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class PeerRow:
    name: str
    short: str
    operator: str
    live: bool
    reason: str  # why it is not live
    sessions: str
    most: str
    load: str
    memory: str
    rounds: str
    online: str
    offline: str
    models: str
    version: str
    price: str


@dataclass(frozen=True, slots=True)
class SessionRow:
    name: str  # shortened
    running: bool
    model: str
    peers: tuple[str, ...]  # by role
    began: str


@dataclass(frozen=True, slots=True)
class Way:
    text: str
    shade: int  # 0: near, to len(STEPS); -1: nothing known
    title: str


@dataclass(frozen=True, slots=True)
class ModelRow:
    name: str
    architecture: str
    layers: str
    context: str
    peers: str
    manifest: str


@dataclass(frozen=True, slots=True)
class View:
    cluster: str
    version: str
    healthy: bool
    state: str  # in a sentence or two
    figures: tuple[Figure, ...]
    peers: tuple[PeerRow, ...]
    more_peers: int  # that are not shown
    roles: tuple[str, ...]
    sessions: tuple[SessionRow, ...]
    more_running: int
    places: tuple[str, ...]  # names of the matrix's rows and columns
    matrix: tuple[tuple[Way, ...], ...]
    left_out: int  # live peers that the matrix has no room for
    models: tuple[ModelRow, ...]


def view(status: Status, models: Sequence[Status]) -> View:
    """`status`: as `describe` gives it; `models`: as GET /v1/models does."""
    peers = status["peers"]
    live = [peer for peer in peers if peer["live"]]
    sessions = status["sessions"]
    recent = sorted(sessions["recent"], key=lambda one: not one["running"])
    shown = sum(one["running"] for one in recent[:MOST_SESSIONS])
    near = live[:MOST_IN_MATRIX]
    held = Counter(name for peer in live for name in peer["models"])
    silent = [_said(peer["name"]) for peer in peers if not peer["live"]]
    return View(
        cluster=_said(status["cluster"]),
        version=_said(status["version"]),
        healthy=bool(models) and not silent,
        state=_state(len(live), silent, [_said(one["name"]) for one in models]),
        figures=_figures(status, live),
        peers=tuple(_peer(peer) for peer in [*live, *(one for one in peers if not one["live"])][:MOST_PEERS]),
        more_peers=max(0, len(peers) - MOST_PEERS),
        roles=ROLES,
        sessions=tuple(_session(one) for one in recent[:MOST_SESSIONS]),
        more_running=max(0, sessions["running"] - shown),
        places=tuple(_said(peer["name"]) for peer in near),
        matrix=tuple(tuple(_way(one, other) for other in near) for one in near),
        left_out=len(live) - len(near),
        models=tuple(_model(one, held[one["name"]]) for one in models),
    )


def _said(words: object, limit: int = 80) -> str:
    """What others say of themselves, on one line and bounded; the template escapes it."""
    return tidy(words, limit)


def _state(live: int, silent: Sequence[str], models: Sequence[str]) -> str:
    if not live and not silent:
        return "No peer has joined yet."
    if not silent:
        peers = f"All {live} peers answer." if live > 1 else "The one peer answers."
    else:
        names = ", ".join(silent[:3]) + (f" and {len(silent) - 3} more" if len(silent) > 3 else "")
        peers = f"{live} of {counted(live + len(silent), 'peer')} answer; silent: {names}."
    if not models:
        return f"{peers} No model has the three peers that an answer takes."
    return f"{peers} {'Models' if len(models) > 1 else 'Model'} served: {', '.join(models[:5])}."


def _figures(status: Status, live: Sequence[Status]) -> tuple[Figure, ...]:
    rates = [peer["rates"] for peer in live]
    rounds = sum(one["rounds"] for one in rates) / 2  # both compute peers count each
    seats, most = sum(peer["sessions"] for peer in live), sum(peer["max_sessions"] for peer in live)
    sessions = status["sessions"]
    return (
        Figure("Peers", f"{len(live):,}", f"of {len(status['peers']):,} answer"),
        Figure("Sessions", f"{sessions['running']:,}", f"running; {seats:,} of {most:,} seats taken"),
        Figure("Rounds a second", significant(rounds), "between compute peers"),
        Figure("Online", f"{size(sum(one['online_bytes'] for one in rates))}/s", "between compute peers"),
        Figure("Offline", f"{size(sum(one['offline_bytes'] for one in rates))}/s", "from dealers"),
        Figure("Seated", f"{sessions['opened']:,}", f"sessions so far; {sessions['refused']:,} refused"),
        Figure("Up", age(status["uptime_seconds"]), "this coordinator"),
    )


def _peer(peer: Status) -> PeerRow:
    live, rates, price = peer["live"], peer["rates"], peer["price"]
    return PeerRow(
        name=_said(peer["name"]),
        short=short_id(peer["peer_id"]),
        operator=_said(peer["operator"]),
        live=live,
        reason="" if live else _said(peer["reason"], 160),
        sessions=f"{peer['sessions']}" if live else UNKNOWN,
        most=f"{peer['max_sessions']}" if live else "",
        load=f"{peer['load']:.2f}" if live else UNKNOWN,
        memory=size(peer["memory_bytes"]) if live else UNKNOWN,
        rounds=significant(rates["rounds"]) if live else UNKNOWN,
        online=f"{size(rates['online_bytes'])}/s" if live else UNKNOWN,
        offline=f"{size(rates['offline_bytes'])}/s" if live else UNKNOWN,
        models=", ".join(_said(name) for name in peer["models"][:5]) or UNKNOWN,
        version=_said(peer["version"]) if peer["version"] else UNKNOWN,
        price=_price(price) if live else UNKNOWN,
    )


def _price(price: Status) -> str:
    if not any(float(price[seat]) for seat in ("compute", "dealer")):
        return "free"
    return f"{price['compute']} / {price['dealer']} {price['currency']}"


def _session(one: Status) -> SessionRow:
    names = tuple(_said(one["roles"][role]) for role in ROLES)
    began = f"{age(one['seconds_ago'])} ago"
    return SessionRow(_said(one["session"]), one["running"], _said(one["model"]), names, began)


def _way(one: Status, other: Status) -> Way:
    if one is other:
        return Way("", -1, "the same peer")
    found = one["round_trips_us"].get(other["peer_id"])
    if found is None:
        return Way(UNKNOWN, -1, "not measured")
    return Way(significant(found / 1e3), sum(found >= step for step in STEPS), "")


def _model(one: Status, peers: int) -> ModelRow:
    def fact(name: str) -> str:
        value = one.get(name)
        return f"{value:,}" if type(value) is int else _said(value, 40) if isinstance(value, str) else UNKNOWN

    return ModelRow(
        _said(one["name"]),
        fact("architecture"),
        fact("layers"),
        fact("context"),
        f"{peers:,}",
        _said(one["manifest_hash"])[:12],
    )
