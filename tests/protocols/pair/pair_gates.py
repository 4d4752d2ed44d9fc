"""Every gate that opens values, on two chosen and very different inputs, and the statistics of what it opens.

`examine` is the one test of secrecy: the real gates must pass it, planted leaks must not (test_pair_secrecy).
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pair_plans import GPT2, LLAMA, scales, smaller
from tacit.batch import Batch
from tacit.protocols.base import Spec
from tacit.protocols.pair.attention import attention, deal_attention, new_cache, new_mask_cache, turns
from tacit.protocols.pair.lift import deal_lift, lift
from tacit.protocols.pair.norm import deal_norm, rms_norm
from tacit.protocols.pair.party import Dealer, Party
from tacit.protocols.pair.scales import FRAC_X
from tacit.protocols.pair.secret import low
from tacit.protocols.pair.spline import apply_table, deal_gated, deal_table, gated
from three_parties import Opening, Run, encode, run, shared
from uniformity import ENOUGH, Family

U64 = NDArray[np.uint64]
Act = Callable[[Any], Any]
Job = tuple[Act, Act]  # what a peer does, what the dealer does


@dataclass(frozen=True)
class Gate:
    """`job(which, degenerate)`: input 0 or 1, all of it in the share of party `degenerate`."""

    job: Callable[[int, int | None], Job]
    sessions: int


def lift_gate(bits: int, count: int = 1024) -> Gate:
    def job(which: int, degenerate: int | None) -> Job:
        x = np.full(count, (0, (1 << (bits - 2)) - 1)[which], np.uint64)
        shares = shared(x, 0, bits, degenerate)
        return (lambda p: lift(p, shares[p.role], bits)), (lambda d: deal_lift(d, count, bits))

    return Gate(job, 4)


def two_lifts(bits: int, count: int = 512) -> Gate:
    """The same values in two steps of one session: masks must be new in each."""

    def job(which: int, degenerate: int | None) -> Job:
        shares = shared(np.full(count, which * 1000, np.uint64), 0, bits, degenerate)

        def steps(party: Any, act: Act) -> None:
            for step in (0, 1):
                party.begin(step)
                act(party)

        return (
            lambda p: steps(p, lambda q: lift(q, shares[q.role], bits)),
            lambda d: steps(d, lambda e: deal_lift(e, count, bits)),
        )

    return Gate(job, 4)


def table_gate() -> Gate:
    table = scales(GPT2).activation("layers.0.act").table

    def job(which: int, degenerate: int | None) -> Job:
        shares = shared(encode(np.full(512, (-27.0, 27.0)[which]), 12), 12, 64, degenerate)
        return (lambda p: apply_table(p, shares[p.role], table)), (lambda d: deal_table(d, table, 512))

    return Gate(job, 4)


def gated_gate() -> Gate:
    plan = scales(LLAMA).activation("layers.0.act")
    assert plan.frac_up is not None
    frac_up = plan.frac_up

    def job(which: int, degenerate: int | None) -> Job:
        g = shared(encode(np.full(512, (-20.0, 20.0)[which]), 12), 12, 64, degenerate)
        u = shared(encode(np.full(512, (0.0, 23.0)[which]), frac_up), frac_up, 64, degenerate)
        return (
            lambda p: gated(p, g[p.role], u[p.role], plan.table, plan.bits_up),
            lambda d: deal_gated(d, plan.table, plan.bits_up, 512),
        )

    return Gate(job, 4)


def norm_gate() -> Gate:
    plan = scales(smaller(LLAMA, width=8)).norm("norm")

    def job(which: int, degenerate: int | None) -> Job:
        x = np.full((96, 8), 0.5)
        if which:
            x = np.tile([6.0, -5.0, 0.0, 0.0, 4.0, 0.0, 0.0, -6.0], (96, 1))
        shares = shared(encode(x, FRAC_X), FRAC_X, 64, degenerate)
        return (lambda p: rms_norm(p, shares[p.role], plan)), (lambda d: deal_norm(d, 96, plan))

    return Gate(job, 8)


def attention_gate(spec: Spec) -> Gate:
    """Two steps of 8 tokens, the second against the first one's cache."""
    plan = scales(spec).attention("layers.0.attention")
    frac = scales(spec).norm("layers.0.norm1").frac_out + scales(spec).weight

    def job(which: int, degenerate: int | None) -> Job:
        x = np.full((8, spec.qkv_width), 0.1)
        if which:
            x = np.tile([2.0, -2.0], (8, spec.qkv_width // 2))
        shares = shared(encode(x, frac), frac, 64, degenerate)

        def peer(p: Any) -> None:
            cache = new_cache(plan)
            for step in (0, 1):
                p.begin(step)
                batch, turn = Batch.one(8, 8 * step), None
                if spec.rope_theta is not None:
                    turn = turns(spec.rope_theta, spec.head_size, batch.positions, plan.frac_turn)
                attention(p, shares[p.role], plan, cache, batch, turn)

        def deal(d: Any) -> None:
            cache = new_mask_cache(plan)
            for step in (0, 1):
                d.begin(step)
                deal_attention(d, plan, cache, Batch.one(8, 8 * step))

        return peer, deal

    return Gate(job, 24)


GATES: dict[str, Callable[[], Gate]] = {
    "lift, 20 bits": lambda: lift_gate(20),
    "lift, 40 bits": lambda: lift_gate(40),
    "lift, 64 bits": lambda: lift_gate(64),
    "lifts of two steps": lambda: two_lifts(40),
    "table": table_gate,
    "gated": gated_gate,
    "norm": norm_gate,
    "attention with RoPE": lambda: attention_gate(LLAMA),
    "attention without": lambda: attention_gate(GPT2),
}


def examine(gate: Gate, party_type: type[Party] = Party, dealer_type: type[Dealer] = Dealer) -> Family:
    """Run both inputs over many sessions; the family of tests of everything that was opened and dealt.

    The input lies in one party's share alone, in turns, so a message hides it by its mask or not at all.
    """
    runs = [
        [
            run(*gate.job(which, session % 2), party_type=party_type, dealer_type=dealer_type, watch=True)
            for session in range(gate.sessions)
        ]
        for which in (0, 1)
    ]
    return judge(runs)


def views(o: Opening) -> dict[str, U64]:
    """Who sees what of an opened value: both messages, the sum, and the sum less what either party itself put in."""
    return {
        "message of 0": o.sent[0],
        "message of 1": o.sent[1],
        "sum": o.total,
        "sum less mask of 0": low(o.total - o.masks[0], o.bits),
        "sum less mask of 1": low(o.total - o.masks[1], o.bits),
    }


def judge(runs: Sequence[Sequence[Run]]) -> Family:
    """Runs of input 0, runs of input 1, all of one shape."""
    family = Family()
    seen: list[dict[tuple[str, int], U64]] = []
    for which, sessions in enumerate(runs):
        opened: dict[tuple[str, int], list[U64]] = defaultdict(list)
        differences: dict[tuple[str, int], list[U64]] = defaultdict(list)
        for r in sessions:
            for n, o in enumerate(r.openings):
                for name, x in views(o).items():
                    opened[f"opening {n}, {name}", o.bits].append(x)
                for lag in sorted({1, o.shape[-1], int(np.prod(o.shape[1:])), len(o.total) // 2} - {0}):
                    step = low(o.total[lag:] - o.total[:-lag], o.bits)
                    differences[f"opening {n}, {lag} apart", o.bits].append(step)
                for m, other in enumerate(r.openings[:n]):
                    bits, count = min(o.bits, other.bits), min(len(o.total), len(other.total))
                    step = low(o.total[:count] - other.total[:count], bits)
                    differences[f"opening {n} less {m}", bits].append(step)
        together = {key: np.concatenate(parts) for key, parts in opened.items()}
        seen.append(together)
        for (name, bits), x in together.items():
            if len(x) >= ENOUGH:
                family.uniform(f"input {which}, {name}", x, bits)
                family.fresh(f"input {which}, {name}", x, bits)
        for (name, bits), parts in differences.items():
            x = np.concatenate(parts)
            if len(x) >= ENOUGH:
                family.uniform(f"input {which}, {name}", x, bits)
        for link in ("2->0", "2->1"):
            stream = b"".join(m.body for r in sessions for m in r.links[link] if m.kind == "correlations")
            if len(stream) >= ENOUGH:
                family.uniform(f"input {which}, {link}", np.frombuffer(stream, np.uint8).astype(np.uint64), 8)
    for (name, bits), x in seen[0].items():
        if len(x) >= ENOUGH:
            family.alike(name, x, seen[1][name, bits], bits)
    return family
