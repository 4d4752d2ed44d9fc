"""`crypten` in a session: the compute peers are CrypTen's two parties, the dealer is its third party (docs/crypten.md).

| from | kinds of frames | body |
| --- | --- | --- |
| compute peer to the other | "open" {step, round} | `protocols/crypten/communicator.py` |
| dealer to compute peer 0 | "tuple" {step, number} | `protocols/crypten/provider.py` |

Every generator is seeded from a link's nonces, so no seed travels.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np

from ..batch import Batch
from ..kernels.prg import Prg, Purpose
from ..manifest import Manifest
from ..models.decoder import forward
from ..protocols.base import Protocol
from ..protocols.crypten import library
from ..protocols.crypten.communicator import SEED_BYTES, LinkParty, seeded
from ..protocols.crypten.peer import CryptenPeer, client_share
from ..protocols.crypten.provider import Dealt, Sender
from ..protocols.crypten.shapes import Shapes
from ..protocols.crypten.weights import FRAC, Weights, encoded
from ..protocols.pair.party import Counters
from ..protocols.pair.secret import U64
from ..protocols.sited import Sited
from .links import ComputeLinks, DealerLinks
from .served import ServedModel


class CryptenCompute:
    """At a compute peer."""

    scale = FRAC
    discards = False  # CrypTen's generators are read from one step to the next

    def __init__(self, role: int, served: ServedModel, links: ComputeLinks) -> None:
        """ConfigError where CrypTen is not installed, ModelError if it cannot take the model's ranges."""
        library.load()
        self._served, self._role = served, role
        weights = weights_of(served)
        mine, theirs = (seeded(links.peer.seed(f"crypten from {one}".encode())) for one in (role, 1 - role))
        generators = {
            "next": mine,
            "prev": theirs,
            "local": seeded(os.urandom(SEED_BYTES)),
            "global": seeded(links.peer.seed(b"crypten global")),
        }
        tuples = seeded(links.dealer.seed(b"crypten tuples"))
        self._dealt = Dealt(tuples, links.dealer if role == 0 else None, links.recorder)
        peers = {1 - role: links.peer}
        self._party = LinkParty(role, peers, self._dealt, generators, library.settings(), links.recorder)
        self._between = Prg(links.peer.seed(b"between the peers"))
        peer = CryptenPeer(served.spec, weights.plans, weights)
        self.model: Protocol[Any, Any, Any] = peer if links.recorder is None else Sited(peer, links.recorder)

    @property
    def counters(self) -> Counters:
        found = self._party.counters
        return Counters(found.rounds, found.online_bytes, self._dealt.received)

    @property
    def transcript(self) -> bytes:
        return self._party.transcript

    def running(self) -> AbstractContextManager[None]:
        return library.entered(self._party)

    def begin(self, step: int, hidden: U64 | None = None) -> None:
        if hidden is not None:
            raise ValueError("crypten hides no tokens")
        self._party.begin(step)
        self._dealt.begin(step)

    def share(self, logits: Any, step: int) -> np.ndarray:
        noise = self._between.words(Purpose.MASK, step, 0, logits.nelement())
        return client_share(logits, self._role, noise)

    def dealt_bytes(self, batch: Batch) -> int:
        return len(batch.parts) * token_step(self._served, batch.longest - 1).total.offline0


class CryptenDealing:
    """At the dealer."""

    def __init__(self, served: ServedModel, links: DealerLinks) -> None:
        """As for `CryptenCompute`."""
        library.load()
        generators = [seeded(link.seed(b"crypten tuples")) for link in (links.peer0, links.peer1)]
        self._shapes = Shapes(served.spec, weights_of(served).plans, generators, Sender(links.peer0))
        recorder = links.recorder
        self.model: Protocol[Any, int, Any] = self._shapes if recorder is None else Sited(self._shapes, recorder)

    def running(self) -> AbstractContextManager[None]:
        return self._shapes.running()

    def begin(self, step: int) -> None:
        self._shapes.begin(step)

    def finish(self) -> None:
        """Every tuple was sent when it was made."""


def weights_of(served: ServedModel) -> Weights:
    """The model's weights for CrypTen, encoded when the first session asks. ModelError if it cannot take the model."""
    return served.encodings.get("crypten", lambda: encoded(served.weights, Manifest.from_bytes(served.manifest).ranges))


def token_step(served: ServedModel, length: int) -> Shapes:
    """One token after `length` others, run on shapes: one layer, counted for all. What differs are a few iterations on one
    value a row."""
    spec = replace(served.spec, layers=1)
    shapes = Shapes(spec, weights_of(served).plans)
    with shapes.running():
        forward(shapes, spec, 1, shapes.filled(length), Batch.one(1, length))
    layer = [entry for entry in shapes.sites if entry[0].startswith("layers.")]
    shapes.sites += layer * (served.spec.layers - 1)
    return shapes
