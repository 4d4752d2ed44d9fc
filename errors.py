"""The one error tree: what the caller did wrong, what a peer did wrong, what the network did.

    TacitError
    |-- UsageError            the caller: bad argument, unknown model, prompt too long
    |   |-- ModelError        a checkpoint that cannot be used (missing, damaged, unsupported, out of range)
    |   `-- ConfigError       a file, setting or identity of this machine that is wrong or missing
    |-- PeerError             a peer (named) sent what the protocol does not allow, or reported a failure
    |   |-- IdentityError     a peer is not who it should be: bad signature, unpinned key, swapped roster
    |   `-- RefusedError      a peer or the coordinator declined, with its reason
    `-- NetworkError          nobody misbehaved as far as one can tell: unreachable, timed out, port in use
        `-- PeerLost          a named peer went away in the middle of a session

A message names the thing, the value and the way out; never a share, a mask, a key or a prompt.
Foreign exceptions (zmq, httpx2, safetensors, OSError ...) are mapped to these once, at the edge where they arise.
"""

from __future__ import annotations


class TacitError(Exception):
    """Base of every error Tacit raises on purpose."""


class UsageError(TacitError):
    """The caller asked for something that cannot be done as asked."""


class ModelError(UsageError):
    """A checkpoint that cannot be used: missing, damaged, unsupported or outside the fixed-point range."""


class ConfigError(UsageError):
    """A file, setting or identity on this machine is missing or wrong."""


class PeerError(TacitError):
    """A peer broke the protocol or reported a failure. `peer` names it."""

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(f"{peer}: {reason}")
        self.peer = peer
        self.reason = reason


class IdentityError(PeerError):
    """A peer could not prove that it is the one it should be."""


class RefusedError(PeerError):
    """A peer or the coordinator declined the request and said why."""


class NetworkError(TacitError):
    """The network failed: unreachable, timed out, address in use."""


class PeerLost(NetworkError):
    """A peer went away during a session. `peer` names it."""

    def __init__(self, peer: str, reason: str) -> None:
        super().__init__(f"{peer}: {reason}")
        self.peer = peer
        self.reason = reason
