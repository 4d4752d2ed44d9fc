"""Whom a process knows: the members of its cluster, from a file or learned on the mesh, or pinned by a client.

| who holds it | what it is | where it comes from |
| --- | --- | --- |
| peers, coordinator (one machine, tests) | `Roster` | cluster.json |
| peers, coordinator (across machines) | the libp2p mesh's table | signed records of the members |
| client | `Pinned`: a `Roster`, or what the user pinned | cluster.json, cluster.toml, `tacit peers pin` |
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from .checks import display_name, is_curve_key, is_endpoint, is_name, is_peer_id, is_url, short_id
from .errors import ConfigError, PeerError, UsageError
from .records import Check, Record, boolean, many, record


@dataclass(frozen=True)
class Member(Record):
    """A peer: what it is called, who runs it, and the identity that proves it."""

    name: str
    operator: str
    peer_id: str

    CHECKS: ClassVar[dict[str, Check]] = {"name": is_name, "operator": is_name, "peer_id": is_peer_id}

    @property
    def display(self) -> str:
        return display_name(self.name, self.peer_id)


class Members(Protocol):
    """The members that a process knows at this moment; a mesh may learn of more while it runs."""

    @property
    def cluster(self) -> str:
        """What the cluster is called."""

    @property
    def own(self) -> bool:
        """Whether one person runs every peer: then, and only then, may the peers of a session share an operator."""

    @property
    def members(self) -> tuple[Member, ...]:
        """The peers, without coordinators."""

    def member(self, peer_id: str) -> Member | None:
        """The peer with this id, None for a stranger."""

    def name_of(self, peer_id: str) -> str:
        """A peer or coordinator as messages show it; a stranger by its short id."""

    def is_coordinator(self, peer_id: str) -> bool:
        """Whether this id may offer seats."""


class Pinned(Members, Protocol):
    """What a client holds: the peers that it pinned, and where the coordinator is."""

    @property
    def url(self) -> str:
        """Where the coordinator answers."""

    @property
    def coordinator_name(self) -> str:
        """The coordinator as messages show it."""


def name_in(members: Members, peer_id: str) -> str:
    """A peer of `members` as messages show it; a stranger by its short id."""
    member = members.member(peer_id)
    return member.display if member else f"unknown peer {short_id(peer_id)}"


@dataclass(frozen=True)
class RosterMember(Member):
    """A peer of the roster: also where its mesh listens, with which CURVE key."""

    mesh_endpoint: str
    mesh_key: str

    CHECKS: ClassVar[dict[str, Check]] = {**Member.CHECKS, "mesh_endpoint": is_endpoint, "mesh_key": is_curve_key}


@dataclass(frozen=True)
class CoordinatorEntry(Record):
    """The coordinator of the roster: where clients find it and the mesh key it dials peers with."""

    name: str
    url: str
    peer_id: str
    mesh_key: str

    CHECKS: ClassVar[dict[str, Check]] = {
        "name": is_name,
        "url": is_url,
        "peer_id": is_peer_id,
        "mesh_key": is_curve_key,
    }


@dataclass(frozen=True)
class Roster(Record):
    """cluster.json: whom everyone in this cluster pins.

    `own` says that the reader runs every peer itself (a cluster on one machine): then, and only then, may the three
    peers of a session share an operator.
    """

    cluster: str
    own: bool
    coordinator: CoordinatorEntry
    members: tuple[RosterMember, ...]

    CHECKS: ClassVar[dict[str, Check]] = {
        "cluster": is_name,
        "own": boolean,
        "coordinator": record(CoordinatorEntry),
        "members": many(record(RosterMember), 3, 4096),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for what in ("peer_id", "mesh_key", "name", "mesh_endpoint"):
            values = [getattr(member, what) for member in self.members]
            if what in ("peer_id", "mesh_key"):
                values.append(getattr(self.coordinator, what))
            if len(set(values)) != len(values):
                raise UsageError(f"Roster.members: two entries have the same {what}")

    def member(self, peer_id: str) -> RosterMember | None:
        """The member with this id, None for a stranger."""
        return next((member for member in self.members if member.peer_id == peer_id), None)

    def name_of(self, peer_id: str) -> str:
        """A peer as messages show it; a stranger by its short id."""
        if peer_id == self.coordinator.peer_id:
            return display_name(self.coordinator.name, peer_id)
        return name_in(self, peer_id)

    def is_coordinator(self, peer_id: str) -> bool:
        """Whether this id may offer seats."""
        return peer_id == self.coordinator.peer_id

    @property
    def url(self) -> str:
        """Where clients find the coordinator."""
        return self.coordinator.url

    @property
    def coordinator_name(self) -> str:
        """The coordinator as messages show it."""
        return display_name(self.coordinator.name, self.coordinator.peer_id)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Roster:
        """Read cluster.json. Raises ConfigError naming the file and the field."""
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path}: cannot read the roster: {error.strerror}") from None
        try:
            return cls.from_bytes(raw, str(path))
        except PeerError as error:
            raise ConfigError(f"{path}: holds {error.reason.removeprefix('sent ')}") from None
