"""Two compute peers for tests of the client: real links in memory, real keys, a toy model instead of a transformer.

Each peer expands its DPF keys by the definition in `kernels/dpf/keygen.py`; put together they must be one-hot rows,
from which the toy model makes logits, which go back as random shares. What went over the links is kept for the tests.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from tacit.errors import TacitError
from tacit.kernels.dpf.keygen import TreeHash, one_hot_depth, one_hot_key_bytes, tree_keys
from tacit.party.links import Tally
from tacit.transport import Circle, Ends, Link, LinkSettings, memory_pair

SCALE = 16
ROUNDS, ONLINE, OFFLINE, DEALER_US = 70, 4000, 90000, 1500
SETTINGS = LinkSettings(timeout=5.0, tick=0.02)


def toy_logits(tokens: Sequence[int], vocab: int) -> np.ndarray:
    """Float logits (V,) from -8 to 8 that depend on every token so far and on their order."""
    seed = hashlib.sha256(repr(list(tokens)).encode()).digest()
    stream = b"".join(hashlib.sha256(seed + bytes([i])).digest() for i in range(1 + vocab // 16))
    words = np.frombuffer(stream, "<u2")[:vocab].astype(np.int32)
    return (words - 32768) / 4096


def expand(key: bytes, vocab: int, session: bytes, party: int) -> np.ndarray:
    """This party's share (V,) mod 2^64 of the one-hot row."""
    depth = one_hot_depth(vocab)
    words = np.frombuffer(key, np.uint64).reshape(-1, 2)
    root, cw, pcw = words[:1], words[1 : 1 + depth], words[1 + depth]
    hash_ = TreeHash(tree_keys(session))
    seeds = root.copy()
    for level in range(depth):
        bit = seeds[:, :1] & np.uint64(1)
        left = hash_.node(seeds) ^ (bit * cw[level])
        seeds = np.stack([left, left ^ seeds], axis=1).reshape(-1, 2)
    leaves = hash_.words(seeds, 1) + (seeds[:, :1] & np.uint64(1)) * pcw
    return (leaves if party == 0 else np.uint64(0) - leaves).reshape(-1)[:vocab]


@dataclass
class Seen:
    """What one peer saw: the sizes and fields of each step, and the raw keys."""

    steps: list[dict] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    ended: bool = False
    error: TacitError | None = None


class Committee:
    """Both peers as threads. `spoil(role, fields, body)` may change an answer before it is sent."""

    def __init__(
        self,
        vocab: int,
        layers: int = 2,
        logits: Callable[[Sequence[int], int], np.ndarray] = toy_logits,
        spoil: Callable[[int, dict, bytes], tuple[dict, bytes]] | None = None,
        die_at: int | None = None,
        dying: int = 0,
        die_at_end: bool = False,
    ) -> None:
        self.vocab = vocab
        self.layers = layers
        self.seen = (Seen(), Seen())
        self.tokens: list[int] = []
        self._logits = logits
        self._spoil = spoil or (lambda role, fields, body: (fields, body))
        self._die_at = die_at
        self._dying = dying
        self._die_at_end = die_at_end
        self._shares: list[np.ndarray | None] = [None, None]
        self._barrier = threading.Barrier(2, self._together)
        self._threads: list[threading.Thread] = []

    def connect(self, session: bytes, names: Sequence[str] = ("peer-0", "peer-1")) -> tuple[Circle, tuple[Link, Link]]:
        """The client's two open links."""
        circle = Circle()
        links = []
        self.session = session
        for role in (0, 1):
            ends = Ends(session, ("id0", "id1", "id2", "client"), 3, role, "", "0" * 64)
            mine, theirs = memory_pair(ends, (circle, Circle()), SETTINGS, ("client", names[role]))
            thread = threading.Thread(target=self._serve, args=(role, theirs), daemon=True)
            thread.start()
            self._threads.append(thread)
            links.append(mine)
        for link in links:
            link.open()
        return circle, (links[0], links[1])

    def join(self) -> None:
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()

    def tally(self, role: int) -> Tally:
        """For a peer's receipt. Both "open" the shares of the logits they gave, as it were."""
        steps = len(self.seen[role].steps)
        transcript = hashlib.sha256(repr(self.tokens).encode()).digest()
        return Tally(len(self.tokens), steps, steps * ROUNDS, steps * ONLINE, steps * OFFLINE, transcript)

    def _together(self) -> None:
        first, second = self._shares
        assert first is not None
        assert second is not None
        rows = first + second
        assert (rows.sum(axis=1) == 1).all()
        assert (np.sort(rows, axis=1)[:, -1] == 1).all()
        self.tokens += [int(row.argmax()) for row in rows]
        values = np.round(self._logits(self.tokens, self.vocab) * 2**SCALE).astype(np.int32).view(np.uint32)
        mask = np.frombuffer(secrets.token_bytes(4 * self.vocab), np.uint32)
        self._answers = (mask, values - mask)

    def _serve(self, role: int, link: Link) -> None:
        try:
            link.open()
            self.serve(role, link)
            link.receive("never", timeout=5)  # the client's goodbye
        except TacitError as error:
            self.seen[role].error = error
            self._barrier.abort()
        except threading.BrokenBarrierError:
            pass
        finally:
            link.close()

    def serve(self, role: int, link: Link) -> None:
        """One peer's part of a session, until the client's "end"."""
        seen = self.seen[role]
        while True:
            message = link.receive(("tokens", "end"), timeout=20)
            if message.kind == "end":
                seen.ended = True
                if self._die_at_end and role == self._dying:
                    self._die(link)
                link.send("account", steps=len(seen.steps), rounds=ROUNDS, online_bytes=ONLINE, offline_bytes=0)
                return
            seen.steps.append(dict(message.fields))
            seen.bodies.append(bytes(message.body))
            if self._die_at == len(seen.steps) - 1:
                if role == self._dying:
                    self._die(link)
                link.receive("never", timeout=5)
            self._answer(role, link, bytes(message.body))

    def _die(self, link: Link) -> None:
        """No goodbye: what a killed process does."""
        link._close()
        link._closed = True
        raise threading.BrokenBarrierError

    def _answer(self, role: int, link: Link, body: bytes) -> None:
        size = one_hot_key_bytes(self.vocab)
        keys = [body[at : at + size] for at in range(0, len(body), size)]
        self._shares[role] = np.stack([expand(key, self.vocab, self.session, role) for key in keys])
        self._barrier.wait(10)
        fields = {
            "step": len(self.seen[role].steps) - 1,
            "rows": 1,
            "bits": 32,
            "scale": SCALE,
            "count": self.vocab,
            "rounds": ROUNDS,
            "online_bytes": ONLINE,
            "offline_bytes": OFFLINE,
            "compute_us": 900,
            "wait_us": 300,
            "dealer_us": DEALER_US,
            "layers": self.layers,
        }
        fields, share = self._spoil(role, fields, self._answers[role].tobytes())
        link.send("logits", share, **fields)
