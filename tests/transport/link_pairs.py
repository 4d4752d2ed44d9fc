"""Two ends of one link in this process, over memory or over ZeroMQ, for tests that must hold for both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from tacit.network import Profile
from tacit.party.zap import Doorkeeper
from tacit.shaping import ShapedLine
from tacit.transport import Circle, CurveKeys, Ends, Link, LinkSettings, ZmqLink, memory_pair, new_context

SESSION = bytes(range(16))
ENDS = Ends(SESSION, ("id-a", "id-b", "id-dealer", "client key"), 0, 1, "Bob", "0" * 64)
SETTINGS = LinkSettings(timeout=5, opening_timeout=5, window=1 << 20, max_body=1 << 26)


@dataclass
class Pair:
    alice: Link
    bob: Link
    circles: tuple[Circle, Circle]
    server_key: str = ""

    def open(self) -> None:
        both(self.alice.open, self.bob.open)


Lines = tuple[ShapedLine | None, ShapedLine | None]
PLAIN: Lines = (None, None)


def lines(*texts: str) -> Lines:
    """What shapes what Alice and what Bob receives: profiles, one or two."""
    first, last = (_line(Profile.parse(text), seed) for seed, text in enumerate((texts[0], texts[-1])))
    return first, last


def _line(profile: Profile, seed: int) -> ShapedLine:
    return ShapedLine(lambda: profile, np.random.default_rng(seed))


def both(*actions: Callable[[], object]) -> list[object]:
    """Run side by side; what each returned or raised."""
    found: list[object] = [None] * len(actions)

    def run(index: int) -> None:
        try:
            found[index] = actions[index]()
        except Exception as error:  # noqa: BLE001  the test looks at it
            found[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return found


@contextmanager
def memory(
    alice: Ends = ENDS, bob: Ends | None = None, settings: LinkSettings = SETTINGS, lines: Lines = PLAIN
) -> Iterator[Pair]:
    circles = (Circle(), Circle())
    first, second = memory_pair(alice, circles, settings, ("Alice", "Bob"), lines)
    if bob is not None:
        second.ends = bob
    yield Pair(first, second, circles)
    for circle in circles:
        circle.close()


@contextmanager
def sockets(
    alice: Ends = ENDS, bob: Ends | None = None, settings: LinkSettings = SETTINGS, lines: Lines = PLAIN
) -> Iterator[Pair]:
    circles, keys = (Circle(), Circle()), (CurveKeys.fresh(), CurveKeys.fresh())
    here, there = new_context(), new_context()
    with Doorkeeper(here) as doorkeeper:
        doorkeeper.admit("door", keys[1].public)
        first = ZmqLink.bind(here, "127.0.0.1", "door", keys[0], alice, circles[0], settings, line=lines[0])
        bob = bob or alice.mirrored("Alice")
        second = ZmqLink.dial(there, first.endpoint, keys[0].public, keys[1], bob, circles[1], settings, line=lines[1])
        yield Pair(first, second, circles, keys[0].public)
        for circle in circles:
            circle.close()
    here.term()
    there.term()


def altered(ends: Ends, **changes: object) -> Ends:
    return replace(ends, **changes)  # type: ignore[arg-type]
