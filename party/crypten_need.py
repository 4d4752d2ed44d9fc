"""Whether a peer can take a seat in a `crypten` session, and how much memory that takes, without loading CrypTen.

An offer is answered within seconds, and loading CrypTen takes some of them. So the sizes are bounds, in what a gate's largest input
has of elements; `tests/party/test_crypten_session.py` holds them against runs on shapes. A comparison opens the most: 64 bits of two
operands for each of two words of its adder, so 32 bytes an element.
"""

from __future__ import annotations

import importlib.util

from ..errors import ConfigError
from ..kernels.dpf.keygen import one_hot_depth, one_hot_key_bytes
from ..manifest import Manifest
from ..protocols.base import Spec
from ..protocols.crypten.library import HOW
from ..protocols.crypten.plans import plans
from ..protocols.pair.peer import EMBED_ROWS
from ..wire import CLIENT, DEALER
from ..zmqlink import UNSENT
from .budget import Need
from .links import SessionLimits
from .served import ServedModel

WORD = 8
OPENED = 32  # bytes an element of the largest input, in one round
ANSWER = 16  # bytes an element, in one tuple
DEALT = {"act": 360, "scores": 900, "row": 400}  # bytes an element, all tuples of a gate
CLAMPED = 2  # values compared for each input of GELU, where it is clamped
ROWS = 2  # a row's maximum compares every pair of what is left of it: no more than twice its elements
TUPLES = 400  # of a layer
HEADER = 256  # bytes on the line around a tuple
AHEAD = 9  # steps that lie ready at most, and the prompt's
GATE = 12  # openings' worth of memory alive at a gate's peak, measured
FIXED = 48 << 20  # CrypTen itself, threads, sockets


def check(served: ServedModel) -> None:
    """ConfigError if CrypTen is not installed, ModelError if it cannot take the model's ranges."""
    if any(importlib.util.find_spec(name) is None for name in ("crypten", "omegaconf", "yaml")):
        raise ConfigError(f"protocol 'crypten' needs CrypTen: {HOW}")
    plans(served.spec, Manifest.from_bytes(served.manifest).ranges)


def need(served: ServedModel, role: int, limits: SessionLimits, window: int) -> Need:
    """What a session needs in `role`, its links having this `window` (`budget`). Raises as `check`."""
    check(served)
    return sizes(served.spec, role, limits, window)


def sizes(spec: Spec, role: int, limits: SessionLimits, window: int) -> Need:
    """The same, whether it can be or not."""
    tokens, total = limits.sizes.step_tokens, limits.sizes.kept_tokens
    dense = min(2 * limits.sizes.step_pairs, tokens * total)
    largest = elements(spec, tokens, total, dense)
    opened, answer = OPENED * largest, ANSWER * largest
    dealt = AHEAD * dealt_bytes(spec, tokens, dense)
    kept = 4 * spec.layers * total * spec.kv_heads * spec.head_size * WORD
    if role == DEALER:
        return Need(FIXED + GATE * opened + kept + min(dealt, UNSENT + answer), {0: 0, 1: 0}, {0: 0, 1: 0})
    keys = tokens * one_hot_key_bytes(spec.vocab)
    rows = min(tokens, EMBED_ROWS) * (2 << one_hot_depth(spec.vocab))
    own = GATE * opened + WORD * (3 * rows + 4 * tokens * (spec.width + 2 * spec.hidden)) + kept + 2 * keys
    frames = {CLIENT: keys, DEALER: answer if role == 0 else 0, 1 - role: opened}
    tuples = min(dealt, window) + answer + HEADER * TUPLES * AHEAD * spec.layers
    unread = {CLIENT: keys, DEALER: tuples if role == 0 else 0, 1 - role: 2 * opened}
    return Need(FIXED + own + min(opened, UNSENT) + sum(unread.values()), frames, unread)


def elements(spec: Spec, tokens: int, total: int, dense: int) -> int:
    """Elements of the largest input that a gate has in a step of `tokens` rows, `dense` entries of score matrices and `total`
    tokens kept, at most."""
    scores = spec.heads * dense
    operands = (spec.heads * tokens + spec.kv_heads * total) * spec.head_size
    return max(CLAMPED * tokens * spec.hidden, ROWS * scores, operands, tokens * spec.width)


def dealt_bytes(spec: Spec, tokens: int, dense: int) -> int:
    """Bytes of such a step's tuples, at most."""
    scores = spec.heads * dense
    rows = tokens * (spec.width + spec.heads * spec.head_size)
    layer = DEALT["act"] * tokens * spec.hidden + DEALT["scores"] * scores + DEALT["row"] * rows
    return (spec.layers + 1) * layer
