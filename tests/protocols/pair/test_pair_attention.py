"""Softmax and attention against float64, at every shape: start 0, with a cache, RoPE, grouped queries, massive spreads."""

from typing import Any

import numpy as np
import pytest
from pair_plans import GPT2, LLAMA, scales, smaller
from tacit.batch import Batch, Part
from tacit.protocols.base import Slots, Spec
from tacit.protocols.pair.attention import (
    attention,
    attention_cost,
    deal_attention,
    hide,
    new_cache,
    new_mask_cache,
    turns,
)  # fmt: skip
from tacit.protocols.pair.products import KeptRows, Rows, Visible
from tacit.protocols.pair.scales import FRAC_E, FRAC_IN, FRAC_V, WINDOW, AttentionPlan, make_scales
from tacit.protocols.pair.secret import Secret
from tacit.protocols.pair.softmax import deal_softmax, softmax, softmax_cost
from tacit.protocols.plain.plain import Plain
from tacit.protocols.trace.typical import typical
from three_parties import F64, Run, encode, run, shared

SITE = "layers.0.attention"


def weights_of(s: F64, visible: Visible) -> F64:
    """Float64 softmax of scores (H, P): (H, T, S), 0 where not visible."""
    wide = np.full((len(s), visible.rows, visible.longest), -np.inf)
    wide[:, visible.t, visible.s] = s
    e = np.exp(wide - wide.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_bound(s: F64, v_max: float, plan: AttentionPlan, visible: Visible) -> float:
    """With N terms, largest of them at least e^-4 after the shift: each exponential errs by the table's error and FRAC_E's
    rounding (relative to the row's sum, once in the product and once in the sum), the reciprocal by 1.6e-4 relative, the
    values and the lifted operands by an ulp of their scales."""
    wide = np.full((len(s), visible.rows, visible.longest), -np.inf)
    wide[:, visible.t, visible.s] = s
    relative = np.exp(wide - wide.max(-1, keepdims=True)).sum(-1)
    reference = np.floor(wide.max(-1) * 2.0 ** (FRAC_IN - WINDOW)) + 2  # one window above the top one, or two
    shift = np.exp(wide.max(-1) - reference * 2.0 ** (WINDOW - FRAC_IN))
    total = relative * np.maximum(shift, np.exp(-4.0))
    each = 1.03 * plan.exp.error + 2.0**-FRAC_E
    seen = (wide > -np.inf).sum(-1)
    spread = float((seen * each / total).max()) * 2 * v_max
    lifted = 2.0**-plan.frac_g * float(total.max()) * v_max + 2.0**-plan.frac_o / float(total.min())
    return spread + 1.6e-4 * v_max + 2.0 ** (1 - FRAC_V) + 2 * lifted


SEEN = 4e-3


def run_softmax(s: F64, v: F64, plan: AttentionPlan, start: int) -> Run:
    """Scores (H, P), values (S, G, D): all value rows are masked and opened in one more round."""
    visible = Visible.of(Batch.one(len(v) - start, start))
    scores = shared(encode(s, FRAC_IN), FRAC_IN, plan.bits_s)
    values = shared(encode(v, FRAC_V), FRAC_V, 64)

    def peer(p: Any) -> Any:
        kept = KeptRows.empty(plan.kv_heads, plan.head_size)
        mask = p.mask(v.size).reshape(v.shape)
        (opened,) = p.exchange([(values[p.role].share + mask, plan.bits_e)])
        kept.append(opened, mask, p.role)
        p.begin(1)
        return softmax(p, scores[p.role], [kept], plan, visible)

    def deal(d: Any) -> None:
        rows = Rows(plan.kv_heads, plan.head_size)
        rows.append(d.mask(v.size).reshape(v.shape))
        d.begin(1)
        deal_softmax(d, plan, visible, [rows.all])

    return run(peer, deal)


def check_softmax(s: F64, v: F64, plan: AttentionPlan, start: int) -> float:
    visible = Visible.of(Batch.one(len(v) - start, start))
    r = run_softmax(s, v, plan, start)
    group = plan.heads // plan.kv_heads
    want = np.einsum("hts,shd->thd", weights_of(np.rint(s * 4096) / 4096, visible), np.repeat(v, group, 1))
    error = np.abs(r.value() - want.reshape(len(want), -1))
    # the worst case assumes every exponential off by the table's error to one side; SEEN is ten times what is seen
    bound = min(softmax_bound(s, float(np.abs(v).max()), plan, visible), SEEN)
    assert error.max() <= bound, f"{error.max():.2e} over {bound:.2e}"
    expected = softmax_cost(plan, plan.heads * visible.pairs, plan.heads * visible.rows, visible.longest)
    assert r.cost == expected
    assert expected.rounds == 5
    return float(error.max())


PLAN = scales(smaller(LLAMA, heads=2, kv_heads=1), scores=30.0, row_max_low=-30.0).attention(SITE)
TOP = 2.0 ** (PLAN.bits_s - 2 - FRAC_IN) - 2.0 ** (WINDOW - FRAC_IN) - 2.0**-FRAC_IN  # the largest score there may be


@pytest.mark.parametrize(("rows", "start"), [(1, 0), (1, 1), (6, 0), (3, 9), (1, 40)])
def test_softmax_of_random_scores(rows: int, start: int) -> None:
    rng = np.random.default_rng(rows + start)
    pairs = Batch.one(rows, start).pairs()
    v = rng.uniform(-4, 4, (rows + start, 1, PLAN.head_size))
    check_softmax(rng.normal(0, 3, (2, pairs)), v, PLAN, start)


@pytest.mark.parametrize(
    "row",
    [
        [0.0] * 12,  # all equal
        [TOP] + [-TOP] * 11,  # the widest spread there is
        [-TOP] * 11 + [TOP],
        [TOP] * 12,
        [-29.0] * 12,  # a row whose maximum lies far down
        [-29.0] + [-60.0] * 11,
        [2.0, 2.0 - 2.0**-12, 2.0 + 2.0**-12, 0.0, -2.0, -2.0 - 2.0**-12] * 2,  # the thermometer's window ends
        [4.0, 3.9999, -4.0, -4.0001, 6.0, 5.9999] * 2,
        list(np.linspace(-60, 60, 12)),
        [1.0, -60.0] * 6,
    ],
    ids=[
        "equal",
        "first wins",
        "last wins",
        "all top",
        "all low",
        "low wins",
        "window ends",
        "more ends",
        "ramp",
        "halves",
    ],
)
def test_softmax_of_chosen_rows(row: list[float]) -> None:
    rng = np.random.default_rng(8)
    v = rng.uniform(-4, 4, (12, 1, PLAN.head_size))
    check_softmax(np.array([row, row[::-1]]), v, PLAN, 11)


def test_softmax_of_massive_random_spreads() -> None:
    rng = np.random.default_rng(9)
    rows = 16
    pairs = Batch.one(rows).pairs()
    s = np.clip(rng.standard_cauchy((2, pairs)) * 8, -60, 60)
    s[:, np.cumsum(np.arange(rows))] = rng.uniform(-28, 60, (2, rows))  # no row's maximum below the calibrated lowest
    check_softmax(s, rng.uniform(-4, 4, (rows, 1, PLAN.head_size)), PLAN, 0)


def test_softmax_of_a_long_row() -> None:
    """More scores than a count of 2^8: the zero tests' domain grows with the row."""
    rng = np.random.default_rng(10)
    v = rng.uniform(-4, 4, (400, 1, PLAN.head_size))
    check_softmax(rng.normal(0, 2, (2, 400)), v, PLAN, 399)
    check_softmax(np.zeros((2, 256)), v[:256], PLAN, 255)  # exactly 2^8 scores in the top window


def attend(
    spec: Spec, steps: list[F64], batches: list[Batch] | None = None
) -> tuple[list[Run], list[F64], list[F64], AttentionPlan]:
    """Several steps of one layer's attention: runs, what came out, float64. `batches`: by default one sequence that goes on."""
    plan = scales(spec).attention(SITE)
    frac = scales(spec).norm("layers.0.norm1").frac_out + scales(spec).weight
    inputs = [shared(encode(x, frac), frac, 64) for x in steps]
    at = np.cumsum([0] + [len(x) for x in steps])
    taken = batches or [Batch.one(len(x), int(at[i])) for i, x in enumerate(steps)]

    def peer(p: Any) -> Any:
        cache, out = new_cache(plan), []
        for i, (x, batch) in enumerate(zip(inputs, taken, strict=True)):
            p.begin(i)
            turn = turns(spec.rope_theta, spec.head_size, batch.positions, plan.frac_turn) if spec.rope_theta else None
            out.append((attention(p, x[p.role], plan, cache, batch, turn), p.counters))
        return out

    def deal(d: Any) -> Any:
        cache, sent = new_mask_cache(plan), []
        for i, batch in enumerate(taken):
            d.begin(i)
            deal_attention(d, plan, cache, batch)
            d.flush()
            sent.append(tuple(d.sent))
        return sent

    r = run(peer, deal)
    oracle = Plain(spec, {})
    cache = oracle.new_cache()[0]
    got, want = [], []
    for i, (x, batch) in enumerate(zip(steps, taken, strict=True)):
        (y0, c0), (y1, c1) = r.results[0][i], r.results[1][i]
        cost = attention_cost(plan, batch)
        for c in (c0, c1):
            assert (c.rounds, c.online_bytes) == (cost.rounds, cost.online)
        assert (c0.offline_bytes, c1.offline_bytes) == (cost.offline0, cost.offline1) == r.results[2][i]
        got.append(((y0.share + y1.share).view(np.int64)) / 2.0**y0.frac)
        want.append(oracle.attention(x, SITE, cache, batch))
        assert cost.rounds == (7 if spec.rope_theta else 6)
    return [r], got, want, plan


KINDS = {
    "llama, grouped queries": LLAMA,
    "llama, one group": smaller(LLAMA, kv_heads=1),
    "llama, as many groups as heads": smaller(LLAMA, kv_heads=4),
    "gpt2": GPT2,
    "gpt2, one head": smaller(GPT2, heads=1, kv_heads=1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_attention_at_the_start_and_with_a_cache(kind: str) -> None:
    """Scores err by D (|q| + |k|) ulps of q and k, at most 1.3e-2 nats here at worst and a tenth of it as a rule: beside
    the softmax's own error, 4e-3 is the bound that values of up to 4 leave, 1e-3 what is seen."""
    spec = KINDS[kind]
    rng = np.random.default_rng(11)
    steps = [np.clip(rng.normal(0, 0.9, (n, spec.qkv_width)), -4, 4) for n in (7, 1, 1, 3, 1)]
    _, got, want, _ = attend(spec, steps)
    for y, z in zip(got, want, strict=True):
        assert np.abs(y - z).max() < 4e-3


SEQUENCES = [
    Batch((Part(0, 0, 0, 5), Part(1, 1, 0, 3))),
    Batch((Part(0, 0, 5, 1), Part(1, 1, 3, 1), Part(2, 0, 5, 1), Part(3, 0, 2, 2))),  # two forks of what 0 was
    Batch((Part(3, 3, 4, 1), Part(1, 1, 4, 2)), forget=(0,)),
    Batch((Part(1, 1, 2, 3), Part(0, 0, 0, 2), Part(2, 2, 6, 1))),  # 1 goes back and on otherwise, 0 begins anew
    Batch((Part(2, 1, 5, 1),)),
]


@pytest.mark.parametrize("kind", ["llama, grouped queries", "gpt2"])
def test_sequences_share_rounds_and_keep_apart(kind: str) -> None:
    """Several sequences of different lengths, forks and rewinds: what each row sees is its own sequence; rounds as for one."""
    spec = KINDS[kind]
    rng = np.random.default_rng(21)
    steps = [np.clip(rng.normal(0, 0.9, (batch.rows, spec.qkv_width)), -4, 4) for batch in SEQUENCES]
    _, got, want, _ = attend(spec, steps, SEQUENCES)
    for y, z in zip(got, want, strict=True):
        assert np.abs(y - z).max() < 4e-3


def test_hidden_pairs_weigh_nothing() -> None:
    """Whatever is hidden (but a token from itself), with a cache and several sequences: as float64 without those pairs."""
    spec = KINDS["llama, grouped queries"]
    plan = make_scales(spec, typical(spec), hiding=True).attention(SITE)
    frac, rng = 40, np.random.default_rng(31)
    batch = Batch((Part(0, 0, 0, 9), Part(1, 1, 0, 4)))
    x = np.clip(rng.normal(0, 0.9, (13, spec.qkv_width)), -4, 4)
    inputs = shared(encode(x, frac), frac, 64)
    visible = Visible.of(batch)
    hidden = (rng.random(visible.pairs) < 0.4) & (visible.s != visible.t - 9 * (visible.t >= 9))
    first = rng.integers(0, 1 << 32, visible.pairs, dtype=np.uint64)
    shares = first, (hidden.astype(np.uint64) - first) & np.uint64(0xFFFFFFFF)

    def peer(p: Any) -> Any:
        turn = turns(spec.rope_theta or 0.0, spec.head_size, batch.positions, plan.frac_turn)
        return attention(p, inputs[p.role], plan, new_cache(plan), batch, turn, shares[p.role]), p.counters

    r = run(peer, lambda d: deal_attention(d, plan, new_mask_cache(plan), batch))
    (y0, counted), (y1, _) = r.results[0], r.results[1]
    cost = attention_cost(plan, batch)
    assert (counted.rounds, counted.online_bytes) == (cost.rounds, cost.online)
    got = (y0.share + y1.share).view(np.int64) / 2.0**y0.frac
    wide = [np.zeros((9, 9), bool), np.zeros((4, 4), bool)]
    for dense, (rows, pairs, _) in zip(wide, visible.sequences, strict=True):
        dense[visible.t[pairs] - rows.start, visible.s[pairs]] = hidden[pairs]
    want = np.concatenate([Hiding(spec, dense).attention(x[part], SITE, Slots(empty(spec)), Batch.one(len(dense)))
                           for dense, part in zip(wide, batch.spans, strict=True)])  # fmt: skip
    assert np.abs(got - want).max() < 4e-3


def empty(spec: Spec) -> Any:
    return lambda: Plain(spec, {}).new_cache()[0]._made()


class Hiding(Plain):
    """Float64 attention of one sequence without some pairs."""

    def __init__(self, spec: Spec, hidden: np.ndarray) -> None:
        super().__init__(spec, {})
        self._hidden = hidden

    def _mixed(self, q: F64, site: str, kept: Any, start: int) -> F64:
        heads, groups = self.spec.heads, self.spec.kv_heads
        keys, values = (np.repeat(one, heads // groups, 1) for one in (kept.keys, kept.values))
        scores = np.einsum("thd,shd->hts", q, keys)
        scores[:, ~np.tri(len(q), dtype=bool) | self._hidden] = -np.inf
        e = np.exp(scores - scores.max(-1, keepdims=True))
        return np.einsum("hts,shd->thd", e / e.sum(-1, keepdims=True), values).reshape(len(q), -1)


def test_a_plan_without_room_hides_nothing() -> None:
    with pytest.raises(ValueError, match="no room"):
        hide(Secret(np.zeros((1, 1), np.uint64), FRAC_IN, PLAN.bits_s), np.zeros(1, np.uint64), PLAN)


def test_attention_of_one_token() -> None:
    """A row of one score: the weighted mean is the value itself."""
    x = np.random.default_rng(12).normal(0, 1, (1, LLAMA.qkv_width))
    _, got, want, _ = attend(LLAMA, [x])
    assert np.abs(got[0] - want[0]).max() < 2e-3


def test_rounds_do_not_depend_on_the_cache() -> None:
    """10 and 400 cached tokens, counted and declared: 7 rounds; only bytes grow."""
    spec = smaller(LLAMA, heads=1, kv_heads=1)
    rng = np.random.default_rng(13)
    longest = [np.clip(rng.normal(0, 0.7, (n, spec.qkv_width)), -4, 4) for n in (10, 1, 389, 1)]
    _, got, want, plan = attend(spec, longest)  # counts each step's rounds, and that they are the declared ones
    assert np.abs(got[1] - want[1]).max() < 4e-3
    assert np.abs(got[3] - want[3]).max() < 4e-3
    assert (
        attention_cost(plan, Batch.one(1, 10)).rounds
        == attention_cost(plan, Batch.one(1, 400)).rounds
        == attention_cost(plan, Batch.one(389, 11)).rounds
    )
    assert attention_cost(plan, Batch.one(1, 10)).online < attention_cost(plan, Batch.one(1, 400)).online
