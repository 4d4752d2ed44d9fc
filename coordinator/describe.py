"""What the coordinator tells of its cluster: the status, and the peers that a client may pin."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from .. import __version__
from ..members import Member, Members
from ..quotes import Quote, decimal
from .pace import STILL, Rates
from .registry import Live, Registry
from .store import History

ROLES = ("compute 0", "compute 1", "dealer")
RECENT = 50  # sessions
MAX_WAYS = 20_000  # round trips in a status; of more, each peer's nearest (a matrix of 141 peers is whole)


def describe(members: Members, registry: Registry, started: float) -> dict[str, Any]:
    """The status as JSON: who is there and how far from each other, what is served, which sessions were seated lately.

    Times are seconds, round trips microseconds, prices decimal text for a million tokens. `rates` are a second, of the last
    `pace.WINDOW`: rounds as a compute peer, bytes sent to the other compute peer, bytes sent as the dealer.
    """
    now = time.time()
    live = {one.member.peer_id: one for one in registry.live()}
    seated = running(live.values())
    recent = registry.store.recent(RECENT)
    roles = Counter((name, role) for seating in recent for role, name in zip(ROLES, seating.peers, strict=True))
    history = registry.store.history()
    peers = []
    nearest = max(4, MAX_WAYS // max(1, len(live)))
    for member in members.members:
        peer_id = member.peer_id
        one = _one(member, live.get(peer_id), registry.silence(peer_id))
        one["round_trips_us"] = _nearest(one["round_trips_us"], nearest)
        one["roles"] = {role: roles[member.display, role] for role in ROLES}
        one["history"] = _history(history.get(peer_id, History()), now)
        one["seen_seconds_ago"] = 0.0 if peer_id in live else None
        if peer_id not in live and (seen := registry.store.last_seen(peer_id)) is not None:
            one["version"], one["seen_seconds_ago"] = seen[0].version, round(now - seen[1], 1)
        peers.append(one)
    return {
        "cluster": members.cluster,
        "version": __version__,
        "uptime_seconds": round(now - started, 1),
        "peers": peers,
        "models": [offer.name for offer in registry.models()],
        "sessions": {
            "opened": registry.store.count("opened"),
            "refused": registry.store.count("refused"),
            "running": len(seated),
            "recent": [
                {
                    "session": seating.session,
                    "running": seating.session in seated,
                    "model": seating.model,
                    "roles": dict(zip(ROLES, seating.peers, strict=True)),
                    "price": seating.price,
                    "seconds_ago": round(now - seating.opened, 1),
                }
                for seating in recent
            ],
        },
    }


def running(live: Iterable[Live]) -> set[str]:
    """The sessions, shortened, that live peers sit in."""
    return {session for one in live for session in one.status.seated}


def describe_peers(members: Members, registry: Registry) -> list[dict[str, Any]]:
    """Each peer's name, operator, id, version, models, signed quote and successions of its key.

    Version, models and quote are known of a live peer only.
    """
    live = {one.member.peer_id: one for one in registry.live()}
    found = []
    for member in members.members:
        here = live.get(member.peer_id)
        found.append(
            {
                "peer_id": member.peer_id,
                "name": member.name,
                "operator": member.operator,
                "live": here is not None,
                "version": here.status.version if here else None,
                "models": [offer.name for offer in here.status.models] if here else [],
                "price": _price(here.quote) if here else None,
                "quote": here.status.quote.to_json() if here else None,
                "successions": [one.to_json() for one in registry.successions(member.peer_id)],
            }
        )
    return found


def _one(member: Member, found: Live | None, silence: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "name": member.name,
        "peer_id": member.peer_id,
        "operator": member.operator,
        "live": found is not None,
        "reason": None if found else silence,
    }
    if found is None:
        nothing = dict.fromkeys(
            ("latency_ms", "sessions", "max_sessions", "version", "load", "memory_bytes", "clock_skew_seconds", "price")
        )
        return {**facts, **nothing, "models": [], "round_trips_us": {}, "rates": _rates(STILL)}
    status = found.status
    return {
        **facts,
        "latency_ms": round(1000 * found.latency, 2),
        "sessions": status.sessions,
        "max_sessions": status.max_sessions,
        "version": status.version,
        "load": status.load / 1000,
        "memory_bytes": status.memory,
        "clock_skew_seconds": round(found.skew),
        "price": _price(found.quote),
        "models": [offer.name for offer in status.models],
        "round_trips_us": dict(status.round_trips),
        "rates": _rates(found.rates),
    }


def _rates(rates: Rates) -> dict[str, float]:
    """To two digits: what a peer does, not what one answer takes."""
    return {name: float(f"{value:.1e}") for name, value in asdict(rates).items()}


def _nearest(trips: dict[str, int], most: int) -> dict[str, int]:
    if len(trips) <= most:
        return trips
    return dict(heapq.nsmallest(most, trips.items(), key=lambda item: item[1]))


def _price(quote: Quote) -> dict[str, str]:
    return {"currency": quote.currency, "compute": decimal(quote.compute, 6), "dealer": decimal(quote.dealer, 6)}


def _history(history: History, now: float) -> dict[str, Any]:
    """`failures` are what the coordinator saw, `reports` what clients said."""
    return {
        "failures": history.failures,
        "last_seconds_ago": None if history.failed is None else round(now - history.failed, 1),
        "last_reason": history.reason,
        "reports": history.reports,
    }
