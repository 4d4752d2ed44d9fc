"""Specs, fixed-point plans and tiny random models for the tests of the pair protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tacit.batch import Batch
from tacit.kernels.dpf.keygen import one_hot_depth, one_hot_keys
from tacit.models.decoder import forward
from tacit.models.scales import Check, plan
from tacit.protocols.base import Spec
from tacit.protocols.pair.deal import PairDealer
from tacit.protocols.pair.peer import PairPeer
from tacit.protocols.pair.scales import Scales, make_scales
from tacit.protocols.pair.weights import Weights, prepare
from tacit.protocols.plain.plain import Plain
from three_parties import Run, run, trees

F64 = NDArray[np.float64]

LLAMA = Spec("llama", 1, 4, 2, 8, 32, 48, 40, 512, 1e-5, "silu", 10000.0)
GPT2 = Spec("gpt2", 1, 4, 4, 8, 32, 48, 40, 512, 1e-5, "gelu_tanh", None)


def scales(spec: Spec, **changes: float) -> Scales:
    """A plan for made-up ranges; `changes` sets a quantity wherever it occurs."""
    norm = {"input": 6.0, "rms_high": 4.0, "rms_low": 0.25}
    attention = {"scores": 12.0, "row_max_low": -6.0, "raw": 6.0, "v": 4.0, "weighted": 60.0}
    act = {"gate": 8.0, "up": 6.0, "output": 20.0} if spec.gated else {"input": 8.0, "output": 8.0}
    ranges: dict[str, dict[str, float]] = {"norm": dict(norm), "head": {"output": 20.0}}
    for i in range(spec.layers):
        for name, group in (("norm1", norm), ("norm2", norm), ("attention", attention), ("act", act)):
            ranges[f"layers.{i}.{name}"] = dict(group)
    for group in ranges.values():
        group.update({k: v for k, v in changes.items() if k in group})
    return make_scales(spec, ranges)


@dataclass(frozen=True)
class Model:
    """A model ready to be run in the clear and on shares."""

    spec: Spec
    folded: Mapping[str, F64]
    check: Check
    weights: Weights

    @classmethod
    def of(cls, spec: Spec, folded: Mapping[str, F64], bos: int | None = None) -> "Model":
        check = plan(spec, folded, bos, "test")
        return cls(spec, folded, check, prepare(spec, check.scales, folded))

    def logits(self, *steps: list[int]) -> list[F64]:
        """Float64 logits after each step."""
        oracle = Plain(self.spec, self.folded)
        caches, out, at = oracle.new_cache(), [], 0
        for ids in steps:
            out.append(forward(oracle, self.spec, ids, caches, Batch.one(len(ids), at))[-1])
            at += len(ids)
        return out


def random_model(spec: Spec, seed: int = 1, massive: float = 0.0) -> Model:
    """Random folded weights of a trained model's size; `massive`: three channels of token 0 carry that much, and norms
    and matrices are such that they stay (as the first token's do in real models)."""
    rng = np.random.default_rng(seed)  # weights are no secret
    c, f = spec.width, spec.hidden

    def matrix(rows: int, columns: int, gain: float = 1.0) -> F64:
        return rng.normal(0, gain / np.sqrt(rows), (rows, columns))

    w = {"embed": rng.normal(0, 0.7, (spec.vocab, c)), "head.weight": matrix(c, spec.vocab, 2.0)}
    if massive:
        w["embed"][0, :3] = massive * np.array([1.0, -0.7, 0.4])
    for i in range(spec.layers):
        at = f"layers.{i}"
        w[f"{at}.qkv.weight"] = matrix(c, spec.qkv_width)
        w[f"{at}.qkv.weight"][:, : spec.heads * spec.head_size] *= 1.5 / np.sqrt(spec.head_size)
        w[f"{at}.out.weight"] = matrix(spec.heads * spec.head_size, c)
        w[f"{at}.down.weight"] = matrix(f, c)
        if spec.gated:
            w[f"{at}.gate_up.weight"] = matrix(c, 2 * f, 1.2)
        else:
            w[f"{at}.up.weight"] = matrix(c, f, 1.2)
            for name, size in (("qkv", spec.qkv_width), ("out", c), ("up", f), ("down", c)):
                w[f"{at}.{name}.bias"] = rng.normal(0, 0.1, size)
    if spec.rope_theta is None:
        w["positions"] = rng.normal(0, 0.2, (spec.context, c))
    return Model.of(spec, w)


class AllRows:
    """Mixin: keep every row at the last layer, so that one step gives the logits of every position."""

    def last(self, x: Any, batch: Any) -> Any:
        return x


class AllRowsPeer(AllRows, PairPeer):
    pass


class AllRowsDealer(AllRows, PairDealer):
    pass


@dataclass
class Generation:
    """A run of several steps: logits (T or 1, V) of each, what each step cost by count, and everything said."""

    logits: list[F64]
    costs: list[Any]  # (rounds, online, offline0, offline1) of each step
    run: Run


def on_shares(
    model: Model, *steps: list[int], all_rows: bool = False, watch: bool = False, session: Any = None
) -> Generation:
    """The steps of one session, tokens given, through the client's keys, both peers and the dealer."""
    peer_type, dealer_type = (AllRowsPeer, AllRowsDealer) if all_rows else (PairPeer, PairDealer)
    spec, depth = model.spec, one_hot_depth(model.spec.vocab)
    keys = [[one_hot_keys(token, spec.vocab, trees().keys) for token in ids] for ids in steps]

    def peer(party: Any) -> Any:
        protocol = peer_type(party, model.weights)
        caches, out, at = protocol.new_cache(), [], 0
        for step, ids in enumerate(steps):
            party.begin(step)
            raw = np.frombuffer(b"".join(k[party.role] for k in keys[step]), np.uint64).reshape(len(ids), depth + 2, 2)
            roots, cw, pcw = (np.ascontiguousarray(a) for a in (raw[:, 0], raw[:, 1:-1], raw[:, -1]))
            rows = party.trees.one_hot(roots, cw, pcw, party.role)
            out.append((forward(protocol, spec, rows, caches, Batch.one(len(ids), at)), party.counters))
            at += len(ids)
        return out

    def deal(dealer: Any) -> Any:
        protocol = dealer_type(dealer, spec, model.check.scales)
        caches, sent, at = protocol.new_cache(), [], 0
        for step, ids in enumerate(steps):
            dealer.begin(step)
            forward(protocol, spec, len(ids), caches, Batch.one(len(ids), at))
            dealer.flush()
            sent.append(tuple(dealer.sent))
            at += len(ids)
        return sent

    r = (session or run)(peer, deal, watch=watch)
    first, second, sent = r.results
    logits, costs = [], []
    for n, ((y0, c0), (y1, c1)) in enumerate(zip(first, second, strict=True)):
        logits.append(
            ((y0.share + y1.share) << np.uint64(64 - y0.bits)).view(np.int64) / 2.0 ** (64 - y0.bits + y0.frac)
        )
        assert (c0.rounds, c0.online_bytes) == (c1.rounds, c1.online_bytes)
        assert (c0.offline_bytes, c1.offline_bytes) == sent[n]
        costs.append((c0.rounds, c0.online_bytes, c0.offline_bytes, c1.offline_bytes))
    return Generation(logits, costs, r)


def smaller(spec: Spec, **changes: Any) -> Spec:
    """A spec with some fields changed."""
    return replace(spec, **changes)
