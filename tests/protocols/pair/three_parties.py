"""Two compute peers and a dealer in three threads over in-memory links, with everything they say written down."""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tacit.errors import TacitError
from tacit.kernels.bits_numba import packed_bytes, unpack
from tacit.kernels.dpf.hashing import tree_keys
from tacit.kernels.dpf.trees import Trees, make_trees
from tacit.protocols.pair.cost import Cost
from tacit.protocols.pair.party import Dealer, Party
from tacit.protocols.pair.secret import Secret, low
from tacit.transport import Circle, Ends, Link, LinkSettings, memory_pair

U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]
A, B, D = TypeVar("A"), TypeVar("B"), TypeVar("D")


def words(*shape: int) -> U64:
    """Fresh uniform words."""
    return np.frombuffer(os.urandom(8 * int(np.prod(shape))), np.uint64).reshape(shape).copy()


@dataclass
class Said:
    """One message: everything about it but who hears it."""

    kind: str
    fields: dict[str, Any]
    body: bytes


class Recorder:
    """A link that keeps what its owner sends."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.remote = link.remote
        self.stats = link.stats
        self.said: list[Said] = []

    def send(self, kind: str, body: Any = b"", **fields: Any) -> None:
        view = memoryview(body)
        self.said.append(Said(kind, fields, bytes(view.cast("B") if view.nbytes else b"")))
        self._link.send(kind, body, **fields)

    def receive(self, kind: Any, **options: Any) -> Any:
        return self._link.receive(kind, **options)


@dataclass
class Opening:
    """One value that one exchange opened, flat: what each party sent for it, the sum, and the parties' masks."""

    step: int
    bits: int
    shape: tuple[int, ...]
    sent: list[U64]
    total: U64
    masks: list[U64]


class WatchedParty(Party):
    """A party whose openings and masks a test may look at."""

    def watch(self) -> None:
        self.masks: list[U64] = []
        self.opened: list[list[tuple[int, int, tuple[int, ...], U64, U64]]] = []

    def mask(self, count: int) -> U64:
        out = super().mask(count)
        self.masks.append(out.copy())
        return out

    def _mask_of(self, count: int) -> U64:
        """The oldest mask of that many words that no opening has used."""
        at = next(i for i, m in enumerate(self.masks) if len(m) == count)
        return self.masks.pop(at)

    def exchange(self, values: Sequence[tuple[U64, int]]) -> list[U64]:
        out = super().exchange(values)
        self.opened.append(
            [
                (self._step, n, x.shape, low(y, n).reshape(-1).copy(), self._mask_of(x.size))
                for (x, n), y in zip(values, out, strict=True)
            ]
        )
        return out


@dataclass
class Run:
    """What came out, and what was said on the way."""

    results: list[Any]
    openings: list[Opening]
    counters: list[Any]  # of the parties' last step
    sent: list[int]  # by the dealer, in its last step
    links: dict[str, list[Said]] = field(default_factory=dict)

    @property
    def cost(self) -> Cost:
        """What the last step cost by count; both parties count the same rounds and online bytes."""
        a, b = self.counters
        assert (a.rounds, a.online_bytes) == (b.rounds, b.online_bytes)
        assert [a.offline_bytes, b.offline_bytes] == self.sent
        return Cost(a.rounds, a.online_bytes, a.offline_bytes, b.offline_bytes)

    def value(self, pick: Callable[[Any], Secret] = lambda r: r) -> F64:
        """The number the parties' results share."""
        return value(pick(self.results[0]), pick(self.results[1]))


SESSION = bytes(16)


def pair(a: int, b: int, circles: Sequence[Circle], session: bytes = SESSION) -> tuple[Link, Link]:
    """A link between roles a and b, not opened: seeds come from the test."""
    ends = Ends(session, ("id-0", "id-1", "id-2", "client"), a, b, "", "manifest")
    names = (f"peer-{a}", f"peer-{b}")
    return memory_pair(ends, (circles[a], circles[b]), LinkSettings(timeout=60), names)


_TREES: list[Trees] = []


def trees() -> Trees:
    """One tree hash for all sessions of a test run: key schedules are cheap, but not free."""
    if not _TREES:
        _TREES.append(make_trees(tree_keys(os.urandom(16))))
    return _TREES[0]


def run(
    peer: Callable[[Any], Any],
    deal: Callable[[Any], Any],
    *,
    party_type: type[Party] = Party,
    dealer_type: type[Dealer] = Dealer,
    watch: bool = False,
) -> Run:
    """peer(party) at roles 0 and 1, deal(dealer); the first error of any of them is raised here."""
    circles = [Circle() for _ in range(3)]
    ends = {name: [Recorder(x) for x in pair(*name, circles)] for name in ((0, 1), (0, 2), (1, 2))}
    k = (os.urandom(32), os.urandom(32))
    kind = type("Watched", (WatchedParty, party_type), {}) if watch else party_type
    parties = [kind(i, ends[0, 1][i], ends[i, 2][0], k[i], trees()) for i in (0, 1)]
    for p in parties if watch else ():
        p.watch()
    dealer = dealer_type((ends[0, 2][1], ends[1, 2][1]), k, trees())
    for one in (*parties, dealer):
        one.begin(0)
    results: list[Any] = [None, None, None]
    errors: list[tuple[bool, BaseException]] = []

    def act(i: int, what: Callable[[], Any]) -> None:
        try:
            results[i] = what()
        except BaseException as error:  # noqa: BLE001 (raised again below)
            errors.append((isinstance(error, TacitError), error))
            circles[i].close()  # wakes the others

    def dealing() -> Any:
        out = deal(dealer)
        dealer.flush()
        return out

    jobs = [lambda: peer(parties[0]), lambda: peer(parties[1]), dealing]
    threads = [threading.Thread(target=act, args=(i, job), daemon=True) for i, job in enumerate(jobs)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise min(errors, key=lambda e: e[0])[1]  # a mistake of ours before a link's complaint
    links = {f"{i}->{1 - i}": ends[0, 1][i].said for i in (0, 1)}
    links |= {f"2->{i}": ends[i, 2][1].said for i in (0, 1)} | {f"{i}->2": ends[i, 2][0].said for i in (0, 1)}
    openings = _openings(parties, links) if watch else []
    return Run(results, openings, [p.counters for p in parties], list(dealer.sent), links)


def _openings(parties: Sequence[Any], links: dict[str, list[Said]]) -> list[Opening]:
    """The opened values as the wire carried them."""
    out = []
    heard = [[m for m in links[f"{i}->{1 - i}"] if m.kind == "open"] for i in (0, 1)]
    for n, (mine, theirs) in enumerate(zip(parties[0].opened, parties[1].opened, strict=True)):
        at = 0
        for (step, bits, shape, total, m0), (_, _, _, other, m1) in zip(mine, theirs, strict=True):
            size = packed_bytes(bits, len(total))
            sent = [unpack(np.frombuffer(h[n].body, np.uint8)[at : at + size], bits, len(total)) for h in heard]
            assert np.array_equal(total, other)
            assert np.array_equal(low(sent[0] + sent[1], bits), total)
            out.append(Opening(step, bits, shape, sent, total, [m0, m1]))
            at += size
        assert at == len(heard[0][n].body)
    return out


def encode(x: Any, frac: int) -> U64:
    """round(x 2^frac) mod 2^64."""
    return np.rint(np.asarray(x, np.float64) * 2.0**frac).astype(np.int64).view(np.uint64)


def signed(x: U64, bits: int) -> NDArray[np.int64]:
    """x mod 2^bits as a signed number."""
    return (x << np.uint64(64 - bits)).view(np.int64) >> np.int64(64 - bits)


def shared(ring: U64, frac: int, bits: int, degenerate: int | None = None) -> tuple[Secret, Secret]:
    """Shares of a ring element, with rubbish above `bits`; `degenerate`: all of it at that party, 0 at the other."""
    ring = np.ascontiguousarray(ring)
    if degenerate is not None:
        parts = [ring.copy() if i == degenerate else np.zeros_like(ring) for i in (0, 1)]
        return Secret(parts[0], frac, bits), Secret(parts[1], frac, bits)
    first = words(*ring.shape)
    rubbish = words(*ring.shape) << np.uint64(bits) if bits < 64 else np.uint64(0)
    return Secret(first, frac, bits), Secret(ring - first + rubbish, frac, bits)


def value(y0: Secret, y1: Secret) -> F64:
    """The number two shares stand for."""
    assert (y0.frac, y0.bits) == (y1.frac, y1.bits)
    return signed(y0.share + y1.share, y0.bits) / 2.0**y0.frac
