"""Logits for the client alone (DESIGN 5.9).

    1. Re-randomise: party 0 adds, party 1 subtracts the same PRG(k01) words, so a peer's share says nothing about the other's.
    2. Drop locally to FRAC_LOGITS bits and send the low BITS_LOGITS bits to the client, who adds the two shares.

No round between the peers; V x 4 bytes from each to the client. Error {0, 1} ulp of 2^-16.
"""

from __future__ import annotations

import numpy as np

from ...kernels.prg import Prg, Purpose
from .scales import BITS_LOGITS, FRAC_LOGITS
from .secret import Secret, low


def client_share(logits: Secret, role: int, between_peers: Prg, step: int) -> np.ndarray:
    """This party's share of the logits for the client: (V,) uint32."""
    noise = between_peers.words(Purpose.MASK, step, 0, logits.share.size)
    flat = logits.share.reshape(-1)
    fresh = Secret(flat + noise if role == 0 else flat - noise, logits.frac, logits.bits)
    dropped = fresh.drop(FRAC_LOGITS, role)
    if dropped.bits < BITS_LOGITS:
        raise ValueError(f"logits left only {dropped.bits} bits")
    return low(dropped.share, BITS_LOGITS).astype("<u4")
