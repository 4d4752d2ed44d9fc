"""Softmax and weighted sum in five rounds at any length, by a thermometer (DESIGN 5.6).

Scores s at FRAC_IN bits in Z_2^n, |s| < 2^(n-2) - W. Windows of W = 2^WINDOW; a score in (u - 1, u + 1) W is of window u.

    1. Open X = s + r mod 2^n. Each score's small tree (at the top bits of r mod 2^(n-1)) gives shares of the histogram of
       windows of its row, locally; its suffix sums c_k = #{u >= k} are shared mod 2^16.
    2. Open c_k + rho_k mod 2^c, 2^c > longest row, for each threshold k > lowest; a point evaluation of the tree at rho_k
       gives shares of [c_k = 0]. m = lowest + sum_k [c_k > 0] is the row's top window, so max - (m + 1) W in (-2 W, 0).
    3. Open m + t mod 2^(n - WINDOW). Then z = s - (m + 1) W is masked by r - t W, and X - (m + t + 1) W is its public
       masked value; the exp gate's own keys are dealt at the top bits of r - t W (independent seeds).
    4. Open e + eps and the row sum S + sigma; products with the values (kept masks), reciprocal gate.
    5. Open o = e v and g = 1/S, lifted; o g by the product of lifted values.

Exponentials are at most 1 and the largest of a row at least e^-4, so nothing overflows and the sum keeps its precision.
A causal mask costs nothing: only pairs s <= t are touched. The rows of all sequences share the rounds; each meets the values of
its own. Shapes: scores (H, P) over the P visible pairs, values (G, S_b, D) of each sequence -> (T, H D) at frac_o + frac_g, Z_2^64.

Simulator: every opened value is uniform under a fresh mask of its full width; the histogram's tree at r and the exp key at
r - t W have independent roots; which leaves are read depends on X, and on X - M, alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...kernels.dpf.trees import U16, one_of_eight, small_depth
from .cost import Cost, dealt, keyed, local, opened
from .lift import LiftMask, LiftOpening, deal_lift, deal_product, lift_cost, product, product_cost
from .party import I64, Dealer, Party
from .products import KeptRows, Visible, masks_weighted, weighted_rows
from .scales import FRAC_E, FRAC_V, WINDOW, AttentionPlan
from .secret import U64, Secret, low
from .spline import PORTION, deal_keys, evaluate_keys, table_cost


def count_bits(longest: int) -> int:
    """Bits of a zero test's domain: more than the longest row, and at least one tree level."""
    return max(4, longest.bit_length())


def softmax_cost(plan: AttentionPlan, pairs: int, rows: int, longest: int) -> Cost:
    """5 rounds; pairs = H P, rows = H T."""
    c, k = count_bits(longest), rows * plan.thresholds
    n_o = rows * plan.head_size
    return (
        opened(pairs, plan.bits_s)
        + keyed(pairs, small_depth(plan.tree_bits), 2)
        + opened(k, c)
        + keyed(k, small_depth(c), 2)
        + opened(rows, plan.bits_m)
        + keyed(pairs, plan.exp.cover.depth, plan.exp.cover.payload_words())
        + opened(pairs, plan.bits_e)
        + dealt(n_o, plan.bits_e)
        + local(table_cost(rows, plan.reciprocal))
        + lift_cost(n_o, plan.bits_o)
        + local(lift_cost(rows, plan.bits_g))
        + product_cost(n_o, plan.bits_o, plan.bits_g)
    )


def _words(depth: int) -> I64:
    """Payload words by level of a small tree: one block at the leaves."""
    w = np.zeros(depth + 1, np.int64)
    w[depth] = 2
    return w


def _deal_small(d: Dealer, r: U64, bits: int) -> None:
    """Keys of small trees at r (B,) < 2^bits, portion by portion."""
    depth = small_depth(bits)
    for start in range(0, len(r), PORTION):
        part = r[start : start + PORTION]
        d.keys(part >> np.uint64(3), depth, one_of_eight(part), _words(depth), lane16=True)
        d.ready()


def deal_softmax(d: Dealer, plan: AttentionPlan, visible: Visible, values: Sequence[U64]) -> None:
    """The dealer's part; values (G, S_b, D) are the masks of each sequence's value rows, this step's among them."""
    heads, rows = plan.heads, plan.heads * visible.rows
    n = heads * visible.pairs
    r = low(d.mask(n), plan.bits_s)
    _deal_small(d, low(r, plan.bits_s - 1) >> np.uint64(WINDOW), plan.tree_bits)
    c = count_bits(visible.longest)
    _deal_small(d, low(d.mask(rows * plan.thresholds), c), c)
    t = low(d.mask(rows), plan.bits_m).reshape(heads, -1)
    rho = low(r - (visible.spread(t).reshape(-1) << np.uint64(WINDOW)), plan.bits_s)
    deal_keys(d, plan.exp, rho)
    eps = visible.scatter(d.mask(n).reshape(heads, -1))
    sigma = low(d.mask(rows), plan.reciprocal.cover.n)
    d.share(_joined([masks_weighted(*one) for one in zip(eps, values, strict=True)]), plan.bits_e)
    d.ready()
    deal_keys(d, plan.reciprocal, sigma)
    o = deal_lift(d, rows * plan.head_size, plan.bits_o)
    g = deal_lift(d, rows, plan.bits_g)
    each = [np.repeat(a, plan.head_size) for a in (g.r, g.b)]
    deal_product(d, o, LiftMask(each[0], each[1], g.bits))
    d.ready()


def softmax(
    party: Party,
    scores: Secret,
    values: Sequence[KeptRows],
    plan: AttentionPlan,
    visible: Visible,
    beside: tuple[tuple[U64, int], ...] = (),
    appended: Callable[..., None] | None = None,
) -> Secret:
    """Weighted means (T, H D) of scores (H, P). `beside`: masked values that ride on the first round; their opened forms go to
    `appended`, a callable, before the values are used."""
    heads, rows = plan.heads, plan.heads * visible.rows
    n = scores.share.size
    masked = scores.share.reshape(-1) + party.mask(n)  # 1.
    x, *extra = party.exchange([(masked, plan.bits_s), *beside])
    if appended is not None:
        appended(*extra)
    row_of = (np.arange(heads)[:, None] * visible.rows + visible.t).reshape(-1)
    top = low(x, plan.bits_s - 1) >> np.uint64(WINDOW)
    histogram = np.zeros((rows, 1 << plan.tree_bits), np.uint16)
    depth = small_depth(plan.tree_bits)
    for start in range(0, n, PORTION):
        part = slice(start, start + PORTION)
        roots, cw, pcw = party.keys(len(top[part]), depth, 2)
        party.trees.histogram(histogram, top[part], row_of[part], roots, cw, pcw, party.role)
    m = _top_window(party, histogram, plan, visible.longest)  # 2.
    (reference,) = party.exchange([(m + party.mask(rows), plan.bits_m)])  # 3.
    shift = visible.spread((reference + np.uint64(1)).reshape(heads, -1)).reshape(-1) << np.uint64(WINDOW)
    e = Secret(evaluate_keys(party, plan.exp, low(x - shift, plan.bits_s))[:, 0], plan.exp.frac_out, 64)
    e = e.drop(FRAC_E, party.role)
    e_mask = party.mask(n)  # 4.
    sums = visible.row_sums(e.share.reshape(heads, -1)).reshape(-1)
    e_open, s_open = party.exchange(
        [(e.share + e_mask, plan.bits_e), (sums + party.mask(rows), plan.reciprocal.cover.n)]
    )
    wide = (visible.scatter(x.reshape(heads, -1)) for x in (e_open, e_mask))
    o = _joined([weighted_rows(*one) for one in zip(*wide, values, strict=True)])
    o = o + party.take(rows * plan.head_size, plan.bits_e).reshape(o.shape)
    g = Secret(evaluate_keys(party, plan.reciprocal, s_open)[:, 0].reshape(heads, -1, 1), plan.reciprocal.frac_out, 64)
    o_lift = LiftOpening(
        party, Secret(o, FRAC_E + FRAC_V, plan.bits_e).drop(plan.frac_o, party.role), plan.bits_o
    )  # 5.
    g_lift = LiftOpening(party, g.drop(plan.frac_g, party.role), plan.bits_g)
    o_open, g_open = party.exchange([(o_lift.masked, o_lift.bits), (g_lift.masked, g_lift.bits)])
    y = product(party, o_lift.finish(o_open), g_lift.finish(g_open))  # (H, T, D)
    return Secret(y.share.transpose(1, 0, 2).reshape(visible.rows, -1), y.frac, 64)


def _joined(parts: list[U64]) -> U64:
    """(H, T_b, D) of each sequence -> (H, T, D)."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _top_window(party: Party, histogram: U16, plan: AttentionPlan, longest: int) -> U64:
    """Step 2: shares of m, mod 2^16, of each row."""
    half = 1 << (plan.tree_bits - 1)
    signed = np.concatenate([histogram[:, half:], histogram[:, :half]], 1)  # windows -half .. half - 1
    counts = np.cumsum(signed[:, ::-1], 1, dtype=np.uint16)[:, ::-1][:, plan.lowest + 1 + half : plan.top + half]
    bits = count_bits(longest)
    flat = counts.astype(np.uint64).reshape(-1)
    (x,) = party.exchange([(flat + party.mask(flat.size), bits)])
    zero = np.empty(flat.size, np.uint16)
    for start in range(0, flat.size, PORTION):
        part = slice(start, start + PORTION)
        roots, cw, pcw = party.keys(len(x[part]), small_depth(bits), 2)
        zero[part] = party.trees.points(x[part], roots, cw, pcw, party.role, bits)
    m = -zero.reshape(counts.shape).sum(1, dtype=np.uint16)
    if party.role == 0:
        m = m + np.uint16((plan.lowest + counts.shape[1]) & 0xFFFF)
    window: U64 = m.astype(np.uint64)
    return window
