"""The two engines of a session: what a compute peer and the dealer do once their links are open.

| who | step k |
| --- | --- |
| client -> compute peer | "tokens" {step, batch, ahead}: a key for every new token; `batch` says of which sequences (`batch.py`); |
| | where lengths are hidden, then 4 bytes for each visible pair: a share of 1 if it counts for nothing, else of 0 |
| compute peer -> dealer | "plan" {deal, batch, digest}: what step to prepare, and what of the model all three must hold alike; |
| | both peers ask for the same in the same order |
| dealer -> compute peer | "correlations" ..., then "dealt" {deal, microseconds} |
| compute peer -> client | "logits" {step, rows, bits, scale, count, ...}: the shares of the logits after each sequence's last token, |
| | or of an encoder's sum of each sequence's rows |
| client -> compute peer | "end"; the peer answers "account" and tells the dealer "end"; its seat adds the signed |
| | "receipt" (`party/session.py`) |

The first plan comes with the client's first tokens. While the client says (`ahead`) that the same sequences will go on by one
token each, plans run ahead of use by at most AHEAD_BYTES of correlations, so that the dealer works while the client thinks and
nobody buffers without bound. Where the client then goes on otherwise (a sequence has ended, another begins), what was dealt
ahead is thrown away unused and the next deal goes on from where the client does; deals are numbered, so nothing of a number is
ever used for another. The dealer sees token counts, nothing that depends on a secret.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..batch import Batch
from ..errors import PeerError
from ..kernels.dpf.hashing import tree_keys
from ..kernels.dpf.keygen import one_hot_depth, one_hot_key_bytes
from ..kernels.dpf.trees import Trees, make_trees
from ..link import Link
from ..models.decoder import forward
from ..protocols.pair.scales import BITS_LOGITS
from ..protocols.pair.secret import U64
from .links import AHEAD_STEPS, ComputeLinks, DealerLinks, SessionLimits, Tally
from .memory import keep_freed_memory
from .served import ServedModel
from .sides import compute_side, dealer_side

AHEAD_BYTES = 32 << 20
AHEAD_MANY = 4  # with several sequences, one of which may end at any step
AHEAD_REFRESH = 32  # steps between two looks at how many fit: a step's size grows slowly with the cache
WORK_SECONDS = 600.0  # that a step of the compute peers may take, as far as the dealer is concerned


def serve_compute(role: int, model: ServedModel, links: ComputeLinks, limits: SessionLimits) -> Tally:
    """Serve one session as compute peer `role` (0 or 1), until the client's "end"; what it was, for the receipt.

    PeerError when the client or a peer sends what the protocol does not allow; PeerLost and NetworkError from the links.
    """
    keep_freed_memory()
    return _Compute(role, model, links, limits).run()


class _Compute:
    def __init__(self, role: int, model: ServedModel, links: ComputeLinks, limits: SessionLimits) -> None:
        self._model, self._links, self._limits, self._role = model, links, limits, role
        self._digest = model.weights_for(limits.padded).digest
        self._trees = make_trees(tree_keys(links.session))
        self._recorder = links.recorder
        self._side = compute_side(limits.protocol, role, model, links, limits.padded)
        self._caches = self._side.model.new_cache()
        self._lengths = limits.sizes.lengths(model.spec.context, model.spec.causal)
        self._planned = self._lengths.copy()  # as they will be after the last deal that was asked for
        self._deals: deque[tuple[int, Batch]] = deque()  # asked for, not used yet
        self._step, self._deal, self._tokens = 0, 0, 0
        self._ahead, self._measured = 0, 0  # deals that may lie ready; for how many sequences that was found
        self._totals = {"rounds": 0, "online_bytes": 0, "offline_bytes": 0}

    def run(self) -> Tally:
        while True:
            patience = self._limits.patience
            timeout = patience.between if self._step else patience.first
            message = self._links.client.receive(("tokens", "end"), timeout=timeout)
            if message.kind == "end":
                break
            if self._recorder is None:
                self._answer(message.fields, message.body)
            else:
                self._recorder.begin(self._step, "embed")
                self._answer(message.fields, message.body)
                self._recorder.flush()  # while the client has its turn
        self._links.client.send("account", steps=self._step, **self._totals)
        self._links.dealer.send("end")
        return Tally(self._tokens, self._step, **self._totals, transcript=self._side.transcript)

    def _ask(self, batch: Batch) -> None:
        """Ask the dealer for a step."""
        raw = batch.to_bytes()
        self._links.dealer.send("plan", deal=self._deal, batch=raw, digest=self._digest)
        self._deals.append((self._deal, batch))
        self._deal += 1

    def _dealt_for(self, batch: Batch) -> int:
        """The number of the deal for this step: asked for before, or now, if the client goes on otherwise than expected."""
        if self._deals and self._deals[0][1] != batch:
            if not self._side.discards:
                raise PeerError("client", f"goes on otherwise than it said, which {self._limits.protocol} cannot")
            while self._deals:
                self._discard(self._deals.popleft()[0])
        if not self._deals:
            self._planned = self._lengths.copy()
            self._ask(batch)
        return self._deals.popleft()[0]

    def _discard(self, deal: int) -> None:
        dealer = self._links.dealer
        while (message := dealer.receive(("correlations", "dealt"))).kind != "dealt":
            pass
        message.integer("deal", deal, deal, dealer.remote)

    def _plan_ahead(self, batch: Batch, ahead: int) -> None:
        """Ask for what comes after `batch`, should its sequences go on by a token each, as far as it fits."""
        while len(self._deals) < min(ahead, self._ahead):
            following = (self._deals[-1][1] if self._deals else batch).next
            try:
                self._planned.advance(following)
            except ValueError:  # there is no room for more
                return
            self._ask(following)

    def _answer(self, fields: Mapping[str, int | str | bytes], body: memoryview) -> None:
        started = time.perf_counter()
        waited = self._waiting()
        batch, ahead = self._asked(fields)
        hidden = None
        if self._limits.padded:
            body, hidden = hidden_pairs(body, batch)
        rows = expand_keys(body, batch.rows, self._model.spec.vocab, self._role, self._trees)
        deal = self._dealt_for(batch)
        if self._step % AHEAD_REFRESH == 0 or len(batch.parts) != self._measured:
            self._ahead, self._measured = self._window(batch), len(batch.parts)
        self._plan_ahead(batch, ahead)
        self._side.begin(deal, hidden)
        with self._side.running():
            logits = forward(self._side.model, self._model.spec, rows, self._caches, batch)
            if self._recorder is not None:
                self._recorder.enter("reveal")
            share = self._side.share(logits, deal)
        dealt = self._links.dealer.receive("dealt")
        dealt.integer("deal", deal, deal, self._links.dealer.remote)
        dealer_us = dealt.integer("microseconds", 0, 1 << 48, self._links.dealer.remote)
        counters = self._side.counters
        wait = self._waiting() - waited
        self._links.client.send(
            "logits",
            share,
            step=self._step,
            rows=len(batch.parts),
            bits=BITS_LOGITS,
            scale=self._side.scale,
            count=self._model.spec.revealed,
            layers=self._model.spec.layers,
            rounds=counters.rounds,
            online_bytes=counters.online_bytes,
            offline_bytes=counters.offline_bytes,
            compute_us=int(1e6 * max(0.0, time.perf_counter() - started - wait)),
            wait_us=int(1e6 * wait),
            dealer_us=dealer_us,
        )
        if self._recorder is not None:
            self._recorder.end()
        self._totals["rounds"] += counters.rounds
        self._totals["online_bytes"] += counters.online_bytes
        self._totals["offline_bytes"] += counters.offline_bytes
        self._tokens += batch.rows
        self._step += 1

    def _asked(self, fields: Mapping[str, int | str | bytes]) -> tuple[Batch, int]:
        """Take the client's step, if it is one that the session may take; and how many of one token each may follow."""
        step, raw, ahead = (fields.get(name) for name in ("step", "batch", "ahead"))
        if step != self._step or not isinstance(raw, bytes) or not isinstance(ahead, int):
            raise PeerError("client", f"sent no step {self._step}")
        try:
            batch = Batch.from_bytes(raw)
            self._lengths.advance(batch)
        except ValueError as error:
            raise PeerError("client", f"sent what {error}") from None
        return batch, ahead

    def _window(self, batch: Batch) -> int:
        """Deals that may lie ready beside the one in use."""
        many = self._limits.sizes.sequences > 1
        if not self._model.spec.causal or (many and not self._side.discards):
            return 0  # what comes next is not known, or has to come
        return min(fitting(self._side.dealt_bytes(batch.next)), AHEAD_MANY if many else AHEAD_STEPS)

    def _waiting(self) -> float:
        return self._links.peer.stats.waiting_seconds + self._links.dealer.stats.waiting_seconds


def fitting(dealt: int) -> int:
    """Steps for which `dealt` bytes each may lie ready."""
    return min(AHEAD_STEPS, AHEAD_BYTES // max(1, dealt))


def hidden_pairs(body: memoryview, batch: Batch) -> tuple[memoryview, U64]:
    """The keys, and what follows them where lengths are hidden: a share mod 2^32 for each visible pair. PeerError if too short."""
    size = 4 * batch.pairs()
    if len(body) < size:
        raise PeerError("client", f"sent {len(body)} bytes, the shares of hidden tokens alone have {size}")
    at = len(body) - size
    return body[:at], np.frombuffer(body[at:], "<u4").astype(np.uint64)


@dataclass(frozen=True, slots=True, repr=False)
class TokenRows:
    """The client's keys of T tokens; a slice of it is this peer's shares of those one-hot rows, (rows, >= V)."""

    roots: U64
    cw: U64
    pcw: U64
    role: int
    trees: Trees

    def __len__(self) -> int:
        return len(self.roots)

    def __getitem__(self, rows: slice) -> U64:
        return self.trees.one_hot(self.roots[rows], self.cw[rows], self.pcw[rows], self.role)


def expand_keys(body: memoryview, tokens: int, vocab: int, role: int, trees: Trees) -> TokenRows:
    """The client's keys, checked, to be expanded when looked at. PeerError for a wrong size or the other peer's key."""
    size = one_hot_key_bytes(vocab)
    if len(body) != tokens * size:
        raise PeerError("client", f"sent {len(body)} bytes of token keys, {tokens} keys have {tokens * size}")
    keys = np.frombuffer(body, "<u8").reshape(tokens, one_hot_depth(vocab) + 2, 2)
    if np.any(keys[:, 0, 0] & np.uint64(1) != role):
        raise PeerError("client", "sent a key that was made for the other peer")
    roots, cw, pcw = (np.ascontiguousarray(a) for a in (keys[:, 0], keys[:, 1:-1], keys[:, -1]))
    return TokenRows(roots, cw, pcw, role, trees)


def serve_dealer(model: ServedModel, links: DealerLinks, limits: SessionLimits) -> None:
    """Deal for one session until both compute peers say "end".

    PeerError when the two ask for different steps, or for steps the session does not have.
    """
    keep_freed_memory()
    digest = model.weights_for(limits.padded).digest
    side, recorder = dealer_side(limits.protocol, model, links, limits.padded), links.recorder
    caches, lengths = side.model.new_cache(), limits.sizes.lengths(model.spec.context, model.spec.causal)
    deal = 0
    while True:
        asked = [_next_plan(link, digest, limits) for link in (links.peer0, links.peer1)]
        if asked[0] != asked[1]:
            raise PeerError(links.peer1.remote, "asked for another step than its partner")
        if asked[0] is None:
            return
        number, raw = asked[0]
        if number != deal or not isinstance(raw, bytes):
            raise PeerError(links.peer0.remote, f"asked for something else than deal {deal}")
        try:
            batch = Batch.from_bytes(raw)
            lengths.advance(batch)
        except ValueError as error:
            raise PeerError(links.peer0.remote, f"asked for what {error}") from None
        started = time.perf_counter()
        if recorder is not None:
            recorder.begin(deal, "embed")
        side.begin(deal)
        with side.running():
            forward(side.model, model.spec, batch.rows, caches, batch)
            side.finish()
        spent = int(1e6 * (time.perf_counter() - started))
        for link in (links.peer0, links.peer1):
            link.send("dealt", deal=deal, microseconds=spent)
        if recorder is not None:
            recorder.end()
            recorder.flush()
        deal += 1


def _next_plan(link: Link, digest: str, limits: SessionLimits) -> tuple[object, object] | None:
    """What a compute peer asks for next: (deal, batch), or None when it is done.

    The compute peers end the session when the client keeps them waiting; the dealer only has to wait longer.
    """
    message = link.receive(("plan", "end"), timeout=limits.patience.between + WORK_SECONDS)
    if message.kind == "end":
        return None
    if message.fields.get("digest") != digest:
        raise PeerError(link.remote, "computed other weights or tables than the dealer from the same model")
    return message.fields.get("deal"), message.fields.get("batch")
