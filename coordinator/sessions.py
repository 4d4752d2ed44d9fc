"""Seating a session: offers to three peers, in role order, and their signed statements back to the client."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from ..errors import ConfigError, NetworkError, PeerError, PeerLost, RefusedError, TacitError, UsageError
from ..members import Member
from ..party.mesh import OFFER, WITHDRAW, Mesh
from ..quotes import committee_price, quote_hash
from ..signed import Signed
from ..wire import ModelOffer, Offer, SessionReply, SessionRequest
from .committee import Committee, Wishes, choose
from .registry import Registry
from .store import Seating

log = logging.getLogger("tacit.coordinator.sessions")

ATTEMPTS = 3
OFFER_SECONDS = 5.0


class Sessions:
    """Opens sessions; may be called from several threads."""

    def __init__(self, mesh: Mesh, registry: Registry) -> None:
        self._mesh = mesh
        self._registry = registry
        self._store = registry.store
        self._drawing = threading.Lock()

    def open(self, request: SessionRequest) -> SessionReply:
        """Three signed statements and quotes in role order.

        A peer that does not answer or has no room is replaced, if there are others. Raises UsageError (unknown model,
        too many tokens), RefusedError (not enough peers, too dear, an id that was used), PeerError or NetworkError naming
        the peer that failed.
        """
        self._heed(request.without)
        offer = self._registry.model(request.model)
        _check_length(request, offer)
        with self._claimed(request.session):
            failed: dict[str, TacitError] = {}
            again: set[str] = set()
            for _ in range(ATTEMPTS):
                committee = self._committee(request, offer, failed, again)
                culprit = self._offer_all(request, committee, failed)
                if not isinstance(culprit, str):
                    return culprit
            raise next(reversed(failed.values()))

    def _heed(self, without: Collection[str]) -> None:
        """What a client says of peers is noted, and looked into; nothing else follows from it."""
        members = self._mesh.members
        known = [peer_id for peer_id in without if members.member(peer_id) is not None]
        self._registry.suspect(known)
        with _kept():
            self._store.reported(known)

    @contextmanager
    def _claimed(self, session: str) -> Iterator[None]:
        """The id is taken for good if the session is seated."""
        with _kept():
            if not self._store.claim(session):
                short = session[:8]
                raise RefusedError("coordinator", f"session {short} is there already: each needs an id of its own")
        try:
            yield
        except BaseException:
            with _kept():
                self._store.release(session)
                self._store.refused()
            raise

    def _committee(
        self, request: SessionRequest, offer: ModelOffer, failed: dict[str, TacitError], again: set[str]
    ) -> Committee:
        try:
            return self._drawn(request, offer, failed)
        except RefusedError:
            if not failed and not self._registry.may_have_changed:
                raise
        self._registry.refresh()
        self._welcome_back(failed, again)
        try:
            return self._drawn(request, offer, failed)
        except RefusedError:
            if failed:  # say what is wrong with them rather than that they are missing
                raise next(reversed(failed.values())) from None
            raise

    def _welcome_back(self, failed: dict[str, TacitError], again: set[str]) -> None:
        """Who could not be reached and answers now was started anew, at another address perhaps: one more try each."""
        for live in self._registry.live():
            peer_id = live.member.peer_id
            if isinstance(failed.get(peer_id), NetworkError) and peer_id not in again:
                again.add(peer_id)
                del failed[peer_id]

    def _drawn(self, request: SessionRequest, offer: ModelOffer, failed: Collection[str]) -> Committee:
        wishes = Wishes(frozenset({*request.without, *failed}), frozenset(request.operators), request.most)
        with self._drawing:  # clients that come at once must not all be given the same idle peers
            committee = choose(self._registry.holders(offer), self._mesh.members.own, wishes)
            for live in committee:
                self._registry.promise(live.member.peer_id)
        return committee

    def _offer_all(
        self, request: SessionRequest, committee: Committee, failed: dict[str, TacitError]
    ) -> SessionReply | str:
        """The reply, or the id of the peer to do without, whose error is then in `failed`."""
        first, second, dealer = members = committee[0].member, committee[1].member, committee[2].member
        quotes = committee[0].status.quote, committee[1].status.quote, committee[2].status.quote
        signed: list[Signed] = []
        for role, member in enumerate(members):
            offer = Offer(
                session=request.session,
                role=role,
                peers=(first.peer_id, second.peer_id, dealer.peer_id),
                model=request.model,
                protocol=request.protocol,
                client_key=request.client_key,
                sizes=request.sizes,
                padded=request.padded,
                quotes=(quote_hash(quotes[0]), quote_hash(quotes[1]), quote_hash(quotes[2])),
            )
            try:
                raw = self._mesh.request(member.peer_id, OFFER, offer.to_bytes(), timeout=OFFER_SECONDS)
                signed.append(Signed.from_bytes(raw, member.display))
            except TacitError as error:
                culprit = self._culprit(error, member, members)
                log.warning("session %s: %s", request.session[:8], error)
                failed[culprit.peer_id] = error
                if isinstance(error, NetworkError):
                    self._registry.doubt(culprit.peer_id, str(error))
                else:
                    self._registry.suspect([culprit.peer_id])  # what it said of itself is out of date
                self._withdraw(request.session, members[: role + 1], culprit)
                for one in members:
                    self._registry.release(one.peer_id)
                return culprit.peer_id
        self._note(request, committee)
        return SessionReply(request.session, (signed[0], signed[1], signed[2]), quotes)

    def _note(self, request: SessionRequest, committee: Committee) -> None:
        names = (committee[0].member.display, committee[1].member.display, committee[2].member.display)
        price = committee_price((committee[0].quote, committee[1].quote, committee[2].quote))
        log.info("session %s: %s for %s at %s", request.session[:8], ", ".join(names), request.model, price)
        try:
            self._store.seated(Seating(request.session[:8], request.model, names, str(price), time.time()))
        except ConfigError as error:  # the peers have sat down; the id was claimed before
            log.error("%s", error)

    def _culprit(self, error: TacitError, asked: Member, committee: tuple[Member, ...]) -> Member:
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


@contextmanager
def _kept() -> Iterator[None]:
    """A state that cannot be kept is the coordinator's trouble, and nothing that the client asked wrongly."""
    try:
        yield
    except ConfigError as error:
        log.error("%s", error)
        raise RefusedError("coordinator", "cannot keep its state; its log says why") from None


def _check_length(request: SessionRequest, offer: ModelOffer) -> None:
    context = offer.summary.get("context")
    if isinstance(context, int) and not request.sizes.fits(context):
        raise UsageError(
            f"{request.sizes} do not fit into the context of {offer.name}, which is {context} tokens; shorten the prompt "
            "or ask for fewer"
        )
