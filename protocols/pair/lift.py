"""Lift: from a share in Z_2^n to one in Z_2^64, exactly, with one opening (DESIGN 5.3 after a local drop, 5.4).

Statement. x in Z_2^n shared, |x| < 2^(n-2). After the opening every party holds X, and shares of x over Z_2^64 that are linear
in dealt randomness, so that squares and products of lifted values need no second opening.

    1. R = R_0 + R_1 uniform in Z_2^64, r = R mod 2^n, b = msb(r); dealt: shares of R >> n and b, in the 64 - n bits that matter.
    2. Open X = x + 2^(n-2) + R mod 2^n.
    3. p = 1 - msb(X). As 0 <= x + 2^(n-2) < 2^(n-1), the sum wraps exactly when b = 1 and p = 1, so over the integers
       x = alpha - rho,  alpha = X - 2^(n-2),  rho = r - 2^n p b.

Truncation by s bits kept in the full ring = a local drop (`Secret.drop`, error {0, +1}) followed by this gate; the noise of the
drop comes from the share, a public coin to neither. Cost: 1 round, n bits online; 2 (64 - n) bits to peer 1.
Simulator: X is uniform in Z_2^n, whatever x; p is a function of X.

Product of lifted x (n) and y (n'), n + n' >= 64, xy = (alpha - rho)(gamma - tau) with tau = t - 2^n' p' b':

    xy = alpha gamma - alpha tau - gamma rho + r t - 2^n' p' (r b') - 2^n p (b t)     [2^(n + n') p p' b b' = 0 mod 2^64]

dealt: r t (64 bits), r b' (64 - n' bits), b t (64 - n bits). No round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cost import Cost, dealt, opened
from .party import Dealer, Party
from .secret import U64, Secret, low


def lift_cost(count: int, bits: int) -> Cost:
    """1 round, `bits` bits a value."""
    return opened(count, bits) + dealt(count, 64 - bits) + dealt(count, 64 - bits)


@dataclass(frozen=True, slots=True, repr=False)
class LiftMask:
    """The dealer's view of a lifted value: r mod 2^bits and its top bit, flat."""

    r: U64
    b: U64
    bits: int


def deal_lift(d: Dealer, count: int, bits: int) -> LiftMask:
    """The dealer's part of `count` lifts."""
    big = d.mask(count)
    r = low(big, bits)
    b = r >> np.uint64(bits - 1)
    if bits < 64:
        d.share(big >> np.uint64(bits), 64 - bits)
        d.share(b, 64 - bits)
    return LiftMask(r, b, bits)


@dataclass(frozen=True, slots=True, repr=False)
class Lifted:
    """An opened value: alpha and p public, `minus` this party's share of -rho, all of the tensor's shape."""

    alpha: U64
    p: U64
    minus: U64
    b: U64
    bits: int
    frac: int

    def column(self) -> Lifted:
        """A vector (T,) as (T, 1), to broadcast over rows."""
        return Lifted(self.alpha[:, None], self.p[:, None], self.minus[:, None], self.b[:, None], self.bits, self.frac)

    def secret(self, role: int) -> Secret:
        """The value itself, shared over Z_2^64."""
        return Secret(self.minus + self.alpha if role == 0 else self.minus, self.frac, 64)


class LiftOpening:
    """A lift between its masking and its opening, so that several openings share a round."""

    def __init__(self, party: Party, x: Secret, bits: int) -> None:
        if bits > x.bits:
            raise ValueError(f"a lift from {bits} bits needs a ring at least as wide, not {x.bits}")
        count = x.share.size
        self._mask = party.mask(count).reshape(x.shape)
        self._high = party.take(count, 64 - bits).reshape(x.shape)
        self._b = party.take(count, 64 - bits).reshape(x.shape)
        self._frac = x.frac
        self.bits = bits
        offset = np.uint64((1 << (bits - 2)) if party.role == 0 else 0)
        self.masked = x.share + self._mask + offset

    def finish(self, opened_value: U64) -> Lifted:
        """Step 3, from the opened X."""
        n = self.bits
        p = np.uint64(1) - (opened_value >> np.uint64(n - 1))
        minus = -self._mask
        if n < 64:
            minus += (self._high + p * self._b) << np.uint64(n)
        return Lifted(opened_value - np.uint64(1 << (n - 2)), p, minus, self._b, n, self._frac)


def lift(party: Party, x: Secret, bits: int) -> Lifted:
    """Lift in a round of its own."""
    opening = LiftOpening(party, x, bits)
    (value,) = party.exchange([(opening.masked, bits)])
    return opening.finish(value)


def product_cost(count: int, bits_x: int, bits_y: int) -> Cost:
    """Dealt words of a product of lifted values; no round."""
    return dealt(count, 64) + dealt(count, 64 - bits_y) + dealt(count, 64 - bits_x)


def deal_product(d: Dealer, x: LiftMask, y: LiftMask) -> None:
    """x.r, y.r flat and of one length (broadcast by the caller)."""
    if x.bits + y.bits < 64:
        raise ValueError(f"lifted rings of {x.bits} and {y.bits} bits leave a wrap term; together they need 64")
    d.share(x.r * y.r, 64)
    d.share(x.r * y.b, 64 - y.bits)
    d.share(x.b * y.r, 64 - x.bits)


def product(party: Party, x: Lifted, y: Lifted) -> Secret:
    """xy over Z_2^64; y broadcasts against x (..., N) with a last axis of 1 or N."""
    shape = x.alpha.shape
    count = x.alpha.size
    rt = party.take(count, 64).reshape(shape)
    rb = party.take(count, 64 - y.bits).reshape(shape)
    bt = party.take(count, 64 - x.bits).reshape(shape)
    z = x.alpha * y.minus + y.alpha * x.minus + rt
    if y.bits < 64:
        z -= (y.p * rb) << np.uint64(y.bits)
    if x.bits < 64:
        z -= (x.p * bt) << np.uint64(x.bits)
    if party.role == 0:
        z += x.alpha * y.alpha
    return Secret(z, x.frac + y.frac, 64)
