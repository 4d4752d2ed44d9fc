"""How nodes of the libp2p mesh find each other: by one address, before it answers, after it is gone, at another port."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

pytest.importorskip("libp2p", reason="the [mesh] extra is not installed")

from meshes import P2pMeshes, eventually
from tacit.address import Address
from tacit.party.identity import Identity
from tacit.party.p2p.invite import Invite
from tacit.party.p2p.mesh import P2pMesh, P2pSettings


def test_five_peers_meet_by_one_address_within_three_seconds_and_outlive_it(tmp_path: Path) -> None:
    """A sixth joins by any of them, also after the first is gone; a restarted one needs no address at all."""
    names = tuple(f"peer-{number}" for number in range(5))
    started = time.monotonic()
    meshes = P2pMeshes(names, tmp_path)
    try:
        assert time.monotonic() - started < 10  # three, and what a busy machine takes for importing libp2p
        for mesh in meshes.meshes.values():
            assert len(mesh.members.members) == 5
        meshes.meshes.pop("peer-0").close()
        meshes._ports["peer-5"] = 0
        meshes.identities["peer-5"] = Identity.create()
        meshes.meshes["peer-5"] = meshes.start("peer-5", join=(meshes.address("peer-3"),))
        meshes.settle()
        meshes.meshes.pop("peer-2").close()
        meshes.meshes["peer-2"] = meshes.start("peer-2", join=())
        meshes.settle()
        meshes.meshes["peer-2"].serve("back", lambda sender, question: b"yes")
        assert meshes.meshes["peer-5"].request(meshes.identities["peer-2"].peer_id, "back", b"") == b"yes"
    finally:
        meshes.close()


def test_joining_before_the_first_node_is_there() -> None:
    """It is asked again until it answers."""
    invite, first, second = Invite.create("home"), Identity.create(), Identity.create()
    with socket.create_server(("127.0.0.1", 0)) as held:
        spot = Address.at("127.0.0.1", held.getsockname()[1])
    early = P2pMesh(
        second, invite, P2pSettings("b", "b", ("/ip4/127.0.0.1/tcp/0",), join=(str(spot.of(first.peer_id)),))
    )
    late = P2pMesh(first, invite, P2pSettings("a", "a", (spot.place,)))
    try:
        early.start()
        early.join()  # nobody there: no error, since it may come
        assert len(early.members.members) == 1
        late.start()
        eventually(lambda: len(early.members.members) == len(late.members.members) == 2, 5)
    finally:
        early.close()
        late.close()


def test_a_node_started_anew_at_another_port_is_ready_when_the_others_can_reach_it(tmp_path: Path) -> None:
    """It greets those of the last run first: else the others would look for it where it was."""
    meshes = P2pMeshes(("peer-0", "peer-1", "peer-2"), tmp_path)
    try:
        moved = meshes.identities["peer-2"].peer_id
        meshes.meshes.pop("peer-2").close()
        meshes.meshes["peer-2"] = again = meshes.start("peer-2", join=(), listen=("/ip4/127.0.0.1/tcp/0",))
        again.serve("back", lambda sender, question: b"yes")
        again.join()  # type: ignore[attr-defined]
        for name in ("peer-0", "peer-1"):
            asked = time.monotonic()
            assert meshes.meshes[name].request(moved, "back", b"") == b"yes"
            assert time.monotonic() - asked < 1
    finally:
        meshes.close()
