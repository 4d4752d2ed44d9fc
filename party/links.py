"""The links of a session as an engine sees them: one set per role."""

from __future__ import annotations

from dataclasses import dataclass

from ..link import Circle, Link
from ..sizes import Sizes
from ..tracing.recorder import Recorder

AHEAD_STEPS = 8  # that may have been dealt and lie unused, at most


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a seat is kept for a client that says nothing, in seconds."""

    first: float = 15.0  # from open links to the prompt
    between: float = 120.0  # from a token to the next


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What the client and the peers agreed on: how large the session may become, and how to compute."""

    sizes: Sizes
    patience: Patience = Patience()
    protocol: str = "pair"
    padded: bool = False  # with every step come shares of which tokens count


@dataclass(frozen=True, slots=True)
class Tally:
    """What a session was at a compute peer, for its receipt."""

    tokens: int
    steps: int
    rounds: int
    online_bytes: int
    offline_bytes: int
    transcript: bytes  # SHA-256 over all openings


@dataclass(frozen=True, slots=True)
class ComputeLinks:
    """A compute peer's links: to the other compute peer, the dealer and the client."""

    session: bytes
    role: int
    peer: Link
    dealer: Link
    client: Link
    circle: Circle
    recorder: Recorder | None = None  # of what this party does, where that was asked for


@dataclass(frozen=True, slots=True)
class DealerLinks:
    """The dealer's links: to compute peers 0 and 1."""

    session: bytes
    role: int
    peer0: Link
    peer1: Link
    circle: Circle
    recorder: Recorder | None = None
