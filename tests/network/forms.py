"""How a cluster is put together, in each form of the mesh: what is written beforehand, and what is typed on each node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Protocol

from lab import Node
from tacit.errors import NetworkError
from tacit.members import Roster
from tacit.party.identity import Identity
from tacit.party.mesh import STATUS
from tacit.party.roster import RosterMesh
from tacit.party.setup import coordinator_entry, member_entry
from tacit.transport import new_context

HTTP_PORT = 7440
MESH_PORT = 7450


def operator_of(node: Node) -> str:
    """Each peer has an operator of its own."""
    return f"house {node.name}"


def best_form() -> FormMaker:
    """libp2p's; without libp2p that of a roster."""
    if find_spec("libp2p") is None:
        return RosterForm
    from mesh_form import MeshForm

    return MeshForm


class Form(Protocol):
    """Arguments of `tacit`, node by node. Peers are started before the coordinator."""

    def peer(self, node: Node) -> list[str]: ...
    def coordinator(self, node: Node) -> list[str]: ...
    def client(self, node: Node) -> str:
        """What the client's `--cluster` is."""

    def admits(self, who: str, node: Node) -> bool:
        """Whether the mesh of a peer answers, asked from `node` by: "member" (a real one, to show that asking works),
        "stranger" (with a valid identity of its own), "thief" (with a member's public key, but not its secret)."""


FormMaker = Callable[[Sequence[Node], Node, Sequence[Node]], Form]
"""(peers, coordinator's node, clients' nodes) -> the form, with whatever files it needs on those nodes."""


class RosterForm:
    """cluster.json, made beforehand: every node holds a copy, and its identity. Each peer has an operator of its own."""

    def __init__(self, peers: Sequence[Node], hub: Node, others: Sequence[Node]) -> None:
        identities = {node.name: Identity.create() for node in (*peers, hub)}
        self._hub = identities[hub.name]
        for node in (*peers, hub):
            identities[node.name].save(node.folder / "identity")
        self.roster = Roster(
            cluster="lab",
            own=False,
            coordinator=coordinator_entry(identities[hub.name], hub.name, f"http://{hub.address}:{HTTP_PORT}"),
            members=tuple(
                member_entry(identities[node.name], node.name, operator_of(node), f"tcp://{node.address}:{MESH_PORT}")
                for node in peers
            ),
        )
        for node in (*peers, hub, *others):
            self.roster.save(node.folder / "cluster.json")

    def peer(self, node: Node) -> list[str]:
        return ["peer", *self._files(node), "--model", "stories", "--host", node.address]

    def coordinator(self, node: Node) -> list[str]:
        return ["coordinator", *self._files(node), "--host", node.address, "--port", str(HTTP_PORT)]

    def client(self, node: Node) -> str:
        return str(node.folder / "cluster.json")

    def admits(self, who: str, node: Node) -> bool:
        identity = self._hub if who == "member" else Identity.create()
        if who == "thief":
            identity = replace(identity, mesh=replace(identity.mesh, public=self._hub.mesh.public))

        def asked() -> bool:
            context = new_context()
            mesh = RosterMesh(context, None, identity, self.roster, None)
            try:
                mesh.request(self.roster.members[0].peer_id, STATUS, b"", timeout=1.0)
            except NetworkError:
                return False
            finally:
                mesh.close()
                context.term()
            return True

        return node.call(asked)

    def _files(self, node: Node) -> list[str]:
        return ["--identity", str(node.folder / "identity"), "--roster", str(node.folder / "cluster.json")]
