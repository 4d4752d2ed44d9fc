"""`tacit peers pin|list|forget`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..address import from_libp2p
from ..checks import is_peer_id, short_id
from ..config import Config
from ..errors import TacitError, UsageError
from ..members import Member, Pinned
from .directory import Directory, Listed
from .pinned import PinnedPeers, cluster_name
from .pins import BY_HAND, Pin, Pins, added, forgotten, key_changed
from .resolve import Reference, load_file, need

_WIDE = 160  # what a pipe or file takes, so that nothing is cut off there
_PATIENCE = 5.0  # seconds, for a coordinator that is asked on the side

_out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def pin(ids: Sequence[str], *, operator: str, name: str, cluster: str | None) -> None:
    """Pin these ids as peers of `operator`. Raises UsageError for an id that is none, ConfigError for one pinned otherwise."""
    meant = need(cluster, Config.load())
    store = meant.store()
    known = {one.peer_id: one for one in _listed(meant) or ()}
    new = [_new(_id(one), operator, name, known) for one in ids]

    def change(pins: Pins) -> Pins:
        for one in new:
            pins = added(pins, one)
        return pins

    _say_pinned(store.change(change), new, meant)
    for one in new:
        shown = known.get(one.peer_id)
        if shown is not None and shown.operator != operator:
            _err.print(
                f"[yellow]{escape(one.display)} says that {escape(repr(shown.operator))} runs it. What you pinned counts: it "
                f"is refused until it says {escape(repr(operator))} as well.[/]"
            )


def pin_from(file: Path, *, cluster: str | None) -> None:
    """Pin all peers of a cluster.toml or cluster.json."""
    meant = need(cluster, Config.load())
    new = [Pin.of(member, f"from {file.name}") for member in load_file(file).members]

    def change(pins: Pins) -> Pins:
        for one in new:
            pins = added(pins, one)
        return pins

    _say_pinned(meant.store().change(change), new, meant)


def forget(who: Sequence[str], *, cluster: str | None) -> None:
    """Unpin. Raises UsageError for one that is not pinned; then nothing is changed."""
    meant = need(cluster, Config.load())

    def change(pins: Pins) -> Pins:
        for one in who:
            pins = forgotten(pins, one)
        return pins

    left = meant.store().change(change)
    _out.print(f"{len(left)} peers of {escape(meant.called)} are pinned now")


def show(*, cluster: str | None, as_json: bool) -> None:
    """What is pinned, what is there, and, loudly, who goes by the name of a pinned peer without its key."""
    meant = need(cluster, Config.load())
    listed = _listed(meant)
    pinned = _pinned(meant, listed)
    there = {one.peer_id: one for one in listed or ()}
    strange = [one for one in listed or () if one.peer_id not in {member.peer_id for member in pinned}]
    if as_json:
        print(json.dumps(_report(meant, pinned, strange, there, listed is not None), indent=2))
    else:
        _tables(meant, pinned, strange, there, listed is not None)
    by_name = {member.name: member for member in pinned}
    for one in strange:
        if one.name in by_name:
            _err.print(f"[bold red]WARNING: {escape(key_changed(by_name[one.name], one.peer_id))}[/]")


def _pinned(meant: Reference, listed: Sequence[Listed] | None) -> Sequence[Member]:
    found: Pinned
    if meant.file is not None:
        found = meant.pinned(say=_err.print)
    else:  # nothing pinned is no error here
        found = PinnedPeers(meant.store(), meant.name or cluster_name(meant.url), meant.url, False, _err.print)
    if isinstance(found, PinnedPeers):
        found.follow(listed or ())
    return found.members


def _listed(meant: Reference) -> Sequence[Listed] | None:
    """What the coordinator shows; None, and a word about it, if it does not answer."""
    directory = Directory(meant.where, timeout=_PATIENCE)
    try:
        return directory.peers()
    except TacitError as error:
        _err.print(f"[yellow]{escape(str(error))}[/]")
        return None
    finally:
        directory.close()


def _id(text: str) -> str:
    """An id in either spelling: ours, or libp2p's 12D3Koo…."""
    try:
        return from_libp2p(text) if text.startswith("12D3Koo") and len(text) == 52 else str(is_peer_id(text))
    except ValueError as error:
        raise UsageError(f"the peer id {error}") from None


def _new(peer_id: str, operator: str, name: str, known: dict[str, Listed]) -> Pin:
    if not name:
        name = known[peer_id].name if peer_id in known else f"{operator[:50]} {short_id(peer_id)}"
    return Pin.of(Member(name, operator, peer_id), BY_HAND)


def _say_pinned(pins: Pins, new: Sequence[Pin], meant: Reference) -> None:
    for one in new:
        _out.print(f"pinned {escape(one.name)} of {escape(one.operator)}: {one.peer_id}")
    operators = {one.operator for one in pins}
    words = f"{len(pins)} peers of {len(operators)} operators are pinned for {meant.called}"
    if len(pins) < 3 or (len(operators) < 3 and not (meant.entry and meant.entry.own)):
        words += "; a session takes three peers of three operators"
    _out.print(escape(words))


def _how(member: Member, meant: Reference) -> str:
    if meant.file is not None and not (isinstance(member, Pin) and member.successions):
        return str(meant.file)
    return member.since if isinstance(member, Pin) else ""


def _state(peer_id: str, there: dict[str, Listed], answered: bool) -> str:
    if not answered:
        return "unknown"
    if peer_id not in there:
        return "not shown by the coordinator"
    return "ready" if there[peer_id].live else "silent"


def _report(
    meant: Reference, pinned: Sequence[Member], strange: Sequence[Listed], there: dict[str, Listed], answered: bool
) -> dict[str, Any]:
    return {
        "cluster": meant.called,
        "pinned": [
            {
                "name": one.name,
                "operator": one.operator,
                "peer_id": one.peer_id,
                "how": _how(one, meant),
                "state": _state(one.peer_id, there, answered),
            }
            for one in pinned
        ],
        "not_pinned": [
            {"name": one.name, "operator": one.operator, "peer_id": one.peer_id, "live": one.live} for one in strange
        ],
    }


def _tables(
    meant: Reference, pinned: Sequence[Member], strange: Sequence[Listed], there: dict[str, Listed], answered: bool
) -> None:
    table = Table("name", "operator", "peer id", "how", "state", title=f"Pinned for {escape(meant.called)}")
    table.title_justify = "left"
    for one in pinned:
        table.add_row(
            one.name, one.operator, one.peer_id, escape(_how(one, meant)), _state(one.peer_id, there, answered)
        )
    _out.print(table)
    if strange:
        table = Table("says its name is", "says its operator is", "peer id", title="There, but not pinned")
        table.title_justify = "left"
        for one in strange:
            table.add_row(one.name, one.operator, one.peer_id)
        _out.print(table)
        if meant.file is None:
            _out.print("Compare an id with what its operator says, then: tacit peers pin PEER_ID --operator NAME")
