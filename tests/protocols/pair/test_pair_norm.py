"""RMS norm and the logits' reveal."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_plans import LLAMA, scales, smaller
from tacit.kernels.prg import Prg
from tacit.protocols.pair.norm import deal_norm, norm_cost, rms_norm
from tacit.protocols.pair.reveal import client_share
from tacit.protocols.pair.scales import BITS_LOGITS, FRAC_LOGITS, FRAC_X, NormPlan
from tacit.protocols.pair.secret import Secret
from three_parties import F64, Run, encode, run, shared, value
from uniformity import Family


def norm_bound(x: F64, plan: NormPlan) -> F64:
    """What the docstring declares: 1e-4 relative by the table (1.5e-4 where only 11 bits of the mask are kept), and the
    scales' rounding: of x (and through it of rms), of 1/rms, both drops erring by up to one ulp."""
    rms = np.sqrt((x * x).mean(1, keepdims=True) + LLAMA.eps)
    ulp_x, ulp_inv = 2.0**-plan.frac_x, 2.0**-plan.frac_inv
    return 1.6e-4 * np.abs(x) / rms + 1.1 * (ulp_x / rms * (1 + np.abs(x) / rms) + np.abs(x) * ulp_inv)


def norm(x: F64, plan: NormPlan, degenerate: int | None = None) -> Run:
    shares = shared(encode(x, FRAC_X), FRAC_X, 64, degenerate)
    return run(lambda p: rms_norm(p, shares[p.role], plan), lambda d: deal_norm(d, len(x), plan))


def check(x: F64, plan: NormPlan, degenerate: int | None = None) -> float:
    """Within the bound; returns the largest error."""
    r = norm(x, plan, degenerate)
    want = x / np.sqrt((x * x).mean(1, keepdims=True) + LLAMA.eps)
    error = np.abs(r.value() - want)
    assert (error <= norm_bound(x, plan)).all(), f"{error.max():.2e}"
    assert r.results[0].frac == plan.frac_out
    return float(error.max())


def test_norm_of_random_rows_of_every_size() -> None:
    plan = scales(LLAMA).norm("layers.0.norm1")
    rng = np.random.default_rng(0)
    rms = np.geomspace(0.25, 4.0, 60)[:, None]
    x = rng.normal(0, 1, (60, LLAMA.width))
    x = np.clip(x / np.sqrt((x * x).mean(1, keepdims=True)) * rms, -20, 20)
    assert check(x, plan) < 2e-3


@pytest.mark.parametrize("degenerate", [None, 0, 1])
def test_norm_at_the_edges(degenerate: int | None) -> None:
    plan = scales(LLAMA).norm("layers.0.norm1")
    c = LLAMA.width
    rows = [np.full(c, 1.0), np.full(c, -1.0), np.full(c, 0.25), np.full(c, 4.0), np.tile([4.0, -4.0], c // 2)]
    spike = np.full(c, 1e-3)
    spike[5] = -23.0
    rows += [spike, np.where(np.arange(c) == c - 1, 23.0, 0.2)]
    check(np.tile(np.array(rows), (6, 1)), plan, degenerate)


def test_norm_with_massive_channels() -> None:
    """A few channels a thousand times the others, as the first token of real models has them."""
    plan = scales(LLAMA, input=1500.0, rms_high=300.0, rms_low=0.5).norm("layers.0.norm1")
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, (40, LLAMA.width))
    x[::2, 3] = 1500.0
    x[::4, 7] = -1100.0
    check(x, plan)


@given(st.lists(st.floats(-20, 20).filter(lambda v: abs(v) > 0.3), min_size=8, max_size=8))
@settings(max_examples=25, deadline=None)
def test_norm_of_any_row(numbers: list[float]) -> None:
    spec = smaller(LLAMA, width=8)
    check(np.array([numbers]), scales(spec, rms_high=8.0).norm("norm"))


@pytest.mark.parametrize(("rows", "width"), [(1, 8), (3, 32), (17, 24)])
def test_norm_costs_what_it_declares(rows: int, width: int) -> None:
    plan = scales(smaller(LLAMA, width=width)).norm("norm")
    cost = norm(np.ones((rows, width)), plan).cost
    assert cost == norm_cost(rows, plan)
    assert cost.rounds == 3


def revealed(x: F64, frac: int, degenerate: int | None = None) -> tuple[list[np.ndarray], F64]:
    shares = shared(encode(x, frac), frac, 64, degenerate)
    k01 = os.urandom(32)
    parts = [client_share(shares[i], i, Prg(k01), 3) for i in (0, 1)]
    total = (parts[0] + parts[1]).view(np.int32)  # uint32 wraps
    return parts, total / 2.0**FRAC_LOGITS


@pytest.mark.parametrize("degenerate", [None, 0, 1])
def test_logits_reach_the_client_within_one_ulp(degenerate: int | None) -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.normal(0, 20, 500), [0.0, -(2.0**-30), 8000.0, -8000.0]])
    _, got = revealed(x, 40, degenerate)
    error = got - x
    assert error.min() >= -(2.0**-FRAC_LOGITS)
    assert error.max() <= 2.0**-FRAC_LOGITS


def test_a_share_of_the_logits_is_fresh() -> None:
    """Even when a peer's own share was all there was: re-randomising makes both uniform, and not equal."""
    family = Family()
    for degenerate in (0, 1):
        parts, _ = revealed(np.full(4000, 7.25), 40, degenerate)
        for i, part in enumerate(parts):
            family.uniform(f"share {i} of {degenerate}", part.astype(np.uint64), BITS_LOGITS)
    assert not family.failures()


def test_logits_need_their_bits() -> None:
    with pytest.raises(ValueError, match="only 30 bits"):
        client_share(Secret(np.zeros(2, np.uint64), FRAC_LOGITS + 34, 64), 0, Prg(bytes(32)), 0)


def test_the_helper_shares_what_it_says() -> None:
    x = np.array([-1.5, 0.25, 3.0])
    for bits in (20, 40, 64):
        assert np.array_equal(value(*shared(encode(x, 12), 12, bits)), x)
