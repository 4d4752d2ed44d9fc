"""Fresh keys, and tables to evaluate them with."""

import os

import numpy as np
from numpy.typing import NDArray
from tacit.kernels.dpf.hashing import TreeKeys, tree_keys
from tacit.protocols.pair.functions import gelu_tanh, silu
from tacit.protocols.pair.scales import relu_table
from tacit.protocols.pair.tables import Table, build

U64 = NDArray[np.uint64]
KEYS: TreeKeys = tree_keys(os.urandom(16))


def words(*shape: int) -> U64:
    """Fresh uniform words."""
    return np.frombuffer(os.urandom(8 * int(np.prod(shape))), np.uint64).reshape(shape).copy()


def spread(depth: int, words_at: dict[int, int]) -> NDArray[np.int64]:
    """Payload words by level."""
    out = np.zeros(depth + 1, np.int64)
    for level, count in words_at.items():
        out[level] = count
    return out


def tables() -> dict[str, Table]:
    """One of each form a cover takes: dense leaves, tails, zero windows, pieces at every level, cut payloads."""
    return {
        "dense leaves": build(gelu_tanh, bits=12, depth=6, frac_in=6, frac_out=24, terms={6: 3}, classify=(), tolerance=1.0),
        "tails": build(gelu_tanh, bits=18, depth=9, frac_in=12, frac_out=30, terms={5: 2, 9: 3}, classify=(), tolerance=5e-4),
        "tails at four levels": build(
            silu, bits=19, depth=12, frac_in=12, frac_out=22, terms={5: 2, 8: 2, 10: 2, 12: 2}, classify=(), tolerance=2e-4
        ),
        "zero windows": build(
            lambda z: np.exp(np.minimum(z, 1.0)), bits=20, depth=11, frac_in=12, frac_out=36, terms={11: 3},
            classify=(4, 6, 8), tolerance=4e-6, domain=(-128.0, 0.0),
        ),
        "every level": relu_table(16, 4, 4),
        "geometric, cut": build(
            lambda s: 1 / np.maximum(s, 2.0**-9), bits=30, depth=22, frac_in=20, frac_out=46, terms=dict.fromkeys(range(4, 23), 3),
            classify=(), tolerance=1.5e-4, relative=True, keep=11, domain=(0.0, 0.875 * 2.0**9),
        ),
    }  # fmt: skip
