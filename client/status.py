"""`tacit status`: peers, models, sessions and the distances between peers, as the coordinator tells them.

Nothing of it is proved (`tacit verify` asks the peers themselves), and whatever a coordinator may send, it is shown as text
or left out.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from ..checks import short_id
from ..errors import NetworkError
from ..records import tidy
from .directory import Directory

REFRESH = 2.0  # seconds
_WIDE = 160  # what a pipe or file takes, so that nothing is cut off there
_NARROW = 110  # below this some columns are left out
_CELL = 6  # a round trip with its space
_RECENT = 5
_UNEVEN = 2.0  # the way there is this much longer than the way back
_HUGE = 1 << 53  # nothing that is shown comes near it
_ROLES = ("compute 0", "compute 1", "dealer")

Fetch = Callable[[], dict[str, Any]]


def run_status(where: str, *, as_json: bool = False, watch: bool = False) -> None:
    """Show the cluster of the coordinator at `where`; with `watch`, again and again until Ctrl-C.

    Raises NetworkError (nobody there), PeerError (nonsense) unless it is watching.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    directory = Directory(where)

    def fetch() -> dict[str, Any]:
        return {**directory.status(), "models": directory.models()}

    try:
        if watch:
            _watch(console, fetch, as_json)
        elif as_json:
            print(json.dumps(fetch()))
        else:
            console.print(shown(fetch(), console.width))
    finally:
        directory.close()


def _watch(console: Console, fetch: Fetch, as_json: bool) -> None:
    try:
        if as_json or not console.is_terminal:
            while True:
                found = fetch()
                if as_json:
                    print(json.dumps(found), flush=True)
                else:
                    console.print(shown(found, console.width))
                time.sleep(REFRESH)
        with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                live.update(_now(fetch, console.width), refresh=True)
                time.sleep(REFRESH)
    except KeyboardInterrupt:  # the ordinary end
        return


def _now(fetch: Fetch, width: int) -> RenderableType:
    """A coordinator that is away for a moment is said to be, and asked again."""
    try:
        return shown(fetch(), width)
    except NetworkError as error:
        return f"[yellow]{escape(str(error))}; trying again[/]"


def shown(status: dict[str, Any], width: int) -> RenderableType:
    """Everything, for a terminal of so many columns."""
    peers = [peer for peer in _list(status.get("peers")) if isinstance(peer, dict)]
    sessions = status.get("sessions")
    parts: list[RenderableType] = [_peers(peers, width)]
    parts += [f"[yellow]{_text(peer.get('name'))}[/] {what}" for peer in peers if (what := _trouble(peer))]
    parts += [_models(_list(status.get("models")), width)]
    parts += _round_trips(peers, width)
    parts += _sessions(sessions if isinstance(sessions, dict) else {}, width)
    return Group(*parts)


def _peers(peers: Sequence[dict[str, Any]], width: int) -> Table:
    wide = width >= _NARROW
    table = _table("Peers", "peer", *(["id"] * wide), "operator", "state", *(["version"] * wide))
    for heading in ("load", "memory", "sessions"):
        table.add_column(heading, justify="right")
    if wide:
        table.add_column("roles of late")
    table.add_column("price" if wide else "price*")
    for peer in peers:
        table.add_row(*_peer(peer, wide))
    if not wide:
        table.caption, table.caption_justify = "* for a million tokens: as a compute peer, as the dealer", "left"
    return table


def _peer(peer: dict[str, Any], wide: bool) -> list[str]:
    load, memory = _number(peer.get("load")), _number(peer.get("memory_bytes"))
    cells = [_text(peer.get("name"))]
    if wide:
        cells.append(_text(short_id(str(peer.get("peer_id")))))
    cells += [_text(peer.get("operator")), "[green]ready[/]" if peer.get("live") is True else "[red]silent[/]"]
    if wide:
        cells.append(_text(peer.get("version")))
    cells.append("-" if load is None else f"{load:.2f}")
    cells.append("-" if memory is None else f"{memory / 1e6:.0f} MB")
    cells.append(_of(peer.get("sessions"), peer.get("max_sessions")))
    if wide:
        cells.append(_roles(peer.get("roles")))
    cells.append(_price(peer.get("price"), wide))
    return cells


def _of(some: object, most: object) -> str:
    if _number(some) is None:
        return "-"
    return f"{_number(some):.0f} of {_number(most) or 0:.0f}"


def _roles(roles: object) -> str:
    if not isinstance(roles, dict):
        return "-"
    held = [f"{count:.0f} {role}" for role in _ROLES if (count := _number(roles.get(role)))]
    return ", ".join(held) or "-"


def _price(price: object, wide: bool) -> str:
    if not isinstance(price, dict):
        return "-"
    compute, dealer, currency = (_text(price.get(name)) for name in ("compute", "dealer", "currency"))
    if not f"{compute}{dealer}".strip("0."):
        return "free"
    return f"{compute} / {dealer} {currency}" if not wide else f"{compute} compute, {dealer} dealer {currency}"


def _trouble(peer: dict[str, Any]) -> str:
    """What a reader should know of this peer, in a line."""
    words = []
    if peer.get("live") is not True:
        words.append(f"is silent: {_text(peer.get('reason') or 'no answer yet', 200)}")
        seen = _number(peer.get("seen_seconds_ago"))
        if seen is not None:
            words.append(f"was there {_ago(seen)}")
    skew = _number(peer.get("clock_skew_seconds"))
    if skew is not None and abs(skew) > 5:
        words.append(f"has a clock that is {skew:+.0f} s from the coordinator's")
    history = peer.get("history")
    if isinstance(history, dict) and (failures := _number(history.get("failures"))):
        last = _number(history.get("last_seconds_ago"))
        words.append(f"failed {failures:.0f} times{'' if last is None else f', the last time {_ago(last)}'}")
    if isinstance(history, dict) and (reports := _number(history.get("reports"))):
        words.append(f"was left out by clients {reports:.0f} times")
    return "; ".join(words)


def _models(models: Iterable[object], width: int) -> Table:
    keys = ["name", "architecture", "layers", "vocab", "context"]
    table = _table("Models", "model", "architecture", "layers", "vocabulary", "context")
    if width >= 80:
        table.add_column("manifest")
    for model in models:
        if isinstance(model, dict):
            cells = [_text(model.get(key, "")) for key in keys]
            table.add_row(*cells, *([_text(model.get("manifest_hash"))[:12]] * (width >= 80)))
    return table


def _round_trips(peers: Sequence[dict[str, Any]], width: int) -> list[RenderableType]:
    """From the peer of a row to the peer of a column; what does not fit beside each other comes below."""
    names = [f"{number} {_text(peer.get('name'), 16)}" for number, peer in enumerate(peers, 1)]
    label = max(map(len, names), default=0)
    fitting = max(1, (width - label - 4) // (_CELL + 1))
    blocks = [_block(peers, names, first, first + fitting) for first in range(0, len(peers), fitting)]
    return ["[bold]Round trips in ms, from row to column[/]", *blocks] if blocks else []


def _block(peers: Sequence[dict[str, Any]], names: Sequence[str], first: int, end: int) -> Table:
    table = Table("")
    table.columns[0].no_wrap = True
    for number, _ in enumerate(peers[first:end], first + 1):
        table.add_column(str(number), justify="right", no_wrap=True, min_width=_CELL - 2)
    for row, name in zip(peers, names, strict=True):
        table.add_row(name, *(_way(row, column) for column in peers[first:end]))
    return table


def _way(row: dict[str, Any], column: dict[str, Any]) -> str:
    if row is column:
        return ""
    there, back = _trip(row, column), _trip(column, row)
    if there is None:
        return "-"
    cell = f"{there / 1e3:.1f}" if there < 99_950 else f"{there / 1e3:.0f}"
    uneven = back is not None and there > _UNEVEN * back and there - back > 2_000
    return f"[yellow]{cell}[/]" if uneven else cell


def _trip(one: dict[str, Any], other: dict[str, Any]) -> float | None:
    trips = one.get("round_trips_us")
    return _number(trips.get(str(other.get("peer_id")))) if isinstance(trips, dict) else None


def _sessions(sessions: dict[str, Any], width: int) -> list[RenderableType]:
    opened, refused = (_number(sessions.get(name)) or 0 for name in ("opened", "refused"))
    recent = [one for one in _list(sessions.get("recent")) if isinstance(one, dict)][:_RECENT]
    wide = width >= _NARROW
    table = _table(
        "Latest sessions", "session", "model", *(["compute 0", "compute 1", "dealer"] if wide else ["peers"])
    )
    table.add_column("price" if wide else "price*")
    table.add_column("seated", justify="right", no_wrap=True)
    for one in recent:
        roles = one.get("roles")
        held = [_text(roles.get(role)) if isinstance(roles, dict) else "-" for role in _ROLES]
        names = held if wide else [", ".join(name.partition(" (")[0] for name in held)]
        when = _number(one.get("seconds_ago"))
        cells = [_text(one.get("session")), _text(one.get("model")), *names, _text(one.get("price", "-"))]
        table.add_row(*cells, "-" if when is None else _ago(when))
    counted = f"{opened:.0f} sessions were opened, {refused:.0f} requests refused."
    return [table, counted] if recent else [counted]


def _table(title: str, *columns: str) -> Table:
    table = Table(*columns, title=title, title_justify="left")
    table.title_style = "bold"
    return table


def _ago(seconds: float) -> str:
    for limit, unit, length in ((90, "s", 1), (5400, "min", 60), (129_600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds / 86400:.0f} days ago"


def _text(value: object, limit: int = 64) -> str:
    return "-" if value is None else escape(tidy(value, limit))


def _number(value: Any) -> float | None:
    plain = isinstance(value, int | float) and not isinstance(value, bool) and -_HUGE < value < _HUGE
    return float(value) if plain else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
