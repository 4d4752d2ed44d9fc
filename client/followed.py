"""A cluster.toml as a client's pins, with the keys that its peers have by now.

The file says whom the user pins, and stays as it is. Successions that lead on from an id in it are followed, and remembered
beside the user's other pins, so that a coordinator that keeps silent about them takes nobody back to a key that was given up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from ..clusterfile import ClusterFile
from ..members import Member, name_in
from .directory import Listed
from .pins import Pin, Pins, PinStore, followed


class FollowedFile:
    """Satisfies `tacit.members.Pinned`. It changes only by `follow`."""

    def __init__(self, file: ClusterFile, say: Callable[[str], None] = lambda what: None) -> None:
        """`say` hears of keys that are followed. Raises ConfigError if what is remembered cannot be read."""
        self._file = file
        self._say = say
        place = hashlib.sha256(str(file.path.resolve()).encode()).hexdigest()
        self._store = PinStore(f"{file.cluster} file {place[:16]}")
        pins = tuple(Pin.of(member, f"from {file.path.name}"[:200]) for member in file.members)
        self._pins: Pins = followed(pins, [pin.successions for pin in self._store.read()])[0]

    @property
    def cluster(self) -> str:
        return self._file.cluster

    @property
    def own(self) -> bool:
        return self._file.own

    @property
    def url(self) -> str:
        return self._file.url

    @property
    def coordinator_name(self) -> str:
        return self._file.coordinator_name

    @property
    def members(self) -> tuple[Member, ...]:
        """The peers of the file, under their present ids."""
        return self._pins

    def member(self, peer_id: str) -> Member | None:
        """The peer with this id, None for a stranger."""
        return next((pin for pin in self._pins if pin.peer_id == peer_id), None)

    def name_of(self, peer_id: str) -> str:
        """A peer or the coordinator as messages show it; a stranger by its short id."""
        return self.coordinator_name if self.is_coordinator(peer_id) else name_in(self, peer_id)

    def is_coordinator(self, peer_id: str) -> bool:
        return self._file.is_coordinator(peer_id)

    def follow(self, listed: Sequence[Listed]) -> None:
        """Take over the new keys of peers whose old keys signed for them. Raises IdentityError, ConfigError."""
        pins, words = followed(self._pins, [one.successions for one in listed if one.successions])
        if not words:
            return
        self._store.change(lambda before: tuple(pin for pin in pins if pin.successions))
        self._pins = pins
        for one in words:
            self._say(f"{one} (put the new id into {self._file.path})")
