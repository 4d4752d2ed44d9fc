"""The cluster across machines: libp2p, an invite, one address to join by, a client that pins peers by their ids."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from unittest import mock

from forms import HTTP_PORT, MESH_PORT, operator_of
from lab import LabError, Node
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair, KeyType, PrivateKey, PublicKey
from tacit.address import Address
from tacit.errors import TacitError
from tacit.party.identity import Identity
from tacit.party.mesh import STATUS
from tacit.party.p2p import build
from tacit.party.p2p.host import Host
from tacit.party.p2p.invite import Invite

LINK_PORTS = "7460-7489"


class Thiefs(PrivateKey):
    """A private key that says that another's public key belongs to it."""

    def __init__(self, own: PrivateKey, stolen: PublicKey) -> None:
        self._own, self._stolen = own, stolen

    def to_bytes(self) -> bytes:
        return self._own.to_bytes()

    def get_type(self) -> KeyType:
        return self._own.get_type()

    def sign(self, data: bytes) -> bytes:
        return self._own.sign(data)

    def get_public_key(self) -> PublicKey:
        return self._stolen


class MeshForm:
    """The first peer founds it, everybody else joins by its address; nobody is told of anybody else."""

    def __init__(self, peers: Sequence[Node], hub: Node, others: Sequence[Node]) -> None:
        self._first, self._hub = peers[0], hub
        self._invite = Invite.create("lab")
        self._identities = {node.name: Identity.create() for node in (*peers, hub)}
        for node in (*peers, hub):
            self._identities[node.name].save(node.folder / "identity")
        self._url = f"http://{hub.address}:{HTTP_PORT}"
        for node in others:
            self._pin(node, peers)

    def peer(self, node: Node) -> list[str]:
        listen = f"/ip4/0.0.0.0/tcp/{MESH_PORT}"
        who = ["--name", node.name, "--operator", operator_of(node)]
        return ["peer", *who, *self._common(node, listen), "--model", "stories", "--link-ports", LINK_PORTS]

    def coordinator(self, node: Node) -> list[str]:
        listen = f"/ip4/{node.address}/tcp/7449"
        return ["coordinator", "--name", node.name, *self._common(node, listen), "--port", str(HTTP_PORT)]

    def client(self, node: Node) -> str:
        return self._url

    def admits(self, who: str, node: Node) -> bool:
        hub = self._identities[self._hub.name]
        identity = hub if who == "member" else Identity.create()

        def keys(seed: bytes) -> KeyPair:
            own = create_new_key_pair(seed)
            if who != "thief":
                return own
            stolen = create_new_key_pair(hub.seed).public_key
            return KeyPair(Thiefs(own.private_key, stolen), stolen)

        def asked() -> bool:
            host = Host(identity.seed, (f"/ip4/{node.address}/tcp/0",), lambda peer_id: peer_id[:8])
            first = self._identities[self._first.name].peer_id
            try:
                host.start()
                host.ask(first, (f"/ip4/{self._first.address}/tcp/{MESH_PORT}",), STATUS, b"", 2.0)
            except TacitError:
                return False
            finally:
                host.close()
            return True

        with mock.patch.object(build, "create_new_key_pair", keys):
            return node.call(asked)

    def _common(self, node: Node, listen: str) -> list[str]:
        found = ["--identity", str(node.folder / "identity"), "--listen", listen, "--invite", self._invite.text]
        if node is not self._first:
            first = Address("ip4", self._first.address, MESH_PORT, self._identities[self._first.name].peer_id)
            found += ["--join", str(first)]
        return found

    def _pin(self, node: Node, peers: Sequence[Node]) -> None:
        for peer in peers:
            command = ["peers", "pin", self._identities[peer.name].peer_id, "--name", peer.name]
            command += ["--operator", operator_of(peer), "--cluster", self._url]
            done = node.run([sys.executable, "-P", "-m", "tacit.client.cli", *command])
            if done.returncode:
                raise LabError(f"{node.name} cannot pin {peer.name}: {done.stderr}")
