"""Signatures over the exact bytes of a record."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .checks import is_peer_id, short_id
from .errors import IdentityError
from .records import Check, Record, bytes_of


@dataclass(frozen=True)
class Signed(Record):
    """Exact bytes of a record and an Ed25519 signature over them (both base64 in JSON)."""

    payload: bytes
    signature: bytes

    CHECKS: ClassVar[dict[str, Check]] = {"payload": bytes_of(None, 1 << 16), "signature": bytes_of(64)}

    def verified(self, peer_id: str, name: str) -> bytes:
        """The payload, if the key that `peer_id` stands for signed it. Raises IdentityError naming `name`."""
        try:
            raw = base64.urlsafe_b64decode(is_peer_id(peer_id) + "=")
            Ed25519PublicKey.from_public_bytes(raw).verify(self.signature, self.payload)
        except (InvalidSignature, ValueError):
            raise IdentityError(name, f"the signature is not by peer {short_id(peer_id)}") from None
        return self.payload
