"""What a gate costs, declared once beside its code; the tracer adds declarations up, the tests hold them to the links."""

from __future__ import annotations

from dataclasses import dataclass

from ...kernels.bits import packed_bytes


@dataclass(frozen=True, slots=True)
class Cost:
    """Rounds, bytes each compute peer sends online, bytes the dealer sends to peer 0 and to peer 1."""

    rounds: int = 0
    online: int = 0
    offline0: int = 0
    offline1: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.rounds + other.rounds,
            self.online + other.online,
            self.offline0 + other.offline0,
            self.offline1 + other.offline1,
        )


def opened(count: int, bits: int) -> Cost:
    """`count` values of `bits` bits opened in one round."""
    return Cost(rounds=1, online=packed_bytes(bits, count))


def dealt(count: int, bits: int) -> Cost:
    """`count` dealt values of `bits` bits: corrections to peer 1."""
    return Cost(offline1=packed_bytes(bits, count) if bits > 0 else 0)


def keyed(count: int, depth: int, words: int) -> Cost:
    """`count` tree keys, correction words to both peers."""
    size = count * (16 * depth + 8 * words)
    return Cost(offline0=size, offline1=size)


def local(*costs: Cost) -> Cost:
    """The same bytes without rounds of their own: for parts that ride on another opening's round."""
    online = sum(c.online for c in costs)
    return Cost(0, online, sum(c.offline0 for c in costs), sum(c.offline1 for c in costs))
