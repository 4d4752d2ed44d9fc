"""A peer: what it serves, whom it answers, and the sessions it sits in."""

from __future__ import annotations

import logging
import threading
import time

from .. import __version__
from ..attest import Attestation, ModelHash, Question
from ..errors import IdentityError, PeerError, PeerLost, RefusedError, UsageError
from ..records import tidy
from ..signed import Signed
from ..software import software_digest
from ..wire import MAX_SEATED, ROLE_NAMES, SHUTTING_DOWN, Introduction, ModelOffer, Offer, PeerStatus
from .budget import Account, Need, Weighed, size
from .dialback import DialBack
from .memory import give_back
from .mesh import ATTEST, CHAT, DIALBACK, INTRODUCE, MANIFEST, OFFER, PING, STATUS, TOKENIZER, WITHDRAW
from .quoting import Quoting
from .ranging import Ranging
from .session import Model, Seat, Surroundings
from .totals import Tallies
from .vitals import load_thousandths, resident_bytes

log = logging.getLogger("tacit.party.node")

WATCH_SECONDS = 0.1  # between two looks at what lies unread
IDLE_SECONDS = 2.0  # without a session, until the memory of the last ones is given back


class Node:
    """Answers the mesh once `serve` is called. Several sessions may run at once, each in a thread of its own."""

    def __init__(
        self, around: Surroundings, models: list[Model], max_sessions: int, quoting: Quoting | None = None
    ) -> None:
        """`quoting`: what it takes for a seat; nothing if left out."""
        self._around = around
        self._quoting = quoting or Quoting(around.identity)
        self._ranging = Ranging(around.mesh, around.identity.peer_id)
        self._models = {model.name: model for model in models}
        self._max_sessions = max_sessions
        self._software = software_digest()  # of what was started, whatever is installed later
        self._seats: dict[str, Seat] = {}
        self._tallies = Tallies()
        self._lock = threading.Lock()
        self._stopping = False
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)

    def serve(self) -> None:
        self._watcher.start()
        mesh = self._around.mesh
        mesh.serve(STATUS, self._status, threads=1)
        mesh.serve(MANIFEST, self._manifest, threads=1)
        mesh.serve(TOKENIZER, self._tokenizer, threads=1)
        mesh.serve(CHAT, self._chat, threads=1)
        mesh.serve(OFFER, self._offer, threads=self._max_sessions)
        mesh.serve(INTRODUCE, self._introduce, threads=4)
        mesh.serve(WITHDRAW, self._withdraw, threads=1)
        mesh.serve(PING, lambda sender, question: b"", threads=1)
        mesh.serve(ATTEST, self._attest, threads=1)
        mesh.serve(DIALBACK, DialBack(mesh), threads=2)
        self._ranging.start()

    def close(self, grace: float = 0.7) -> None:
        """End every session (the others hear that this peer is shutting down), then the mesh. `grace` in seconds."""
        with self._lock:
            self._stopping = True
            seats = list(self._seats.values())
        for seat in seats:
            seat.stop(PeerLost(self._around.own_name, SHUTTING_DOWN))
        self._stop.set()
        deadline = time.monotonic() + grace
        for seat in seats:
            seat.join(max(0.0, deadline - time.monotonic()))
        self._ranging.close()
        self._around.mesh.close()

    # Answers to the mesh: (sender, question) -> answer ---------------------------------------------------------------

    def _status(self, sender: str, question: bytes) -> bytes:
        with self._lock:
            sessions = len(self._seats)
            seated = tuple(session[:8] for session in list(self._seats)[:MAX_SEATED])
            totals = self._tallies.totals(self._seats.values())
        offers = tuple(
            ModelOffer(model.name, model.manifest_hash, dict(model.summary)) for model in self._models.values()
        )
        return PeerStatus(
            peer_id=self._around.identity.peer_id,
            version=__version__,
            models=offers,
            sessions=sessions,
            max_sessions=self._max_sessions,
            quote=self._quoting.current(),
            round_trips=self._ranging.round_trips(),
            clock=int(time.time()),
            load=load_thousandths(),
            memory=resident_bytes(),
            seated=seated,
            totals=totals,
        ).to_bytes()

    def _manifest(self, sender: str, question: bytes) -> bytes:
        return self._model(question.decode("utf-8", "replace")).manifest

    def _tokenizer(self, sender: str, question: bytes) -> bytes:
        model = self._model(question.decode("utf-8", "replace"))
        if model.tokenizer is None:
            raise self._refusal(f"{model.name} has no tokenizer; send token ids")
        return model.tokenizer

    def _chat(self, sender: str, question: bytes) -> bytes:
        model = self._model(question.decode("utf-8", "replace"))
        if model.chat is None:
            raise self._refusal(f"{model.name} has no chat template")
        return model.chat

    def _attest(self, sender: str, question: bytes) -> bytes:
        asked = Question.from_bytes(question, self._around.members.name_of(sender))
        member = self._around.members.member(self._around.identity.peer_id)
        if member is None:
            raise self._refusal("is no member of the cluster any more")
        said = Attestation(
            context=Attestation.CONTEXT,
            nonce=asked.nonce,
            peer_id=member.peer_id,
            operator=member.operator,
            version=__version__,
            software=self._software,
            models=tuple(ModelHash(model.name, model.manifest_hash) for model in self._models.values()),
            made=int(time.time()),
        )
        return self._around.identity.sign(said).to_bytes()

    def _offer(self, sender: str, question: bytes) -> bytes:
        self._must_be_coordinator(sender)
        around, own_id = self._around, self._around.identity.peer_id
        offer = Offer.from_bytes(question, around.members.name_of(sender))
        if offer.peers[offer.role] != own_id:
            raise self._refusal("the offer gives this seat to another peer")
        members = [around.members.member(peer_id) for peer_id in offer.peers]
        operators = {member.operator for member in members if member is not None}
        if None in members or (len(operators) != 3 and not around.members.own):
            raise self._refusal("the three peers are not three members of this cluster with three operators")
        if not self._quoting.holds(offer.quotes[offer.role]):
            raise self._refusal("the offer counts on a quote that is not this peer's, or has run out")
        model = self._model(offer.model)
        context = model.summary.get("context")
        if isinstance(context, int) and not offer.sizes.fits(context):
            raise self._refusal(f"{offer.sizes} do not fit {model.name}'s context of {context}")
        need = self._needed(model, offer) if isinstance(model, Weighed) else None
        seat = Seat(around, offer, model, self._ended, need)
        with self._lock:
            if self._stopping:
                raise self._refusal(SHUTTING_DOWN)
            if offer.session in self._seats:
                raise self._refusal(f"session {offer.session[:8]} is there already")
            if len(self._seats) >= self._max_sessions:
                raise self._refusal(f"is busy with {len(self._seats)} sessions, the most it takes")
            if need is not None and around.account is not None:
                self._reserve(around.account, offer, need)
            self._seats[offer.session] = seat
        return seat.prepare().to_bytes()

    def _needed(self, model: Weighed, offer: Offer) -> Need:
        try:
            return model.need(offer.role, offer.sizes, offer.protocol, offer.padded)
        except UsageError as error:
            raise self._refusal(f"cannot take part in {offer.protocol!r} sessions of {offer.model}: {error}") from None

    def _reserve(self, account: Account, offer: Offer, need: Need) -> None:
        lacking = account.reserve(offer.session, need.total)
        if lacking is not None:
            what = f"{offer.sizes} as {ROLE_NAMES[offer.role]}"
            raise self._refusal(f"needs {size(need.total)} for {what}; {lacking}")

    def _introduce(self, sender: str, question: bytes) -> bytes:
        signed = Signed.from_bytes(question, self._around.members.name_of(sender))
        claimed = Introduction.from_bytes(signed.payload, self._around.members.name_of(sender))
        with self._lock:
            seat = self._seats.get(claimed.session)
        if seat is None:
            raise self._refusal("does not know the session of this introduction")
        return seat.introduced(signed, sender).to_bytes()

    def _withdraw(self, sender: str, question: bytes) -> bytes:
        self._must_be_coordinator(sender)
        with self._lock:
            seat = self._seats.get(question.decode("latin-1"))
        if seat is not None and not seat.is_open:
            seat.stop(RefusedError(self._around.members.name_of(sender), "withdrew the offer"))
            seat.join(1.0)  # so that the session's id is free again when the coordinator goes on
        return b""

    def _must_be_coordinator(self, sender: str) -> None:
        if not self._around.members.is_coordinator(sender):
            raise IdentityError(self._around.members.name_of(sender), "is not a coordinator of this cluster")

    def _model(self, name: str) -> Model:
        model = self._models.get(name)
        if model is None:
            raise self._refusal(f"does not serve {tidy(name, 130)!r}, only {', '.join(self._models)}")
        return model

    def _refusal(self, reason: str) -> PeerError:
        return RefusedError(self._around.own_name, reason)

    def _watch(self) -> None:
        busy_at: float | None = None  # when there was a session last; None once its memory was given back
        while not self._stop.wait(WATCH_SECONDS):
            with self._lock:
                seats = list(self._seats.values())
            for seat in seats:
                seat.look_for_floods()
            if seats:
                busy_at = time.monotonic()
            elif busy_at is not None and time.monotonic() - busy_at > IDLE_SECONDS:
                busy_at = None
                give_back()

    def _ended(self, seat: Seat) -> None:
        with self._lock:
            if self._seats.pop(seat.session, None) is not None:
                self._tallies.end(seat)
        if self._around.account is not None:
            self._around.account.release(seat.session)
