"""What the other side may get wrong: every wrong size, step or round is a PeerError naming who sent it."""

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pair_plans import GPT2, scales
from tacit.errors import PeerError
from tacit.protocols.pair.lift import deal_lift, lift
from tacit.protocols.pair.party import Dealer, Party
from tacit.protocols.pair.spline import apply_table, deal_table
from tacit.transport import Circle, Link
from three_parties import encode, pair, run, shared, trees

COUNT = 6


def lifting(change: Callable[[np.ndarray], Any], **fields: int) -> Callable[[], Any]:
    """A lift whose corrections to peer 1 are changed on the way out."""

    class Wrong(Dealer):
        def flush(self) -> None:
            for i, items in enumerate(self._items):
                if items:
                    body = change(np.concatenate(items))
                    items.clear()
                    named = {"step": self._step, "number": self._message[i]} | fields
                    self._links[i].send("correlations", body, **named)
                    self._message[i] += 1

    shares = shared(np.arange(COUNT, dtype=np.uint64), 0, 40)

    def peer(p: Any) -> None:
        lift(p, shares[p.role], 40)
        p.begin(1)

    return lambda: run(peer, lambda d: deal_lift(d, COUNT, 40), dealer_type=Wrong)


@pytest.mark.parametrize(
    ("change", "fields", "reason"),
    [
        (lambda b: b[:-1], {}, "bytes of a gate that needs"),
        (lambda b: b[:4], {}, "bytes of a gate that needs"),
        (lambda b: np.zeros(0, np.uint8), {}, "bytes of a gate that needs"),
        (lambda b: np.concatenate([b, b[:1]]), {}, "1 bytes of correlations too many"),
        (lambda b: b, {"step": 1}, "another step or gate"),
        (lambda b: b, {"number": 1}, "another step or gate"),
    ],
    ids=["a byte short", "much too short", "empty", "a byte long", "another step", "another gate"],
)
def test_wrong_correlations(change: Callable[[np.ndarray], Any], fields: dict[str, int], reason: str) -> None:
    with pytest.raises(PeerError, match=reason) as caught:
        lifting(change, **fields)()
    assert caught.value.peer == "peer-2"


def test_right_correlations_pass_the_same_way() -> None:
    lifting(lambda b: b)()


def test_keys_too_short() -> None:
    table = scales(GPT2).activation("layers.0.act").table
    shares = shared(encode(np.ones(3), 12), 12, 64)

    class Short(Dealer):
        def keys(self, *args: Any, **options: Any) -> None:
            super().keys(*args, **options)
            for items in self._items:
                items[-1] = items[-1][:-8]

    with pytest.raises(PeerError, match="bytes of a gate that needs") as caught:
        run(lambda p: apply_table(p, shares[p.role], table), lambda d: deal_table(d, table, 3), dealer_type=Short)
    assert caught.value.peer == "peer-2"


def test_a_message_of_another_kind_instead_of_correlations() -> None:
    shares = shared(np.arange(COUNT, dtype=np.uint64), 0, 40)
    with pytest.raises(PeerError, match="sent 'dealt'") as caught:
        run(lambda p: lift(p, shares[p.role], 40), lambda d: [link.send("dealt", step=0) for link in d._links])
    assert caught.value.peer == "peer-2"


def opening(send: Callable[[Link], None]) -> None:
    """Peer 0 opens COUNT values of 20 bits (15 bytes); the other side is `send`."""
    circles = [Circle() for _ in range(3)]
    mine, theirs = pair(0, 1, circles)
    dealer, _ = pair(0, 2, circles)
    party = Party(0, mine, dealer, os.urandom(32), trees())
    party.begin(3)
    other = threading.Thread(target=send, args=(theirs,))
    other.start()
    try:
        party.exchange([(party.mask(COUNT), 20)])
    finally:
        other.join()


@pytest.mark.parametrize(
    ("size", "fields", "kind", "reason"),
    [
        (14, {"step": 3, "round": 0}, "open", "body of 14 bytes, expected 15"),
        (16, {"step": 3, "round": 0}, "open", "body of 16 bytes, expected 15"),
        (0, {"step": 3, "round": 0}, "open", "body of 0 bytes, expected 15"),
        (15, {"step": 2, "round": 0}, "open", "another step or round"),
        (15, {"step": 3, "round": 1}, "open", "another step or round"),
        (15, {}, "open", "another step or round"),
        (15, {"step": 3, "round": 0}, "opened", "expected 'open'"),
    ],
)
def test_wrong_openings(size: int, fields: dict[str, int], kind: str, reason: str) -> None:
    with pytest.raises(PeerError, match=reason) as caught:
        opening(lambda link: link.send(kind, bytes(size), **fields))
    assert caught.value.peer == "peer-1"


def test_a_right_opening_passes_the_same_way() -> None:
    opening(lambda link: link.send("open", bytes(15), step=3, round=0))


def test_errors_show_no_correlations() -> None:
    """The reason names sizes; never bytes of what was sent."""
    secret = b"\xde\xad\xbe\xef"
    with pytest.raises(PeerError) as caught:
        lifting(lambda b: np.frombuffer(secret * 3, np.uint8))()
    assert "dead" not in str(caught.value).lower()
    assert "222" not in str(caught.value)
