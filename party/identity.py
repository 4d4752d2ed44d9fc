"""Who this process is: an Ed25519 key whose public half is the peer id, and the CURVE key its mesh uses.

The file is JSON, readable by its owner alone (mode 0600), refused otherwise.
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import zmq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ..checks import is_curve_key
from ..errors import ConfigError
from ..records import Record, parse_json
from ..signed import Signed
from ..zmqlink import CurveKeys

FORMAT = "tacit identity/1"


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """A peer's (or coordinator's) keys; never shown."""

    seed: bytes
    mesh: CurveKeys

    @classmethod
    def create(cls) -> Identity:
        """Fresh keys from the operating system's randomness."""
        return cls(os.urandom(32), CurveKeys.fresh())

    @property
    def peer_id(self) -> str:
        """base64url of the Ed25519 public key, 43 characters: what others pin."""
        public = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base64.urlsafe_b64encode(public).rstrip(b"=").decode("ascii")

    @property
    def mesh_key(self) -> str:
        """The CURVE public key (z85) that the roster lists for this peer."""
        return self.mesh.public

    @property
    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    def sign(self, record: Record) -> Signed:
        """The record's canonical bytes with our signature. Its `context` field says what the signature is good for."""
        payload = record.to_bytes()
        return Signed(payload, self._private.sign(payload))

    def save(self, path: Path) -> None:
        """Write a new file, mode 0600. Raises ConfigError; an existing file is never overwritten."""
        document = {"format": FORMAT, "ed25519_seed": self.seed.hex(), "mesh_secret": self.mesh.secret}
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise ConfigError(f"{path}: there is an identity already; remove it or choose another file") from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot write the identity: {error.strerror}") from None
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump(document, file)

    @classmethod
    def load(cls, path: Path) -> Identity:
        """Read an identity file. Raises ConfigError naming the file, never its content."""
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                raw = file.read(4096)
        except OSError as error:
            raise ConfigError(f"{path}: cannot read the identity: {error.strerror}") from None
        if mode & 0o077:
            raise ConfigError(f"{path}: others can read this identity (mode {mode:o}); run: chmod 600 {path}")
        try:
            found = parse_json(raw)
            if not isinstance(found, dict) or set(found) != {"format", "ed25519_seed", "mesh_secret"}:
                raise ValueError
            if found["format"] != FORMAT or not re.fullmatch(r"[0-9a-f]{64}", str(found["ed25519_seed"])):
                raise ValueError
            secret = is_curve_key(found["mesh_secret"])
            public = zmq.curve_public(secret.encode("ascii")).decode("ascii")
        except (ValueError, zmq.ZMQError):
            raise ConfigError(f"{path}: is not an identity file of Tacit") from None
        return cls(bytes.fromhex(found["ed25519_seed"]), CurveKeys(public, secret))
