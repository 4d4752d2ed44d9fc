"""Table gates against the functions they stand for, and the fused product; exact tables exactly."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_plans import GPT2, LLAMA, scales, smaller
from tacit.errors import ModelError
from tacit.protocols.pair.functions import gelu, gelu_tanh, silu
from tacit.protocols.pair.scales import FRAC_E, relu_table, sign_table
from tacit.protocols.pair.spline import PORTION, apply_table, deal_gated, deal_table, gated, gated_cost, table_cost
from tacit.protocols.pair.tables import Table, build
from three_parties import F64, Run, run, shared

SLACK = 1.03  # a table's error is read off 33 points a window: between them it may be this much more


def through(table: Table, x: np.ndarray, bits: int = 64, degenerate: int | None = None) -> tuple[Run, F64]:
    """Integers x at the table's input scale, through the gate."""
    shares = shared(np.ascontiguousarray(x).astype(np.int64).view(np.uint64), table.frac_in, bits, degenerate)
    r = run(lambda p: apply_table(p, shares[p.role], table), lambda d: deal_table(d, table, x.size))
    return r, r.value()


def points(table: Table, lo: float, hi: float, count: int = 4000) -> np.ndarray:
    """Integers over [lo, hi] at the table's scale: even, random, around every power of two and window, and both ends."""
    one = 2.0**table.frac_in
    rng = np.random.default_rng(3)
    powers = np.outer([-1, 1], 2.0 ** np.arange(0, 60)).reshape(-1)
    windows = np.arange(-64, 64) << max(0, table.cover.n - table.cover.depth)
    x = np.concatenate(
        [np.linspace(lo * one, hi * one, count), rng.uniform(lo * one, hi * one, count), powers - 1, powers, powers + 1]
        + [windows + d for d in (-1.0, 0.0, 1.0)]
    )
    x = np.unique(np.rint(np.clip(x, lo * one, hi * one)))
    return np.clip(x, np.ceil(lo * one), np.floor(hi * one)).astype(np.int64)


def geometric(table: Table, lo: float, hi: float) -> np.ndarray:
    """Integers spread evenly in the logarithm, both ends among them."""
    one = 2.0**table.frac_in
    x = np.geomspace(lo * one, hi * one, 4000)
    return np.unique(np.clip(np.rint(x), np.ceil(lo * one), np.floor(hi * one))).astype(np.int64)


@cache
def pointwise_silu() -> Table:
    return build(silu, bits=17, depth=8, frac_in=12, frac_out=32, terms={4: 2, 8: 3}, classify=(), tolerance=1e-4)


def activation(name: str) -> Table:
    return scales(smaller(GPT2, activation=name)).activation("layers.0.act").table


SMOOTH: dict[str, tuple[Callable[[], Table], Callable[[F64], F64], float, float, float]] = {
    # table, function, from, to, largest error allowed
    "gelu_tanh": (lambda: activation("gelu_tanh"), gelu_tanh, -28.0, 28.0, 5.5e-4),
    "gelu": (lambda: activation("gelu"), gelu, -28.0, 28.0, 5.5e-4),
    "silu": (pointwise_silu, silu, -16.0, 15.8, 2.5e-4),
    "silu of a gate": (lambda: scales(LLAMA).activation("layers.0.act").table, silu, -28.0, 28.0, 2e-4),
    "exp": (lambda: scales(LLAMA).attention("layers.0.attention").exp, np.exp, -64.0, -(2.0**-12), 1e-4),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_tables_stay_within_their_declared_error(name: str) -> None:
    make, f, lo, hi, allowed = SMOOTH[name]
    table = make()
    assert table.error <= allowed
    x = points(table, lo, hi)
    for degenerate in (None, 1):
        r, y = through(table, x, 64 if degenerate is None else table.cover.n, degenerate)
        error = np.abs(y - f(x / 2.0**table.frac_in))
        assert error.max() <= SLACK * table.error, f"{error.max():.2e} at {x[error.argmax()]}"
    assert r.cost == table_cost(x.size, table)


@pytest.mark.parametrize("name", ["reciprocal", "rsqrt"])
def test_geometric_tables_stay_within_their_relative_error(name: str) -> None:
    plan = scales(LLAMA)
    if name == "reciprocal":
        table, lo, hi = plan.attention("layers.0.attention").reciprocal, 2.0**-6, 500.0

        def f(s: F64) -> F64:
            return 1 / s
    else:
        norm = plan.norm("layers.0.norm1")
        squares = norm.width * 4.0**norm.frac_x
        table = norm.table
        lo, hi = (squares * rms * rms for rms in (0.25 / 4, 4.0 * 7))

        def f(s: F64) -> F64:
            return (s / squares + LLAMA.eps) ** -0.5

    x = geometric(table, lo, hi)
    r, y = through(table, x)
    want = f(x / 2.0**table.frac_in)
    ulp = 2.0**-table.frac_out
    assert (np.abs(y - want) <= 1.6e-4 * want + ulp).all()
    assert r.cost == table_cost(x.size, table)


@cache
def exact_table(kind: str, bits: int) -> tuple[Table, Callable[[np.ndarray], np.ndarray]]:
    if kind == "relu":
        return relu_table(bits, 3, 9 if bits < 32 else 3), lambda x: np.maximum(x, 0) / 8
    return sign_table(bits), lambda x: (x >= 0).astype(float)


@pytest.mark.parametrize("kind", ["relu", "sign"])
def test_exact_tables_for_every_input_of_a_small_ring(kind: str) -> None:
    table, f = exact_table(kind, 8)
    assert table.error == 0
    x = np.tile(np.arange(-128, 112), 200)  # the range declared; 200 masks each, and a ring has 256
    assert np.array_equal(through(table, x)[1], f(x))


@pytest.mark.parametrize("kind", ["relu", "sign"])
@pytest.mark.parametrize("bits", [16, 24, 32, 40])
def test_exact_tables_at_the_edges_of_a_big_ring(kind: str, bits: int) -> None:
    table, f = exact_table(kind, bits)
    top = 1 << (bits - 1)
    end = 7 * (top >> 3)  # as declared
    near = np.array([-top, -top + 1, -1, 0, 1, end - 2, end - 1])
    powers = 1 << np.arange(bits - 1)
    x = np.concatenate([np.tile(near, 40), powers, -powers, powers - 1, -powers + 1])
    assert np.array_equal(through(table, x, bits)[1], f(x))


@given(st.lists(st.integers(-(2**23), 7 * 2**20 - 1), min_size=1, max_size=40))
@settings(max_examples=25, deadline=None)
def test_relu_on_any_numbers(numbers: list[int]) -> None:
    table, f = exact_table("relu", 24)
    x = np.array(numbers)
    assert np.array_equal(through(table, x)[1], f(x))


@pytest.mark.parametrize("shape", [(1,), (7, 3), (2, 2, 5)])
def test_tables_cost_what_they_declare(shape: tuple[int, ...]) -> None:
    table = activation("gelu_tanh")
    r, y = through(table, np.zeros(shape, np.int64))
    assert y.shape == shape
    assert r.cost == table_cost(y.size, table)
    assert r.cost.rounds == 1


def test_more_elements_than_a_portion() -> None:
    table, f = exact_table("sign", 8)
    x = np.resize(np.arange(-128, 112), 2 * PORTION + 5)
    r, y = through(table, x)
    assert np.array_equal(y, f(x))
    assert r.cost == table_cost(x.size, table)
    assert len([m for m in r.links["2->0"] if m.kind == "correlations"]) == 3


def test_a_table_refuses_another_scale_and_a_narrow_ring() -> None:
    table = activation("gelu_tanh")
    for frac, bits in ((11, 64), (12, table.cover.n - 1)):
        share = shared(np.zeros(3, np.uint64), frac, bits)[0]
        with pytest.raises(ValueError, match="cannot take"):
            run(lambda p, s=share: apply_table(p, s, table), lambda d: None)


def test_a_coefficient_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="63 bits"):
        build(lambda x: x * 2.0**20, bits=20, depth=8, frac_in=4, frac_out=40, terms={8: 2}, classify=(), tolerance=1.0)


def gated_run(g: F64, u: F64, degenerate: int | None = None) -> tuple[Run, F64]:
    """silu(g) u on shares."""
    plan = scales(LLAMA).activation("layers.0.act")
    assert plan.frac_up is not None
    gi, ui = (np.rint(a * 2.0**f).astype(np.int64) for a, f in ((g, 12), (u, plan.frac_up)))
    gs = shared(gi.view(np.uint64), 12, 64, degenerate)
    us = shared(ui.view(np.uint64), plan.frac_up, 64, degenerate)
    r = run(
        lambda p: gated(p, gs[p.role], us[p.role], plan.table, plan.bits_up),
        lambda d: deal_gated(d, plan.table, plan.bits_up, g.size),
    )
    want = silu(gi / 2.0**12) * ui / 2.0**plan.frac_up
    error = np.abs(r.value() - want)
    assert (error <= SLACK * plan.table.error * np.abs(ui / 2.0**plan.frac_up) + 2.0**-plan.frac_out).all()
    assert r.cost == gated_cost(g.size, plan.table, plan.bits_up)
    assert r.cost.rounds == 1
    return r, error


def test_gated_within_the_tables_error_times_the_other_operand() -> None:
    rng = np.random.default_rng(5)
    g = np.concatenate([rng.normal(0, 3, 2000), np.linspace(-28, 28, 500)])
    u = np.concatenate([rng.normal(0, 2, 2000), rng.uniform(-23.9, 23.9, 500)])
    gated_run(g, u)


@pytest.mark.parametrize("degenerate", [0, 1])
def test_gated_at_the_edges(degenerate: int) -> None:
    plan = scales(LLAMA).activation("layers.0.act")
    assert plan.frac_up is not None
    top = 2.0 ** (plan.bits_up - 2 - plan.frac_up)
    g, u = np.meshgrid(
        [-28.0, -4.0, -(2.0**-12), 0.0, 2.0**-12, 4.0, 28.0], [-top, -1.0, 0.0, 1.0, top - 2.0**-plan.frac_up]
    )
    gated_run(np.tile(g.reshape(-1), 20), np.tile(u.reshape(-1), 20), degenerate)


@pytest.mark.parametrize("shape", [(1,), (3, 7), (8, 2)])
def test_gated_costs_what_it_declares(shape: tuple[int, ...]) -> None:
    _, error = gated_run(np.ones(shape), np.ones(shape))
    assert error.shape == shape


def test_the_scale_of_exponentials_fits_the_reciprocal() -> None:
    """The row sum enters the reciprocal at FRAC_E in its ring: the longest row of ones must fit."""
    plan = scales(LLAMA).attention("layers.0.attention")
    assert plan.reciprocal.frac_in == FRAC_E
    assert LLAMA.context * 2.0**FRAC_E < 2.0 ** (plan.reciprocal.cover.n - 1)


def test_tables_of_any_range_stay_small() -> None:
    """The windows a table lists do not grow with its ring: rms from 2^-4 to 2^12, exact tables of 40 bits."""
    wide = scales(LLAMA, input=4000.0, rms_high=512.0, rms_low=0.5)
    tables = [
        wide.norm("norm").table,
        wide.attention("layers.0.attention").reciprocal,
        relu_table(40, 3, 3),
        sign_table(40),
    ]
    for table in tables:
        assert len(table.cover.actions) < 2000
        assert len(table.cover.coefficients) < 2000
