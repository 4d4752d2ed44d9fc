"""A peer that changes its key: the old key names the new one, and whoever pinned the old one can follow.

| record       | said                                         | signed by                | kept in                      |
| ------------ | -------------------------------------------- | ------------------------ | ---------------------------- |
| `Succession` | from now on `new` is the peer that was `old` | the old key, the new one | identity file, member record |

A chain is the successions of one peer, oldest first. The old key's signature shows that the peer itself named its successor;
the new key's, that nobody can be made somebody else's successor against their will. Only the holder of a key can name a
second successor of it: such a fork shows that the key was copied, and then nobody can say which successor is the peer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from .checks import is_peer_id, short_id
from .errors import IdentityError, PeerError
from .records import Check, Record, bytes_of, constant, distinct, integer, many, record
from .signed import Signed

MAX_LINKS = 8  # of a chain; whoever pinned an id from before that has to pin again

is_time = integer(0, 1 << 40)  # whole seconds since the epoch


@dataclass(frozen=True)
class Succession(Record):
    """`new` takes the place of `old`. `made`: when, in seconds since the epoch, by the peer's clock."""

    context: str
    old: str
    new: str
    made: int

    CONTEXT: ClassVar[str] = "tacit/succession/1"
    CHECKS: ClassVar[dict[str, Check]] = {
        "context": constant(CONTEXT),
        "old": is_peer_id,
        "new": is_peer_id,
        "made": is_time,
    }


@dataclass(frozen=True)
class SignedSuccession(Record):
    """Exact bytes of a `Succession` and both keys' signatures over them (base64 in JSON)."""

    payload: bytes
    by_old: bytes
    by_new: bytes

    CHECKS: ClassVar[dict[str, Check]] = {
        "payload": bytes_of(None, 1024),
        "by_old": bytes_of(64),
        "by_new": bytes_of(64),
    }

    def verified(self, name: str) -> Succession:
        """What both keys signed. Raises IdentityError or PeerError naming `name`, whose succession it is said to be."""
        said = Succession.from_bytes(self.payload, name)
        for what, peer_id, signature in (("old", said.old, self.by_old), ("new", said.new, self.by_new)):
            try:
                Signed(self.payload, signature).verified(peer_id, name)
            except IdentityError:
                raise IdentityError(
                    name,
                    f"the succession of {short_id(said.old)} is not signed by the {what} key ({short_id(peer_id)})",
                ) from None
        return said


Chain = tuple[SignedSuccession, ...]

is_chain: Check = distinct(many(record(SignedSuccession), 0, MAX_LINKS))


def read_chain(chain: Sequence[SignedSuccession], name: str) -> tuple[Succession, ...]:
    """The successions of a chain, every one checked. `name` is for messages.

    Raises IdentityError for a chain that is too long, broken or circular, goes back in time, or lacks a signature.
    """
    if len(chain) > MAX_LINKS:
        raise IdentityError(name, f"shows {len(chain)} successions, at most {MAX_LINKS} are followed")
    links = tuple(one.verified(name) for one in chain)
    for before, after in pairwise(links):
        if before.new != after.old:
            raise IdentityError(
                name, f"shows successions that do not join: {short_id(before.new)}, {short_id(after.old)}"
            )
        if after.made < before.made:
            raise IdentityError(name, f"shows successions whose times go back at {short_id(after.old)}")
    ids = [*(link.old for link in links), *(link.new for link in links[-1:])]
    if len(set(ids)) != len(ids):
        raise IdentityError(name, "shows successions that come back to a key that was given up")
    return links


def current(chain: Sequence[SignedSuccession], pinned: str, name: str) -> str:
    """The id that `pinned` has by now. Raises IdentityError unless the chain is in order and leads there from `pinned`."""
    links = read_chain(chain, name)
    if pinned not in {link.old for link in links} | {link.new for link in links[-1:]}:
        raise IdentityError(name, f"shows successions that do not begin at {short_id(pinned)}, the id that was pinned")
    return links[-1].new


def follow(
    pinned: str,
    chain: Sequence[SignedSuccession],
    name: str,
    others: Iterable[Sequence[SignedSuccession]] = (),
) -> Chain:
    """The successions that lead from `pinned` to the id it has by now; () if nothing is said of it.

    `chain`: what the peer itself shows; it has to be in order. `others`: chains seen elsewhere, what was followed before
    among them; those in order are heard as well, so that a chain cut short takes nobody back to a key that was given up.
    Raises IdentityError, naming the ids, where a key on the way has two successors or took the place of two.
    """
    heard = [*zip(read_chain(chain, name), chain, strict=True)]
    for other in others:
        with suppress(PeerError):  # what others show is no fault of this peer
            heard += zip(read_chain(other, name), other, strict=True)
    after: dict[str, dict[str, SignedSuccession]] = {}
    before: dict[str, set[str]] = {}
    for link, signed in heard:
        after.setdefault(link.old, {}).setdefault(link.new, signed)
        before.setdefault(link.new, set()).add(link.old)
    found: list[SignedSuccession] = []
    seen, at = {pinned}, pinned
    while at in after:
        if len(after[at]) > 1:
            raise IdentityError(name, f"key {short_id(at)} has two successors, {_ids(after[at])}: {_COPIED}")
        ((at, signed),) = after[at].items()
        if len(before[at]) > 1:
            raise IdentityError(name, f"key {short_id(at)} took the place of two, {_ids(before[at])}: {_COPIED}")
        if at in seen:
            raise IdentityError(name, "shows successions that come back to a key that was given up")
        seen.add(at)
        found.append(signed)
    return tuple(found)


_COPIED = "a key was copied or misused; ask the operator which is right, and pin that one by hand"


def _ids(ids: Iterable[str]) -> str:
    return " and ".join(sorted(map(short_id, ids)))
