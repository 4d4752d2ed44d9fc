"""Sessions of real processes: establishment, several at once, limits, what peers and coordinator refuse."""

from __future__ import annotations

import json
import secrets
import threading
import time
from typing import Any

import numpy as np
import pytest
import zmq
from echo_cluster import EchoCluster, EchoSession
from echo_peer import WIDTH
from tacit.errors import IdentityError, PeerError, PeerLost, RefusedError, UsageError
from tacit.members import Roster
from tacit.party.identity import Identity
from tacit.party.mesh import INTRODUCE, MANIFEST, OFFER, STATUS, WITHDRAW
from tacit.party.roster import RosterMesh
from tacit.quotes import quote_hash
from tacit.records import error_from_json
from tacit.signed import Signed
from tacit.sizes import Sizes
from tacit.transport import CurveKeys, LinkSettings, ZmqLink, dial_peers, new_context
from tacit.wire import Introduction, Offer, PeerStatus, SessionRequest


def run(session: EchoSession, steps: int) -> None:
    links = (session.links.peer0, session.links.peer1)
    for step in range(steps):
        words = np.random.default_rng(step).integers(0, 1 << 63, WIDTH, np.uint64)
        for link in links:
            link.send("tokens", words)
        for link in links:
            answer = np.frombuffer(link.receive("logits", size=8 * WIDTH).body, np.uint64)
            assert np.array_equal(answer, 2 * words + np.uint64(step))
    for link in links:
        link.send("end")
    for link in links:
        assert link.receive("account").fields["steps"] == steps
    session.close()


def test_a_session_from_request_to_account(cluster: EchoCluster) -> None:
    session = cluster.session(max_new_tokens=5)
    assert len(set(session.peer_ids)) == 3
    run(session, 6)


def test_roles_are_drawn_by_lot(cluster: EchoCluster) -> None:
    seats = set()
    for _ in range(12):
        session = cluster.session(max_new_tokens=0)
        seats.add(session.peer_ids)
        run(session, 1)
    assert len(seats) > 1


def test_several_sessions_at_once(cluster: EchoCluster) -> None:
    failures: list[BaseException] = []

    def one() -> None:
        try:
            run(cluster.session(max_new_tokens=20), 20)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=one) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures


def test_more_sessions_than_a_peer_takes_are_refused(cluster: EchoCluster) -> None:
    sessions = [cluster.session() for _ in range(16)]
    try:
        with pytest.raises(RefusedError, match="busy"):
            cluster.session()
    finally:
        for session in sessions:
            run(session, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "other"}, "unknown model 'other'; served here: echo"),
        ({"sizes": Sizes.of([500], 14).to_json()}, "context of echo, which is 512"),
    ],
)
def test_what_cannot_be_served_is_refused(cluster: EchoCluster, change: dict[str, object], message: str) -> None:
    fields = (
        SessionRequest(secrets.token_hex(16), CurveKeys.fresh().public, "echo", "pair", Sizes.of([4], 8)).to_json()
        | change
    )
    response = cluster.http.post("/v1/sessions", json=fields)
    error = error_from_json(response.json()["error"], "coordinator")
    assert isinstance(error, UsageError)
    assert message in str(error)


def test_a_session_id_is_taken_once(cluster: EchoCluster) -> None:
    session = cluster.session()
    again = SessionRequest(session.request.session, CurveKeys.fresh().public, "echo", "pair", Sizes.of([4], 8))
    response = cluster.http.post("/v1/sessions", content=again.to_bytes())
    assert response.status_code == 503
    assert "there already" in response.json()["error"]["message"]
    run(session, 1)


def test_only_the_clients_own_key_opens_its_links(cluster: EchoCluster) -> None:
    """Somebody who read the coordinator's answer, or keeps it, cannot take the client's place."""
    session = cluster.session()
    context = new_context()

    def intrude() -> None:
        settings = LinkSettings(opening_timeout=2)
        dial_peers(context, session.statements, cluster.roster, CurveKeys.fresh(), settings)

    with pytest.raises(PeerLost):
        intrude()
    run(session, 1)
    with pytest.raises(PeerLost):
        intrude()
    context.term()


def test_a_session_that_nobody_opened_is_withdrawn(cluster: EchoCluster) -> None:
    request = SessionRequest(secrets.token_hex(16), CurveKeys.fresh().public, "echo", "pair", Sizes.of([4], 8))
    assert cluster.http.post("/v1/sessions", content=request.to_bytes()).status_code == 200
    mesh = _mesh(cluster, "coordinator")
    for member in cluster.roster.members:
        mesh.request(member.peer_id, WITHDRAW, request.session.encode())
    deadline = time.monotonic() + 2
    while any(_status(mesh, member.peer_id).sessions for member in cluster.roster.members):
        assert time.monotonic() < deadline, "a seat is still taken"
    mesh.close()


def test_a_session_that_runs_is_not_withdrawn(cluster: EchoCluster) -> None:
    """Once all parties met, the coordinator has no say."""
    session = cluster.session()
    mesh = _mesh(cluster, "coordinator")
    time.sleep(0.1)
    for member in cluster.roster.members:
        mesh.request(member.peer_id, WITHDRAW, session.request.session.encode())
    mesh.close()
    run(session, 3)


def _status(mesh: RosterMesh, peer_id: str) -> PeerStatus:
    return PeerStatus.from_bytes(mesh.request(peer_id, STATUS, b""), peer_id)


# The mesh, spoken to directly ----------------------------------------------------------------------------------------


def _mesh(
    cluster: EchoCluster, name: str, identity: Identity | None = None, roster: Roster | None = None
) -> RosterMesh:
    return RosterMesh(
        zmq.Context.instance(), None, identity or cluster.identities[name], roster or cluster.roster, None
    )


def _offer(cluster: EchoCluster, role: int = 0) -> Offer:
    """Of one cluster all offers go to members whose quotes are those of now."""
    ids = tuple(member.peer_id for member in cluster.roster.members)
    quotes = [quote_hash(Signed.from_bytes(json.dumps(one["quote"]).encode(), "")) for one in _peers(cluster)]
    key = CurveKeys.fresh().public
    peers, called = (ids[0], ids[1], ids[2]), (quotes[0], quotes[1], quotes[2])
    return Offer(secrets.token_hex(16), role, peers, "echo", "pair", key, Sizes.of([4], 8), called)


def _peers(cluster: EchoCluster) -> list[dict[str, Any]]:
    """What the coordinator says of them, in the roster's order."""
    return cluster.http.get("/v1/peers").json()


def test_only_the_coordinator_may_offer_and_withdraw(cluster: EchoCluster) -> None:
    mesh = _mesh(cluster, "peer-1")
    first = cluster.roster.members[0].peer_id
    for protocol in (OFFER, WITHDRAW):
        with pytest.raises(IdentityError, match=r"peer-1 .*is not a coordinator"):
            mesh.request(first, protocol, _offer(cluster).to_bytes())
    mesh.close()


def test_a_key_outside_the_roster_gets_no_answer(cluster: EchoCluster) -> None:
    mesh = _mesh(cluster, "", Identity.create())
    with pytest.raises(Exception, match="peer-0"):
        mesh.request(cluster.roster.members[0].peer_id, STATUS, b"", timeout=1)
    mesh.close()
    assert "refused a stranger" in cluster.log("peer-0").read_text()


def test_offers_that_make_no_sense_are_refused(cluster: EchoCluster) -> None:
    mesh = _mesh(cluster, "coordinator")
    first = cluster.roster.members[0].peer_id
    stranger = Identity.create().peer_id
    offer = _offer(cluster)
    cases = {
        b"{}": "malformed Offer",
        _offer(cluster, role=1).to_bytes(): "another peer",
        _changed(offer, peers=(first, offer.peers[1], stranger)): "three members",
        _changed(offer, model="other"): "does not serve 'other'",
        _changed(offer, sizes=Sizes.of([600], 1)): "do not fit",
        _changed(offer, quotes=(offer.quotes[1], offer.quotes[1], offer.quotes[2])): "a quote that is not this peer's",
    }
    for question, complaint in cases.items():
        with pytest.raises(PeerError, match=complaint):
            mesh.request(first, OFFER, question)
    with pytest.raises(PeerError, match="does not serve 'gossip'"):
        mesh.request(first, "gossip", b"")
    with pytest.raises(RefusedError, match="does not serve 'x'"):
        mesh.request(first, MANIFEST, b"x")
    with pytest.raises(IdentityError, match="not in the roster"):
        mesh.request(stranger, STATUS, b"")
    mesh.close()


def _changed(offer: Offer, **changes: object) -> bytes:
    return Offer(**(offer.to_json() | changes)).to_bytes()  # type: ignore[arg-type]


def test_an_introduction_to_no_session_is_refused(cluster: EchoCluster) -> None:
    identity = cluster.identities["peer-1"]
    mesh = _mesh(cluster, "peer-1")
    first = cluster.roster.members[0].peer_id
    words = Introduction(
        Introduction.CONTEXT, "0" * 32, identity.peer_id, first, 1, 0, CurveKeys.fresh().public, "0" * 64
    )
    with pytest.raises(RefusedError, match="does not know the session"):
        mesh.request(first, INTRODUCE, identity.sign(words).to_bytes())
    mesh.close()


def test_an_introduction_is_accepted_once_and_from_the_right_peer(cluster: EchoCluster) -> None:
    """Peer 0 takes a seat; peer 2 cannot come as role 1; peer 1 can, once."""
    offer = _offer(cluster)
    coordinator, one, two = (_mesh(cluster, name) for name in ("coordinator", "peer-1", "peer-2"))
    first, second, third = offer.peers
    coordinator.request(first, OFFER, offer.to_bytes())
    manifest_hash = PeerStatus.from_bytes(coordinator.request(first, STATUS, b""), "").models[0].manifest_hash

    def words(sender: str, role: int, name: str, manifest: str = manifest_hash) -> bytes:
        key = CurveKeys.fresh().public
        found = Introduction(Introduction.CONTEXT, offer.session, sender, first, role, 0, key, manifest)
        return cluster.identities[name].sign(found).to_bytes()

    with pytest.raises(IdentityError, match=r"peer-2"):
        two.request(first, INTRODUCE, words(second, 1, "peer-2"))
    with pytest.raises(IdentityError, match=r"peer-2"):
        two.request(first, INTRODUCE, words(third, 1, "peer-2"))
    with pytest.raises(IdentityError, match=r"peer-2"):
        two.request(first, INTRODUCE, words(second, 1, "peer-1"))
    with pytest.raises(RefusedError, match="holds another echo"):
        one.request(first, INTRODUCE, words(second, 1, "peer-1", "f" * 64))
    one.request(first, INTRODUCE, words(second, 1, "peer-1"))
    with pytest.raises(RefusedError, match="introduced already"):
        one.request(first, INTRODUCE, words(second, 1, "peer-1"))
    coordinator.request(first, WITHDRAW, offer.session.encode())
    for mesh in (coordinator, one, two):
        mesh.close()


def test_a_link_endpoint_of_a_session_is_not_open_to_members_either(cluster: EchoCluster) -> None:
    session = cluster.session()
    context = new_context()
    statement = session.statements[0]
    link = session.links.peer0
    assert isinstance(link, ZmqLink)
    stranger = ZmqLink.dial(
        context, statement.endpoint, statement.curve_key, cluster.identities["peer-1"].mesh, link.ends,
        type(link._circle)(), LinkSettings(opening_timeout=1),
    )  # fmt: skip
    with pytest.raises(PeerLost, match="refused our key"):
        stranger.open()
    stranger.close()
    run(session, 1)
    context.term()
