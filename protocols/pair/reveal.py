"""Logits, or an encoder's sums, for the client alone (DESIGN 5.9).

    1. Re-randomise: party 0 adds, party 1 subtracts the same PRG(k01) words, so a peer's share says nothing about the other's.
    2. Drop locally to `frac` bits (FRAC_LOGITS of logits) and send the low BITS_LOGITS bits to the client, who adds the two shares.

No round between the peers; V x 4 bytes from each to the client. Error {0, 1} ulp of 2^-frac.

An embedding is the sum of a sequence's last rows, divided by its length and by its norm. The client gets the sum and does both
divisions itself. It learns no more by that than the embedding and its length before normalisation: weights are public, and
these are outputs of the model on the client's own text.
"""

from __future__ import annotations

import numpy as np

from ...kernels.prg import Prg, Purpose
from .scales import BITS_LOGITS, FRAC_LOGITS
from .secret import Secret, low


def client_share(logits: Secret, role: int, between_peers: Prg, step: int, frac: int = FRAC_LOGITS) -> np.ndarray:
    """This party's share of the logits for the client, all rows in one: (B V,) uint32."""
    noise = between_peers.words(Purpose.MASK, step, 0, logits.share.size)
    flat = logits.share.reshape(-1)
    fresh = Secret(flat + noise if role == 0 else flat - noise, logits.frac, logits.bits)
    dropped = fresh.drop(frac, role)
    if dropped.bits < BITS_LOGITS:
        raise ValueError(f"logits left only {dropped.bits} bits")
    return low(dropped.share, BITS_LOGITS).astype("<u4")
