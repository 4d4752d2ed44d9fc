"""What the coordinator tells of its peers, held against the pins and against what is to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ... import __version__
from ...checks import short_id
from ...members import Pinned
from ...records import tidy
from .coordinator import MAX_SKEW
from .finding import Finding, fail, ok, skipped, warn

PEERS, VERSIONS, CLOCKS, MODEL, OPERATORS, PINS = (
    "peers", "peers' versions", "peers' clocks", "model", "operators", "pins",
)  # fmt: skip
ALL = (PEERS, VERSIONS, CLOCKS, MODEL, OPERATORS, PINS)


@dataclass(frozen=True, slots=True)
class Told:
    """A peer as the coordinator tells of it."""

    name: str
    peer_id: str
    operator: str
    live: bool
    reason: str
    version: str
    models: tuple[str, ...]
    skew: float

    @property
    def display(self) -> str:
        return f"{self.name} ({short_id(self.peer_id)})"


def read_peers(status: dict[str, Any]) -> list[Told]:
    """Whatever of the status makes sense; a coordinator may say anything."""
    listed = status.get("peers")
    found = []
    for one in listed if isinstance(listed, list) else []:
        if not isinstance(one, dict):
            continue
        models, skew = one.get("models"), one.get("clock_skew_seconds")
        found.append(
            Told(
                tidy(one.get("name"), 64),
                tidy(one.get("peer_id"), 43),
                tidy(one.get("operator"), 64),
                one.get("live") is True,
                tidy(one.get("reason") or "no answer yet", 200),
                tidy(one.get("version"), 32),
                tuple(tidy(model, 128) for model in models) if isinstance(models, list) else (),
                float(skew) if isinstance(skew, int | float) else 0.0,
            )
        )
    return found


def examine(
    status: dict[str, Any] | None, models: Sequence[dict[str, Any]], pinned: Pinned, model: str | None
) -> list[Finding]:
    """`status`, `models`: what the coordinator told, None if it could not be asked. `model`: what is to be asked, if said."""
    if status is None:
        return [skipped(check, "the coordinator was not asked") for check in ALL]
    peers = read_peers(status)
    live = [one for one in peers if one.live]
    return [
        _peers(peers, live),
        _versions(live),
        _clocks(live),
        _model(live, [tidy(one.get("name"), 128) for one in models], model),
        _operators(live, pinned, model),
        _pins(peers, pinned),
    ]


def _peers(peers: list[Told], live: list[Told]) -> Finding:
    silent = [one for one in peers if not one.live]
    words = "; ".join(f"{one.display}: {one.reason}" for one in silent)
    if len(live) < 3:
        return fail(
            PEERS,
            "peers",
            f"{len(live)} of {len(peers)} peers answer the coordinator, three are needed{': ' if words else ''}{words}",
            "start the silent ones; on their machines `tacit doctor --node` says what is in the way",
        )
    if silent:
        advice = "on their machines `tacit doctor --node` says what is in the way"
        return warn(PEERS, "peers", f"{len(live)} of {len(peers)} answer the coordinator; silent: {words}", advice)
    return ok(PEERS, f"all {len(live)} answer the coordinator")


def _versions(live: list[Told]) -> Finding:
    other = [one for one in live if one.version != __version__]
    if not other:
        return ok(VERSIONS, f"{__version__} everywhere") if live else skipped(VERSIONS, "no peer answers")
    return fail(
        VERSIONS,
        "version",
        ", ".join(f"{one.display} runs {one.version}" for one in other) + f"; this client is {__version__}",
        "install the same version everywhere (pip install --upgrade), and start those peers again",
    )


def _clocks(live: list[Told]) -> Finding:
    wrong = [one for one in live if abs(one.skew) > MAX_SKEW]
    if not wrong:
        return ok(CLOCKS, "as the coordinator's") if live else skipped(CLOCKS, "no peer answers")
    return fail(
        CLOCKS,
        "clock",
        ", ".join(f"{one.display} is {abs(one.skew):.0f} s {'ahead' if one.skew > 0 else 'behind'}" for one in wrong),
        "set their clocks by NTP (timedatectl set-ntp true)",
    )


def _model(live: list[Told], served: list[str], asked: str | None) -> Finding:
    known = sorted({model for one in live for model in one.models})
    if asked is None and served:
        return ok(MODEL, f"served: {', '.join(served)}")
    if not known:
        return fail(MODEL, "model", "no peer serves any model", "start the peers with --model")
    names = [asked] if asked is not None else known
    holders = {name: [one for one in live if name in one.models] for name in names}
    best = max(names, key=lambda name: len(holders[name]))
    if best in served:
        return ok(MODEL, f"{best} is served by {len(holders[best])} peers")
    lack = [one.display for one in live if best not in one.models]
    if len(holders[best]) >= 3:
        return fail(
            MODEL,
            "model",
            f"{len(holders[best])} peers serve {best}, but no three of different operators the same copy of it",
            "`tacit verify` shows who holds which; give those peers the same folder",
        )
    return fail(
        MODEL,
        "model",
        f"{best} is served by {len(holders[best])} peers, three are needed; lacking it: {', '.join(lack) or 'nobody else'}",
        f"start those peers with --model {best}" if lack else f"add peers that serve it (--model {best})",
    )


def _operators(live: list[Told], pinned: Pinned, asked: str | None) -> Finding:
    if pinned.own:
        return ok(OPERATORS, "all peers are your own")
    holders = [one for one in live if asked is None or asked in one.models]
    if len(holders) < 3:
        return skipped(OPERATORS, "there are fewer than three peers to choose from")
    usable = [one for one in holders if pinned.member(one.peer_id) is not None]
    there = sorted({member.operator for one in usable if (member := pinned.member(one.peer_id)) is not None})
    if len(there) >= 3:
        return ok(OPERATORS, f"{len(there)}: {', '.join(there)}")
    return fail(
        OPERATORS,
        "operators",
        f"the pinned peers that could answer belong to {len(there)} operators ({', '.join(there) or 'none'}), three are needed",
        "pin or start peers of other operators; if you run them all yourself, say so (own = true)",
    )


def _pins(peers: list[Told], pinned: Pinned) -> Finding:
    listed = {one.peer_id: one for one in peers}
    wrong = [
        f"{one.display} is said to be run by {one.operator!r}, pinned is {member.operator!r}"
        for one in peers
        if (member := pinned.member(one.peer_id)) is not None and member.operator != one.operator
    ]
    if wrong:
        return fail(
            PINS,
            "pins",
            "; ".join(wrong),
            "ask the operator; if it changed, pin it anew. Prompts go nowhere as long as this does not fit",
        )
    missing = [member.display for member in pinned.members if member.peer_id not in listed]
    strange = [one.display for one in peers if pinned.member(one.peer_id) is None]
    words = [f"the coordinator does not know {', '.join(missing)}"] if missing else []
    words += [f"not pinned, so never used: {', '.join(strange)}"] if strange else []
    if not words:
        return ok(PINS, f"the coordinator's {len(peers)} peers are the pinned ones")
    if len(pinned.members) - len(missing) < 3:
        return fail(
            PINS,
            "pins",
            "; ".join(words),
            "is this the right coordinator? Compare ids with the operators, then pin (tacit peers pin)",
        )
    return warn(PINS, "pins", "; ".join(words), "if they are to be used, compare ids with their operators and pin them")
