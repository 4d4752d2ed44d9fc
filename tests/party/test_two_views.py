"""A coordinator that tells peers of one session different things: their links do not open."""

from __future__ import annotations

import secrets
import time

import pytest
from echo_cluster import EchoCluster
from tacit.errors import TacitError
from tacit.party.mesh import OFFER, STATUS
from tacit.party.roster import RosterMesh
from tacit.quotes import quote_hash
from tacit.sizes import Sizes
from tacit.transport import CurveKeys, new_context
from tacit.wire import Offer, PeerStatus


@pytest.mark.parametrize("liar", [0, 1, 2])
def test_peers_that_were_told_of_different_clients_do_not_meet(cluster: EchoCluster, liar: int) -> None:
    context = new_context()
    mesh = RosterMesh(context, None, cluster.identities["coordinator"], cluster.roster, None)
    first, second, third = members = cluster.roster.members
    clients = [CurveKeys.fresh().public for _ in range(2)]
    session = secrets.token_hex(16)
    try:
        statuses = [PeerStatus.from_bytes(mesh.request(one.peer_id, STATUS, b""), one.name) for one in members]
        hashes = [quote_hash(status.quote) for status in statuses]
        for role, member in enumerate(members):
            offer = Offer(
                session=session,
                role=role,
                peers=(first.peer_id, second.peer_id, third.peer_id),
                model="echo",
                protocol="pair",
                client_key=clients[role == liar],
                sizes=Sizes.of([4], 8),
                quotes=(hashes[0], hashes[1], hashes[2]),
            )
            mesh.request(member.peer_id, OFFER, offer.to_bytes())
        deadline = time.monotonic() + 8
        while not all(f"session {session[:8]} as" in cluster.log(one.name).read_text() for one in members):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    except TacitError as error:
        pytest.fail(f"the offers themselves are in order: {error}")
    finally:
        mesh.close()
        context.term()
    said = [
        line
        for one in members
        for line in cluster.log(one.name).read_text().splitlines()
        if f"session {session[:8]} as" in line
    ]
    assert [line for line in said if "ended: " not in line] == []  # none of them opened
    assert any("disagrees about who takes part" in line for line in said)
