"""RMS norm in three rounds (DESIGN 5.7).

    1. Open the row, lifted: x = alpha - rho. Squares are then local:
       sum x^2 = sum alpha^2 - 2 sum alpha rho + sum r^2 - 2^(n+1) sum p (r b) + 2^(2n) sum p b
       with sum r^2 (one word a row) and r b dealt.
    2. Open the sum of squares; the table gate gives 1/rms.
    3. Open 1/rms, lifted; x / rms = product of lifted values.

The norm's weight is in the next matrix, LayerNorm's mean in those that write the residual stream (`tacit.models.fold`).
Shapes: (T, C) -> (T, C). Cost: `norm_cost`. Error: relative 1e-4 of the table plus 2^-14 of either scale.
"""

from __future__ import annotations

import numpy as np

from .cost import Cost, dealt, local
from .lift import LiftMask, LiftOpening, deal_lift, deal_product, lift, lift_cost, product, product_cost
from .party import Dealer, Party
from .scales import NormPlan
from .secret import Secret
from .spline import apply_table, deal_table, table_cost


def norm_cost(rows: int, plan: NormPlan) -> Cost:
    """3 rounds."""
    n = rows * plan.width
    squares = dealt(rows, 64) + dealt(n, 63 - plan.bits_x)
    return (
        lift_cost(n, plan.bits_x)
        + squares
        + table_cost(rows, plan.table)
        + lift_cost(rows, plan.bits_inv)
        + local(product_cost(n, plan.bits_x, plan.bits_inv))
    )


def deal_norm(d: Dealer, rows: int, plan: NormPlan) -> None:
    """The dealer's part."""
    x = deal_lift(d, rows * plan.width, plan.bits_x)
    d.share((x.r * x.r).reshape(rows, -1).sum(1), 64)
    d.share(x.r * x.b, 63 - plan.bits_x)
    d.ready()
    deal_table(d, plan.table, rows)
    inv = deal_lift(d, rows, plan.bits_inv)
    each = [np.repeat(a, plan.width) for a in (inv.r, inv.b)]
    deal_product(d, x, LiftMask(each[0], each[1], inv.bits))
    d.ready()


def rms_norm(party: Party, x: Secret, plan: NormPlan) -> Secret:
    """x / rms at plan.frac_out, Z_2^64."""
    n = plan.bits_x
    rows = x.shape[0]
    opening = LiftOpening(party, x.drop(plan.frac_x, party.role), n)  # 1.
    r2 = party.take(rows, 64)
    rb = party.take(x.share.size, 63 - n).reshape(x.shape)
    (value,) = party.exchange([(opening.masked, n)])
    v = opening.finish(value)
    square = np.uint64(2) * v.alpha * v.minus - ((v.p * rb) << np.uint64(n + 1))
    if party.role == 0:
        square += v.alpha * v.alpha
    if 2 * n < 64:
        square += (v.p * v.b) << np.uint64(2 * n)
    total = Secret(square.sum(1, dtype=np.uint64) + r2, 0, 64)
    inverse = apply_table(party, total, plan.table)  # 2.
    inv = lift(party, inverse.drop(plan.frac_inv, party.role), plan.bits_inv)  # 3.
    return product(party, v, inv.column())
