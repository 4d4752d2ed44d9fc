"""What a peer's sessions came to since it started: rounds, bytes and how they ended, for its status.

Counted are messages and sizes on links, which follow from the model and the numbers of tokens. Nothing of it depends on what
was asked or answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..ends import LinkStats
from ..errors import NetworkError, PeerError, PeerLost, TacitError
from ..wire import CLIENT_LEFT, DEALER, DONE, HERE, PEER, UNOPENED, Totals

if TYPE_CHECKING:
    from .session import Seat

_CLIENT = "client"  # as links name it in their errors


@dataclass(frozen=True, slots=True)
class Work:
    """Of one seat. A round is one message to the other compute peer and one from it."""

    rounds: int = 0
    online_bytes: int = 0  # sent to the other compute peer
    offline_bytes: int = 0  # sent to both, as the dealer

    def __add__(self, other: Work) -> Work:
        return Work(
            self.rounds + other.rounds,
            self.online_bytes + other.online_bytes,
            self.offline_bytes + other.offline_bytes,
        )


def work(own_role: int, stats: Mapping[int, LinkStats]) -> Work:
    """What a seat has done so far, by its links' counts; `stats` by the role at the other end."""
    if own_role == DEALER:
        return Work(offline_bytes=sum(stats[role].bytes_sent for role in (0, 1) if role in stats))
    other = stats.get(1 - own_role)
    return Work() if other is None else Work(rounds=other.sends, online_bytes=other.bytes_sent)


def outcome(error: TacitError | None, *, opened: bool, own_name: str) -> str:
    """How a session ended: one of `wire.OUTCOMES`. `error`: what ended it, None at its orderly end."""
    if not opened:
        return UNOPENED
    if error is None:
        return DONE
    if not isinstance(error, PeerError | PeerLost | NetworkError):
        return HERE
    named = error.peer if isinstance(error, PeerError | PeerLost) else str(error).partition(":")[0]
    return {_CLIENT: CLIENT_LEFT, own_name: HERE}.get(named, PEER)


class Tallies:
    """Of all seats of a peer. For one thread at a time."""

    def __init__(self) -> None:
        self._work = Work()
        self._ended: Counter[str] = Counter()

    def end(self, seat: Seat) -> None:
        """Count a seat that is over, once."""
        self._work += seat.work
        self._ended[seat.outcome] += 1

    def totals(self, running: Iterable[Seat]) -> Totals:
        """With what the seats that run have done so far."""
        now = sum((seat.work for seat in running), self._work)
        return Totals(now.rounds, now.online_bytes, now.offline_bytes, dict(self._ended))
