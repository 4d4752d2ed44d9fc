"""Encoders on shares, through the client's keys, both peers and the dealer, in memory."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pair_plans import Model
from tacit.batch import Batch, Part
from tacit.kernels.dpf.keygen import one_hot_depth, one_hot_keys
from tacit.models.decoder import forward
from tacit.protocols.pair.deal import PairDealer
from tacit.protocols.pair.peer import PairPeer
from tacit.protocols.plain.plain import Plain
from three_parties import Run, run, trees

F64 = NDArray[np.float64]


def together(texts: list[list[int]]) -> Batch:
    """All texts in one step."""
    return Batch(tuple(Part(slot, slot, 0, len(ids)) for slot, ids in enumerate(texts)))


def in_the_clear(model: Model, texts: list[list[int]]) -> F64:
    """Mean rows (B, C) of the oracle."""
    oracle = Plain(model.spec, model.folded)
    sums = forward(oracle, model.spec, [i for ids in texts for i in ids], oracle.new_cache(), together(texts))
    return sums / np.array([[len(ids)] for ids in texts])


@dataclass
class Embedded:
    """Of each step: mean rows (B, C), and (rounds, online, offline0, offline1) as counted; and everything said."""

    rows: list[F64]
    costs: list[tuple[int, int, int, int]]
    run: Run


def embedded(model: Model, *steps: list[list[int]], watch: bool = False) -> Embedded:
    """Texts of one session, a step of several at a time."""
    spec = model.spec
    depth, batches = one_hot_depth(spec.vocab), [together(texts) for texts in steps]
    keys = [[one_hot_keys(i, spec.vocab, trees().keys) for ids in texts for i in ids] for texts in steps]

    def peer(party: Any) -> Any:
        protocol = PairPeer(party, model.weights)
        caches, out = protocol.new_cache(), []
        for step, batch in enumerate(batches):
            party.begin(step)
            raw = np.frombuffer(b"".join(k[party.role] for k in keys[step]), np.uint64).reshape(-1, depth + 2, 2)
            roots, cw, pcw = (np.ascontiguousarray(a) for a in (raw[:, 0], raw[:, 1:-1], raw[:, -1]))
            rows = party.trees.one_hot(roots, cw, pcw, party.role)
            out.append((forward(protocol, spec, rows, caches, batch), party.counters))
        return out

    def deal(dealer: Any) -> Any:
        protocol = PairDealer(dealer, spec, model.check.scales)
        caches, sent = protocol.new_cache(), []
        for step, batch in enumerate(batches):
            dealer.begin(step)
            forward(protocol, spec, batch.rows, caches, batch)
            dealer.flush()
            sent.append(tuple(dealer.sent))
        return sent

    done = run(peer, deal, watch=watch)
    first, second, sent = done.results
    rows, costs = [], []
    for texts, (y0, c0), (y1, c1), dealt in zip(steps, first, second, sent, strict=True):
        sums = ((y0.share + y1.share) << np.uint64(64 - y0.bits)).view(np.int64) / 2.0 ** (64 - y0.bits + y0.frac)
        rows.append(sums / np.array([[len(ids)] for ids in texts]))
        assert (c0.rounds, c0.online_bytes) == (c1.rounds, c1.online_bytes)
        assert (c0.offline_bytes, c1.offline_bytes) == dealt
        costs.append((c0.rounds, c0.online_bytes, c0.offline_bytes, c1.offline_bytes))
    return Embedded(rows, costs, done)


def cosines(x: F64, y: F64) -> F64:
    """Of each row of x to that of y."""
    return (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
