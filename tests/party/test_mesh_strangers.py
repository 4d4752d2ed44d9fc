"""Who is kept out of the libp2p mesh: plaintext dialers, strangers with a valid identity, thieves of public keys, old words."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest

pytest.importorskip("libp2p", reason="the [mesh] extra is not installed")

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import Ed25519PrivateKey, create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.transport.exceptions import MuxerUpgradeFailure, SecurityUpgradeFailure
from libp2p.transport.upgrader import TransportUpgrader
from libp2p.utils import encode_delim
from meshes import P2pMeshes, eventually
from multiaddr import Multiaddr
from tacit.address import Address, to_libp2p
from tacit.errors import ConfigError, IdentityError, NetworkError, PeerError, RefusedError, TacitError
from tacit.members import Member
from tacit.party.identity import Identity
from tacit.party.mesh import INTRODUCE, MANIFEST, OFFER, STATUS, TOKENIZER, WITHDRAW
from tacit.party.p2p.hello import HELLO, Hello
from tacit.party.p2p.host import Host
from tacit.party.p2p.invite import Invite
from tacit.party.p2p.mesh import P2pMesh
from tacit.party.p2p.record import MemberRecord, now_ms
from tacit.party.p2p.table import AHEAD_MS, EXPIRY_MS, MAX_MEMBERS, Table
from tacit.signed import Signed

PROTOCOLS = (STATUS, MANIFEST, TOKENIZER, OFFER, INTRODUCE, WITHDRAW)


@pytest.fixture(scope="module")
def meshes() -> Iterator[P2pMeshes]:
    """peer-0 counts what its handlers are asked."""
    found = P2pMeshes(("peer-0", "peer-1", "peer-2"))
    yield found
    found.close()


def place(meshes: P2pMeshes, name: str) -> Address:
    return Address.parse(meshes.address(name))


def asked(meshes: P2pMeshes, name: str = "peer-0") -> list[tuple[str, bytes]]:
    """Serves everything that a node serves; grows with every question that reaches a handler."""
    found: list[tuple[str, bytes]] = []

    def handler(sender: str, question: bytes) -> bytes:
        found.append((sender, question))
        return b"answer"

    for protocol in PROTOCOLS:
        meshes.meshes[name].serve(protocol, handler)
    return found


def host_of(identity: Identity, listen: tuple[str, ...] = ()) -> Host:
    found = Host(identity.seed, listen, lambda peer_id: peer_id[:8])
    found.start()
    return found


def record_of(identity: Identity, invite: Invite, **changes: Any) -> Signed:
    record = MemberRecord(
        context=MemberRecord.CONTEXT,
        cluster=invite.cluster,
        peer_id=identity.peer_id,
        name="mallory",
        operator="mallory",
        kind="peer",
        addresses=("/ip4/127.0.0.1/tcp/9",),
        url="",
        made=now_ms(),
        successions=(),
        proof=bytes(32),
    )
    return dataclasses.replace(record, **changes).signed(identity, invite)


# Plaintext -----------------------------------------------------------------------------------------------------------


def stolen_pair(victim: Identity) -> KeyPair:
    """A public key that was stolen, with a private key that does not belong to it but says so."""
    public = create_new_key_pair(victim.seed).public_key

    class Stolen(Ed25519PrivateKey):
        def get_public_key(self) -> Any:
            return public

    return KeyPair(Stolen(create_new_key_pair(os.urandom(32)).private_key.impl), public)


async def dial(address: Address, peer_id: str, security: dict[Any, Any]) -> None:
    """Connects as libp2p does. Raises SecurityUpgradeFailure if the other end does not agree, or hangs up."""
    upgrader, target = TransportUpgrader(security, {TProtocol(YAMUX): Yamux}), ID.from_base58(to_libp2p(peer_id))
    with trio.fail_after(5):
        raw = RawConnection(TrioTCPStream(await trio.open_tcp_stream(address.host, address.port)), True)
        secured = await upgrader.upgrade_security(raw, True, target)
        try:
            await upgrader.upgrade_connection(secured, target)
        except MuxerUpgradeFailure:
            raise SecurityUpgradeFailure("hung up after the handshake") from None


def test_a_plaintext_dialer_is_refused_that_libp2p_by_itself_lets_in(meshes: P2pMeshes) -> None:
    victim, target = meshes.identities["peer-1"], meshes.identities["peer-0"]
    security = {PLAINTEXT_PROTOCOL_ID: InsecureTransport(stolen_pair(victim))}

    async def both() -> None:
        default = new_host(key_pair=create_new_key_pair(target.seed))
        inside: list[ID] = []

        async def accept(stream: trio.SocketStream) -> None:
            await default.upgrade_inbound_connection(
                RawConnection(TrioTCPStream(stream), False), Multiaddr("/ip4/0.0.0.0/tcp/0")
            )
            inside.extend(default.get_network().connections)
            await trio.sleep_forever()

        async with default.run([]), trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, accept, [listener])
            open_door = Address.at("127.0.0.1", listener.socket.getsockname()[1])
            await dial(open_door, target.peer_id, security)
            await trio.sleep(0.2)
            nursery.cancel_scope.cancel()
        assert inside == [ID.from_base58(to_libp2p(victim.peer_id))]  # under the victim's name
        with pytest.raises(SecurityUpgradeFailure):
            await dial(place(meshes, "peer-0"), target.peer_id, security)

    trio.run(both)


def test_nothing_but_noise_is_offered(meshes: P2pMeshes) -> None:
    for protocol in (str(PLAINTEXT_PROTOCOL_ID), "/tls/1.0.0", "/secio/1.0.0"):
        with socket.create_connection((place(meshes, "peer-0").host, place(meshes, "peer-0").port), timeout=5) as raw:
            raw.sendall(encode_delim(b"/multistream/1.0.0") + encode_delim(protocol.encode()))
            said = b""
            while b"na\n" not in said:
                piece = raw.recv(1000)
                assert piece, said
                said += piece
            assert protocol.encode() not in said


def test_a_stolen_public_key_is_no_key(meshes: P2pMeshes) -> None:
    """Noise, with a handshake that shows the victim's public key but cannot sign for it."""
    victim, target = meshes.identities["peer-1"], meshes.identities["peer-0"]

    async def attempt() -> None:
        for pair, gets_in in ((stolen_pair(victim), False), (create_new_key_pair(os.urandom(32)), True)):
            security = {NOISE: Noise(pair, create_new_x25519_key_pair().private_key)}
            with nullcontext() if gets_in else pytest.raises(SecurityUpgradeFailure):
                await dial(place(meshes, "peer-0"), target.peer_id, security)

    trio.run(attempt)


# A valid identity, no invite -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_stranger_is_refused_for_every_protocol(meshes: P2pMeshes, protocol: str) -> None:
    found, stranger = asked(meshes), host_of(Identity.create())
    try:
        with pytest.raises(IdentityError, match="does not know the asker as a member"):
            stranger.ask(meshes.identities["peer-0"].peer_id, [place(meshes, "peer-0").place], protocol, b"?", 5)
    finally:
        stranger.close()
    assert found == []


FORGERIES: dict[str, Callable[[Identity, Identity, Invite], Signed]] = {
    "another invite": lambda own, victim, invite: record_of(own, Invite.create(invite.cluster)),
    "another cluster": lambda own, victim, invite: record_of(own, Invite("other", invite.secret)),
    "not signed by its key": lambda own, victim, invite: own.sign(
        MemberRecord.from_bytes(record_of(victim, invite).payload, "")
    ),
    "somebody else's": lambda own, victim, invite: record_of(victim, invite),
    "no proof": lambda own, victim, invite: own.sign(
        dataclasses.replace(MemberRecord.from_bytes(record_of(own, invite).payload, ""), proof=bytes(32))
    ),
    "another context": lambda own, victim, invite: Signed(
        changed := record_of(own, invite).payload.replace(b"tacit/member/1", b"tacit/ticket/1"),
        own._private.sign(changed),
    ),
    "too old": lambda own, victim, invite: record_of(own, invite, made=now_ms() - EXPIRY_MS - 1000),
    "from the future": lambda own, victim, invite: record_of(own, invite, made=now_ms() + AHEAD_MS + 5000),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_hello_that_is_not_in_order_lets_nobody_in(meshes: P2pMeshes, forgery: str) -> None:
    """Said by a connection that is authenticated as `own`, to a node that then knows no more than before."""
    own, mesh = Identity.create(), meshes.meshes["peer-0"]
    assert isinstance(mesh, P2pMesh)
    before = {record.peer_id: record.addresses for record, _ in mesh.table.entries()}
    signed = FORGERIES[forgery](own, meshes.identities["peer-1"], meshes.invite)
    hello = Hello("0.0.1", signed, "0" * 64, ()).to_bytes()
    stranger, found = host_of(own), asked(meshes)
    try:
        for protocol, question in ((HELLO, hello), (STATUS, b"")):
            with pytest.raises(PeerError):
                stranger.ask(
                    meshes.identities["peer-0"].peer_id, [place(meshes, "peer-0").place], protocol, question, 5
                )
    finally:
        stranger.close()
    assert {record.peer_id: record.addresses for record, _ in mesh.table.entries()} == before
    assert found == []


def test_a_good_hello_does_let_in(meshes: P2pMeshes) -> None:
    """What the tests above change is all that keeps the stranger out."""
    own, mesh = Identity.create(), meshes.meshes["peer-2"]
    assert isinstance(mesh, P2pMesh)
    hello = Hello("0.0.1", record_of(own, meshes.invite), "0" * 64, ()).to_bytes()
    newcomer, target = host_of(own), meshes.identities["peer-2"].peer_id
    mesh.serve("welcome", lambda sender, question: sender.encode())
    try:
        reply = Hello.from_bytes(newcomer.ask(target, [place(meshes, "peer-2").place], HELLO, hello, 5), "peer-2")
        assert len(reply.members) >= 3
        assert newcomer.ask(target, [place(meshes, "peer-2").place], "welcome", b"", 5) == own.peer_id.encode()
    finally:
        newcomer.close()


# A member that steals ------------------------------------------------------------------------------------------------


def test_a_member_cannot_displace_another(meshes: P2pMeshes) -> None:
    """It holds the invite, the victim's public key and its true record; it passes on forged ones, and an old true one."""
    mesh, victim, thief = meshes.meshes["peer-0"], meshes.identities["peer-1"], meshes.identities["peer-2"]
    assert isinstance(mesh, P2pMesh)
    true = mesh.table.record(victim.peer_id)
    assert true is not None
    forged = dataclasses.replace(true, addresses=(place(meshes, "peer-2").place,), made=now_ms() + 1000)
    proved = dataclasses.replace(forged, proof=meshes.invite.proof(forged.proved))
    old = record_of(victim, meshes.invite, made=true.made - 1000, addresses=("/ip4/127.0.0.1/tcp/9",))
    own = record_of(
        thief, meshes.invite, addresses=(place(meshes, "peer-2").place,), name="peer-2", operator="operator of peer-2"
    )
    hello = Hello("0.0.1", own, "0" * 64, (thief.sign(proved), old)).to_bytes()
    sender = meshes.meshes["peer-2"]
    assert isinstance(sender, P2pMesh)
    sender._host.ask(meshes.identities["peer-0"].peer_id, [place(meshes, "peer-0").place], HELLO, hello, 5)
    assert mesh.table.record(victim.peer_id) == true
    found = asked(meshes, "peer-1")
    assert mesh.request(victim.peer_id, STATUS, b"for the victim") == b"answer"
    assert found == [(meshes.identities["peer-0"].peer_id, b"for the victim")]


def test_an_address_that_names_the_victim_leads_to_nobody_else() -> None:
    """Somebody listens where the victim is said to be: the dialler notices before it says a word."""
    victim, thief, asker = Identity.create(), Identity.create(), Identity.create()
    trap, found = host_of(thief, ("/ip4/127.0.0.1/tcp/0",)), []
    trap.serve("secret", lambda sender, question: found.append(question) or b"")  # type: ignore[func-returns-value]
    dialler = host_of(asker)
    try:
        with pytest.raises(IdentityError, match="somebody else answers"):
            dialler.ask(victim.peer_id, trap.addresses, "secret", b"for the victim only", 5)
        assert dialler.ask(thief.peer_id, trap.addresses, "secret", b"for the thief", 5) == b""
    finally:
        trap.close()
        dialler.close()
    assert found == [b"for the thief"]


# The table -----------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = now_ms()

    def __call__(self) -> int:
        return self.now


def table(**settings: Any) -> tuple[Table, Invite, Clock]:
    invite, clock = Invite.create("home"), Clock()
    return Table(invite, "o" * 43, clock=clock, **settings), invite, clock


def test_the_latest_record_holds_whatever_the_order() -> None:
    found, invite, clock = table()
    peer = Identity.create()
    old = record_of(peer, invite, made=clock.now - 5000, name="old")
    new = record_of(peer, invite, made=clock.now, name="new")
    assert found.admit(old, "x") is not None
    assert found.admit(old, "x") is None
    assert found.admit(new, "x") is not None
    assert found.admit(old, "x") is None
    assert [member.name for member in found.members] == ["new"]


def test_who_is_not_heard_of_is_forgotten_and_an_old_record_brings_nobody_back() -> None:
    found, invite, clock = table()
    peer = Identity.create()
    signed = record_of(peer, invite, made=clock.now)
    found.admit(signed, "x")
    clock.now += EXPIRY_MS
    assert found.member(peer.peer_id) is not None
    clock.now += 1
    assert found.member(peer.peer_id) is None
    assert found.members == ()
    with pytest.raises(IdentityError, match="one of the two clocks is wrong"):
        found.admit(signed, "x")


def test_a_list_admits_nobody_else_and_says_who_runs_what() -> None:
    listed, other = Identity.create(), Identity.create()
    found, invite, clock = table(listed={listed.peer_id: Member("alice", "Alice", listed.peer_id)})
    found.admit(record_of(listed, invite, made=clock.now, name="boss", operator="Everybody"), "x")
    assert found.member(listed.peer_id) == Member("alice", "Alice", listed.peer_id)
    with pytest.raises(IdentityError, match="not in the list"):
        found.admit(record_of(other, invite, made=clock.now), "x")


def test_a_full_cluster_takes_nobody_but_renews() -> None:
    found, invite, clock = table()
    first = Identity.create()
    found.admit(record_of(first, invite, made=clock.now), "x")
    found._entries |= {f"{number:043d}": found._entries[first.peer_id] for number in range(MAX_MEMBERS - 1)}
    with pytest.raises(RefusedError, match="full"):
        found.admit(record_of(Identity.create(), invite, made=clock.now), "x")
    assert found.admit(record_of(first, invite, made=clock.now + 1), "x") is not None


def test_a_coordinator_is_no_peer() -> None:
    found, invite, clock = table()
    one = Identity.create()
    found.admit(record_of(one, invite, made=clock.now, kind="coordinator", url="http://127.0.0.1:7440"), "x")
    assert found.is_coordinator(one.peer_id)
    assert (found.member(one.peer_id), found.members) == (None, ())


NO_INVITES = ["", "home", "home:", ":" + "A" * 22, "home:AAAA", "home:" + "A" * 21 + "B", "home:" + "!" * 22]


@pytest.mark.parametrize("text", NO_INVITES)
def test_what_is_no_invite(text: str) -> None:
    with pytest.raises(ConfigError, match="NAME:SECRET") as caught:
        Invite.parse(text)
    assert "A" * 10 not in str(caught.value)


def test_an_invite_survives_paper_and_is_not_shown() -> None:
    invite = Invite.create("our home")
    secret = invite.text.rpartition(":")[2]
    assert Invite.parse(invite.text) == invite
    assert (len(secret), len(invite.namespace)) == (22, 32)
    assert secret not in repr(invite) + invite.namespace
    assert invite.secret.hex() not in repr(invite) + invite.namespace


# Nonsense ------------------------------------------------------------------------------------------------------------


def test_nonsense_does_not_end_the_mesh(meshes: P2pMeshes) -> None:
    """Bytes on the port, silent connections, streams that say what no protocol says, from inside a real connection."""
    asked(meshes)
    target = place(meshes, "peer-0")
    held = []
    for content in (
        b"",
        b"\0" * 5000,
        os.urandom(5000),
        b"GET / HTTP/1.1\r\n\r\n",
        encode_delim(b"/multistream/1.0.0") + b"\xff" * 99,
    ):
        raw = socket.create_connection((target.host, target.port), timeout=5)
        raw.sendall(content)
        held.append(raw)

    async def inside(say: Callable[[Any], Awaitable[None]]) -> None:
        pair = create_new_key_pair(os.urandom(32))
        dialler = new_host(key_pair=pair, sec_opt={NOISE: Noise(pair, create_new_x25519_key_pair().private_key)})
        with trio.fail_after(5):
            async with dialler.run([]):
                raw = RawConnection(TrioTCPStream(await trio.open_tcp_stream(target.host, target.port)), True)
                connection = await dialler.upgrade_outbound_connection(raw, ID.from_base58(to_libp2p(target.peer_id)))
                await say(connection)

    hello, names = encode_delim(b"/multistream/1.0.0"), (b"/tacit/1/status", b"/tacit/1/hello")
    words = [b"\xff\xfe\xfd", encode_delim(b"\xff\xfe\xfd"), hello + encode_delim(b"\xff\xfe"), hello + b"\xff" * 500]
    words += [
        hello + encode_delim(name) + tail for name in names for tail in (b"\xff\xff\xff\xff", b"\0\0\0\5hallo", b"\0")
    ]

    async def streams(connection: Any) -> None:
        for word in words:
            stream = await connection.new_stream()
            await stream.write(word)
            await (stream.reset() if len(word) % 2 else stream.close())
        for _ in range(100):  # more than one peer may have open
            await (await connection.new_stream()).write(hello)

    trio.run(inside, streams)
    asker = meshes.meshes["peer-1"]
    for _ in range(3):
        assert asker.request(target.peer_id, STATUS, b"") == b"answer"
    for raw in held:
        raw.close()


def test_a_flood_of_connections_leaves_room_for_members(meshes: P2pMeshes) -> None:
    """Strangers that connect and say nothing are turned away; those already inside go on."""
    asked(meshes)
    target = place(meshes, "peer-0")
    flood = [socket.create_connection((target.host, target.port), timeout=5) for _ in range(150)]
    try:
        assert meshes.meshes["peer-1"].request(target.peer_id, STATUS, b"") == b"answer"
    finally:
        for raw in flood:
            raw.close()


def test_a_question_that_is_too_long_is_not_sent(meshes: P2pMeshes) -> None:
    asked(meshes)
    with pytest.raises(TacitError, match="longer than"):
        meshes.meshes["peer-1"].request(place(meshes, "peer-0").peer_id, STATUS, bytes((1 << 20) + 1))


# Connections ---------------------------------------------------------------------------------------------------------


def test_two_that_dial_each_other_at_once_lose_no_question() -> None:
    for _ in range(3):
        meshes = P2pMeshes(("peer-0", "peer-1"))
        try:
            ids = {name: identity.peer_id for name, identity in meshes.identities.items()}
            for mesh in meshes.meshes.values():
                mesh.serve("hey", lambda sender, question: question)
                eventually(lambda mesh=mesh: len(mesh.members.members) == 2)  # type: ignore[misc]
            hosts = [(host_of(Identity(meshes.identities[name].seed, meshes.identities[name].mesh)), other)
                     for name, other in (("peer-0", "peer-1"), ("peer-1", "peer-0"))]  # fmt: skip
            barrier, errors = threading.Barrier(2), []

            def ask(host: Host, other: str) -> None:
                barrier.wait()  # noqa: B023
                for number in range(20):
                    try:
                        host.ask(ids[other], [place(meshes, other).place], "hey", str(number).encode(), 5)  # noqa: B023
                    except TacitError as error:
                        errors.append(error)  # noqa: B023

            threads = [threading.Thread(target=ask, args=pair) for pair in hosts]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for host, _ in hosts:
                host.close()
            assert errors == []
        finally:
            meshes.close()


def test_a_dead_address_costs_little_and_the_next_one_is_taken() -> None:
    """One address swallows every packet, one refuses, one is right."""
    peer, asker = host_of(Identity.create(), ("/ip4/127.0.0.1/tcp/0",)), host_of(Identity.create())
    peer.serve("here", lambda sender, question: b"yes")
    full = socket.socket()  # accepts, says nothing
    full.bind(("127.0.0.1", 0))
    full.listen(1)
    silent = Address.at("127.0.0.1", full.getsockname()[1]).place
    peer_id = peer._engine._own_id  # type: ignore[union-attr]
    try:
        started = time.monotonic()
        addresses = [silent, "/ip4/127.0.0.1/tcp/1", *peer.addresses]
        assert asker.ask(peer_id, addresses, "here", b"", 5) == b"yes"
        assert time.monotonic() - started < 4
        started = time.monotonic()
        with pytest.raises(NetworkError):
            asker.ask(Identity.create().peer_id, [silent], "here", b"", 10)
        assert time.monotonic() - started < 5
    finally:
        full.close()
        peer.close()
        asker.close()


def test_the_rendezvous_of_a_member_tells_members_where_others_are(meshes: P2pMeshes) -> None:
    """libp2p's own protocol; a stranger that knows the namespace is not served."""
    target, places = meshes.identities["peer-0"].peer_id, [place(meshes, "peer-0").place]
    for name in ("peer-1", "peer-2"):
        mesh: Any = meshes.meshes[name]
        found = dict(mesh._host.meet(target, places, meshes.invite.namespace, 5))
        own = meshes.identities[name].peer_id
        assert found[own] == [place(meshes, name).place]
    mesh._renew()  # which must not make the point forget
    meshes.meshes["peer-0"]._renew()  # type: ignore[attr-defined]
    found = dict(mesh._host.meet(target, places, meshes.invite.namespace, 5))
    assert found[meshes.identities["peer-1"].peer_id] == [place(meshes, "peer-1").place]
    stranger = host_of(Identity.create())
    stranger.welcome(["/ip4/127.0.0.1/tcp/9"], lambda sender: None)
    try:
        with pytest.raises(NetworkError):
            stranger.meet(target, places, meshes.invite.namespace, 2)
    finally:
        stranger.close()


def test_a_stranger_does_not_keep_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members stay connected; whoever said no hello in time is shown out."""
    monkeypatch.setattr("tacit.party.p2p.engine.STRANGER_SECONDS", 0.4)
    meshes, stranger = P2pMeshes(("peer-0", "peer-1")), host_of(Identity.create())
    try:
        target: Any = meshes.meshes["peer-0"]
        asked(meshes)
        with pytest.raises(IdentityError):
            stranger.ask(target.table._own_id, [place(meshes, "peer-0").place], STATUS, b"", 5)
        assert stranger.connected() == (target.table._own_id,)
        eventually(lambda: stranger.connected() == ())
        assert meshes.identities["peer-1"].peer_id in target._host.connected()
    finally:
        stranger.close()
        meshes.close()


def test_a_host_that_falls_comes_back_at_its_address() -> None:
    """Whatever libp2p does to itself: the mesh is there again by itself, and others find it where it was."""
    peer, asker = host_of(Identity.create(), ("/ip4/127.0.0.1/tcp/0",)), host_of(Identity.create())
    peer.serve("here", lambda sender, question: b"yes")
    engine: Any = peer._engine
    peer_id, places = engine._own_id, peer.addresses

    async def fall() -> None:
        raise RuntimeError("as libp2p might")

    def answers() -> bool:
        try:
            return asker.ask(peer_id, places, "here", b"", 2) == b"yes"
        except NetworkError:
            return False

    try:
        assert answers()
        engine._token.run_sync_soon(engine._nursery.start_soon, fall)
        eventually(lambda: peer._engine is not engine and peer._engine is not None)
        eventually(answers)
    finally:
        peer.close()
        asker.close()
