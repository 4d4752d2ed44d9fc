"""Members that nobody gave an address find each other on the local network (multicast DNS)."""

from __future__ import annotations

import socket
import time

import pytest
from meshes import eventually

pytest.importorskip("libp2p", reason="the [mesh] extra is not installed")

from tacit.party.identity import Identity
from tacit.party.p2p.hosts import own_hosts
from tacit.party.p2p.invite import Invite
from tacit.party.p2p.mesh import P2pMesh, P2pSettings

GROUP, PORT = "224.0.0.251", 5353


def multicast_works() -> bool:
    """Whether a packet to the group of multicast DNS comes back to this machine."""
    if not any(":" not in host for host in own_hosts()):
        return False
    word = b"tacit test %d" % time.time_ns()
    try:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth,
        ):
            ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            ear.bind(("", 0))
            ear.setsockopt(
                socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + socket.inet_aton("0.0.0.0")
            )
            ear.settimeout(1)
            mouth.sendto(word, (GROUP, ear.getsockname()[1]))
            return ear.recv(100) == word
    except OSError:
        return False


def test_two_nodes_of_a_cluster_meet_and_a_third_of_another_cluster_does_not() -> None:
    if not multicast_works():
        pytest.skip("this machine has no multicast")
    invite = Invite.create("home")
    invites = {"a": invite, "b": invite, "c": Invite.create("home")}
    meshes = {
        name: P2pMesh(Identity.create(), one, P2pSettings(name, name, ("/ip4/0.0.0.0/tcp/0",), mdns=True))
        for name, one in invites.items()
    }
    try:
        for mesh in meshes.values():
            mesh.start()
        eventually(lambda: all(len(meshes[name].members.members) == 2 for name in "ab"), 15)
        assert [member.name for member in meshes["c"].members.members] == ["c"]
        meshes["b"].serve("here", lambda sender, question: b"yes")
        (other,) = [member.peer_id for member in meshes["a"].members.members if member.name == "b"]
        assert meshes["a"].request(other, "here", b"") == b"yes"
    finally:
        for mesh in meshes.values():
            mesh.close()
