"""Who is there: asks every member of the mesh how it is, again and again, and remembers the answers."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from ..errors import ConfigError, NetworkError, PeerError, TacitError, UsageError
from ..members import Member, Members
from ..party.mesh import CHAT, MANIFEST, STATUS, TOKENIZER, Mesh
from ..quotes import Quote, read_quote
from ..records import parse_json
from ..succession import Chain
from ..wire import ModelOffer, PeerStatus
from .pace import STILL, Pace, Rates
from .store import Store

log = logging.getLogger("tacit.coordinator.registry")

SLOW = 3  # questions in a row without an answer, after which a member counts as gone
SOONEST = 0.1  # seconds between two questions to a member, whatever clients report of it
LONGEST_PAUSE = 0.25  # seconds after which members that joined are noticed
KEEP_EVERY = 30.0  # seconds between two times that a member's status is put into the store
MAX_REASONS = 4096  # members that left, and why they were silent


@dataclass(frozen=True, slots=True)
class Live:
    """A member that answered lately."""

    member: Member
    status: PeerStatus
    seen: float  # time.monotonic() of its last answer
    latency: float  # seconds the answer took
    quote: Quote  # checked to be its own
    skew: float = 0.0  # seconds that its clock is ahead of ours, to about one
    rates: Rates = STILL  # what it does a second
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

    def __init__(
        self,
        mesh: Mesh,
        store: Store | None = None,
        *,
        interval: float = 0.5,
        retry: float = 0.1,
        patience: float = 1.0,
    ) -> None:
        """`store`: where it remembers who failed; in memory if left out.

        `interval` between questions to a live member, `retry` to a silent one; an answer may take `patience`.
        """
        self.store = store or Store()
        self._mesh = mesh
        self._interval = interval
        self._retry = retry
        self._patience = patience
        self._live: dict[str, Live] = {}
        self._reasons: dict[str, str] = {}
        self._promises: dict[str, list[float]] = {}  # peer id -> when it was given a seat that its status lacks
        self._due: dict[str, float] = {}  # peer id -> when to ask it; infinite while it is being asked
        self._asked: dict[str, float] = {}  # peer id -> when it was asked the last time
        self._silences: dict[str, int] = {}  # peer id -> questions in a row that it did not answer
        self._heard_of: dict[str, float] = {}  # peer id -> when it answered, or was given up, the last time
        self._paces: dict[str, Pace] = {}
        self._kept: dict[str, float] = {}  # peer id -> when its status was last put into the store
        self._lock = threading.Lock()
        self._answered = threading.Condition(self._lock)
        self._documents: dict[tuple[str, str], bytes] = {}
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="registry")
        self._thread = threading.Thread(target=self._run, name="registry", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(1.0)
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def members(self) -> Members:
        """Whom the mesh knows just now."""
        return self._mesh.members

    def successions(self, peer_id: str) -> Chain:
        """How a member came by its key."""
        return self._mesh.successions(peer_id)

    def request(self, peer_id: str, protocol: str, question: bytes, timeout: float) -> bytes:
        """A question of the mesh; see `Mesh.request`."""
        return self._mesh.request(peer_id, protocol, question, timeout)

    # What is known ---------------------------------------------------------------------------------------------------

    def live(self) -> list[Live]:
        """Members that answered lately: the last time but SLOW, at the latest."""
        oldest = time.monotonic() - self._interval - SLOW * (self._patience + self._retry)
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
        """Somebody says that these members failed: ask them soon. They stay live unless they do not answer."""
        with self._lock:
            for peer_id in peer_ids:
                if peer_id in self._live:
                    self._hasten(peer_id)

    def _hasten(self, peer_id: str) -> None:
        """Ask it as soon as that may be: at most every SOONEST, whoever wants it."""
        if self._due.get(peer_id, float("inf")) != float("inf"):  # else a question is on its way, or it has left
            self._due[peer_id] = min(self._due[peer_id], self._asked.get(peer_id, 0.0) + SOONEST)
            self._wake.set()

    def silence(self, peer_id: str) -> str:
        """Why a member is not live."""
        with self._lock:
            return self._reasons.get(peer_id, "has not answered yet")

    def doubt(self, peer_id: str, reason: str) -> None:
        """Count a member as gone until it answers again."""
        with self._lock:
            self._live.pop(peer_id, None)
            self._reasons[peer_id] = reason
            self._hasten(peer_id)
        self._note(self.store.failed, peer_id, reason)

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
        return self._stated(TOKENIZER, name, "tokenizer_hash")

    def chat(self, name: str) -> bytes:
        """The model's chat templates (`ChatFile`), likewise."""
        return self._stated(CHAT, name, "chat_hash")

    def _stated(self, protocol: str, name: str, key: str) -> bytes:
        offer = self.model(name)
        stated = parse_json(self.manifest(name))
        return self._document(protocol, offer, stated.get(key) if isinstance(stated, dict) else None)

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

    @property
    def may_have_changed(self) -> bool:
        """Whether to ask anew could find more room: a session may have ended, somebody busy may answer again."""
        live = self.live()
        return len(live) < len(self.members.members) or any(one.free <= 0 for one in live)

    def refresh(self) -> None:
        """Wait until every member was asked anew."""
        started = time.monotonic()
        with self._answered:
            for peer_id in self._due:
                self._hasten(peer_id)
            self._answered.wait_for(
                lambda: all(self._heard_of.get(peer_id, 0.0) > started for peer_id in self._due),
                timeout=SOONEST + self._patience,
            )

    # Asking ----------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            due, pause = self._turns()
            for peer_id in due:
                self._pool.submit(self._ask, peer_id)
            self._wake.wait(pause)

    def _turns(self) -> tuple[list[str], float]:
        """Whom to ask now, and for how long nobody's turn will come. Members that left are forgotten."""
        there = {member.peer_id for member in self._mesh.members.members}
        now = time.monotonic()
        with self._lock:
            for peer_id in self._due.keys() - there:
                tables = (
                    self._due,
                    self._asked,
                    self._heard_of,
                    self._kept,
                    self._promises,
                    self._silences,
                    self._paces,
                )
                for table in tables:
                    table.pop(peer_id, None)
                if (gone := self._live.pop(peer_id, None)) is not None:
                    log.info("%s left the cluster", gone.member.display)
            while len(self._reasons) > MAX_REASONS:
                self._reasons.pop(next(iter(self._reasons)))
            for peer_id in there - self._due.keys():
                self._due[peer_id] = now
            due = [peer_id for peer_id, when in self._due.items() if when <= now]
            for peer_id in due:
                self._due[peer_id] = float("inf")
                self._asked[peer_id] = now
            return due, min([LONGEST_PAUSE, *(when - now for when in self._due.values())])

    def _ask(self, peer_id: str) -> None:
        member = self._mesh.members.member(peer_id)
        started = time.monotonic()
        pause = self._retry
        try:
            if member is None:
                return
            raw = self._mesh.request(peer_id, STATUS, b"", timeout=self._patience)
            self._heard(member, PeerStatus.from_bytes(raw, member.display), started)
            pause = self._interval
        except TacitError as error:
            with self._lock:
                # A busy machine may answer late: one silence is a reason to ask again, not to count it as gone.
                self._silences[peer_id] = self._silences.get(peer_id, 0) + 1
                slow = isinstance(error, NetworkError) and self._silences[peer_id] < SLOW
                gone = None if slow else self._live.pop(peer_id, None)
                self._reasons[peer_id] = str(error)
            if gone is not None and not self._stop.is_set():
                log.warning("%s is gone: %s", gone.member.display, error)
                self._note(self.store.failed, peer_id, str(error))
        finally:
            with self._answered:
                if peer_id in self._due:  # else it left meanwhile
                    self._heard_of[peer_id] = time.monotonic()
                    self._due[peer_id] = self._heard_of[peer_id] + pause
                self._answered.notify_all()

    def _heard(self, member: Member, status: PeerStatus, started: float) -> None:
        """A member's answer to a question of time `started`. Raises PeerError for one that is not in order."""
        if status.peer_id != member.peer_id:
            raise PeerError(member.display, "reports another peer's status")
        before = self._live.get(member.peer_id)
        if before is not None and before.status.quote == status.quote:
            quote = before.quote
        else:
            quote = read_quote(status.quote, member.peer_id, member.display)
        now, seen = time.time(), time.monotonic()
        if not quote.valid(now):
            raise PeerError(
                member.display,
                f"its quote does not hold now; its clock is {status.clock - now:+.0f} s from the coordinator's",
            )
        with self._lock:
            if member.peer_id not in self._due:
                return
            rates = self._paces.setdefault(member.peer_id, Pace()).heard(seen, status.totals)
            live = Live(member, status, seen, seen - started, quote, status.clock + 0.5 - now, rates)
            promises = [when for when in self._promises.get(member.peer_id, ()) if when > started]
            self._promises[member.peer_id] = promises
            self._silences[member.peer_id] = 0
            if member.peer_id not in self._live:
                log.info("%s is there: %s", member.display, ", ".join(offer.name for offer in status.models))
            self._live[member.peer_id] = live
            keep = seen - self._kept.get(member.peer_id, -KEEP_EVERY) >= KEEP_EVERY
            if keep:
                self._kept[member.peer_id] = seen
        if keep:
            self._note(self.store.saw, status)

    def _note(self, write: Callable[..., None], *what: object) -> None:
        """Into the store; a disk that is full keeps no peer from serving."""
        try:
            write(*what)
        except ConfigError as error:
            log.error("%s", error)


def enough(holders: list[Live], own: bool) -> bool:
    """Whether a committee can be formed at all: three peers, of three operators unless one person owns them all."""
    return len(holders) >= 3 and (own or len({live.member.operator for live in holders}) >= 3)
