"""Attention on shares: RoPE by public factors, products with kept masks, softmax (DESIGN 5.8, rounds 4 to 10).

With RoPE:
    1. Open q, k, v, lifted at 16 (v: 13) fraction bits; rotate q and k by public cosines and sines.
    2. Open q, k, v masked in the products' rings; rows join the caches; scores = q k^T.
    3.-7. `softmax`.
Without RoPE (learned positions) the normalised row's product already has a ring wide enough for the scores:
    1. Open q, k masked in the products' ring, and v lifted.
    2.-6. `softmax`, with v masked in the values' ring beside the scores.

Rows of several sequences share the rounds and the trees; each is multiplied with its own sequence's keys and values.
Shapes: qkv (T, (H + 2 G) D) -> (T, H D).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from ..base import Batch, Slots
from .cost import Cost, dealt, local, opened
from .functions import cos_sin, exp, log
from .lift import Lifted, LiftOpening, deal_lift, lift_cost
from .party import Dealer, Party
from .products import KeptRows, Rows, Visible, against_rows, masks_against
from .scales import FRAC_IN, FRAC_V, AttentionPlan
from .secret import U64, Secret, fixed, low
from .softmax import deal_softmax, softmax, softmax_cost


@dataclass(slots=True)
class KeysValues:
    """One sequence's keys and values in one layer, at a compute peer."""

    keys: KeptRows
    values: KeptRows

    @classmethod
    def empty(cls, plan: AttentionPlan) -> KeysValues:
        """Before the first token."""
        return cls(*(KeptRows.empty(plan.kv_heads, plan.head_size) for _ in range(2)))

    def cut(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        self.keys.cut(length)
        self.values.cut(length)

    def copy(self, length: int) -> KeysValues:
        """The first `length` tokens."""
        return KeysValues(self.keys.copy(length), self.values.copy(length))


@dataclass(slots=True)
class KeysValuesMasks:
    """One sequence's key and value masks in one layer, at the dealer."""

    keys: Rows
    values: Rows

    @classmethod
    def empty(cls, plan: AttentionPlan) -> KeysValuesMasks:
        """Before the first token."""
        return cls(*(Rows(plan.kv_heads, plan.head_size) for _ in range(2)))

    def cut(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        self.keys.cut(length)
        self.values.cut(length)

    def copy(self, length: int) -> KeysValuesMasks:
        """The first `length` tokens."""
        return KeysValuesMasks(self.keys.copy(length), self.values.copy(length))


Cache = Slots[KeysValues]
MaskCache = Slots[KeysValuesMasks]


def new_cache(plan: AttentionPlan) -> Cache:
    """One layer's sequences at a compute peer, none yet."""
    return Slots(partial(KeysValues.empty, plan), plan.causal)


def new_mask_cache(plan: AttentionPlan) -> MaskCache:
    """The same at the dealer."""
    return Slots(partial(KeysValuesMasks.empty, plan), plan.causal)


def attention_cost(plan: AttentionPlan, batch: Batch) -> Cost:
    """7 rounds with RoPE, 6 without."""
    rows = batch.rows
    q, kv = (rows * h * plan.head_size for h in (plan.heads, plan.kv_heads))
    pairs = plan.heads * batch.pairs(plan.causal)
    scores = dealt(pairs, plan.bits_q)
    soft = softmax_cost(plan, pairs, plan.heads * rows, batch.longest)
    if plan.rope:
        raw = lift_cost(q, plan.bits_raw) + local(lift_cost(kv, plan.bits_raw), lift_cost(kv, plan.bits_v))
        masked = opened(q, plan.bits_q) + local(opened(kv, plan.bits_q), opened(kv, plan.bits_e))
        return raw + masked + scores + soft
    first = opened(q, plan.bits_q) + local(opened(kv, plan.bits_q), lift_cost(kv, plan.bits_v))
    return first + local(opened(kv, plan.bits_e)) + scores + soft


def deal_attention(d: Dealer, plan: AttentionPlan, cache: MaskCache, batch: Batch) -> None:
    """The dealer's part; its masks of this step's rows join `cache`."""
    visible, rows = Visible.of(batch, plan.causal), batch.rows
    q, kv = (rows * h * plan.head_size for h in (plan.heads, plan.kv_heads))
    if plan.rope:
        deal_lift(d, q, plan.bits_raw)
        deal_lift(d, kv, plan.bits_raw)
    q_mask = d.mask(q).reshape(rows, plan.heads, plan.head_size) if not plan.rope else None
    k_mask = d.mask(kv).reshape(rows, plan.kv_heads, -1) if not plan.rope else None
    deal_lift(d, kv, plan.bits_v)
    if q_mask is None or k_mask is None:
        q_mask = d.mask(q).reshape(rows, plan.heads, plan.head_size)
        k_mask = d.mask(kv).reshape(rows, plan.kv_heads, -1)
    v_mask = d.mask(kv).reshape(rows, plan.kv_heads, -1)
    sequences = cache.take(batch)
    for masks, k, v in zip(sequences, visible.of_rows(k_mask), visible.of_rows(v_mask), strict=True):
        masks.keys.append(k)
        masks.values.append(v)
    products = [masks_against(q, masks.keys.all) for q, masks in zip(visible.of_rows(q_mask), sequences, strict=True)]
    d.share(visible.gather(products), plan.bits_q)
    d.ready()
    deal_softmax(d, plan, visible, [masks.values.all for masks in sequences])


def rotate(x: Secret, turn: tuple[U64, U64], frac: int) -> Secret:
    """RoPE in the half-split form: x cos + (-x_2, x_1) sin, x (T, H, D), cos and sin (T, 1, D) at `frac` bits."""
    half = x.shape[-1] // 2
    swapped: U64 = np.concatenate([-x.share[..., half:], x.share[..., :half]], -1)
    turned: U64 = x.share * turn[0] + swapped * turn[1]
    return Secret(turned, x.frac + frac, x.bits)


def turns(theta: float, size: int, positions: npt.NDArray[np.int64], frac: int) -> tuple[U64, U64]:
    """Cosines and sines of T positions: two (T, 1, D) arrays at `frac` bits (J. Su et al. 2021)."""
    angle = np.outer(positions, exp(-np.arange(0, size, 2) / size * log(theta)))
    cos, sin = cos_sin(np.concatenate([angle, angle], 1)[:, None, :])
    return fixed(cos, frac), fixed(sin, frac)


def attention(
    party: Party,
    qkv: Secret,
    plan: AttentionPlan,
    cache: Cache,
    batch: Batch,
    turn: tuple[U64, U64] | None,
    hidden: U64 | None = None,
) -> Secret:
    """(T, (H + 2 G) D) -> (T, H D) at plan.frac_out, Z_2^64; appends the batch's rows to `cache`.

    `hidden` (P,): this party's shares, mod 2^32, of 1 for each visible pair whose score is to count for nothing, else 0.
    """
    rows, size, role = batch.rows, plan.head_size, party.role
    visible, sequences = Visible.of(batch, plan.causal), cache.take(batch)
    h, g = plan.heads, plan.kv_heads
    parts = [
        Secret(qkv.share[:, a * size : b * size].reshape(rows, b - a, size), qkv.frac, qkv.bits)
        for a, b in ((0, h), (h, h + g), (h + g, h + 2 * g))
    ]
    if turn is not None:
        q, k, v = _lift_all(party, parts, plan)
        q, k = (rotate(x, turn, plan.frac_turn).drop(plan.frac_q, role) for x in (q, k))
        q_mask, k_mask, v_mask = (party.mask(x.share.size).reshape(x.shape) for x in (q, k, v))
        q_open, k_open, v_open = party.exchange(
            [(q.share + q_mask, plan.bits_q), (k.share + k_mask, plan.bits_q), (v.share + v_mask, plan.bits_e)]
        )
        _append([one.values for one in sequences], visible, v_open, v_mask, role)
        beside: tuple[tuple[U64, int], ...] = ()
        appended = None
    else:
        q, k = (x.drop(plan.frac_q, role) for x in parts[:2])
        q_mask, k_mask = (party.mask(x.share.size).reshape(x.shape) for x in (q, k))
        v_lift = LiftOpening(party, parts[2].drop(FRAC_V, role), plan.bits_v)
        q_open, k_open, lifted = party.exchange(
            [(q.share + q_mask, plan.bits_q), (k.share + k_mask, plan.bits_q), (v_lift.masked, plan.bits_v)]
        )
        v = v_lift.finish(lifted).secret(role)
        v_mask = party.mask(v.share.size).reshape(v.shape)
        beside = ((v.share + v_mask, plan.bits_e),)

        def appended(v_open: U64) -> None:  # the values' openings ride on the scores' round
            _append([one.values for one in sequences], visible, v_open, v_mask, role)

    _append([one.keys for one in sequences], visible, k_open, k_mask, role)
    q_rows, q_masks = visible.of_rows(q_open), visible.of_rows(q_mask)
    z = visible.gather([against_rows(q, b, one.keys) for q, b, one in zip(q_rows, q_masks, sequences, strict=True)])
    z += party.take(z.size, plan.bits_q).reshape(z.shape)
    scores = Secret(low(z, plan.bits_q), 2 * plan.frac_q, plan.bits_q).drop(FRAC_IN, role)
    if hidden is not None:
        scores = hide(scores, hidden, plan)
    return softmax(party, scores, [one.values for one in sequences], plan, visible, beside, appended)


def hide(scores: Secret, hidden: U64, plan: AttentionPlan) -> Secret:
    """s - hiding [hidden]: scores (H, P) in a ring with room for it; no round, no bytes. Below every score that is not hidden
    by so much that its exponential is 0 at FRAC_E bits. ValueError for a plan without the room."""
    if not plan.hiding:
        raise ValueError("these scores leave no room to hide any")
    return Secret(scores.share - np.uint64(plan.hiding) * hidden[None, :], scores.frac, scores.bits)


def _append(kept: list[KeptRows], visible: Visible, opened: U64, mask: U64, role: int) -> None:
    """Rows (T, G, D) just opened join their sequences."""
    for one, rows, masks in zip(kept, visible.of_rows(opened), visible.of_rows(mask), strict=True):
        one.append(rows, masks, role)


def _lift_all(party: Party, parts: list[Secret], plan: AttentionPlan) -> list[Secret]:
    """q, k and v over Z_2^64, opened together."""
    openings = [
        LiftOpening(party, x.drop(frac, party.role), bits)
        for x, frac, bits in zip(
            parts, (plan.frac_raw, plan.frac_raw, FRAC_V), (plan.bits_raw, plan.bits_raw, plan.bits_v), strict=True
        )
    ]
    values = party.exchange([(o.masked, o.bits) for o in openings])
    lifted: list[Lifted] = [o.finish(x) for o, x in zip(openings, values, strict=True)]
    return [x.secret(party.role) for x in lifted]
