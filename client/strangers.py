"""Peers that a coordinator shows and the user has not pinned: ruled out beforehand, and explained where one was seated.

An honest coordinator may have more peers than this user pinned. Telling it which ones are not wanted lets it seat the
others; what it then seats is checked all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from ..errors import IdentityError, PeerError, TacitError
from ..members import Pinned
from ..wire import MAX_CHOICES, ROLE_NAMES, SessionReply, Statement
from .directory import Directory, Listed
from .pinned import PinnedPeers
from .pins import key_changed

log = logging.getLogger("tacit.client.strangers")

_ROOM = 16  # of MAX_CHOICES, for peers that fail


class Strangers:
    """What one coordinator shows, beside what is pinned; asked once, when it is first needed."""

    def __init__(self, directory: Directory, pinned: Pinned) -> None:
        self._directory = directory
        self._pinned = pinned
        self._listed: Sequence[Listed] | None = None

    def ruled_out(self, without: Collection[str]) -> set[str]:
        """`without`, and peers that are there but not pinned. Raises IdentityError for a pinned key with two successors."""
        if not isinstance(self._pinned, PinnedPeers):  # a roster: its coordinator has the same list, and no other peers
            return set(without)
        listed = self._peers()
        self._pinned.follow(listed)
        strange = [one for one in listed if self._pinned.member(one.peer_id) is None]
        strange.sort(key=lambda one: not one.live)
        room = max(0, MAX_CHOICES - _ROOM - len(without))
        return {*without, *(one.peer_id for one in strange[:room])}

    def explained(self, error: IdentityError, reply: SessionReply) -> IdentityError:
        """`error`, in more words if it is about a peer that was seated without being pinned."""
        for role, signed in enumerate(reply.statements):
            try:
                peer_id = Statement.from_bytes(signed.payload, ROLE_NAMES[role]).peer_id
            except PeerError:
                continue
            if self._pinned.member(peer_id) is None:
                return IdentityError(error.peer, f"{error.reason}{self._as_shown(peer_id)}")
        return error

    def _as_shown(self, peer_id: str) -> str:
        shown = next((one for one in self._peers() if one.peer_id == peer_id), None)
        if shown is None:
            return f": {self._pinned.coordinator_name} seated a peer that it does not even show; nothing was sent to it"
        for member in self._pinned.members:
            if member.name == shown.name:
                return f"; nothing was sent to it. {key_changed(member, peer_id)}"
        return (
            f": {self._pinned.coordinator_name} calls it {shown.name!r} of {shown.operator!r}; nothing was sent to it"
        )

    def _peers(self) -> Sequence[Listed]:
        if self._listed is None:
            try:
                self._listed = self._directory.peers()
            except TacitError as error:
                log.info("no list of peers: %s", error)
                return ()
        return self._listed
