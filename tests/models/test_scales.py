"""The range check: what is recorded, how plans follow from it, and what is refused before anything can wrap."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tacit.batch import Batch
from tacit.errors import ModelError
from tacit.models.decoder import forward
from tacit.models.scales import SEQUENCES, RangeRecorder, calibrate, plan, sample_sequences
from tacit.protocols.base import Spec
from tacit.protocols.pair.scales import CALIBRATED, MARGIN, Scales, magnitude, make_scales
from tacit.protocols.plain.plain import Plain

F64 = NDArray[np.float64]
LLAMA = Spec("llama", 2, 4, 2, 8, 32, 48, 40, 64, 1e-5, "silu", 10000.0)
GPT2 = Spec("gpt2", 2, 4, 4, 8, 32, 48, 40, 64, 1e-5, "gelu_tanh", None)


def weights(spec: Spec, massive: float = 0.0, query: float = 1.0) -> dict[str, F64]:
    rng = np.random.default_rng(3)  # weights are no secret
    c, f = spec.width, spec.hidden

    def matrix(rows: int, columns: int) -> F64:
        return rng.normal(0, 1 / np.sqrt(rows), (rows, columns))

    w = {"embed": rng.normal(0, 0.7, (spec.vocab, c)), "head.weight": matrix(c, spec.vocab)}
    if massive:
        w["embed"][0, 2] = massive
    for i in range(spec.layers):
        w[f"layers.{i}.qkv.weight"] = matrix(c, spec.qkv_width)
        w[f"layers.{i}.qkv.weight"][:, : spec.heads * spec.head_size] *= query / np.sqrt(spec.head_size)
        w[f"layers.{i}.out.weight"] = matrix(spec.heads * spec.head_size, c)
        w[f"layers.{i}.{'gate_up' if spec.gated else 'up'}.weight"] = matrix(c, f * (2 if spec.gated else 1))
        w[f"layers.{i}.down.weight"] = matrix(f, c)
    if spec.rope_theta is None:
        w["positions"] = rng.normal(0, 0.2, (spec.context, c))
    return w


def made_up(spec: Spec, **changes: float) -> dict[str, dict[str, float]]:
    norm = {"input": 6.0, "rms_high": 4.0, "rms_low": 0.25}
    attention = {"scores": 12.0, "row_max_low": -6.0, "raw": 6.0, "v": 4.0, "weighted": 60.0}
    act = {"gate": 8.0, "up": 6.0, "output": 20.0} if spec.gated else {"input": 8.0, "output": 8.0}
    ranges = {"norm": dict(norm), "head": {"output": 20.0}}
    for i in range(spec.layers):
        for name, group in (("norm1", norm), ("norm2", norm), ("attention", attention), ("act", act)):
            ranges[f"layers.{i}.{name}"] = dict(group)
    for group in ranges.values():
        group.update({k: v for k, v in changes.items() if k in group})
    return ranges


@given(st.floats(1e-6, 1e9))
@settings(max_examples=200, deadline=None)
def test_magnitude_leaves_its_margin(value: float) -> None:
    m = magnitude(value)
    assert value * 2**MARGIN <= 2.0**m * (1 + 1e-8)
    assert value < 2.0**-9 or value * 2**MARGIN > 2.0 ** (m - 1) * (1 - 1e-8)


# What is recorded -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_ranges_cover_what_the_samples_reach(spec: Spec) -> None:
    """Recorded by hand from the oracle's observer: each maximum is reached within an eighth of a power of two."""
    w = weights(spec)
    samples = sample_sequences(spec, w, 1)
    ranges = calibrate(spec, w, samples)
    seen: dict[tuple[str, str], float] = {}
    lows: dict[str, float] = {}

    def observe(site: str, quantity: str, values: F64) -> None:
        seen[site, quantity] = max(seen.get((site, quantity), 0.0), float(np.abs(values).max()))
        if quantity == "mean_square":
            lows[site] = min(lows.get(site, math.inf), float(np.sqrt(values.min() + spec.eps)))

    for ids in samples:
        oracle = Plain(spec, w, observe)
        forward(oracle, spec, ids, oracle.new_cache(), Batch.one(len(ids)))
    act = "gate" if spec.gated else "input"
    pairs = [("layers.1.norm1", "input", "input"), ("norm", "input", "input"), ("layers.0.attention", "qk_raw", "raw")]
    pairs += [("layers.1.attention", "v", "v"), ("layers.1.attention", "scores", "scores"), ("layers.0.act", act, act)]
    pairs += [("head", "output", "output")]
    for site, quantity, name in pairs:
        reached = seen[site, quantity]
        assert reached <= ranges[site][name] <= reached * 1.125 * (1 + 1e-9)
    for site, low in lows.items():
        assert low / 1.126 <= ranges[site]["rms_low"] <= low
        assert ranges[site]["rms_high"] >= math.sqrt(seen[site, "mean_square"])


def test_the_lowest_row_maximum_is_the_rows() -> None:
    """Scores of heads x causal pairs, row by row: the maximum of each row, the least of them."""
    recorder = RangeRecorder(replace(LLAMA, heads=2))
    rows = [[-5.0], [-7.0, -3.0], [1.0, -9.0, -8.0], [4.0], [2.0, 0.0], [-6.0, -4.5, -20.0]]
    recorder("layers.0.attention", "scores", np.concatenate([np.array(r) for r in rows]))
    assert recorder.ranges["layers.0.attention"] == {"scores": 20.0, "row_max_low": -5.0}


def test_samples_are_the_same_everywhere_and_fit_the_context() -> None:
    w = weights(LLAMA)
    first, again = (sample_sequences(LLAMA, w, 1) for _ in range(2))
    assert first == again
    assert len(first) == SEQUENCES
    assert {len(s) for s in first} == {min(CALIBRATED, LLAMA.context)}
    assert all(s[0] == 1 for s in first[:2])  # with and without bos
    assert any(s[0] != 1 for s in first[2:])
    assert len({tuple(s) for s in first}) == SEQUENCES
    assert all(0 <= t < LLAMA.vocab for s in first for t in s)
    tiny = replace(LLAMA, context=3)
    assert {len(s) for s in sample_sequences(tiny, w, None)} == {3}


def test_a_token_that_no_sample_holds_still_counts() -> None:
    w = weights(GPT2)
    sequences = [[1, 2, 3]]
    usual = calibrate(GPT2, w, sequences)["layers.0.norm1"]
    w["embed"] = w["embed"].copy()
    w["embed"][GPT2.vocab - 1] = 50.0
    assert calibrate(GPT2, w, sequences)["layers.0.norm1"]["input"] >= 50.0 > usual["input"]


def test_ranges_do_not_change_with_the_last_bits_of_float64() -> None:
    w = weights(GPT2)
    samples = sample_sequences(GPT2, w, None)
    moved = {name: value * (1 + 1e-13) for name, value in w.items()}
    assert calibrate(GPT2, w, samples) == calibrate(GPT2, moved, samples)


# What follows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("massive", [0.0, 300.0])
@pytest.mark.parametrize("spec", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_a_plan_leaves_two_bits_everywhere(spec: Spec, massive: float) -> None:
    check = plan(spec, weights(spec, massive), 0, "toy")
    assert check.margin_bits >= MARGIN
    assert check.margin_bits == min(row.margin_bits for row in check.rows)
    assert {row.site for row in check.rows} >= {"norm", "head", "layers.0.norm1", "layers.1.attention", "layers.1.act"}
    if massive:
        assert max(row.largest for row in check.rows if row.quantity == "residual") >= massive


def fits(spec: Spec, scales: Scales, residual: float) -> None:
    """The budgets of `make_scales`, read off the plan: nothing needs more than 64 bits."""
    m = magnitude(residual)
    for i in range(spec.layers):
        a, act = scales.attention(f"layers.{i}.attention"), scales.activation(f"layers.{i}.act")
        assert a.frac_out + scales.weight + m + 2 <= 64
        assert act.frac_out + scales.weight + m + 2 <= 64
        assert a.bits_o + a.bits_g >= 64  # products of lifted values have no wrap term
        assert min(a.bits_q, a.bits_v, a.bits_raw, a.bits_o, a.bits_g) > 0
        assert max(a.bits_q, a.bits_v, a.bits_raw, a.bits_o, a.bits_g, a.bits_e) <= 64
        assert a.bits_s - 1 == a.tree_bits + 13
        assert a.thresholds >= 1
        norm1, norm2 = (scales.norm(f"layers.{i}.norm{j}").frac_out + scales.weight for j in (1, 2))
        assert a.bits_v <= 64 - (norm1 - 13)  # what is opened is left of the ring after the drop
        assert not a.rope or a.bits_raw <= 64 - (norm1 - a.frac_raw)
        assert act.table.cover.n <= 64 - (norm2 - act.table.frac_in)
        assert act.frac_up is None or act.bits_up <= 64 - (norm2 - act.frac_up)
        assert act.frac_out + scales.weight >= scales.frac_x  # later sums only drop
        assert a.frac_out + scales.weight >= scales.frac_x
    for j in (1, 2):
        n = scales.norm(f"layers.0.norm{j}")
        assert n.bits_x + n.bits_inv >= 64
        assert n.bits_x <= 64 - (scales.frac_x - n.frac_x)
        assert n.table.cover.n <= 62


@given(
    st.floats(0.5, 2000.0),
    st.floats(1.0, 30.0),
    st.floats(0.05, 1.0),
    st.floats(2.0, 60.0),
    st.floats(1.0, 40.0),
    st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_any_plan_that_is_made_fits(
    residual: float, high: float, low: float, scores: float, v: float, gated: bool
) -> None:
    """Made or refused with ModelError: never a plan that breaks a budget."""
    spec = LLAMA if gated else GPT2
    ranges = made_up(spec, input=residual, rms_high=high, rms_low=low, scores=scores, v=v, row_max_low=-scores)
    try:
        scales = make_scales(spec, ranges)
    except ModelError:
        return
    fits(spec, scales, residual)


def test_plans_of_ordinary_ranges_are_made() -> None:
    for spec in (LLAMA, GPT2, replace(GPT2, activation="relu"), replace(GPT2, activation="gelu")):
        fits(spec, make_scales(spec, made_up(spec)), 6.0)


@pytest.mark.parametrize(
    ("spec", "changes", "where"),
    [
        (LLAMA, {"input": 2.0**22}, "residual stream reaches 2"),
        (GPT2, {"input": 2.0**22}, "residual stream reaches 2"),
        (GPT2, {"scores": 2.0**14}, "layers.0.attention: scores up to 1.64e"),
        (LLAMA, {"scores": 2.0**14}, "layers.0.attention: scores up to 1.64e"),
        (LLAMA, {"rms_high": 2.0**19, "rms_low": 2.0**-9}, "layers.0.norm1: the sum of squares"),
        (LLAMA, {"raw": 2.0**14}, "layers.0.attention: q and k up to"),
        (LLAMA, {"v": 2.0**15}, "layers.0.attention: v up to"),
        (GPT2, {"v": 2.0**20}, "layers.0.attention: v up to"),
        (LLAMA, {"weighted": 2.0**12}, "layers.0.attention: the sum of exp times v"),
        (GPT2, {"weighted": 2.0**12}, "layers.0.attention: the sum of exp times v"),
        (LLAMA, {"gate": 2.0**30}, "layers.0.act: the gate up to"),
        (LLAMA, {"up": 2.0**16}, "layers.0.act: up up to"),
        (LLAMA, {"output": 2.0**14}, "head: logits up to"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_by_name(spec: Spec, changes: dict[str, float], where: str) -> None:
    """At load, with the site; not by a party in the middle of a session, and never by a wrong answer."""
    with pytest.raises(ModelError, match=where):
        make_scales(spec, made_up(spec, **changes))


def test_a_residual_stream_beyond_the_ring_is_refused() -> None:
    with pytest.raises(ModelError, match=r"residual stream reaches 2\^23"):
        make_scales(LLAMA, made_up(LLAMA, input=2.0**22 * 1.5))
    with pytest.raises(ModelError, match="residual stream"):
        plan(LLAMA, weights(LLAMA, massive=1e8), 0, "toy")


def test_rows_longer_than_those_calibrated_are_thought_of() -> None:
    """The sum of exp times v grows with the row, and counts have 16 bits."""
    ranges = made_up(LLAMA, weighted=500.0)
    make_scales(replace(LLAMA, context=1024), ranges)
    with pytest.raises(ModelError, match=r"sum of exp times v, 500 over 96 tokens, may exceed 2\^13 over 2048"):
        make_scales(replace(LLAMA, context=2048), ranges)
    ranges = made_up(LLAMA, weighted=4.0)
    make_scales(replace(LLAMA, context=(1 << 16) - 1), ranges)
    with pytest.raises(ModelError, match="a row of 65536 scores is longer than 65535"):
        make_scales(replace(LLAMA, context=1 << 16), ranges)


def test_the_wrong_kind_of_site_is_a_mistake() -> None:
    scales = make_scales(LLAMA, made_up(LLAMA))
    with pytest.raises(TypeError, match="NormPlan was asked for"):
        scales.norm("layers.0.attention")
    with pytest.raises(KeyError):
        scales.norm("layers.7.norm1")


def test_plans_of_the_same_ranges_have_the_same_tables() -> None:
    """Dealer and peers build them apart: digests agree, and differ when a range does."""

    def digests(scales: Scales) -> list[str]:
        a = scales.attention("layers.0.attention")
        return [
            scales.norm("norm").table.digest,
            a.exp.digest,
            a.reciprocal.digest,
            scales.activation("layers.0.act").table.digest,
        ]

    one, other = (make_scales(LLAMA, made_up(LLAMA)) for _ in range(2))
    assert digests(one) == digests(other)
    assert digests(one)[0] != digests(make_scales(LLAMA, made_up(LLAMA, rms_high=64.0)))[0]
