"""Lines between parties that the kernel's stack uses, each party in a namespace: by netem where there is one, else forwarded.

    with KernelLines(network, ("client", "peer-0", "peer-1")) as lines:
        lines.address["peer-0"]          # packets to it take the line of that pair
        lines.plain_address["peer-0"]    # packets to it take no line: for what the lines are not to slow down
        with lines.inside("client"): …   # this thread is there
        lines.set(other_network)         # while they are in use

Every pair has a line of its own, as shaped links have. Everything is gone at the end; what a process leaves behind that is
killed, `namespaces.sweep` removes before the next lines are laid.
"""

from __future__ import annotations

import itertools
import json
import math
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO, Any, Self

from ...errors import ConfigError, NetworkError, UsageError
from ...network import Network, Profile
from . import namespaces, netem, tun
from .counts import Counts
from .namespaces import Switch, fresh_prefix, inside, ip, remove, sweep
from .shape import check_held

PLAIN_SUBNET, LINE_SUBNET = "10.77.0", "10.78.0"
FASTEST = 1e9  # bit/s, of all lines together, that the forwarder carries in time if it has a core; see docs/study.md
CONGESTION = (
    "cubic"  # what Linux uses unless told otherwise; by route, as a namespace may choose only what its host does
)
QUEUE_OF_DEVICE = "10000"  # packets, until the forwarder reads them: never the one that is full
NETEM, FORWARDER = "netem", "TUN forwarder"
_READY_SECONDS, _ANSWER_SECONDS = 60.0, 5.0

Ends = tuple[tuple[str, str], tuple[str, str]]


def why_not() -> str | None:
    """Why there can be no such lines here; None if there can be."""
    return namespaces.why_not() or (netem.why_not() and tun.why_not())


def how() -> str:
    """What would shape them."""
    return FORWARDER if netem.why_not() else NETEM


def check(profile: Profile, how: str) -> None:
    """Raises UsageError for a line that could only be carried otherwise than it says."""
    check_held(profile)
    if how == FORWARDER and profile.bandwidth > FASTEST and profile.bandwidth != math.inf:
        raise UsageError(
            f"the line {profile.text} is faster than a TUN forwarder can carry in time ({FASTEST / 1e6:g} Mbit/s): use a"
            " kernel with netem, a profile with less bandwidth, or shaped links"
        )


class KernelLines:
    """Namespaces and lines; use it as a context."""

    def __init__(self, network: Network, parties: Sequence[str], congestion: str = CONGESTION) -> None:
        """`parties`: as `network` calls them; a line between each two. `congestion`: of TCP, as the kernel calls it.

        Raises UsageError for profiles that cannot be carried here, ConfigError where the machine does not let us.
        """
        reason = why_not()
        if reason is not None:
            raise ConfigError(f"lines of the kernel's own cannot be laid here: {reason}")
        self.how = how()
        self.parties = tuple(parties)
        self.congestion = congestion
        self._network = network
        self._check(network)
        prefix = fresh_prefix()
        self._hub = f"{prefix}-switch"
        self.namespaces = {name: f"{prefix}-{name}" for name in parties}
        self.address = {name: f"{LINE_SUBNET}.{number}" for number, name in enumerate(parties, 1)}
        self.plain_address = {name: f"{PLAIN_SUBNET}.{number}" for number, name in enumerate(parties, 1)}
        self._forwarder: Forwarder | None = None

    def open(self) -> None:
        """Lay the lines; where that fails nothing stays. Raises ConfigError or NetworkError."""
        sweep()
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End what is still running in the namespaces, and remove them. Closing twice is fine."""
        if self._forwarder is not None:
            self._forwarder.close()
            self._forwarder = None
        for name in (*self.namespaces.values(), self._hub):
            remove(name)

    def inside(self, party: str) -> AbstractContextManager[None]:
        """The calling thread, and threads it starts meanwhile, are where this party is."""
        return inside(self.namespaces[party])

    def set(self, network: Network) -> None:
        """Other profiles from now on. Raises UsageError, ConfigError or NetworkError."""
        self._check(network)
        for number, (one, other) in enumerate(self._pairs()):
            profile = network.between(one, other)
            if profile == self._network.between(one, other):
                continue
            if self._forwarder is not None:
                self._forwarder.set(number, profile)
            else:
                netem.shape(self._ends(number, one, other), profile)
        self._network = network

    def counts(self) -> list[Counts]:
        """Of every direction, as far as a forwarder counts them; netem does not tell."""
        return [] if self._forwarder is None else self._forwarder.counts()

    def _check(self, network: Network) -> None:
        for one, other in self._pairs():
            check(network.between(one, other), self.how)

    def _pairs(self) -> Iterator[tuple[str, str]]:
        return itertools.combinations(self.parties, 2)

    def _ends(self, number: int, one: str, other: str) -> Ends:
        return (self.namespaces[one], f"line{number}"), (self.namespaces[other], f"line{number}")

    def _make(self) -> None:
        switch = Switch(self._hub)
        for number, name in enumerate(self.parties):
            switch.join(self.namespaces[name], f"port{number}", self.plain_address[name])
            with inside(self.namespaces[name]):
                _settle()
        pairs = list(self._pairs())
        lines = [(self._ends(number, *pair), self._network.between(*pair)) for number, pair in enumerate(pairs)]
        if self.how == FORWARDER:
            self._forwarder = Forwarder(lines)
        else:
            for ends, _ in lines:
                netem.lay(ends)
        for (ends, profile), pair in zip(lines, pairs, strict=True):
            for (namespace, device), (own, far) in zip(ends, (pair, pair[::-1]), strict=True):
                ip("-n", namespace, "address", "add", f"{self.address[own]}/32", "dev", device)
                ip("-n", namespace, "link", "set", device, "txqueuelen", QUEUE_OF_DEVICE, "up")
                route = (f"{self.address[far]}/32", "dev", device, "src", self.address[own])
                ip("-n", namespace, "route", "add", *route, "congctl", self.congestion)
            if self._forwarder is None:
                netem.shape(ends, profile)


def _settle() -> None:
    """The namespace that this thread is in: TCP learns nothing from earlier connections, and IPv6 says nothing by itself."""
    try:
        Path("/proc/sys/net/ipv4/tcp_no_metrics_save").write_text("1")
        with suppress(FileNotFoundError):
            Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    except OSError as error:
        raise ConfigError(f"a namespace cannot be set up: {error.strerror}") from None


class Forwarder:
    """The process of `forwarder`, from the outside."""

    def __init__(self, lines: Sequence[tuple[Ends, Profile]]) -> None:
        """Raises ConfigError or NetworkError with what it says."""
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tacit.coordinator.lines.forwarder"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is for its owner, who then ends it in order
            )
        except OSError as error:
            raise ConfigError(f"the forwarder could not be started: {error.strerror}") from None
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(self._process.stdout, self._answers), daemon=True).start()
        plan = {"pairs": [{"ends": ends, "profile": profile.text} for ends, profile in lines]}
        self._ask(plan, "ready", _READY_SECONDS)

    @property
    def pid(self) -> int:
        return self._process.pid

    def set(self, pair: int, profile: Profile) -> None:
        self._ask({"set": pair, "profile": profile.text}, "set", _ANSWER_SECONDS)

    def counts(self) -> list[Counts]:
        return [Counts(**one) for one in self._ask({"tell": True}, "tell", _ANSWER_SECONDS)]

    def close(self) -> None:
        """It ends with its standard input; by force if it does not."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, what: dict[str, Any], answer: str, seconds: float) -> Any:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
            said = self._answers.get(timeout=seconds)
        except (OSError, queue.Empty):
            said = None
        found = json.loads(said) if said else {"error": "it has ended, or does not answer"}
        if answer not in found:
            self.close()
            raise NetworkError(f"the forwarder of the lines: {found.get('error', 'said something else than asked')}")
        return found[answer]


def _read(stream: IO[str], lines: queue.SimpleQueue[str | None]) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)
