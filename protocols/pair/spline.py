"""The table gate: any tabulated function of a masked value, in one round (DESIGN 5.5).

    1. R uniform, r = R mod 2^n. Dealt: a tree key at the top bits of r with the table's payloads (1, -rho, rho^2), each
       times the caller's factors (secrets of the dealer) when a product is fused.
    2. Open X = x + R mod 2^n.
    3. Each party evaluates the cover that X selects (`tacit.kernels.dpf.cover`) and adds up pieces times coefficients.

Cost: 1 round, n bits online; 16 depth + 8 words bytes a key to each peer. Error: the table's `error`.
Simulator: X is uniform in Z_2^n; which nodes are visited depends on X alone; one key alone is simulatable (`keygen`).

Fused product f(g) u (one round): u is lifted beside g, u = alpha_u + e_{p_u} with public alpha_u and p_u (`lift`) and the
dealer's secrets e_0 = -r_u, e_1 = 2^n_u b_u - r_u. Keys have the factors (1, e_0, e_1); of the last two a party evaluates the
one that p_u selects: f(g) u = y_0 alpha_u + y_{1 + p_u}. The mask of u needs no shares of its own, and the words that are not
evaluated are as uniform as all correction words.

Keys come in portions of PORTION elements so that memory stays bounded and dealing overlaps evaluation.
"""

from __future__ import annotations

import numpy as np

from ...kernels.dpf.trees import U8
from .cost import Cost, keyed, opened
from .party import Dealer, Party
from .secret import U64, Secret, low
from .tables import Table

PORTION = 1 << 14


def table_cost(count: int, table: Table, factors: int = 1) -> Cost:
    """1 round."""
    c = table.cover
    return opened(count, c.n) + keyed(count, c.depth, c.payload_words(factors))


def deal_keys(d: Dealer, table: Table, r: U64, factors: U64 | None = None) -> None:
    """Keys for masks r (B,) mod 2^n; factors (B, F), or the single factor 1."""
    c = table.cover
    f = np.ones((len(r), 1), np.uint64) if factors is None else factors
    for start in range(0, len(r), PORTION):
        part = slice(start, start + PORTION)
        d.keys(r[part] >> np.uint64(c.n - c.depth), c.depth, c.payload(r[part], f[part]), c.words(f.shape[1]))
        d.ready()


def deal_table(d: Dealer, table: Table, count: int) -> U64:
    """The dealer's part of `count` evaluations; returns r."""
    r = low(d.mask(count), table.cover.n)
    deal_keys(d, table, r)
    return r


def evaluate_keys(party: Party, table: Table, opened_value: U64, second: U8 | None = None) -> U64:
    """Step 3 on X (B,), taking the keys portion by portion: (B, 1); with `second` (B,) as in `Trees.cover`, (B, 2)."""
    c = table.cover
    words = c.payload_words(1 if second is None else 3)
    out = np.empty((len(opened_value), 1 if second is None else 2), np.uint64)
    for start in range(0, len(opened_value), PORTION):
        part = slice(start, start + PORTION)
        x, chosen = opened_value[part], None if second is None else second[part]
        roots, cw, pcw = party.keys(len(x), c.depth, words)
        out[part] = party.trees.cover(c, x, roots, cw, pcw, party.role, chosen)
    return out


class TableOpening:
    """A table gate between masking and opening."""

    def __init__(self, party: Party, x: Secret, table: Table) -> None:
        if x.frac != table.frac_in or x.bits < table.cover.n:
            raise ValueError(f"a table of {table.cover.n} bits at {table.frac_in} cannot take {x!r}")
        self._party, self._table = party, table
        self.bits = table.cover.n
        self.masked = x.share + party.mask(x.share.size).reshape(x.shape)

    def finish(self, opened_value: U64) -> Secret:
        """Step 3; keys are taken here, after whatever else the round took."""
        y = evaluate_keys(self._party, self._table, opened_value.reshape(-1))
        return Secret(y[:, 0].reshape(opened_value.shape), self._table.frac_out, 64)


def apply_table(party: Party, x: Secret, table: Table) -> Secret:
    """f(x) in a round of its own: any shape."""
    opening = TableOpening(party, x, table)
    (value,) = party.exchange([(opening.masked, opening.bits)])
    return opening.finish(value)


def gated_cost(count: int, table: Table, bits_up: int) -> Cost:
    """1 round for both operands."""
    return table_cost(count, table, 3) + Cost(online=opened(count, bits_up).online)


def deal_gated(d: Dealer, table: Table, bits_up: int, count: int) -> None:
    """The dealer's part of `gated`."""
    r = low(d.mask(count), table.cover.n)
    r_u = low(d.mask(count), bits_up)
    wrapped = (r_u >> np.uint64(bits_up - 1)) << np.uint64(bits_up)  # 2^n_u b_u
    factors = np.stack([np.ones(count, np.uint64), -r_u, wrapped - r_u], 1)
    deal_keys(d, table, r, factors)


def gated(party: Party, g: Secret, u: Secret, table: Table, bits_up: int) -> Secret:
    """f(g) u of one shape, |u| < 2^(bits_up - 2): frac_out + u.frac fraction bits, Z_2^64."""
    if bits_up > u.bits or g.bits < table.cover.n or g.frac != table.frac_in:
        raise ValueError(f"a gated table of {table.cover.n} and {bits_up} bits cannot take {g!r} and {u!r}")
    count = g.share.size
    masked_g = g.share + party.mask(count).reshape(g.shape)
    offset = np.uint64((1 << (bits_up - 2)) if party.role == 0 else 0)
    masked_u = u.share + party.mask(count).reshape(u.shape) + offset
    x, w = party.exchange([(masked_g, table.cover.n), (masked_u, bits_up)])
    w = w.reshape(-1)
    alpha = w - np.uint64(1 << (bits_up - 2))
    p = (np.uint64(1) - (w >> np.uint64(bits_up - 1))).astype(np.uint8)
    y = evaluate_keys(party, table, x.reshape(-1), p)
    z = y[:, 0] * alpha + y[:, 1]
    return Secret(z.reshape(g.shape), table.frac_out + u.frac, 64)
