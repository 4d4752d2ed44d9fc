"""The messages of one token, out of all that were recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..records import Case, Transfer

CLIENT, DEALER = "client", "dealer"
KINDS = ("online", "from the dealer", "with the client")
MOST_LINES = 200
FIRST_ROUNDS = 10


@dataclass(frozen=True)
class Token:
    """The messages of one step; times from its first message on that is not the dealer's."""

    case: Case
    step: int
    messages: list[Transfer]
    end_ms: float
    ahead: int  # messages of the dealer that were there before
    ahead_bytes: int

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.messages)


def kind_of(message: Transfer) -> str:
    ends = {message.sender, message.receiver}
    return KINDS[2] if CLIENT in ends else KINDS[1] if DEALER in ends else KINDS[0]


def token_of(case: Case, transfers: Sequence[Transfer]) -> Token | None:
    """The second token if it was recorded whole, the first otherwise: the prompt's step is not one."""
    steps: dict[int, list[Transfer]] = defaultdict(list)
    for each in transfers:
        if each.case == case:
            steps[each.step].append(each)
    later = sorted(step for step in steps if step > 0) or sorted(steps)
    for step in later[1:2] + later[:1]:
        own = [each for each in steps[step] if DEALER not in (each.sender, each.receiver)]
        if not own:
            continue
        start, end = min(each.sent_ms for each in own), max(each.read_ms for each in own)
        moved = [replace(each, sent_ms=each.sent_ms - start, read_ms=each.read_ms - start) for each in steps[step]]
        during = [each for each in moved if each.read_ms >= 0 and each.sent_ms <= end - start]
        before = [each for each in moved if each.read_ms < 0]
        ordered = sorted(during, key=lambda each: each.sent_ms)
        return Token(case, step, ordered, end - start, len(before), sum(each.bytes for each in before))
    return None


def beginning_of(token: Token) -> Token:
    """Until both compute peers have exchanged `FIRST_ROUNDS` messages."""
    online = [each for each in token.messages if kind_of(each) == KINDS[0]]
    end = max((each.read_ms for each in online[: 2 * FIRST_ROUNDS]), default=token.end_ms)
    return replace(token, messages=[each for each in token.messages if each.sent_ms < end], end_ms=end)


def merged(token: Token) -> list[Transfer]:
    """At most about `MOST_LINES` messages: those close together between the same parties become one."""
    if len(token.messages) <= MOST_LINES:
        return token.messages
    pairs = len({(each.sender, each.receiver) for each in token.messages})
    slot = (token.end_ms or 1.0) / max(1, MOST_LINES // pairs)
    together: dict[tuple[str, str, int], list[Transfer]] = defaultdict(list)
    for each in token.messages:
        together[each.sender, each.receiver, int(max(0.0, each.sent_ms) / slot)].append(each)
    return [
        replace(
            found[0],
            read_ms=max(each.read_ms for each in found),
            bytes=sum(each.bytes for each in found),
            site=found[0].site if len(found) == 1 else f"{len(found)} messages",
        )
        for found in together.values()
    ]
