"""What a link is told and what it counts: its two ends, its settings, its statistics."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import msgpack

from . import frames


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Times in seconds, sizes in bytes."""

    timeout: float = 30.0  # how long receive and send wait unless told otherwise
    opening_timeout: float = 10.0  # from socket to hello
    window: int = 64 << 20  # how much may lie unread at the other side
    max_body: int = 1 << 30
    tick: float = 0.1  # how often a waiting link looks after its siblings
    ports: tuple[int, int] | None = None  # first and last that a link may listen on; None: any


@dataclass(frozen=True, slots=True)
class Ends:
    """Who takes part in a session, and who of them is at the two ends of a link.

    Both sides must hold the same view of all of it, or the link does not open: so nobody, the coordinator least of all,
    can seat two peers side by side that think of different committees or clients.
    Roles: 0 and 1 compute, 2 dealer, 3 client. Ids: a peer's id, or for the client its CURVE key of this session.
    """

    session: bytes
    parties: tuple[str, str, str, str]  # ids by role
    own_role: int
    remote_role: int
    remote_name: str
    manifest_hash: str

    def transcript(self) -> bytes:
        """SHA-256 over all that both sides must agree on, the lower role first."""
        roles = sorted((self.own_role, self.remote_role))
        packed: bytes = msgpack.packb(
            ["tacit link", frames.VERSION, self.session, self.parties, roles, self.manifest_hash]
        )
        return hashlib.sha256(packed).digest()

    def mirrored(self, name: str) -> Ends:
        """The same as the other end sees it; `name` is what it calls this one."""
        return replace(self, own_role=self.remote_role, remote_role=self.own_role, remote_name=name)


@dataclass(slots=True)
class LinkStats:
    """What went over a link since it opened. Bytes are headers and bodies, without hello, CURVE and TCP overhead."""

    bytes_sent: int = 0
    bytes_received: int = 0
    messages_sent: int = 0
    sends: int = 0  # of those messages, the ones that a program sent: all but credit
    messages_received: int = 0
    waiting_seconds: float = 0.0  # blocked in receive
    stalled_seconds: float = 0.0  # blocked in send, for want of credit
