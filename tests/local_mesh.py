"""A mesh inside this process without sockets, and real nodes on it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tacit.ends import LinkSettings
from tacit.errors import NetworkError
from tacit.members import CoordinatorEntry, Members, Roster, RosterMember
from tacit.party.identity import Identity
from tacit.party.mesh import Handler, Mesh
from tacit.party.node import Node
from tacit.party.session import Engines, Surroundings

Handlers = dict[str, dict[str, Handler]]


def make_roster(identities: dict[str, Identity], url: str = "http://127.0.0.1:1") -> Roster:
    """Peers of three and more operators, and the coordinator, which is called that."""
    coordinator = identities["coordinator"]
    return Roster(
        "hall",
        False,
        CoordinatorEntry("coordinator", url, coordinator.peer_id, coordinator.mesh_key),
        tuple(
            RosterMember(name, f"{name} inc", one.peer_id, f"tcp://127.0.0.1:{9000 + number}", one.mesh_key)
            for number, (name, one) in enumerate(identities.items())
            if name != "coordinator"
        ),
    )


class LocalMesh(Mesh):
    """Calls the other's handler. `hall` is common to all: peer id -> protocol -> handler."""

    def __init__(self, hall: Handlers, own_id: str, roster: Roster) -> None:
        self._hall, self._own_id, self._roster = hall, own_id, roster
        hall.setdefault(own_id, {})

    def serve(self, protocol: str, handler: Handler, threads: int = 4) -> None:
        self._hall[self._own_id][protocol] = handler

    def request(self, peer_id: str, protocol: str, question: bytes, timeout: float = 5.0) -> bytes:
        handler = self._hall.get(peer_id, {}).get(protocol)
        if handler is None:
            raise NetworkError(f"{self._roster.name_of(peer_id)}: no answer")
        return handler(self._own_id, question)

    @property
    def members(self) -> Members:
        return self._roster

    def close(self) -> None:
        self._hall.pop(self._own_id, None)


@dataclass(frozen=True)
class PaperModel:
    name: str = "paper"
    manifest: bytes = b'{"name":"paper"}'
    tokenizer: bytes | None = None
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def manifest_hash(self) -> str:
        return hashlib.sha256(self.manifest).hexdigest()


@dataclass
class Hall:
    identities: dict[str, Identity]
    roster: Roster
    coordinator: LocalMesh
    nodes: dict[str, Node]


@contextmanager
def hall(names: tuple[str, ...] = ("alice", "bob", "carol"), **models: PaperModel) -> Iterator[Hall]:
    """Nodes that serve `paper`, or what `models` says of one of them."""
    identities = {name: Identity.create() for name in (*names, "coordinator")}
    roster, handlers = make_roster(identities), {}
    nodes = {}
    for name in names:
        mesh = LocalMesh(handlers, identities[name].peer_id, roster)
        around = Surroundings(
            context=None,  # type: ignore[arg-type] # no session is opened
            doorkeeper=None,  # type: ignore[arg-type]
            identity=identities[name],
            mesh=mesh,
            host="127.0.0.1",
            advertised="127.0.0.1",
            settings=LinkSettings(timeout=1.0),
            engines=Engines(lambda *_: None, lambda *_: None),
        )
        nodes[name] = Node(around, [models.get(name, PaperModel())], 4)
        nodes[name].serve()
    yield Hall(identities, roster, LocalMesh(handlers, identities["coordinator"].peer_id, roster), nodes)
    for node in nodes.values():
        node.close(0.0)
