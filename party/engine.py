"""The two engines of a session: what a compute peer and the dealer do once their links are open.

| who | step k |
| --- | --- |
| compute peer -> dealer | "plan" {step, tokens, digest}: what step to prepare, and what of the model all three must hold alike; |
| | both peers ask for the same steps in the same order |
| dealer -> compute peer | "correlations" ..., then "dealt" {step, microseconds} |
| client -> compute peer | "prompt" {step, tokens, ahead}: tokens x key bytes |
| compute peer -> client | "logits" {step, bits, scale, count, ...}: the share of the last position's logits |
| client -> compute peer | "end"; the peer answers "account" and tells the dealer "end"; its seat adds the signed |
| | "receipt" (`party/session.py`) |

The plan starts with the client's prompt and stays at most AHEAD_BYTES of correlations ahead of use, so the dealer works while
the client thinks and nobody buffers without bound. The dealer sees step
numbers and token counts, nothing that depends on a secret.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import PeerError
from ..kernels.dpf.hashing import tree_keys
from ..kernels.dpf.keygen import one_hot_depth, one_hot_key_bytes
from ..kernels.dpf.trees import Trees, make_trees
from ..link import Link
from ..models.decoder import forward
from ..protocols.pair.scales import BITS_LOGITS
from ..protocols.pair.secret import U64
from .links import ComputeLinks, DealerLinks, SessionLimits, Tally
from .memory import keep_freed_memory
from .served import ServedModel
from .sides import compute_side, dealer_side, pair_dealt_bytes

AHEAD_BYTES = 32 << 20
AHEAD_STEPS = 8
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
        self._trees = make_trees(tree_keys(links.session))
        self._recorder = links.recorder
        self._side = compute_side(limits.protocol, role, model, links)
        self._caches = self._side.model.new_cache()
        self._length, self._step, self._planned = 0, 0, 0
        self._ahead = fitting(self._side.dealt_bytes(limits.prompt_tokens))
        self._totals = {"rounds": 0, "online_bytes": 0, "offline_bytes": 0}

    def run(self) -> Tally:
        while True:
            patience = self._limits.patience
            timeout = patience.between if self._step else patience.first
            message = self._links.client.receive(("prompt", "end"), timeout=timeout)
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
        return Tally(self._step, **self._totals, transcript=self._side.transcript)

    def _steps(self) -> int:
        """Steps this session can take: the prompt, and one for each new token but the last."""
        return max(1, self._limits.max_new_tokens)

    def _plan_ahead(self, current: int) -> None:
        """Ask the dealer for this step (current = 1: its prompt is here) and for those that fit ahead of it.

        Nothing is asked before the client's first prompt, and nothing that would wait unread while the client thinks.
        """
        while self._planned < min(self._step + current + self._ahead, self._steps()):
            tokens = self._limits.prompt_tokens if self._planned == 0 else 1
            self._links.dealer.send("plan", step=self._planned, tokens=tokens, digest=self._model.weights.digest)
            self._planned += 1

    def _answer(self, fields: Mapping[str, int | str | bytes], body: memoryview) -> None:
        started = time.perf_counter()
        waited = self._waiting()
        tokens = self._limits.prompt_tokens if self._step == 0 else 1
        if fields.get("step") != self._step or fields.get("tokens") != tokens:
            raise PeerError(
                "client", f"asked for another step than {self._step} of {tokens} tokens, as it had announced"
            )
        if self._step >= self._steps():
            raise PeerError("client", f"asked for more than the {self._limits.max_new_tokens} tokens it had announced")
        rows = expand_keys(body, tokens, self._model.spec.vocab, self._role, self._trees)
        self._plan_ahead(1)
        self._side.begin(self._step)
        with self._side.running():
            logits = forward(self._side.model, self._model.spec, rows, self._caches, self._length)
            if self._recorder is not None:
                self._recorder.enter("reveal")
            share = self._side.share(logits, self._step)
        dealt = self._links.dealer.receive("dealt")
        dealt.integer("step", self._step, self._step, self._links.dealer.remote)
        dealer_us = dealt.integer("microseconds", 0, 1 << 48, self._links.dealer.remote)
        counters = self._side.counters
        wait = self._waiting() - waited
        self._links.client.send(
            "logits",
            share,
            step=self._step,
            bits=BITS_LOGITS,
            scale=self._side.scale,
            count=self._model.spec.vocab,
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
        self._length += tokens
        self._step += 1
        if self._step % AHEAD_REFRESH == 0:
            self._ahead = fitting(self._side.dealt_bytes(self._length))
        self._plan_ahead(0)

    def _waiting(self) -> float:
        return self._links.peer.stats.waiting_seconds + self._links.dealer.stats.waiting_seconds


def window(model: ServedModel, length: int) -> int:
    """Single-token steps of `pair` to have dealt ahead at this length: as many as fit AHEAD_BYTES, 0 to AHEAD_STEPS."""
    return fitting(pair_dealt_bytes(model, length))


def fitting(dealt: int) -> int:
    """Steps for which `dealt` bytes each may lie ready."""
    return min(AHEAD_STEPS, AHEAD_BYTES // max(1, dealt))


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
    side, recorder = dealer_side(limits.protocol, model, links), links.recorder
    caches = side.model.new_cache()
    step, length = 0, 0
    while True:
        asked = [_next_plan(link, model.weights.digest, limits) for link in (links.peer0, links.peer1)]
        if asked[0] != asked[1]:
            raise PeerError(links.peer1.remote, "asked for another step than its partner")
        if asked[0] is None:
            return
        tokens = limits.prompt_tokens if step == 0 else 1
        if asked[0] != (step, tokens) or step >= max(1, limits.max_new_tokens):
            raise PeerError(links.peer0.remote, f"asked for another step than {step} of {tokens} tokens")
        started = time.perf_counter()
        if recorder is not None:
            recorder.begin(step, "embed")
        side.begin(step)
        with side.running():
            forward(side.model, model.spec, tokens, caches, length)
            side.finish()
        spent = int(1e6 * (time.perf_counter() - started))
        for link in (links.peer0, links.peer1):
            link.send("dealt", step=step, microseconds=spent)
        if recorder is not None:
            recorder.end()
            recorder.flush()
        length += tokens
        step += 1


def _next_plan(link: Link, digest: str, limits: SessionLimits) -> tuple[object, object] | None:
    """What a compute peer asks for next: (step, tokens), or None when it is done.

    The compute peers end the session when the client keeps them waiting; the dealer only has to wait longer.
    """
    message = link.receive(("plan", "end"), timeout=limits.patience.between + WORK_SECONDS)
    if message.kind == "end":
        return None
    if message.fields.get("digest") != digest:
        raise PeerError(link.remote, "computed other weights or tables than the dealer from the same model")
    return message.fields.get("step"), message.fields.get("tokens")
