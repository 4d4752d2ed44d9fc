"""How much one client address may ask for: how often, and how many sessions that are not over.

A token bucket says how often (every request for a session takes a token, seated or not); a session counts as over once no
peer that sits in it says so any more. Clients have no identity here, only the address they come from: those behind one
router or proxy share a quota, and an IPv6 client has its whole /64. Programs on this machine get LOOPBACK times as much.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network

from ..errors import ConfigError, RefusedError
from .registry import Registry

LOOPBACK = 32
MAX_ADDRESSES = 10_000
UNHEARD = 5.0  # seconds after which a peer that says nothing of a session no longer keeps it counted
_BURST = 12  # requests at once, before the rate counts
_CROWDED = 2.0  # seconds to suggest where one has to wait for a session of one's own to end


class TooMany(RefusedError):
    """The address has to wait: `seconds`, at least."""

    def __init__(self, reason: str, seconds: float) -> None:
        self.seconds = max(1, math.ceil(seconds))
        super().__init__("coordinator", f"{reason}; try again in {self.seconds} s")

    def plain(self) -> RefusedError:
        """The error of the tree, as it travels."""
        return RefusedError(self.peer, self.reason)


@dataclass(slots=True)
class _Seated:
    session: str  # shortened
    peers: tuple[str, ...]
    at: float


@dataclass(slots=True)
class _Client:
    tokens: float
    at: float  # when they were counted
    seated: list[_Seated] = field(default_factory=list)


class Quota:
    """Of every address. Several threads may use it."""

    def __init__(
        self,
        registry: Registry,
        unfinished: int = 8,
        per_minute: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`unfinished` sessions at once, `per_minute` requests in the long run. Raises ConfigError if not positive."""
        if unfinished < 1 or not 0 < per_minute < 1e6:
            raise ConfigError("--client-sessions and --client-rate must be positive")
        self._registry = registry
        self._unfinished = unfinished
        self._rate = per_minute / 60
        self._clock = clock
        self._clients: dict[str, _Client] = {}
        self._lock = threading.Lock()
        self.turned_away = 0  # requests so far

    def admit(self, address: str) -> None:
        """Count a request. Raises TooMany (a RefusedError) saying when to try again."""
        try:
            self._admit(*_counted(address))
        except TooMany:
            with self._lock:
                self.turned_away += 1
            raise

    def _admit(self, name: str, factor: int) -> None:
        now = self._clock()
        with self._lock:
            client = self._client(name, factor, now)
            client.tokens = min(_BURST * factor, client.tokens + (now - client.at) * self._rate * factor)
            client.at = now
            if client.tokens < 1:
                wait = (1 - client.tokens) / (self._rate * factor)
                raise TooMany(f"{name} asks for sessions too often (a minute allows {60 * self._rate:g})", wait)
            client.tokens -= 1
            client.seated = [one for one in client.seated if self._lasts(one, now)]
            if len(client.seated) >= self._unfinished * factor:
                raise TooMany(f"{name} has {len(client.seated)} sessions that are not over, the most it may", _CROWDED)

    def seated(self, address: str, session: str, peers: tuple[str, ...]) -> None:
        """A session of this address was seated with `peers`."""
        name, factor = _counted(address)
        now = self._clock()
        with self._lock:
            self._client(name, factor, now).seated.append(_Seated(session[:8], peers, now))

    def _client(self, name: str, factor: int, now: float) -> _Client:
        found = self._clients.get(name)
        if found is None:
            if len(self._clients) >= MAX_ADDRESSES:  # whoever was here longest ago starts anew
                del self._clients[min(self._clients, key=lambda one: self._clients[one].at)]
            found = self._clients[name] = _Client(_BURST * factor, now)
        return found

    def _lasts(self, one: _Seated, now: float) -> bool:
        live = {peer.member.peer_id: peer for peer in self._registry.live()}
        for peer_id in one.peers:
            peer = live.get(peer_id)
            if peer is None or peer.seen - peer.latency <= one.at:  # gone, or not asked since
                if now - one.at < UNHEARD:
                    return True
            elif one.session in peer.status.seated:
                return True
        return False


def _counted(address: str) -> tuple[str, int]:
    """The name that an address is counted under, and how many times the ordinary quota it has."""
    try:
        found = ip_address(address)
    except ValueError:
        return "an unknown address", 1
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is None:
            return (str(found), LOOPBACK) if found.is_loopback else (str(ip_network((int(found), 64), strict=False)), 1)
        found = found.ipv4_mapped
    return str(found), LOOPBACK if found.is_loopback else 1
