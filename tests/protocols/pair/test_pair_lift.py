"""Local drops, lifts and products of lifted values: exact in the ring, at every edge."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.protocols.pair.lift import deal_lift, deal_product, lift, lift_cost, product, product_cost
from tacit.protocols.pair.secret import Secret
from three_parties import Run, run, shared, signed, words

WIDTHS = [3, 4, 20, 33, 40, 62, 63, 64]


def lifted(x: np.ndarray, bits: int, degenerate: int | None = None, **options: object) -> tuple[Run, np.ndarray]:
    """x (int64) through the gate: the run, and what its result stands for in Z_2^64."""
    shares = shared(x.view(np.uint64), 0, bits, degenerate)
    r = run(
        lambda p: lift(p, shares[p.role], bits).secret(p.role),
        lambda d: deal_lift(d, x.size, bits),
        **options,  # type: ignore[arg-type]
    )
    return r, (r.results[0].share + r.results[1].share).view(np.int64)


def edges(bits: int) -> np.ndarray:
    """What the statement |x| < 2^(n-2) allows, at its ends and around 0, and random values between."""
    top = 1 << (bits - 2)
    e = [-top, -top + 1, -1, 0, 1, top - 1]
    inside = signed(words(200), bits - 1) if bits > 3 else np.zeros(0, np.int64)
    return np.concatenate([np.tile([v for v in e if -top <= v < top], 50), inside])


@pytest.mark.parametrize("bits", WIDTHS)
def test_lift_is_exact(bits: int) -> None:
    x = edges(bits)
    r, got = lifted(x, bits)
    assert np.array_equal(got, x)
    assert r.cost == lift_cost(x.size, bits)


def test_lift_is_exact_for_every_value_of_a_small_ring() -> None:
    x = np.tile(np.arange(-64, 64), 200)
    for degenerate in (None, 0, 1):
        assert np.array_equal(lifted(x, 8, degenerate)[1], x)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 4)])
@pytest.mark.parametrize("bits", [17, 40, 64])
def test_lift_costs_what_it_declares(shape: tuple[int, ...], bits: int) -> None:
    r, got = lifted(np.zeros(shape, np.int64), bits)
    assert got.shape == shape
    assert r.cost == lift_cost(int(np.prod(shape)), bits)
    assert r.cost.rounds == 1


def test_lift_refuses_a_narrower_ring() -> None:
    with pytest.raises(ValueError, match="at least as wide"):
        run(lambda p: lift(p, Secret(words(2), 0, 19), 20), lambda d: None)


@pytest.mark.parametrize(("n", "m"), [(32, 32), (40, 24), (24, 40), (60, 44), (64, 64), (64, 3), (3, 64), (63, 63)])
@pytest.mark.parametrize("column", [False, True])
def test_products_of_lifted_values_are_exact(n: int, m: int, column: bool) -> None:
    x = edges(n)[:400].reshape(-1, 4)
    y = edges(m)[: x.size].reshape(-1, 4)[: len(x)]
    y = np.resize(y[:, :1], (len(x), 1)) if column else np.resize(y, x.shape)
    xs, ys = shared(x.view(np.uint64), 3, n), shared(y.view(np.uint64), 5, m)

    def deal(d: object) -> None:
        a, b = deal_lift(d, x.size, n), deal_lift(d, y.size, m)  # type: ignore[arg-type]
        if column:
            b = type(b)(np.repeat(b.r, x.shape[1]), np.repeat(b.b, x.shape[1]), m)
        deal_product(d, a, b)  # type: ignore[arg-type]

    r = run(lambda p: product(p, lift(p, xs[p.role], n), lift(p, ys[p.role], m)), deal)
    got = r.results[0].share + r.results[1].share
    assert np.array_equal(got, x.view(np.uint64) * y.view(np.uint64))  # mod 2^64, all of it
    assert r.results[0].frac == 8
    assert r.cost == lift_cost(x.size, n) + lift_cost(y.size, m) + product_cost(x.size, n, m)


def test_products_refuse_rings_that_leave_a_wrap_term() -> None:
    with pytest.raises(ValueError, match="together they need 64"):
        run(lambda p: None, lambda d: deal_product(d, deal_lift(d, 2, 31), deal_lift(d, 2, 32)))


def test_drop_errs_by_at_most_one_ulp_for_every_value_and_every_share() -> None:
    n, s = 8, 3
    x, first = np.meshgrid(np.arange(-128, 128), np.arange(256))
    y0 = Secret(first.astype(np.uint64), s, n).drop(0, 0)
    y1 = Secret((x - first).astype(np.uint64), s, n).drop(0, 1)
    assert (y0.frac, y0.bits) == (0, n - s)
    error = signed(y0.share + y1.share, n - s) - (x >> s)
    error = ((error + 16) % 32) - 16  # the ring shrank: -128 >> 3 and 127 >> 3 plus one meet at its end
    assert set(np.unique(error)) == {0, 1}
    bias = (error + (x >> s) - x / 2**s).mean(0)  # over all sharings: one unit of the scale that was left, no more
    assert np.allclose(bias, 2.0**-s, atol=1e-12)


@given(st.integers(-(2**40), 2**40), st.integers(1, 30), st.integers(43, 64))
@settings(max_examples=80, deadline=None)
def test_drop_on_random_shares(x: int, s: int, bits: int) -> None:
    first, second = shared(np.array([x], np.int64).view(np.uint64), s, bits)
    y0, y1 = first.drop(0, 0), second.drop(0, 1)
    assert int(signed(y0.share + y1.share, y0.bits)[0]) - (x >> s) in (0, 1)


def test_a_secret_shows_nothing() -> None:
    s = Secret(np.array([123456789], np.uint64), 12, 40)
    assert "123456789" not in repr(s)
    assert "123456789" not in str(s)
    with pytest.raises(TypeError, match="truth"):
        bool(s)
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(s)
    with pytest.raises(ValueError, match="cannot drop"):
        s.drop(13, 0)
    with pytest.raises(ValueError, match="cannot add"):
        s.plus(Secret(s.share, 11, 40))
