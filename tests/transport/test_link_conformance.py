"""What every kind of link must do: one suite over memory and over ZeroMQ, as they are and made like a line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import msgpack
import numpy as np
import pytest
from link_pairs import ENDS, SESSION, SETTINGS, Pair, altered, both, lines, memory, sockets
from tacit.errors import NetworkError, PeerError, PeerLost, RefusedError
from tacit.frames import MAX_HEADER, PART, VERSION
from tacit.transport import Circle, Link, LinkSettings, memory_pair

Maker = Callable[..., AbstractContextManager[Pair]]


def shaped(make: Maker) -> Maker:
    return lambda *ends, **named: make(*ends, **named, lines=lines("rtt=4ms,bandwidth=1gbit,jitter=1ms,loss=0.1%"))


@pytest.fixture(
    params=[memory, sockets, shaped(memory), shaped(sockets)],
    ids=["memory", "zeromq", "shaped memory", "shaped zeromq"],
)
def make(request: pytest.FixtureRequest) -> Maker:
    return request.param


@pytest.fixture
def pair(make: Maker) -> Iterator[Pair]:
    with make() as found:
        assert both(found.alice.open, found.bob.open) == [None, None]
        yield found


def test_a_message_arrives_as_it_was_sent(pair: Pair) -> None:
    words = np.arange(24, dtype=np.uint64).reshape(2, 3, 4)
    pair.alice.send("open", words, step=3, gate="x", tag=b"\x00\xff")
    message = pair.bob.receive("open", size=words.nbytes)
    assert np.array_equal(np.frombuffer(message.body, np.uint64).reshape(2, 3, 4), words)
    assert message.fields == {"step": 3, "gate": "x", "tag": b"\x00\xff"}
    assert isinstance(message.body, memoryview)


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 5])
def test_bodies_of_any_size(pair: Pair, size: int) -> None:
    body = np.frombuffer(np.random.default_rng(size).bytes(size), np.uint8)
    sent = [lambda: pair.alice.send("bulk", body), lambda: pair.bob.receive("bulk", size=size)]
    _, message = both(*sent)
    assert bytes(message.body) == body.tobytes()  # type: ignore[attr-defined]


def test_the_buffer_is_free_again_after_send(pair: Pair) -> None:
    words = np.ones(1 << 17, np.uint64)
    pair.alice.send("open", words)
    words[:] = 7
    assert (np.frombuffer(pair.bob.receive("open").body, np.uint64) == 1).all()


def test_both_sides_may_send_first(pair: Pair) -> None:
    words = np.ones(1 << 16, np.uint64)

    def exchange(link: Link) -> None:
        for step in range(30):
            link.send("open", words, step=step)
            assert link.receive("open", size=words.nbytes).fields["step"] == step

    assert both(lambda: exchange(pair.alice), lambda: exchange(pair.bob)) == [None, None]


def test_what_went_over_is_counted(pair: Pair) -> None:
    pair.alice.send("open", b"12345", step=1)
    pair.bob.receive("open")
    sent, received = pair.alice.stats, pair.bob.stats
    header = len(msgpack.packb([SESSION, 0, "open", {"step": 1}, 5]))
    assert sent.messages_sent == received.messages_received == 1
    assert sent.bytes_sent == received.bytes_received == header + 5
    assert sent.bytes_received == received.bytes_sent == 0
    threading.Timer(0.2, pair.bob.send, ("open",)).start()
    pair.alice.receive("open")
    assert 0.15 < pair.alice.stats.waiting_seconds < 1.5


def test_seeds_are_common_bound_and_fresh(make: Maker, pair: Pair) -> None:
    assert pair.alice.seed(b"k") == pair.bob.seed(b"k")
    assert len(pair.alice.seed(b"k")) == 32
    assert pair.alice.seed(b"k") != pair.alice.seed(b"other")
    with make() as second:
        second.open()
        assert second.alice.seed(b"k") == second.bob.seed(b"k") != pair.alice.seed(b"k")


def test_a_seed_needs_an_open_link(make: Maker) -> None:
    with make() as found, pytest.raises(NetworkError, match="not open"):
        found.alice.seed(b"k")


@pytest.mark.parametrize(
    "change",
    [
        {"session": b"x" * 16},
        {"manifest_hash": "1" * 64},
        {"parties": ("somebody else", *ENDS.parties[1:])},
        {"parties": (ENDS.parties[0], "somebody else", *ENDS.parties[2:])},
        {"parties": (*ENDS.parties[:2], "another dealer", ENDS.parties[3])},
        {"parties": (*ENDS.parties[:3], "another client")},
        {"own_role": 2},
    ],
    ids=str,
)
def test_both_ends_must_agree_about_everything(make: Maker, change: dict[str, object]) -> None:
    with make(bob=altered(ENDS.mirrored("Alice"), **change)) as found:
        results = both(found.alice.open, found.bob.open)
    assert any(isinstance(result, PeerError) for result in results), results
    assert all(isinstance(result, PeerError | PeerLost | NetworkError) for result in results), results


# Every way to break the protocol; what is sent raw by Alice, what Bob must say about it.
GOOD = [SESSION, 0, "open", {"step": 1}, 4]
RAW: dict[str, tuple[list[bytes], str]] = {
    "another session": ([msgpack.packb([b"y" * 16, *GOOD[1:]]), b"1234"], "another session"),
    "sequence ahead": ([msgpack.packb([SESSION, 1, *GOOD[2:]]), b"1234"], "frame number 1, expected 0"),
    "sequence behind": ([msgpack.packb([SESSION, -1, *GOOD[2:]]), b"1234"], "frame number -1"),
    "sequence true": ([msgpack.packb([SESSION, False, *GOOD[2:]]), b"1234"], "frame number False"),
    "sequence text": ([msgpack.packb([SESSION, "0", *GOOD[2:]]), b"1234"], "frame number '0'"),
    "other kind": ([msgpack.packb([SESSION, 0, "close", {}, 4]), b"1234"], "sent 'close', expected 'open'"),
    "kind of bytes": ([msgpack.packb([SESSION, 0, b"open", {}, 4]), b"1234"], "wrong type"),
    "body too short": ([msgpack.packb(GOOD), b"123"], "sent 3 body bytes, announced 4"),
    "body too long": ([msgpack.packb(GOOD), b"12345"], "sent 5 body bytes, announced 4"),
    "other size": ([msgpack.packb([*GOOD[:4], 3]), b"123"], "body of 3 bytes, expected 4"),
    "negative size": ([msgpack.packb([*GOOD[:4], -1]), b""], "-1 bytes"),
    "huge size": ([msgpack.packb([*GOOD[:4], 1 << 40]), b""], "at most"),
    "over the limit": ([msgpack.packb([*GOOD[:4], 1 << 27]), b""], "over the limit of this session"),
    "no body": ([msgpack.packb(GOOD)], "without a body"),
    "three parts": ([msgpack.packb(GOOD), b"1234", b"more"], "more parts than agreed"),
    "not msgpack": ([b"\xc1", b"1234"], "not msgpack"),
    "empty header": ([b"", b"1234"], "not msgpack"),
    "more after it": ([msgpack.packb(GOOD) + b"\x00", b"1234"], "not msgpack"),
    "not a list": ([msgpack.packb({"a": 1}), b"1234"], "five entries"),
    "six entries": ([msgpack.packb([*GOOD, 1]), b"1234"], "five entries"),
    "ext type": ([msgpack.packb([*GOOD[:3], {"x": msgpack.ExtType(1, b"z")}, 4]), b"1234"], "not msgpack"),
    "nested field": ([msgpack.packb([*GOOD[:3], {"x": [1]}, 4]), b"1234"], "neither number, text nor bytes"),
    "float field": ([msgpack.packb([*GOOD[:3], {"x": 1.5}, 4]), b"1234"], "neither number, text nor bytes"),
    "field name": ([msgpack.packb([*GOOD[:3], {1: 1}, 4]), b"1234"], "not msgpack"),
    "deeply nested": ([b"\x91" * 4000, b"1234"], "not msgpack"),
    "bad text": ([b"\x95\xc4\x10" + SESSION + b"\x00\xa2\xff\xfe\x80\x04", b"1234"], "not msgpack"),
    "huge header": ([msgpack.packb([*GOOD[:3], {"x": b"z" * MAX_HEADER}, 4]), b"1234"], "header of"),
    "credit unearned": ([msgpack.packb([SESSION, 0, "credit", {"total": 9}, 0]), b""], "confirmed more"),
    "credit text": ([msgpack.packb([SESSION, 0, "credit", {"total": "9"}, 0]), b""], "confirmed more"),
    "goodbye with body": ([msgpack.packb([SESSION, 0, "bye", {}, 4]), b"1234"], "with a body"),
    "reserved with body": ([msgpack.packb([SESSION, 0, "abort", {}, 4]), b"1234"], "with a body"),
}


@pytest.mark.parametrize("name", RAW)
def test_a_broken_frame_ends_the_session_on_both_sides(pair: Pair, name: str) -> None:
    parts, complaint = RAW[name]
    for index, part in enumerate(parts):
        assert pair.alice._put(part, index + 1 < len(parts))
    with pytest.raises(PeerError) as caught:
        pair.bob.receive("open", size=4)
    assert caught.value.peer == "Alice"
    assert complaint in caught.value.reason
    with pytest.raises(PeerError):  # Alice hears about it,
        pair.alice.receive("open")
    with pytest.raises(PeerError):  # and Bob's link stays over
        pair.bob.send("open")


def test_a_good_frame_passes_the_same_way(pair: Pair) -> None:
    assert pair.alice._put(msgpack.packb(GOOD), True)
    assert pair.alice._put(b"1234", False)
    assert bytes(pair.bob.receive("open", size=4).body) == b"1234"


HELLOS = {
    "version": [VERSION + 1, SESSION, ENDS.transcript(), b"n" * 32],
    "session": [VERSION, b"z" * 16, ENDS.transcript(), b"n" * 32],
    "transcript": [VERSION, SESSION, b"t" * 32, b"n" * 32],
    "short nonce": [VERSION, SESSION, ENDS.transcript(), b"n" * 31],
    "no nonce": [VERSION, SESSION, ENDS.transcript()],
    "text": "hello",
    "another clock": [VERSION, SESSION, ENDS.transcript(), b"n" * 32, "clock"],
    "no clock": [VERSION, SESSION, ENDS.transcript(), b"n" * 32, 7],
    "too much": [VERSION, SESSION, ENDS.transcript(), b"n" * 32, "clock", "clock"],
}


@pytest.mark.parametrize("name", HELLOS)
def test_a_broken_hello_is_refused(make: Maker, name: str) -> None:
    with make() as found:
        assert _eventually(lambda: found.alice._put(msgpack.packb(HELLOS[name]), False))
        with pytest.raises(PeerError, match="Alice"):
            found.bob.open()


def test_an_echoed_hello_is_refused(make: Maker) -> None:
    with make() as found:

        def mirror() -> None:
            taken = None
            while taken is None:
                taken = found.alice._take(True)
            assert _eventually(lambda: found.alice._put(bytes(taken[0]), False))

        _, result = both(mirror, found.bob.open)
        assert isinstance(result, PeerError)
        assert "without a fresh nonce" in result.reason


def _eventually(action: Callable[[], bool]) -> bool:
    return any(action() for _ in range(50))


def test_an_abort_names_the_original_culprit_across_parties(make: Maker) -> None:
    """Carol breaks the rules towards Bob; Alice, who never talks to Carol, learns that it was Carol."""
    with make() as near:
        near.open()
        far = memory_pair(ENDS, (Circle(), near.circles[1]), SETTINGS, ("Carol", "Bob"))
        both(far[0].open, far[1].open)
        far[0].send("nonsense")
        results = both(
            lambda: near.alice.receive("open", timeout=5),
            lambda: far[1].receive("open", timeout=5),
        )
        for result in results:
            assert isinstance(result, PeerError)
            assert result.peer == "Carol"
        assert "reported by Bob" in str(results[0])
        with pytest.raises(PeerError, match="Carol"):
            near.bob.receive("open")


@pytest.mark.parametrize("error", [PeerLost("Dora", "froze"), RefusedError("Dora", "has no room")])
def test_an_abort_keeps_the_kind_of_error(pair: Pair, error: PeerError) -> None:
    pair.bob.abort(error)
    with pytest.raises(type(error), match=r"Dora: .*reported by Bob"):
        pair.alice.receive("open")


def test_an_abort_in_hostile_words_is_tidied(pair: Pair) -> None:
    pair.bob.abort(PeerError("Eve\x1b[2J\n" + "x" * 500, "line\nbreak\x00" + "y" * 5000))
    with pytest.raises(PeerError) as caught:
        pair.alice.receive("open")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 800


def test_a_failure_wakes_whoever_waits_on_another_link(make: Maker) -> None:
    with make() as near:
        near.open()
        far = memory_pair(ENDS, (Circle(), near.circles[0]), SETTINGS, ("Carol", "Alice"))
        both(far[0].open, far[1].open)
        started = time.monotonic()
        threading.Timer(0.2, far[0]._close).start()  # Carol hangs up without a word
        with pytest.raises(PeerLost, match="Carol"):
            near.alice.receive("open")
        assert time.monotonic() - started < 1.2
        with pytest.raises(PeerLost, match=r"Carol.*reported by Alice"):
            near.bob.receive("open")


def test_a_goodbye_is_not_a_failure_for_the_others(make: Maker) -> None:
    with make() as near:
        near.open()
        far = memory_pair(ENDS, (Circle(), near.circles[0]), SETTINGS, ("Carol", "Alice"))
        both(far[0].open, far[1].open)
        far[0].send("last", b"1")
        far[0].close()
        threading.Timer(0.4, near.bob.send, ("open",)).start()
        near.alice.receive("open")
        assert bytes(far[1].receive("last").body) == b"1"
        with pytest.raises(PeerLost, match="left the session"):
            far[1].receive("more")


def test_last_words_are_heard_after_the_connection_is_gone(pair: Pair) -> None:
    for number in range(5):
        pair.bob.send("open", number=number)
    pair.bob.close()
    time.sleep(0.3)
    assert [pair.alice.receive("open").fields["number"] for _ in range(5)] == list(range(5))
    with pytest.raises(PeerLost, match="left the session"):
        pair.alice.receive("open")


def test_silence_ends_in_time(pair: Pair) -> None:
    started = time.monotonic()
    with pytest.raises(NetworkError, match=r"Bob: sent no 'open' within 0.3 s"):
        pair.alice.receive("open", timeout=0.3)
    assert 0.25 < time.monotonic() - started < 1.0


def test_a_sender_waits_for_a_slow_reader_without_losing_the_link(pair: Pair) -> None:
    """Four windows of data, a reader that pauses for longer than the heartbeat: nothing is lost, nothing piles up."""
    body, count = np.ones(1 << 15, np.uint64), 16  # 256 KiB each, window 1 MiB
    sent = []

    def send() -> None:
        for number in range(count):
            pair.alice.send("bulk", body, number=number)
            sent.append(number)

    def read() -> None:
        time.sleep(1.6)
        assert len(sent) <= 4
        for number in range(count):
            assert pair.bob.receive("bulk", size=body.nbytes).fields["number"] == number

    assert both(send, read) == [None, None]
    assert pair.alice.stats.stalled_seconds > 1.0


def test_a_sender_does_not_wait_for_ever(make: Maker) -> None:
    with make(settings=LinkSettings(timeout=0.4, window=1 << 16)) as found:
        found.open()
        with pytest.raises(NetworkError, match="did not read what it was sent"):
            talk(found.alice, 10, 0)


def talk(link: Link, send: int, receive: int, late: float = 0) -> list[object]:
    for number in range(send):
        link.send("bulk", b"x" * (1 << 14), number=number)
    time.sleep(late)
    return [link.receive("bulk").fields["number"] for _ in range(receive)]


def test_messages_that_come_while_waiting_for_credit_are_kept(make: Maker) -> None:
    with make(settings=LinkSettings(timeout=5, window=1 << 16)) as found:
        found.open()
        results = both(lambda: talk(found.alice, 20, 2), lambda: talk(found.bob, 2, 20, late=0.3))
        assert results == [[0, 1], list(range(20))]


def test_two_that_only_send_end_in_an_error_not_a_hang(make: Maker) -> None:
    with make(settings=LinkSettings(timeout=0.5, window=1 << 16)) as found:
        found.open()
        results = both(lambda: talk(found.alice, 20, 20), lambda: talk(found.bob, 20, 20))
        assert all(isinstance(result, NetworkError | PeerError) for result in results)


def test_closing_twice_and_using_a_closed_link(pair: Pair) -> None:
    pair.alice.close()
    pair.alice.close()
    with pytest.raises(PeerLost):
        pair.bob.receive("open")
