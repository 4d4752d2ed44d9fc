"""Metrics for Prometheus, gathered when they are asked for, in a registry of their own.

Totals of a peer are its own count since it started; they begin anew with it, which Prometheus expects of counters. Who may
ask: `Allowed`, this machine unless told otherwise, since exact totals tell how many tokens an answer had (docs/network.md).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ... import __version__
from ...checks import short_id
from ...errors import ConfigError
from ...members import Member, Members
from ...wire import OUTCOMES
from ..describe import running
from ..quota import Quota
from ..registry import Live, Registry

MOST_WAYS = 2500  # round trips, each a time series: a matrix of 50 peers
_PEER = ["peer", "peer_id", "operator"]
_MACHINE = ("127.0.0.0/8", "::1/128")


class Allowed:
    """Addresses that may read metrics."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        """Those of this machine, and `networks` (192.0.2.0/24, 2001:db8::7). Raises ConfigError for what is none."""
        self._networks: list[IPv4Network | IPv6Network] = []
        for text in (*_MACHINE, *networks):
            try:
                self._networks.append(ip_network(text))
            except ValueError:
                raise ConfigError(
                    f"--metrics-from {text}: is no network such as 192.0.2.0/24, nor an address; 0.0.0.0/0 is everybody's"
                ) from None

    def __contains__(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self._networks)


class Metrics:
    """The text that Prometheus reads."""

    def __init__(self, members: Members, registry: Registry, quota: Quota, started: float) -> None:
        self._own = CollectorRegistry(auto_describe=False)
        self._own.register(Gathering(members, registry, quota, started))

    def text(self, accept: str) -> tuple[bytes, str]:
        """In the form that an Accept header asks for, and that form's media type."""
        encode, media_type = choose_encoder(accept)
        return encode(self._own), media_type


class Gathering(Collector):
    """What the coordinator knows at the moment of asking."""

    def __init__(self, members: Members, registry: Registry, quota: Quota, started: float) -> None:
        self._members, self._registry, self._quota, self._started = members, registry, quota, started

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: so registering asks no peer."""
        return ()

    def collect(self) -> Iterator[Metric]:
        live = {one.member.peer_id: one for one in self._registry.live()}
        yield from self._coordinator(list(live.values()))
        yield from self._peers(live)
        yield from _work(list(live.values()))
        yield from _ways(list(live.values()))

    def _coordinator(self, live: Sequence[Live]) -> Iterator[Metric]:
        yield InfoMetricFamily("tacit_coordinator", "This coordinator.", {"version": __version__})
        yield GaugeMetricFamily("tacit_coordinator_start_time_seconds", "When it started.", self._started)
        peers = GaugeMetricFamily("tacit_peers", "Peers of the cluster, by state.", labels=["state"])
        peers.add_metric(["live"], len(live))
        peers.add_metric(["silent"], max(0, len(self._members.members) - len(live)))
        yield peers
        yield GaugeMetricFamily("tacit_sessions_running", "Sessions that a live peer sits in.", len(running(live)))
        store = self._registry.store
        yield CounterMetricFamily(
            "tacit_sessions_seated", "Sessions that were seated; kept over restarts.", store.count("opened")
        )
        yield CounterMetricFamily(
            "tacit_sessions_refused", "Requests for a session that nobody was found for; kept over restarts.",
            store.count("refused"),
        )  # fmt: skip
        yield CounterMetricFamily(
            "tacit_requests_limited", "Requests for a session over the quota of their address.", self._quota.turned_away
        )
        held = Counter(offer.name for one in live for offer in one.status.models)
        models = GaugeMetricFamily("tacit_model_peers", "Live peers that serve a model.", labels=["model"])
        for name in sorted(held):
            models.add_metric([name], held[name])
        yield models

    def _peers(self, live: dict[str, Live]) -> Iterator[Metric]:
        up = GaugeMetricFamily("tacit_peer_up", "1: the peer answered lately, 0: it is silent.", labels=_PEER)
        failures = CounterMetricFamily("tacit_peer_failures", "Times that it was seen to fail.", labels=_PEER)
        reports = CounterMetricFamily(
            "tacit_peer_reports", "Times that a client wanted to do without it: the clients' word.", labels=_PEER
        )
        history = self._registry.store.history()
        for member in self._members.members:
            up.add_metric(_labels(member), float(member.peer_id in live))
            known = history.get(member.peer_id)
            failures.add_metric(_labels(member), known.failures if known else 0)
            reports.add_metric(_labels(member), known.reports if known else 0)
        yield from (up, failures, reports)


def _work(live: Sequence[Live]) -> Iterator[Metric]:
    now = time.monotonic()
    gauges: dict[str, tuple[str, Callable[[Live], float]]] = {
        "tacit_peer_sessions": ("Sessions it sits in.", lambda one: one.status.sessions),
        "tacit_peer_sessions_max": ("Sessions it takes at most.", lambda one: one.status.max_sessions),
        "tacit_peer_load_ratio": ("Load of its machine's last minute, per core.", lambda one: one.status.load / 1000),
        "tacit_peer_memory_bytes": ("Memory of its process.", lambda one: one.status.memory),
        "tacit_peer_clock_skew_seconds": ("How far its clock is ahead, to about one.", lambda one: one.skew),
        "tacit_peer_answer_seconds": ("What its latest answer to the coordinator took.", lambda one: one.latency),
        "tacit_peer_silent_seconds": ("Since it answered the last time.", lambda one: now - one.seen),
    }
    for name, (words, value) in gauges.items():
        gauge = GaugeMetricFamily(name, words, labels=_PEER)
        for one in live:
            gauge.add_metric(_labels(one.member), value(one))
        yield gauge
    rounds = CounterMetricFamily(
        "tacit_peer_rounds", "Rounds as a compute peer; both compute peers count each.", labels=_PEER
    )
    sent = CounterMetricFamily(
        "tacit_peer_sent_bytes",
        "Sent in sessions: online to the other compute peer, offline as the dealer.",
        labels=[*_PEER, "plane"],
    )
    ended = CounterMetricFamily(
        "tacit_peer_sessions_ended",
        "Its sessions that are over: done, ended by the client, by another peer, by itself (here), or never opened.",
        labels=[*_PEER, "outcome"],
    )
    for one in live:
        totals, labels = one.status.totals, _labels(one.member)
        rounds.add_metric(labels, totals.rounds)
        sent.add_metric([*labels, "online"], totals.online_bytes)
        sent.add_metric([*labels, "offline"], totals.offline_bytes)
        for outcome in OUTCOMES:
            ended.add_metric([*labels, outcome], totals.ended.get(outcome, 0))
    yield from (rounds, sent, ended)


def _ways(live: Sequence[Live]) -> Iterator[Metric]:
    ways = GaugeMetricFamily(
        "tacit_round_trip_seconds",
        "From a peer to another and back, as the first measured it; absent in clusters with too many.",
        labels=["peer", "peer_id", "to", "to_id"],
    )
    there = {one.member.peer_id: one.member for one in live}
    found = [
        (one.member, there[other], microseconds / 1e6)
        for one in live
        for other, microseconds in one.status.round_trips.items()
        if other in there
    ]
    for member, other, seconds in found if len(found) <= MOST_WAYS else ():
        ways.add_metric([member.name, short_id(member.peer_id), other.name, short_id(other.peer_id)], seconds)
    yield ways


def _labels(member: Member) -> list[str]:
    return [member.name, short_id(member.peer_id), member.operator]
