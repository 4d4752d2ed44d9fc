"""What a protocol brings to a session, at a compute peer and at the dealer; the engines' order of messages is the same for all."""

from __future__ import annotations

import typing
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..batch import Batch
from ..kernels.dpf.hashing import tree_keys
from ..kernels.dpf.trees import make_trees
from ..kernels.prg import Prg
from ..models.decoder import forward
from ..protocols.base import Protocol, Spec
from ..protocols.pair.deal import PairDealer
from ..protocols.pair.party import Counters, Dealer, Party
from ..protocols.pair.peer import PairPeer
from ..protocols.pair.reveal import client_share
from ..protocols.pair.scales import Scales
from ..protocols.pair.secret import U64, Secret
from ..protocols.pair.traced import TracedDealer, TracedParty
from ..protocols.sited import Sited
from ..protocols.trace.trace import Trace
from .links import ComputeLinks, DealerLinks
from .served import ServedModel


class ComputeSide(typing.Protocol):
    """One compute peer's side of one session. Tokens of `model` are shares of one-hot rows."""

    @property
    def scale(self) -> int:
        """Fraction bits of what the client gets shares of."""

    @property
    def discards(self) -> bool:
        """Whether correlations can be thrown away unused, and the session go on."""

    @property
    def model(self) -> Protocol[Any, Any, Any]:
        """The operations, to be called inside `running`."""

    @property
    def counters(self) -> Counters:
        """What this step has cost so far."""

    @property
    def transcript(self) -> bytes:
        """SHA-256 over all openings; both compute peers have the same."""

    def running(self) -> AbstractContextManager[None]:
        """What has to be around the operations of a step, in the thread that calls them."""

    def begin(self, step: int, hidden: U64 | None = None) -> None:
        """Start a step. `hidden`: this peer's shares of which visible pairs count for nothing (`pair.attention`)."""

    def share(self, logits: Any, step: int) -> np.ndarray:
        """This peer's share of the logits for the client, or of what an encoder gives: (B, V) uint32."""

    def dealt_bytes(self, batch: Batch) -> int:
        """Bytes that the dealer sends a compute peer, at most, for this step."""


class DealerSide(typing.Protocol):
    """The dealer's side of one session. Tokens of `model` are their number."""

    @property
    def model(self) -> Protocol[Any, int, Any]: ...
    def running(self) -> AbstractContextManager[None]: ...
    def begin(self, step: int) -> None: ...
    def finish(self) -> None:
        """Send what is left of the step."""


class PairCompute:
    """`pair` at a compute peer."""

    discards = True  # every deal has streams of its own

    def __init__(self, role: int, served: ServedModel, links: ComputeLinks, padded: bool) -> None:
        trees, seed, recorder = make_trees(tree_keys(links.session)), links.dealer.seed(b"correlations"), links.recorder
        self._party = (
            Party(role, links.peer, links.dealer, seed, trees)
            if recorder is None
            else TracedParty(recorder, role, links.peer, links.dealer, seed, trees)
        )
        self._weights, self._role = served.weights_for(padded), role
        self.scale = self._weights.scales.frac_revealed
        self._between = Prg(links.peer.seed(b"between the peers"))
        self._peer = peer = PairPeer(self._party, self._weights)
        self.model: Protocol[Any, Any, Any] = peer if recorder is None else Sited(peer, recorder)

    @property
    def counters(self) -> Counters:
        return self._party.counters

    @property
    def transcript(self) -> bytes:
        return self._party.transcript

    def running(self) -> AbstractContextManager[None]:
        return nullcontext()

    def begin(self, step: int, hidden: U64 | None = None) -> None:
        self._party.begin(step)
        self._peer.hidden = hidden

    def share(self, logits: Secret, step: int) -> np.ndarray:
        return client_share(logits, self._role, self._between, step, self.scale)

    def dealt_bytes(self, batch: Batch) -> int:
        return pair_dealt_bytes(self._weights.spec, self._weights.scales, batch)


class PairDealing:
    """`pair` at the dealer."""

    def __init__(self, served: ServedModel, links: DealerLinks, padded: bool) -> None:
        both, trees, recorder = (links.peer0, links.peer1), make_trees(tree_keys(links.session)), links.recorder
        seeds = (links.peer0.seed(b"correlations"), links.peer1.seed(b"correlations"))
        self._dealer = Dealer(both, seeds, trees) if recorder is None else TracedDealer(recorder, both, seeds, trees)
        deals = PairDealer(self._dealer, served.spec, served.weights_for(padded).scales)
        self.model: Protocol[Any, int, Any] = deals if recorder is None else Sited(deals, recorder)

    def running(self) -> AbstractContextManager[None]:
        return nullcontext()

    def begin(self, step: int) -> None:
        self._dealer.begin(step)

    def finish(self) -> None:
        self._dealer.flush()


def pair_dealt_bytes(spec: Spec, scales: Scales, batch: Batch) -> int:
    """`ComputeSide.dealt_bytes` of `pair`."""
    trace = Trace(spec, scales)
    forward(trace, spec, batch.rows, trace.new_cache(), batch)
    return trace.total.offline1


def compute_side(
    protocol: str, role: int, served: ServedModel, links: ComputeLinks, padded: bool = False
) -> ComputeSide:
    """A session's protocol at a compute peer. ConfigError where it needs what is not installed."""
    if protocol == "crypten":
        from .crypten import CryptenCompute  # which brings CrypTen

        return CryptenCompute(role, served, links)
    return PairCompute(role, served, links, padded)


def dealer_side(protocol: str, served: ServedModel, links: DealerLinks, padded: bool = False) -> DealerSide:
    """The same at the dealer."""
    if protocol == "crypten":
        from .crypten import CryptenDealing  # which brings CrypTen

        return CryptenDealing(served, links)
    return PairDealing(served, links, padded)
