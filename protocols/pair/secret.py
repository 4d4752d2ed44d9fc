"""A secret of the pair protocol, and what can be done to it without a word: scale changes, sums, reductions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]


def low(x: U64, bits: int) -> U64:
    """x mod 2^bits."""
    return x if bits >= 64 else x & np.uint64((1 << bits) - 1)


def fixed(x: npt.NDArray[np.float64], frac: int) -> U64:
    """round(x 2^frac) in the ring."""
    return np.rint(x * 2.0**frac).astype(np.int64).view(np.uint64)


@dataclass(slots=True, repr=False, eq=False)
class Secret:
    """One party's additive share of a fixed-point tensor: x = (x_0 + x_1 mod 2^bits, signed) / 2^frac.

    `share` may carry rubbish above `bits`; whoever opens or drops it reduces. Truth, comparison, printing and pickling of a
    share are refused: none of them can be done by one party.
    """

    share: U64
    frac: int
    bits: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.share.shape

    def __repr__(self) -> str:
        return f"Secret(shape={self.share.shape}, frac={self.frac}, bits={self.bits})"

    def __bool__(self) -> NoReturn:
        raise TypeError("a secret has no truth value for one party")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret must not be pickled")

    def drop(self, frac: int, role: int) -> Secret:
        """Local truncation to `frac` bits: (x_i >> s) in the ring 2^(bits - s), plus one by party 0.

        x >> s with error in {0, +1}, unbiased to 2^-s (stochastic rounding by the share's low bits), never a gross failure, since
        the ring shrinks with the number (DESIGN 5.2). No round, no bytes.
        """
        s = self.frac - frac
        if s < 0:
            raise ValueError(f"cannot drop from {self.frac} to {frac} fraction bits")
        if s == 0:
            return self
        share = low(self.share, self.bits) >> np.uint64(s)
        if role == 0:
            share += np.uint64(1)
        return Secret(share, frac, self.bits - s)

    def plus(self, other: Secret) -> Secret:
        """Sum of two secrets of one scale, in the narrower ring."""
        if self.frac != other.frac:
            raise ValueError(f"cannot add {self.frac} and {other.frac} fraction bits")
        return Secret(self.share + other.share, self.frac, min(self.bits, other.bits))


@dataclass(frozen=True, slots=True)
class Shape:
    """What the dealer and the tracer know of a secret: everything but its share."""

    shape: tuple[int, ...]
    frac: int
    bits: int

    def drop(self, frac: int) -> Shape:
        """As `Secret.drop`."""
        if frac > self.frac:
            raise ValueError(f"cannot drop from {self.frac} to {frac} fraction bits")
        return Shape(self.shape, frac, self.bits - (self.frac - frac))

    def plus(self, other: Shape) -> Shape:
        """As `Secret.plus`."""
        if self.frac != other.frac:
            raise ValueError(f"cannot add {self.frac} and {other.frac} fraction bits")
        return Shape(self.shape, self.frac, min(self.bits, other.bits))

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape))
