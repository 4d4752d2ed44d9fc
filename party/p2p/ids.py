"""Peer ids as Tacit and as libp2p write them."""

from __future__ import annotations

from libp2p.peer.id import ID

from ...address import from_multihash, to_libp2p


def libp2p_id(peer_id: str) -> ID:
    return ID.from_base58(to_libp2p(peer_id))


def peer_id_of(found: ID) -> str:
    """Raises ValueError for a key that is not Ed25519."""
    return from_multihash(found.to_bytes())
