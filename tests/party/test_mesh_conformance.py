"""What every form of the mesh does: one body over the roster form and the libp2p form."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from meshes import P2pMeshes, RosterMeshes, eventually
from tacit.errors import (
    ConfigError,
    IdentityError,
    ModelError,
    NetworkError,
    PeerError,
    PeerLost,
    RefusedError,
    TacitError,
    UsageError,
)
from tacit.party.mesh import Mesh

Meshes = RosterMeshes | P2pMeshes


@pytest.fixture(scope="module", params=[RosterMeshes, P2pMeshes], ids=["roster", "libp2p"])
def meshes(request: pytest.FixtureRequest) -> Iterator[Meshes]:
    """A coordinator and three peers, each a mesh of its own; the tests serve protocols of their own names."""
    found = request.param()
    yield found
    found.close()


@pytest.fixture(params=[RosterMeshes, P2pMeshes], ids=["roster", "libp2p"])
def victims(request: pytest.FixtureRequest) -> Iterator[Meshes]:
    """The same, to be harmed."""
    found = request.param()
    yield found
    found.close()


def ids(meshes: Meshes, *names: str) -> list[str]:
    return [meshes.identities[name].peer_id for name in names]


def name(meshes: Meshes, peer: str) -> str:
    return f"{peer} ({meshes.identities[peer].peer_id[:8]})"


def test_asking_and_answering(meshes: Meshes) -> None:
    """The answerer knows for certain who asks; everybody may ask every peer, the coordinator too."""
    for peer in ("peer-0", "peer-1"):
        meshes.meshes[peer].serve("who", lambda sender, question: sender.encode() + b" " + question)
    for asker in ("coordinator", "peer-1", "peer-2"):
        (own,) = ids(meshes, asker)
        assert meshes.meshes[asker].request(*ids(meshes, "peer-0"), "who", b"hm?\0") == own.encode() + b" hm?\0"
    assert (
        meshes.meshes["peer-0"].request(*ids(meshes, "peer-1"), "who", b"") == ids(meshes, "peer-0")[0].encode() + b" "
    )


def test_the_members_are_known(meshes: Meshes) -> None:
    for mesh in meshes.meshes.values():
        members = mesh.members
        assert not members.own
        assert [(member.name, member.operator) for member in members.members] == [
            (f"peer-{number}", f"operator of peer-{number}") for number in range(3)
        ]
        peer, coordinator = ids(meshes, "peer-1", "coordinator")
        assert members.member(peer) is not None
        assert members.member(coordinator) is None
        assert (members.is_coordinator(coordinator), members.is_coordinator(peer)) == (True, False)
        assert members.name_of(coordinator) == name(meshes, "coordinator")
        assert members.name_of("w" * 43) == "unknown peer wwwwwwww"


ERRORS: list[TacitError] = [
    UsageError("no such thing"),
    ModelError("model too wide"),
    ConfigError("a file is missing"),
    PeerError("somebody", "misbehaved"),
    IdentityError("somebody", "is somebody else"),
    RefusedError("me", "is busy"),
    NetworkError("nothing there"),
    PeerLost("somebody", "went away"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_cross_as_themselves(meshes: Meshes, error: TacitError) -> None:
    def handler(sender: str, question: bytes) -> bytes:
        raise error

    meshes.meshes["peer-0"].serve(f"fail-{type(error).__name__}", handler)
    with pytest.raises(TacitError) as caught:
        meshes.meshes["peer-1"].request(*ids(meshes, "peer-0"), f"fail-{type(error).__name__}", b"")
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)


def test_a_handler_that_breaks_is_reported_without_its_words_and_the_mesh_goes_on(meshes: Meshes) -> None:
    def handler(sender: str, question: bytes) -> bytes:
        raise KeyError("the owl opened the small door")

    meshes.meshes["peer-0"].serve("break", handler)
    meshes.meshes["peer-0"].serve("work", lambda sender, question: b"yes")
    for _ in range(3):
        with pytest.raises(PeerError, match="its log says why") as caught:
            meshes.meshes["peer-1"].request(*ids(meshes, "peer-0"), "break", b"")
        assert caught.value.peer == name(meshes, "peer-0")
        assert "owl" not in str(caught.value)
    assert meshes.meshes["peer-1"].request(*ids(meshes, "peer-0"), "work", b"") == b"yes"


def test_an_unknown_protocol(meshes: Meshes) -> None:
    meshes.meshes["peer-0"].serve("known", lambda sender, question: b"")
    with pytest.raises(PeerError, match="does not serve 'unknown'") as caught:
        meshes.meshes["peer-1"].request(*ids(meshes, "peer-0"), "unknown", b"")
    assert caught.value.peer == name(meshes, "peer-0")


def test_nobody_asks_a_stranger(meshes: Meshes) -> None:
    with pytest.raises(IdentityError, match="unknown peer wwwwwwww"):
        meshes.meshes["peer-0"].request("w" * 43, "anything", b"")


def test_a_stranger_is_not_answered(meshes: Meshes) -> None:
    """It has an identity of its own, the addresses and the ids; its questions reach no handler."""
    asked: list[bytes] = []

    def handler(sender: str, question: bytes) -> bytes:
        asked.append(question)
        return b"secrets"

    stranger = meshes.stranger()
    for peer in ("peer-0", "peer-1"):
        meshes.meshes[peer].serve("private", handler)
        with pytest.raises((IdentityError, NetworkError)):
            stranger.request(*ids(meshes, peer), "private", b"hello?", timeout=1.0)
    assert asked == []


def test_a_large_answer(meshes: Meshes) -> None:
    """As a tokenizer."""
    content = bytes(range(256)) * (20 << 10)  # 5 MiB
    meshes.meshes["peer-0"].serve("large", lambda sender, question: content)
    assert meshes.meshes["peer-1"].request(*ids(meshes, "peer-0"), "large", b"", timeout=10) == content


def test_a_slow_handler_holds_up_no_other_protocol(meshes: Meshes) -> None:
    go = threading.Event()

    def slow(sender: str, question: bytes) -> bytes:
        go.wait(20)
        return b"at last"

    peer, asker = meshes.meshes["peer-0"], meshes.meshes["peer-1"]
    peer.serve("slow", slow, threads=1)
    peer.serve("quick", lambda sender, question: b"now", threads=1)
    (peer_id,) = ids(meshes, "peer-0")
    with ThreadPoolExecutor(3) as pool:
        slow_ones = [pool.submit(asker.request, peer_id, "slow", b"", 20) for _ in range(3)]
        for _ in range(5):
            assert asker.request(peer_id, "quick", b"", timeout=2) == b"now"
        assert not any(one.done() for one in slow_ones)
        go.set()
        assert [one.result() for one in slow_ones] == [b"at last"] * 3


def test_a_handler_may_ask_in_turn(meshes: Meshes) -> None:
    """A asks B, whose handler asks C, whose handler asks A."""
    first, second, third = ids(meshes, "peer-0", "peer-1", "peer-2")
    meshes.meshes["peer-0"].serve("turn-3", lambda sender, question: question + b"0")
    meshes.meshes["peer-2"].serve(
        "turn-2", lambda sender, question: meshes.meshes["peer-2"].request(first, "turn-3", question + b"2")
    )
    meshes.meshes["peer-1"].serve(
        "turn-1", lambda sender, question: meshes.meshes["peer-1"].request(third, "turn-2", question + b"1")
    )
    assert meshes.meshes["peer-0"].request(second, "turn-1", b"") == b"120"


def test_many_at_once(meshes: Meshes) -> None:
    names = ("peer-0", "peer-1", "peer-2")
    for peer in names:
        meshes.meshes[peer].serve("square", lambda sender, question: str(int(question) ** 2).encode())

    def ask(number: int) -> int:
        asker, peer = names[number % 3], names[(number + 1) % 3]
        return int(meshes.meshes[asker].request(*ids(meshes, peer), "square", str(number).encode()))

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(120))) == [number**2 for number in range(120)]


def test_a_silent_handler_costs_the_time_that_was_given(meshes: Meshes) -> None:
    go = threading.Event()
    meshes.meshes["peer-0"].serve("silent", lambda sender, question: str(go.wait(20)).encode())
    started = time.monotonic()
    with pytest.raises(NetworkError, match=r"peer-0.*0\.5 s"):
        meshes.meshes["peer-1"].request(*ids(meshes, "peer-0"), "silent", b"", timeout=0.5)
    assert 0.4 < time.monotonic() - started < 3
    go.set()


def test_a_peer_that_is_gone_and_comes_back(victims: Meshes) -> None:
    """Gone: an error within the time given. Back at its address: it answers the same asker again."""
    asker, (peer_id,) = victims.meshes["coordinator"], ids(victims, "peer-1")
    victims.meshes["peer-1"].serve("here", lambda sender, question: b"before")
    assert asker.request(peer_id, "here", b"") == b"before"
    victims.meshes["peer-1"].close()
    started = time.monotonic()
    with pytest.raises(NetworkError, match="peer-1"):
        asker.request(peer_id, "here", b"", timeout=2)
    assert time.monotonic() - started < 4
    victims.meshes["peer-1"] = victims.start("peer-1")
    victims.meshes["peer-1"].serve("here", lambda sender, question: b"after")

    def answers() -> bool:
        try:
            return asker.request(peer_id, "here", b"", timeout=2) == b"after"
        except NetworkError:
            return False

    eventually(answers)


def test_closing_while_asked(victims: Meshes) -> None:
    """Both ends: whoever asks hears of it in time, and closing waits for no handler."""
    go = threading.Event()
    asker, peer = victims.meshes["peer-1"], victims.meshes["peer-0"]
    peer.serve("long", lambda sender, question: str(go.wait(20)).encode())
    (peer_id,) = ids(victims, "peer-0")
    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(mesh.request, peer_id, "long", b"", 3.0) for mesh in (asker, victims.meshes["peer-2"])]
        time.sleep(0.3)
        for mesh in (peer, asker):
            started = time.monotonic()
            mesh.close()
            mesh.close()  # twice is fine
            assert time.monotonic() - started < 2
        for one in asking:
            with pytest.raises(NetworkError):
                one.result(6)
        with pytest.raises(NetworkError):
            asker.request(peer_id, "long", b"", 1.0)
        go.set()


def test_closing_ends_the_questions_on_their_way(victims: Meshes) -> None:
    """Not only refuses new ones: whatever they used may be taken down right afterwards."""
    go = threading.Event()
    asker, (peer_id,) = victims.meshes["peer-1"], ids(victims, "peer-0")
    victims.meshes["peer-0"].serve("long", lambda sender, question: str(go.wait(20)).encode())
    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(asker.request, peer_id, "long", b"", 20.0) for _ in range(4)]
        time.sleep(0.3)
        asker.close()
        for one in asking:
            with pytest.raises(NetworkError):
                one.result(0.5)
        go.set()


def test_the_form_is_a_mesh(meshes: Meshes) -> None:
    assert all(isinstance(mesh, Mesh) for mesh in meshes.meshes.values())
