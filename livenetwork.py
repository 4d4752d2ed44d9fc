"""The network that a running cluster's links are made to be like: its network.json, followed as it changes.

It lies beside the cluster.json of a cluster that was started with `tacit up --network`. Every process of that cluster, and
every client on its machine that knows it by its cluster.json, reads it for itself.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import numpy as np

from .errors import ConfigError
from .network import CLIENT, FILE, Network, Profile
from .shaping import Bandwidth, ShapedLine

log = logging.getLogger("tacit.livenetwork")

LOOK = 0.04  # seconds between two looks at the file, at most one of which is needed to see a change


class LiveNetwork:
    """The lines to one party, by name. Threads may share it."""

    def __init__(self, path: Path, own: str) -> None:
        """`own`: what this party is called there. Raises ConfigError naming the file."""
        self._path = path
        self._own = own
        self._mark = _mark(path)
        self._network = Network.load(path)
        self._next_look = 0.0
        self._lock = threading.Lock()
        self._shared: dict[str, Bandwidth] = {}

    @classmethod
    def beside(cls, roster: Path, own: str) -> LiveNetwork | None:
        """That of the cluster with this cluster.json; None if its links are not shaped. Raises ConfigError."""
        path = roster.parent / FILE
        return cls(path, own) if path.exists() else None

    def line(self, remote: str) -> ShapedLine:
        """For what comes from `remote` over one link. Sessions between two peers share the bandwidth; each of a client's
        has its own, since nobody can tell how many there are of them."""
        bandwidth = None
        if CLIENT not in (remote, self._own):
            with self._lock:
                bandwidth = self._shared.setdefault(remote, Bandwidth())
        return ShapedLine(lambda: self.profile(remote), np.random.default_rng(), bandwidth)

    def profile(self, remote: str) -> Profile:
        """Of the line to `remote`, as the file has it: a change is seen within LOOK seconds."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK
            self._look()
        return self._network.between(self._own, remote)

    def _look(self) -> None:
        mark = _mark(self._path)
        if mark is None or mark == self._mark:  # without the file the cluster is ending
            return
        self._mark = mark
        try:
            self._network = Network.load(self._path)
        except ConfigError as error:
            log.warning("%s; the links stay as they are", error)


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
