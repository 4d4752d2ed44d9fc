"""The user's pins of one cluster as a `members.Pinned`, and how they come about: by hand, or on first use if asked for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from ..checks import short_id
from ..clusterfile import ClusterFile
from ..errors import PeerError
from ..members import Member, name_in
from ..records import tidy
from .directory import Directory, Listed
from .pins import FIRST_USE, Pin, Pins, PinStore, added, followed

Say = Callable[[str], None]


class PinnedPeers:
    """What a client holds of a cluster that spans machines. It changes only by `follow`."""

    def __init__(
        self, source: PinStore | ClusterFile, cluster: str, url: str, own: bool, say: Say = lambda what: None
    ) -> None:
        """`source`: where the pins are; a store is written to when a key is followed, a file is the user's to correct, and
        what was followed from it is remembered beside the pins, so that nobody is taken back to a key that was given up.
        `say` hears of keys that were followed. Raises ConfigError if the pins cannot be read."""
        self.cluster = cluster
        self.url = url
        self.own = own
        self.coordinator_name = source.coordinator_name if isinstance(source, ClusterFile) else f"coordinator at {url}"
        self._source = source
        self._say = say
        self._store = _memory_of(source) if isinstance(source, ClusterFile) else source
        self._pins: Pins = self._store.read()
        if isinstance(source, ClusterFile):
            self._pins = followed(_of_file(source), [pin.successions for pin in self._pins])[0]

    @classmethod
    def of_file(cls, file: ClusterFile, say: Say = lambda what: None) -> PinnedPeers:
        """The peers that a cluster.toml lists."""
        return cls(file, file.cluster, file.url, file.own, say)

    @property
    def members(self) -> tuple[Member, ...]:
        """The pinned peers."""
        return self._pins

    def member(self, peer_id: str) -> Member | None:
        """The pinned peer with this id, None for a stranger."""
        return next((pin for pin in self._pins if pin.peer_id == peer_id), None)

    def name_of(self, peer_id: str) -> str:
        """A peer as messages show it; a stranger by its short id."""
        return name_in(self, peer_id)

    def is_coordinator(self, peer_id: str) -> bool:
        """Never: a client knows its coordinator by address, and trusts it with nothing."""
        return False

    def follow(self, listed: Sequence[Listed]) -> None:
        """Take over the new keys of pinned peers whose old keys signed for them. Raises IdentityError, ConfigError."""
        chains = [one.successions for one in listed if one.successions]
        pins, words = followed(self._pins, chains)
        if not words:
            return
        if isinstance(self._source, PinStore):
            pins = self._store.change(lambda pins: followed(pins, chains)[0])
        else:
            self._store.change(lambda before: tuple(pin for pin in pins if pin.successions))
            words = tuple(f"{one}; write that id into {self._source.path}" for one in words)
        self._pins = pins
        for one in words:
            self._say(one)

    def ever(self, peer_id: str) -> bool:
        """Whether this id is pinned, or was until its key signed for another."""
        return any(
            peer_id in (pin.peer_id, *(one.verified(pin.display).old for one in pin.successions)) for pin in self._pins
        )


def pin_first_seen(store: PinStore, directory: Directory, say: Say) -> None:
    """Pin every peer that the coordinator shows now, if none is pinned yet; each is told to `say`.

    The user has to have asked for this: whoever runs the coordinator could make all of these peers up. Raises PeerError
    for fewer than three peers, NetworkError, ConfigError.
    """
    if store.read():
        return
    listed = directory.peers()
    if len(listed) < 3:
        raise PeerError(
            directory.name,
            f"shows {len(listed)} peers, a session takes three: nothing was pinned, try again when all of them are up",
        )
    pins = _named_apart(listed)
    if store.change(lambda before: before or pins) is not pins:
        return  # another process was quicker; what it pinned holds
    say(f"pinned on first use, as {directory.name} shows them; nothing proves that they are who they say:")
    for pin in pins:
        say(f"  {pin.name} of {pin.operator}: {pin.peer_id}")


def _of_file(file: ClusterFile) -> Pins:
    return tuple(
        Pin.of(Member(one.name, one.operator, one.peer_id), f"from {tidy(file.path.name, 100)}") for one in file.members
    )


def _memory_of(file: ClusterFile) -> PinStore:
    """Where the successions are remembered that lead on from the peers of this file."""
    place = hashlib.sha256(str(file.path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    return PinStore(f"{file.cluster} file {place[:16]}")


def _named_apart(listed: Sequence[Listed]) -> Pins:
    pins: Pins = ()
    for one in listed:
        taken = {pin.name for pin in pins}
        name = one.name if one.name not in taken else f"{one.name[:55]} {short_id(one.peer_id)}"
        pins = added(pins, Pin.of(Member(name, one.operator, one.peer_id), FIRST_USE))
    return pins


def cluster_name(url: str) -> str:
    """A coordinator's address as the name of a cluster: 192.0.2.1-7440."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", urlsplit(url).netloc).strip("-._")
    return plain[:64] or "cluster"
