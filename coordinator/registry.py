"""Who is there: asks every member of the mesh how it is, again and again, and remembers the answers."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from ..errors import NetworkError, PeerError, TacitError, UsageError
from ..members import Member
from ..party.mesh import MANIFEST, STATUS, TOKENIZER, Mesh
from ..records import parse_json
from ..wire import ModelOffer, PeerStatus

log = logging.getLogger("tacit.coordinator.registry")


@dataclass(frozen=True, slots=True)
class Live:
    """A member that answered lately."""

    member: Member
    status: PeerStatus
    seen: float  # time.monotonic() of its last answer
    latency: float  # seconds the answer took
    promised: int = 0  # seats given to it since it was asked

    @property
    def free(self) -> int:
        return self.status.max_sessions - self.status.sessions - self.promised

    @property
    def load(self) -> float:
        """0: idle, 1: full."""
        return (self.status.sessions + self.promised) / max(1, self.status.max_sessions)

    def offer(self, model: str) -> ModelOffer | None:
        return next((offer for offer in self.status.models if offer.name == model), None)


class Registry:
    """Polls in the background from `start` to `close`. Times in seconds."""

    def __init__(self, mesh: Mesh, *, interval: float = 0.5, retry: float = 0.1, patience: float = 1.0) -> None:
        """`interval` between questions to a live member, `retry` to a silent one; an answer may take `patience`."""
        self._mesh = mesh
        self._interval = interval
        self._retry = retry
        self._patience = patience
        self._live: dict[str, Live] = {}
        self._reasons: dict[str, str] = {}
        self._promises: dict[str, list[float]] = {}  # peer id -> when it was given a seat that its status lacks
        self._due: dict[str, float] = {}  # peer id -> when to ask it; infinite while it is being asked
        self._lock = threading.Lock()
        self._documents: dict[tuple[str, str], bytes] = {}
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="registry")
        self._thread = threading.Thread(target=self._run, name="registry", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(1.0)
        self._pool.shutdown(wait=False, cancel_futures=True)

    # What is known ---------------------------------------------------------------------------------------------------

    def live(self) -> list[Live]:
        """Members that answered within the last interval and patience."""
        oldest = time.monotonic() - self._interval - 2 * self._patience
        with self._lock:
            return [
                replace(live, promised=len(self._promises.get(peer_id, ())))
                for peer_id, live in self._live.items()
                if live.seen >= oldest
            ]

    def promise(self, peer_id: str) -> None:
        """Count a seat that was just given to a member, until its own answer counts it."""
        with self._lock:
            self._promises.setdefault(peer_id, []).append(time.monotonic())

    def release(self, peer_id: str) -> None:
        """A seat given lately was not taken after all."""
        with self._lock:
            if self._promises.get(peer_id):
                self._promises[peer_id].pop()

    def suspect(self, peer_ids: Collection[str]) -> None:
        """Somebody says that these members failed: ask them now. They stay live unless they do not answer."""
        for peer_id in peer_ids:
            with self._lock:
                known = peer_id in self._live and self._due.get(peer_id) != float("inf")
                if known:
                    self._due[peer_id] = 0.0

    def silence(self, peer_id: str) -> str:
        """Why a member is not live."""
        with self._lock:
            return self._reasons.get(peer_id, "has not answered yet")

    def doubt(self, peer_id: str, reason: str) -> None:
        """Count a member as gone until it answers again."""
        with self._lock:
            self._live.pop(peer_id, None)
            self._reasons[peer_id] = reason
            if self._due.get(peer_id) != float("inf"):  # a question is on its way
                self._due[peer_id] = 0.0

    def models(self) -> list[ModelOffer]:
        """Models that enough live peers serve, one entry for a name: where copies differ, the one most peers hold."""
        holders: dict[tuple[str, str], list[Live]] = {}
        offers: dict[tuple[str, str], ModelOffer] = {}
        for live in self.live():
            for offer in live.status.models:
                key = (offer.name, offer.manifest_hash)
                holders.setdefault(key, []).append(live)
                offers[key] = offer
        chosen: dict[str, ModelOffer] = {}
        for key in sorted(holders, key=lambda key: (-len(holders[key]), key)):
            if enough(holders[key], self._mesh.members.own):
                chosen.setdefault(key[0], offers[key])
        return [chosen[name] for name in sorted(chosen)]

    def model(self, name: str) -> ModelOffer:
        """The entry of one model. Raises UsageError if three peers do not serve it."""
        models = self.models()
        for offer in models:
            if offer.name == name:
                return offer
        served = ", ".join(offer.name for offer in models) or "none at the moment: fewer than three peers are live"
        raise UsageError(f"unknown model {name!r}; served here: {served}")

    def holders(self, offer: ModelOffer) -> list[Live]:
        """The live peers that serve exactly this model."""
        found = []
        for live in self.live():
            theirs = live.offer(offer.name)
            if theirs is not None and theirs.manifest_hash == offer.manifest_hash:
                found.append(live)
        return found

    def manifest(self, name: str) -> bytes:
        """The manifest that belongs to the model's hash, from any peer that has it."""
        offer = self.model(name)
        return self._document(MANIFEST, offer, offer.manifest_hash)

    def tokenizer(self, name: str) -> bytes:
        """tokenizer.json with the hash that the manifest gives; the client checks it again."""
        offer = self.model(name)
        stated = parse_json(self.manifest(name))
        expected = stated.get("tokenizer_hash") if isinstance(stated, dict) else None
        return self._document(TOKENIZER, offer, expected)

    def _document(self, protocol: str, offer: ModelOffer, expected: object) -> bytes:
        """From the first holder that sends bytes with SHA-256 `expected` (None: any); nothing else is kept."""
        key = (protocol, offer.manifest_hash)
        if key in self._documents:
            return self._documents[key]
        problem: TacitError = NetworkError(f"no live peer serves {offer.name}")
        for live in self.holders(offer):
            try:
                found = self._mesh.request(live.member.peer_id, protocol, offer.name.encode("utf-8"))
            except TacitError as error:
                problem = error
                continue
            if expected is None or hashlib.sha256(found).hexdigest() == expected:
                self._documents[key] = found
                return found
            problem = PeerError(
                live.member.display, f"sent a {protocol} of {offer.name} that does not have the hash announced"
            )
            log.warning("%s", problem)
        raise problem

    def refresh(self) -> None:
        """Ask every live member again, now: sessions may have ended since its last answer."""
        wait([self._pool.submit(self._ask, live.member.peer_id) for live in self.live()], timeout=self._patience)

    # Asking ----------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            now = time.monotonic()
            with self._lock:
                for member in self._mesh.members.members:
                    self._due.setdefault(member.peer_id, 0.0)
                due = [peer_id for peer_id, when in self._due.items() if when <= now]
                for peer_id in due:
                    self._due[peer_id] = float("inf")
            for peer_id in due:
                self._pool.submit(self._ask, peer_id)

    def _ask(self, peer_id: str) -> None:
        member = self._mesh.members.member(peer_id)
        if member is None:
            return
        started = time.monotonic()
        pause = self._retry
        try:
            raw = self._mesh.request(peer_id, STATUS, b"", timeout=self._patience)
            status = PeerStatus.from_bytes(raw, member.display)
            if status.peer_id != peer_id:
                raise PeerError(member.display, "reports another peer's status")
            seen = time.monotonic()
            with self._lock:
                self._promises[peer_id] = [when for when in self._promises.get(peer_id, ()) if when > started]
                if peer_id not in self._live:
                    log.info("%s is there: %s", member.display, ", ".join(offer.name for offer in status.models))
                self._live[peer_id] = Live(member, status, seen, seen - started)
            pause = self._interval
        except TacitError as error:
            with self._lock:
                gone = self._live.pop(peer_id, None)
                self._reasons[peer_id] = str(error)
            if gone is not None and not self._stop.is_set():
                log.warning("%s is gone: %s", member.display, error)
        finally:
            with self._lock:
                self._due[peer_id] = time.monotonic() + pause


def enough(holders: list[Live], own: bool) -> bool:
    """Whether a committee can be formed at all: three peers, of three operators unless one person owns them all."""
    return len(holders) >= 3 and (own or len({live.member.operator for live in holders}) >= 3)
