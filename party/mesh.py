"""The mesh: small authenticated questions and answers between the members of a cluster.

A mesh knows for certain which member asks (`sender` below is a peer id that was proved, never claimed). Nothing bulky
goes here; shares never do. `roster.RosterMesh` is the form for a fixed list of members on one machine,
`p2p.mesh.P2pMesh` the one across machines; `tests/party/test_mesh_conformance.py` says what both do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from ..members import Members
from ..succession import Chain

Handler = Callable[[str, bytes], bytes]
"""(sender's peer id, question) -> answer. A TacitError raised here reaches the asker as that error."""

STATUS, MANIFEST, TOKENIZER, CHAT = "status", "manifest", "tokenizer", "chat"
OFFER, INTRODUCE, WITHDRAW = "offer", "introduce", "withdraw"
PING = "ping"  # an empty question with an empty answer: how long does that take?
ATTEST = "attest"
DIALBACK = "dialback"
MAX_MESSAGE = 32 << 20


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a member can be found: (host, port) of its mesh as its own entry says, and the IP address that it last came from
    ("" if it has not come)."""

    places: tuple[tuple[str, int], ...] = ()
    seen: str = ""


class Mesh(ABC):
    """Ask and be asked."""

    @abstractmethod
    def serve(self, protocol: str, handler: Handler, threads: int = 4) -> None:
        """Answer questions of `protocol` with `handler`, in up to `threads` threads of its own (protocols never queue
        behind each other, so a handler may ask others in turn)."""

    @abstractmethod
    def request(self, peer_id: str, protocol: str, question: bytes, timeout: float = 5.0) -> bytes:
        """Ask a member. Raises its TacitError, IdentityError for a stranger, or NetworkError when no answer comes."""

    @property
    @abstractmethod
    def members(self) -> Members:
        """Whom this mesh knows, this process among them; it may change while the mesh runs."""

    def whereabouts(self, peer_id: str) -> Whereabouts:
        """What this mesh knows of where a member is; nothing, for a form of the mesh that has no addresses."""
        return Whereabouts()

    def successions(self, peer_id: str) -> Chain:
        """How a member came by its key, for whoever pinned an earlier one; (), for a form of the mesh with a fixed list."""
        return ()

    def set_url(self, url: str) -> None:
        """Where clients find this coordinator; tells the members, in a form of the mesh where that is not fixed."""
        return

    @abstractmethod
    def close(self) -> None:
        """Stop asking and answering."""
