"""Who may connect: the one admitted key, and nobody else; strangers are refused and the session does not notice."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
import zmq
from link_pairs import ENDS, SETTINGS, Pair, both, sockets
from tacit.errors import NetworkError, PeerLost
from tacit.party.zap import Doorkeeper
from tacit.transport import Circle, CurveKeys, LinkSettings, ZmqLink, new_context

QUICK = LinkSettings(timeout=2, opening_timeout=2)


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    found = new_context()
    yield found
    found.destroy(0)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with sockets() as found:
        yield found


def knock(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, kind: str, server_key: str) -> zmq.Socket[bytes]:
    """A raw PAIR socket that tries to get in and says hello."""
    stranger = context.socket(zmq.PAIR)
    stranger.linger = 0
    if kind != "null":
        keys = CurveKeys.fresh()
        stranger.curve_publickey = keys.public.encode()
        stranger.curve_secretkey = keys.secret.encode()
        known = CurveKeys.fresh().public if kind == "wrong server key" else server_key
        stranger.curve_serverkey = known.encode()
    stranger.connect(endpoint)
    stranger.send(b"let me in", zmq.DONTWAIT)
    return stranger


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", ["random key", "wrong server key", "null", "noise", "silence"])
def test_strangers_are_refused_and_the_session_lives(
    pair: Pair, context: zmq.Context[zmq.Socket[bytes]], kind: str, when: str
) -> None:
    assert isinstance(pair.alice, ZmqLink)
    endpoint = pair.alice.endpoint
    if when == "after":
        pair.open()
    if kind in ("noise", "silence"):
        host, port = endpoint.removeprefix("tcp://").split(":")
        visitor = socket.create_connection((host, int(port)))
        if kind == "noise":
            visitor.sendall(bytes(range(256)) * 20)
    else:
        stranger = knock(context, endpoint, kind, pair.server_key)
    time.sleep(0.2)
    if when == "before":
        pair.open()
    for number in range(3):
        pair.alice.send("open", b"1234", number=number)
        assert pair.bob.receive("open", size=4).fields["number"] == number
        pair.bob.send("open", b"5678")
        assert bytes(pair.alice.receive("open").body) == b"5678"
    if kind in ("noise", "silence"):
        visitor.close()
        time.sleep(0.1)
    else:
        assert not stranger.poll(0)
        stranger.close()
    with pytest.raises(NetworkError, match="sent no 'open'"):  # the wait looks at the monitor: nobody was lost
        pair.alice.receive("open", timeout=0.25)


def test_a_descriptor_that_a_stranger_had_before_is_no_sign_of_loss(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """The kernel gives a refused stranger's descriptor to the right peer; then only the peer's own end counts."""
    with Doorkeeper(context):
        link = ZmqLink.bind(context, "127.0.0.1", "door", CurveKeys.fresh(), ENDS, Circle(), QUICK)
        link._notice(zmq.EVENT_DISCONNECTED, 24)  # the stranger's
        link._notice(zmq.EVENT_HANDSHAKE_SUCCEEDED, 0)
        link._descriptor = 24  # the peer's, known from its hello
        assert link._gone() is None
        link._notice(zmq.EVENT_DISCONNECTED, 25)  # another stranger's
        assert link._gone() is None
        link._notice(zmq.EVENT_DISCONNECTED, 24)
        assert link._gone() == "went away during the session"
        link.close()


def test_a_key_admitted_elsewhere_is_a_stranger_here(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """A key of another session (another domain of the same doorkeeper) does not open this door."""
    mine, theirs, other = CurveKeys.fresh(), CurveKeys.fresh(), CurveKeys.fresh()
    with Doorkeeper(context) as doorkeeper:
        doorkeeper.admit("this session", theirs.public)
        doorkeeper.admit("another session", other.public)
        link = ZmqLink.bind(context, "127.0.0.1", "this session", mine, ENDS, Circle(), QUICK)
        foreign = ZmqLink.dial(context, link.endpoint, mine.public, other, ENDS.mirrored("Alice"), Circle(), QUICK)
        with pytest.raises(PeerLost, match="refused our key"):
            foreign.open()
        right = ZmqLink.dial(context, link.endpoint, mine.public, theirs, ENDS.mirrored("Alice"), Circle(), QUICK)
        assert both(link.open, right.open) == [None, None]
        for one in (link, foreign, right):
            one.close()


def test_nobody_is_admitted_once_the_door_is_shut(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    mine, theirs = CurveKeys.fresh(), CurveKeys.fresh()
    with Doorkeeper(context) as doorkeeper:
        doorkeeper.admit("door", theirs.public)
        link = ZmqLink.bind(context, "127.0.0.1", "door", mine, ENDS, Circle(), QUICK)
        doorkeeper.forget("door")
        late = ZmqLink.dial(context, link.endpoint, mine.public, theirs, ENDS.mirrored("Alice"), Circle(), QUICK)
        with pytest.raises(PeerLost, match="refused our key"):
            late.open()
        link.close()
        late.close()


def test_a_binder_with_another_key_is_not_talked_to(pair: Pair, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """The dialler knows the binder's key: an impostor at the endpoint gets nothing."""
    assert isinstance(pair.alice, ZmqLink)
    expected = CurveKeys.fresh().public
    link = ZmqLink.dial(
        context, pair.alice.endpoint, expected, CurveKeys.fresh(), ENDS.mirrored("Alice"), Circle(), QUICK
    )
    with pytest.raises((PeerLost, NetworkError), match="Alice"):
        link.open()
    link.close()


def test_a_port_nobody_listens_on_is_reported(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    keys, key = CurveKeys.fresh(), CurveKeys.fresh().public
    link = ZmqLink.dial(context, f"tcp://127.0.0.1:{port}", key, keys, ENDS, Circle(), QUICK)
    started = time.monotonic()
    with pytest.raises(PeerLost, match=f"nobody listens at tcp://127.0.0.1:{port}"):
        link.open()
    assert time.monotonic() - started < 1
    link.close()


@pytest.mark.parametrize("host", ["203.0.113.7", "no such host"])
def test_an_address_that_is_not_ours_is_a_clear_error(context: zmq.Context[zmq.Socket[bytes]], host: str) -> None:
    with Doorkeeper(context), pytest.raises(NetworkError, match=f"cannot listen on {host}"):
        ZmqLink.bind(context, host, "door", CurveKeys.fresh(), ENDS, Circle(), SETTINGS)


def test_keys_are_not_shown() -> None:
    keys = CurveKeys.fresh()
    assert keys.secret not in f"{keys!r} {keys}"


def test_without_a_doorkeeper_nobody_gets_in(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    mine, theirs = CurveKeys.fresh(), CurveKeys.fresh()
    link = ZmqLink.bind(context, "127.0.0.1", "door", mine, ENDS, Circle(), QUICK)
    anyone = ZmqLink.dial(context, link.endpoint, mine.public, theirs, ENDS.mirrored("Alice"), Circle(), QUICK)
    with pytest.raises((PeerLost, NetworkError)):
        anyone.open(0.5)
    link.close()
    anyone.close()


def test_a_doorkeeper_that_left_lets_nobody_in(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    mine, theirs = CurveKeys.fresh(), CurveKeys.fresh()
    with Doorkeeper(context) as doorkeeper:
        doorkeeper.admit("door", theirs.public)
        link = ZmqLink.bind(context, "127.0.0.1", "door", mine, ENDS, Circle(), QUICK)
    late = ZmqLink.dial(context, link.endpoint, mine.public, theirs, ENDS.mirrored("Alice"), Circle(), QUICK)
    with pytest.raises((PeerLost, NetworkError)):
        late.open(0.5)
    link.close()
    late.close()
