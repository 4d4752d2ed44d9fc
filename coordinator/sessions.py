"""Seating a session: offers to three peers, in role order, and their signed statements back to the client."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from ..errors import NetworkError, PeerError, PeerLost, RefusedError, TacitError, UsageError
from ..members import Member
from ..party.mesh import OFFER, WITHDRAW, Mesh
from ..signed import Signed
from ..wire import ModelOffer, Offer, SessionReply, SessionRequest
from .committee import Committee, choose
from .registry import Registry

log = logging.getLogger("tacit.coordinator.sessions")

ATTEMPTS = 3
OFFER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Seating:
    """A session that was set up, for the status page: no content, no keys."""

    session: str  # shortened
    model: str
    peers: tuple[str, str, str]
    opened: float  # time.time()


class Sessions:
    """Opens sessions; may be called from several threads."""

    def __init__(self, mesh: Mesh, registry: Registry) -> None:
        self._mesh = mesh
        self._registry = registry
        self._lock = threading.Lock()
        self._drawing = threading.Lock()
        self.recent: deque[Seating] = deque(maxlen=50)
        self.opened = 0
        self.refused = 0

    def open(self, request: SessionRequest) -> SessionReply:
        """Three signed statements in role order.

        A peer that does not answer or has no room is replaced, if there are others. Raises UsageError (unknown model,
        too many tokens), RefusedError (not enough peers), PeerError or NetworkError naming the peer that failed.
        """
        self._registry.suspect(request.without)
        offer = self._registry.model(request.model)
        _check_length(request, offer)
        failed: dict[str, TacitError] = {}
        try:
            for _ in range(ATTEMPTS):
                committee = self._committee(request, offer, failed)
                culprit = self._offer_all(request, committee, failed)
                if not isinstance(culprit, str):
                    return culprit
            raise next(reversed(failed.values()))
        except TacitError:
            with self._lock:
                self.refused += 1
            raise

    def _committee(self, request: SessionRequest, offer: ModelOffer, failed: dict[str, TacitError]) -> Committee:
        try:
            return self._drawn(request, offer, failed)
        except RefusedError:
            if failed:  # say what is wrong with them rather than that they are missing
                raise next(reversed(failed.values())) from None
        self._registry.refresh()
        return self._drawn(request, offer, failed)

    def _drawn(self, request: SessionRequest, offer: ModelOffer, failed: Collection[str]) -> Committee:
        with self._drawing:  # clients that come at once must not all be given the same idle peers
            committee = choose(
                self._registry.holders(offer), self._mesh.members.own, {*request.without, *failed}, request.operators
            )
            for member in committee:
                self._registry.promise(member.peer_id)
        return committee

    def _offer_all(
        self, request: SessionRequest, committee: Committee, failed: dict[str, TacitError]
    ) -> SessionReply | str:
        """The reply, or the id of the peer to do without, whose error is then in `failed`."""
        ids = (committee[0].peer_id, committee[1].peer_id, committee[2].peer_id)
        signed: list[Signed] = []
        for role, member in enumerate(committee):
            offer = Offer(
                session=request.session,
                role=role,
                peers=ids,
                model=request.model,
                protocol=request.protocol,
                client_key=request.client_key,
                prompt_tokens=request.prompt_tokens,
                max_new_tokens=request.max_new_tokens,
            )
            try:
                raw = self._mesh.request(member.peer_id, OFFER, offer.to_bytes(), timeout=OFFER_SECONDS)
                signed.append(Signed.from_bytes(raw, member.display))
            except TacitError as error:
                culprit = self._culprit(error, member, committee)
                log.warning("session %s: %s", request.session[:8], error)
                failed[culprit.peer_id] = error
                if isinstance(error, NetworkError):
                    self._registry.doubt(culprit.peer_id, str(error))
                self._withdraw(request.session, committee[: role + 1], culprit)
                for one in committee:
                    self._registry.release(one.peer_id)
                return culprit.peer_id
        names = (committee[0].display, committee[1].display, committee[2].display)
        with self._lock:
            self.opened += 1
            self.recent.append(Seating(request.session[:8], request.model, names, time.time()))
        log.info("session %s: %s for %s", request.session[:8], ", ".join(names), request.model)
        first, second, third = signed
        return SessionReply(request.session, (first, second, third))

    def _culprit(self, error: TacitError, asked: Member, committee: Committee) -> Member:
        """The peer asked, or another one of the committee that it could not reach and names."""
        named = error.peer if isinstance(error, PeerError | PeerLost) else str(error)
        return next((member for member in committee if named.startswith(member.display)), asked)

    def _withdraw(self, session: str, members: tuple[Member, ...], culprit: Member) -> None:
        for member in members:
            if member is culprit:
                continue
            try:
                self._mesh.request(member.peer_id, WITHDRAW, session.encode("ascii"), timeout=2.0)
            except TacitError as error:
                log.warning("session %s: could not be withdrawn: %s", session[:8], error)


def _check_length(request: SessionRequest, offer: ModelOffer) -> None:
    context = offer.summary.get("context")
    if (
        isinstance(context, int) and request.prompt_tokens + request.max_new_tokens - 1 > context
    ):  # the last new token is never fed back
        raise UsageError(
            f"{request.prompt_tokens} prompt tokens and {request.max_new_tokens} new ones do not fit into the context "
            f"of {offer.name}, which is {context} tokens; shorten the prompt or ask for fewer"
        )
