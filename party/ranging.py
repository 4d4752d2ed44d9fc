"""How far the other peers are: each is asked nothing over the mesh, again and again, and the answers are timed.

A value is the least of the last few answers, so that a peer that computes just then does not look far away. A peer that
did not answer the last time has no value. What is measured is a question of the mesh with its software; see docs/network.md for what
that adds to the line.
"""

from __future__ import annotations

import heapq
import logging
import random
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from ..errors import TacitError
from ..wire import MAX_ROUND_TRIP_US, MAX_ROUND_TRIPS
from .mesh import PING, Mesh

log = logging.getLogger("tacit.party.ranging")

SAMPLES = 3  # questions, one after another, each time that it is a peer's turn
REMEMBERED = 3  # turns that a value is the least of
PACE = 0.02  # seconds between two turns: a cluster of hundreds is gone through more slowly, not with more traffic


class Ranging:
    """Measures in the background from `start` to `close`. Times in seconds."""

    def __init__(
        self,
        mesh: Mesh,
        own_id: str,
        *,
        interval: float = 5.0,
        retry: float = 2.0,
        patience: float = 1.0,
        at_once: int = 4,
    ) -> None:
        """`interval` between two turns of a peer, `retry` after a silence; an answer may take `patience`. Both times vary
        by a quarter, so that peers that were started together do not ask together. `at_once`: peers asked at a time."""
        self._mesh = mesh
        self._own_id = own_id
        self._interval = interval
        self._retry = retry
        self._patience = patience
        self._at_once = threading.Semaphore(at_once)
        self._heard: dict[str, deque[int]] = {}
        self._due: dict[str, float] = {}  # peer id -> time.monotonic() of its turn; infinite while it is being asked
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="ranging")
        self._thread = threading.Thread(target=self._run, name="ranging", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop asking; answers on their way are not waited for."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(0.5)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def round_trips(self) -> dict[str, int]:
        """Microseconds by peer id; of more than MAX_ROUND_TRIPS peers, the nearest."""
        with self._lock:
            found = {peer_id: min(heard) for peer_id, heard in self._heard.items()}
        if len(found) <= MAX_ROUND_TRIPS:
            return found
        return dict(heapq.nsmallest(MAX_ROUND_TRIPS, found.items(), key=lambda item: item[1]))

    def _run(self) -> None:
        while not self._stop.is_set():
            peer_id = self._next()
            if peer_id is None:
                self._stop.wait(0.1)
                continue
            while not self._at_once.acquire(timeout=0.2):
                if self._stop.is_set():
                    return
            self._pool.submit(self._turn, peer_id)
            self._stop.wait(PACE)

    def _next(self) -> str | None:
        """Whose turn has come, the longest overdue first; members that left are forgotten on the way."""
        there = {member.peer_id for member in self._mesh.members.members} - {self._own_id}
        now = time.monotonic()
        with self._lock:
            for peer_id in self._due.keys() - there:
                del self._due[peer_id]
                self._heard.pop(peer_id, None)
            for peer_id in there - self._due.keys():
                self._due[peer_id] = now
            due = min(self._due, key=self._due.__getitem__, default=None)
            if due is None or self._due[due] > now:
                return None
            self._due[due] = float("inf")
            return due

    def _turn(self, peer_id: str) -> None:
        least: int | None = None
        try:
            for _ in range(SAMPLES):
                started = time.perf_counter()
                self._mesh.request(peer_id, PING, b"", timeout=self._patience)
                taken = min(int(1e6 * (time.perf_counter() - started)), MAX_ROUND_TRIP_US)
                least = taken if least is None else min(least, taken)
        except TacitError as error:
            least = None
            log.debug("no round trip: %s", error)
        finally:
            self._at_once.release()
            self._keep(peer_id, least)

    def _keep(self, peer_id: str, least: int | None) -> None:
        pause = (self._interval if least is not None else self._retry) * random.uniform(0.75, 1.25)
        with self._lock:
            if peer_id not in self._due:  # it left meanwhile
                return
            self._due[peer_id] = time.monotonic() + pause
            if least is None:
                self._heard.pop(peer_id, None)
            else:
                self._heard.setdefault(peer_id, deque(maxlen=REMEMBERED)).append(least)
