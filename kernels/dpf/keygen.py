"""Keys of a distributed point function, in numpy and OpenSSL alone, so that a client needs no compiler and no torch.

Half-tree DPF (X. Guo, K. Yang, X. Wang, W. Zhang, X. Xie, J. Zhang, Z. Liu: Half-Tree, EUROCRYPT 2023, figure 8), with the
payload converted under a second key at any set of levels instead of inside the last level:

    s_0^0, s_1^0 random with lsb 0 and 1; Delta = s_0^0 xor s_1^0                    (t = lsb of the seed)
    CW_i    = H(s_0) xor H(s_1) xor (1 - alpha_i) Delta                             (alpha_1 is the top bit)
    s_b     = H(s_b) xor alpha_i s_b xor t_b CW_i                                   (child alpha_i of the node on the path)
    PCW_j   = (-1)^{t_1} (beta_j - G(s_0) + G(s_1))  mod 2^w, word by word          (at each level j with a payload)

Evaluation: left child H(s) xor t CW, right child that xor s; value of a node (-1)^b (G(s) + t PCW). Off the path both
parties hold the same seed, so values cancel; on it they differ by Delta and add up to beta.
Each key alone is simulatable: root, CW and PCW are uniform to whoever does not know the other root.

| key of one token (`one_hot_keys`) | bytes | |
| --- | --- | --- |
| root seed | 16 | lsb = the party |
| CW_1 .. CW_h | 16 h | h = depth of ceil(V / 2) leaves |
| PCW | 16 | two 64-bit words a leaf: entries 2 k and 2 k + 1 |
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .hashing import U64, TreeHash, TreeKeys, tree_keys

__all__ = [
    "Keys",
    "TreeHash",
    "TreeKeys",
    "generate",
    "many_one_hot_keys",
    "one_hot_depth",
    "one_hot_key_bytes",
    "one_hot_keys",
    "tree_keys",
]

_ONE = np.uint64(1)


@dataclass(frozen=True, slots=True)
class Keys:
    """What both parties need besides their roots. B keys of depth h."""

    cw: U64  # (B, h, 2)
    pcw: dict[int, U64]  # level -> (B, words)


def set_party(roots: U64, party: int) -> U64:
    """Roots with lsb = party, as the control bit t needs: (B, 2) -> (B, 2)."""
    out = roots.copy()
    out[:, 0] = (out[:, 0] & ~_ONE) | np.uint64(party)
    return out


def lane_arithmetic(words: U64, lane_bits: int) -> U64:
    """View 64-bit words as their lanes (64: the words themselves, 16: four a word), for arithmetic mod 2^lane_bits."""
    dtype = {64: np.uint64, 16: np.uint16}[lane_bits]
    return np.ascontiguousarray(words).view(dtype)


def generate(
    hash_: TreeHash, alpha: U64, depth: int, roots0: U64, roots1: U64, payloads: dict[int, U64], lane_bits: int = 64
) -> Keys:
    """Keys for B points `alpha` < 2^depth. payloads: level (1..depth) -> beta (B, words), words even, lanes of `lane_bits`."""
    s0, s1 = set_party(roots0, 0), set_party(roots1, 1)
    delta = s0 ^ s1
    cw = np.empty((len(alpha), depth, 2), np.uint64)
    pcw: dict[int, U64] = {}
    for i in range(depth):
        bit = ((alpha >> np.uint64(depth - 1 - i)) & _ONE)[:, None]
        h0, h1 = hash_.node(s0), hash_.node(s1)
        cw[:, i] = h0 ^ h1 ^ (delta * (_ONE - bit))
        s0 = h0 ^ (s0 * bit) ^ (cw[:, i] * (s0[:, :1] & _ONE))
        s1 = h1 ^ (s1 * bit) ^ (cw[:, i] * (s1[:, :1] & _ONE))
        if i + 1 in payloads:
            beta = payloads[i + 1]
            g0, g1 = hash_.words(s0, beta.shape[1] // 2), hash_.words(s1, beta.shape[1] // 2)
            b, l0, l1 = (lane_arithmetic(a, lane_bits) for a in (beta, g0, g1))
            f = b - l0 + l1
            negate = (s1[:, :1] & _ONE) == _ONE
            pcw[i + 1] = np.ascontiguousarray(np.where(negate, -f, f)).view(np.uint64)
    return Keys(cw, pcw)


def one_hot_depth(size: int) -> int:
    """Levels of a one-hot key over `size` entries, two entries a leaf; at least one."""
    return max(1, (max(1, (size + 1) // 2) - 1).bit_length())


def one_hot_key_bytes(size: int) -> int:
    """Bytes of one party's key over `size` entries: 16 (h + 2)."""
    return 16 * (one_hot_depth(size) + 2)


def one_hot_keys(index: int, size: int, keys: TreeKeys) -> tuple[bytes, bytes]:
    """Two keys whose full evaluations add up, mod 2^64, to the one-hot row of `index` among `size`.

    ValueError if the index is outside: a caller's mistake, without the index in the message.
    """
    return many_one_hot_keys([index], size, keys)


def many_one_hot_keys(indices: Sequence[int], size: int, keys: TreeKeys) -> tuple[bytes, bytes]:
    """The keys of several rows, one after the other, for either party; made together, which takes hardly longer than for one.

    Raises as `one_hot_keys`.
    """
    if not all(0 <= index < size for index in indices):
        raise ValueError(f"token id outside the vocabulary of {size}")
    depth, alpha = one_hot_depth(size), np.array(indices, np.uint64)
    roots = np.frombuffer(secrets.token_bytes(32 * len(alpha)), np.uint64).reshape(2, len(alpha), 2)
    odd = alpha & _ONE
    k = generate(TreeHash(keys), alpha >> _ONE, depth, roots[0], roots[1], {depth: np.stack([_ONE - odd, odd], axis=1)})
    both = np.empty((2, len(alpha), depth + 2, 2), np.uint64)
    both[:, :, 1:-1], both[:, :, -1] = k.cw, k.pcw[depth]
    for party in (0, 1):
        both[party, :, 0] = set_party(roots[party], party)
    return both[0].tobytes(), both[1].tobytes()
