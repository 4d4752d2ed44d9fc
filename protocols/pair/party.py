"""The two ends of a correlation: what the dealer makes, in the order in which a compute peer takes it.

Seeds (DESIGN 5.1): k_i between dealer and peer i. A mask is R = PRG(k_0) + PRG(k_1) and costs no traffic. A value that depends
on masks is dealt as peer 0 = PRG(k_0), peer 1 = value - PRG(k_0), the *correction*, in the bits that matter. Tree roots come
from PRG(k_0) and PRG(k_1); correction words are sent to both. Each purpose has its own stream, read in protocol order and
drawn in blocks named (purpose, step, number); a `Prg` refuses a name twice and a block's words are handed out once: nothing
is consumed twice.

| message | between | fields | body |
| --- | --- | --- | --- |
| correlations | dealer -> peer i | step, number | gates' items in order, byte aligned: corrections (peer 1 only), packed; |
| | | | keys: cw, then pcw, 8 bytes a word |
| open | peer <-> peer | step, round | masked shares of all values of the round, packed, byte aligned |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from struct import pack as pack_header

import numpy as np
import numpy.typing as npt

from ...errors import PeerError
from ...kernels.bits_numba import pack, packed_bytes, unpack
from ...kernels.dpf.trees import Trees
from ...kernels.prg import Prg, Purpose
from ...transport import Link
from .secret import U64, low

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
BLOCK = 1 << 13  # words
MESSAGE = 1 << 18  # bytes of correlations worth a message


class Stream:
    """The words of one purpose in one step, in order. Two holders of a seed that ask for the same counts get the same words.

    Small requests are cut from blocks, because a step makes hundreds of them; a large one is a block of its own.
    """

    def __init__(self, prg: Prg, purpose: Purpose, step: int) -> None:
        self._prg, self._purpose, self._step = prg, purpose, step
        self._number, self._at = 0, BLOCK
        self._block = np.empty(0, np.uint64)

    def words(self, count: int) -> U64:
        """The next `count` words (a view that nobody else holds)."""
        if count > BLOCK - self._at:
            block = self._prg.words(self._purpose, self._step, self._number, max(count, BLOCK))
            self._number += 1
            if count >= BLOCK:
                return block
            self._block, self._at = block, 0
        self._at += count
        return self._block[self._at - count : self._at]


@dataclass(slots=True)
class Counters:
    """What one step cost this party."""

    rounds: int = 0
    online_bytes: int = 0  # payload sent to the other compute peer
    offline_bytes: int = 0  # payload received from the dealer


class Party:
    """A compute peer's side: takes correlations, exchanges openings. One thread."""

    def __init__(self, role: int, peer: Link, dealer: Link, k_dealer: bytes, trees: Trees) -> None:
        self.role = role
        self.trees = trees
        self.counters = Counters()
        self._peer, self._dealer = peer, dealer
        self._prg = Prg(k_dealer)
        self._streams = {purpose: Stream(self._prg, purpose, 0) for purpose in Purpose}
        self._step, self._message = 0, 0
        self._body, self._at = memoryview(b""), 0
        self._transcripts = (sha256(), sha256())

    @property
    def transcript(self) -> bytes:
        """What was opened so far: SHA-256 over the hashes of what role 0 and role 1 sent, each message with its step, round
        and size before it. Both peers have the same."""
        return sha256(b"".join(one.digest() for one in self._transcripts)).digest()

    def begin(self, step: int) -> None:
        """Start a step: numbering restarts under the new step's name."""
        self._finished()
        self._streams = {purpose: Stream(self._prg, purpose, step) for purpose in Purpose}
        self._step, self._message = step, 0
        self.counters = Counters()

    def _finished(self) -> None:
        if self._at != len(self._body):
            raise PeerError(self._dealer.remote, f"sent {len(self._body) - self._at} bytes of correlations too many")

    def _words(self, purpose: Purpose, count: int) -> U64:
        return self._streams[purpose].words(count)

    def _bytes(self, size: int) -> memoryview:
        """The next `size` bytes of the dealer's stream; a new message is fetched when the last is used up."""
        if self._at == len(self._body):
            message = self._dealer.receive("correlations")
            if message.fields.get("step") != self._step or message.fields.get("number") != self._message:
                raise PeerError(self._dealer.remote, "its correlations are for another step or gate")
            self._message += 1
            self._body, self._at = message.body, 0
            self.counters.offline_bytes += len(message.body)
        end = self._at + size
        if end > len(self._body):
            raise PeerError(self._dealer.remote, f"sent {len(self._body) - self._at} bytes of a gate that needs {size}")
        out = self._body[self._at : end]
        self._at = end
        return out

    def mask(self, count: int) -> U64:
        """This party's part of `count` fresh mask words."""
        return self._words(Purpose.MASK, count)

    def take(self, count: int, bits: int) -> U64:
        """This party's share, mod 2^bits, of `count` dealt values."""
        if bits <= 0:
            return np.zeros(count, np.uint64)
        if self.role == 0:
            return low(self._words(Purpose.PAD, count), bits)
        return unpack(self._bytes(packed_bytes(bits, count)), bits, count)

    def keys(self, count: int, depth: int, words: int) -> tuple[U64, U64, U64]:
        """Roots (B, 2), cw (B, depth, 2), pcw (B, words) of `count` dealt trees."""
        roots = self._words(Purpose.ROOT, 2 * count).reshape(count, 2)
        cw = np.frombuffer(self._bytes(16 * depth * count), np.uint64).reshape(count, depth, 2)
        pcw = np.frombuffer(self._bytes(8 * words * count), np.uint64).reshape(count, words)
        return roots, cw, pcw

    def exchange(self, values: Sequence[tuple[U64, int]]) -> list[U64]:
        """Open masked values in one round: (own masked share, bits) each -> their sums mod 2^bits, shapes kept.

        Rounds 1; bytes = sum of ceil(count bits / 8) each way. PeerError if the other side sends another size or round.
        """
        packed, mine = self._packed(values)
        self._peer.send("open", mine, step=self._step, round=self.counters.rounds)
        head = pack_header("<QQQ", self._step, self.counters.rounds, mine.nbytes)
        self._transcripts[self.role].update(head)
        self._transcripts[self.role].update(mine.data)  # while the other side's half is on its way
        message = self._peer.receive("open", size=mine.nbytes)
        if message.fields.get("step") != self._step or message.fields.get("round") != self.counters.rounds:
            raise PeerError(self._peer.remote, "opened values of another step or round")
        self._transcripts[1 - self.role].update(head)
        self._transcripts[1 - self.role].update(message.body)
        self.counters.rounds += 1
        self.counters.online_bytes += mine.nbytes
        return self._opened(values, packed, message.body)

    def _packed(self, values: Sequence[tuple[U64, int]]) -> tuple[list[U8], U8]:
        packed = [pack(np.ascontiguousarray(x).reshape(-1), bits) for x, bits in values]
        return packed, packed[0] if len(packed) == 1 else np.concatenate(packed)

    def _opened(self, values: Sequence[tuple[U64, int]], packed: list[U8], body: memoryview) -> list[U64]:
        out, at = [], 0
        for (x, bits), p in zip(values, packed, strict=True):
            theirs = unpack(body[at : at + p.nbytes], bits, x.size)
            out.append(low(x + theirs.reshape(x.shape), bits))
            at += p.nbytes
        return out


class Dealer:
    """The dealer's side: draws masks, deals values and tree keys to both peers. One thread."""

    def __init__(self, peers: tuple[Link, Link], k: tuple[bytes, bytes], trees: Trees) -> None:
        self.trees = trees
        self.sent = [0, 0]
        self._links = peers
        self._prgs = (Prg(k[0]), Prg(k[1]))
        self._streams = tuple({purpose: Stream(prg, purpose, 0) for purpose in Purpose} for prg in self._prgs)
        self._step, self._message = 0, [0, 0]
        self._pending = 0  # bytes in items, at peer 1
        self._items: tuple[list[U8], list[U8]] = ([], [])

    def begin(self, step: int) -> None:
        """Start a step."""
        self.flush()
        self._streams = tuple({purpose: Stream(prg, purpose, step) for purpose in Purpose} for prg in self._prgs)
        self._step, self._message = step, [0, 0]
        self.sent = [0, 0]

    def ready(self) -> None:
        """A gate's items are complete: send them if enough have come together, so that small steps travel in few messages."""
        if self._pending >= MESSAGE:
            self.flush()

    def flush(self) -> None:
        """Send all items: one message a peer, none if empty."""
        self._pending = 0
        for i, (link, items) in enumerate(zip(self._links, self._items, strict=True)):
            if items:
                body = items[0] if len(items) == 1 else self._joined(items)
                link.send("correlations", body, step=self._step, number=self._message[i])
                self.sent[i] += body.nbytes
                self._message[i] += 1
                items.clear()

    def _words(self, party: int, purpose: Purpose, count: int) -> U64:
        return self._streams[party][purpose].words(count)

    def mask(self, count: int) -> U64:
        """R = R_0 + R_1, uniform in Z_2^64."""
        return self._words(0, Purpose.MASK, count) + self._words(1, Purpose.MASK, count)

    def share(self, value: U64, bits: int) -> None:
        """Deal shares of `value` mod 2^bits: correction bytes to peer 1 alone."""
        if bits <= 0:
            return
        flat = np.ascontiguousarray(value).reshape(-1)
        correction = self._packed(flat - self._words(0, Purpose.PAD, flat.size), bits)
        self._items[1].append(correction)
        self._pending += correction.nbytes

    def _packed(self, values: U64, bits: int) -> U8:
        return pack(values, bits)

    def _joined(self, items: list[U8]) -> U8:
        return np.concatenate(items)

    def keys(self, alpha: U64, depth: int, beta: U64, words: I64, lane16: bool = False) -> None:
        """Deal tree keys at `alpha` (B,) with payloads beta (B, sum words): 16 depth + 8 words bytes a key to each peer."""
        roots = [self._words(i, Purpose.ROOT, 2 * len(alpha)).reshape(-1, 2) for i in (0, 1)]
        cw, pcw = self.trees.generate(alpha, depth, roots[0], roots[1], beta, words, lane16)
        self._pending += cw.nbytes + pcw.nbytes
        for items in self._items:
            items.append(cw.reshape(-1).view(np.uint8))
            items.append(pcw.reshape(-1).view(np.uint8))
