"""Clusters of meshes inside this process, one class per form, with the same face; and what to wait for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from echo_cluster import free_ports, make_roster
from tacit.party.identity import Identity
from tacit.party.mesh import Mesh
from tacit.party.roster import RosterMesh
from tacit.party.zap import Doorkeeper
from tacit.zmqlink import new_context

NAMES = ("coordinator", "peer-0", "peer-1", "peer-2")


def eventually(true: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class RosterMeshes:
    """Peers and a coordinator that a cluster.json lists."""

    def __init__(self) -> None:
        self.identities = {name: Identity.create() for name in NAMES}
        self.roster = make_roster(self.identities, free_ports(len(NAMES)))
        self._closing: list[Callable[[], None]] = []
        self.meshes = {name: self.start(name) for name in NAMES}

    def start(self, name: str, identity: Identity | None = None) -> Mesh:
        """A member; with `identity`, somebody who claims to be it."""
        context = new_context()
        doorkeeper = Doorkeeper(context)
        identity = identity or self.identities[name]
        member = self.roster.member(self.identities[name].peer_id)
        listen = member.mesh_endpoint if member is not None and identity is self.identities[name] else None
        mesh = RosterMesh(context, doorkeeper, identity, self.roster, listen)
        self._closing += [mesh.close, doorkeeper.close, context.term]
        return mesh

    def stranger(self) -> Mesh:
        """Knows everything about the cluster that is public, and is no member."""
        return self.start("peer-0", Identity.create())

    def close(self) -> None:
        for close in self._closing:
            close()


class P2pMeshes:
    """The same over libp2p: everybody joins by the address of peer-0."""

    def __init__(self, names: tuple[str, ...] = NAMES, folder: Path | None = None) -> None:
        pytest.importorskip("libp2p", reason="the [mesh] extra is not installed")
        from tacit.party.p2p.invite import Invite

        self.identities = {name: Identity.create() for name in names}
        self.invite = Invite.create("test")
        self.meshes: dict[str, Mesh] = {}
        self.folder = folder
        self._all: list[Mesh] = []
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        first = next(name for name in names if name != "coordinator")
        self.place = f"/ip4/127.0.0.1/tcp/{self._ports[first]}"
        self.first = first
        self.meshes[first] = self.start(first)
        self.meshes |= {name: self.start(name) for name in names if name != first}
        self.settle()

    def settle(self, seconds: float = 3.0) -> None:
        """Until all know all."""
        expected = {self.identities[name].peer_id for name in self.meshes}
        eventually(
            lambda: all(
                {record.peer_id for record, _ in mesh.table.entries()} >= expected  # type: ignore[attr-defined]
                for mesh in self.meshes.values()
            ),
            seconds,
        )

    def address(self, name: str) -> str:
        from tacit.address import Address

        place = f"/ip4/127.0.0.1/tcp/{self._ports[name]}"
        return str(Address.parse(place).of(self.identities[name].peer_id))

    def start(self, name: str, **changes: object) -> Mesh:
        from tacit.party.p2p.mesh import P2pMesh, P2pSettings

        identity = changes.pop("identity", None) or self.identities[name]
        invite = changes.pop("invite", None) or self.invite
        settings = {
            "name": name,
            "operator": f"operator of {name}",
            "listen": (f"/ip4/127.0.0.1/tcp/{self._ports.get(name, 0)}",),
            "kind": "coordinator" if name == "coordinator" else "peer",
            "join": () if name == self.first else (self.address(self.first),),
            "memory": self.folder / f"{name}.members" if self.folder is not None else None,
            **changes,
        }
        mesh = P2pMesh(identity, invite, P2pSettings(**settings))  # type: ignore[arg-type]
        self._all.append(mesh)
        mesh.start()
        return mesh

    def stranger(self) -> Mesh:
        """Knows everything about the cluster that is public, and is no member: it has made an invite of its own."""
        from tacit.address import Address
        from tacit.party.p2p.invite import Invite

        mesh = self.start("stranger", identity=Identity.create(), invite=Invite.create("test"))
        for name, identity in self.identities.items():  # as if they had let it in
            record = self.meshes[name].table.record(identity.peer_id)  # type: ignore[attr-defined]
            mesh.table._entries[identity.peer_id] = (record, None)  # type: ignore[attr-defined]
            mesh._greeted.add(identity.peer_id)  # type: ignore[attr-defined]
            assert record.addresses == (Address.parse(self.address(name)).place,)
        return mesh

    def close(self) -> None:
        for mesh in self._all:
            mesh.close()
