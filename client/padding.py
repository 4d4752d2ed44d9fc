"""Hiding how long a prompt is: it is padded on the left to one of a few lengths, and the peers cannot tell which tokens count.

The client repeats the prompt's first token before it. For every pair of a token that counts and one that does not it shares a 1
(a 0 for all others) between the compute peers, who take so much from that pair's score that it weighs nothing
(`protocols.pair.attention.hide`). What they see is the padded length. Rotary positions are relative, so that the answer is the
one without padding; learned positions are not, and such models are refused.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .feeds import Feed

SHORTEST = 16


def bucket(tokens: int, context: int) -> int:
    """The length that a prompt is padded to: a power of two from SHORTEST on, the context at most."""
    length = SHORTEST
    while length < tokens:
        length *= 2
    return max(tokens, min(length, context))


def hidden_pairs(feeds: Sequence[Feed]) -> NDArray[np.bool_]:
    """Which visible pairs of a step count for nothing: rows that count with tokens that do not, in the order of the peers' rows."""
    found = []
    for feed in feeds:
        for at in range(feed.start, feed.part.total):
            row = np.zeros(at + 1, bool)
            row[: feed.pad] = at >= feed.pad
            found.append(row)
    return np.concatenate(found)


def shares_of(hidden: NDArray[np.bool_]) -> tuple[bytes, bytes]:
    """Shares mod 2^32 of 1 for each hidden pair and of 0 for the others, one for each compute peer."""
    first = np.frombuffer(os.urandom(4 * hidden.size), "<u4")
    return first.tobytes(), (hidden.astype("<u4") - first).astype("<u4").tobytes()
