"""Who this process is: an Ed25519 key whose public half is the peer id, and the CURVE key its mesh uses.

The file is JSON, readable by its owner alone (mode 0600), refused otherwise. A key that is given up (`rotate`) leaves nothing
behind but the succession it signed: kept, it could only do harm, by naming a second successor.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import stat
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import zmq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ..checks import is_curve_key
from ..errors import ConfigError, PeerError
from ..records import Record, parse_json
from ..signed import Signed
from ..succession import MAX_LINKS, Chain, SignedSuccession, Succession, current, is_chain, read_chain
from ..zmqlink import CurveKeys

FORMAT = "tacit identity/2"
FORMAT_1 = "tacit identity/1"  # without successions
MAX_BYTES = 64 << 10
_KEYS = {"format", "ed25519_seed", "mesh_secret"}


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """A peer's (or coordinator's) keys; never shown."""

    seed: bytes
    mesh: CurveKeys
    successions: Chain = ()  # from ids that this peer had before to its own

    @classmethod
    def create(cls) -> Identity:
        """Fresh keys from the operating system's randomness; the id never begins with "-", where it is typed it would read as
        an option."""
        while (found := cls(os.urandom(32), CurveKeys.fresh())).peer_id.startswith("-"):
            pass
        return found

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

    def successor(self) -> Identity:
        """Fresh keys, and the succession from these to those, signed by both. The last `MAX_LINKS` successions are kept."""
        new = Identity.create()
        earlier = read_chain(self.successions, "this identity")
        made = max(int(time.time()), earlier[-1].made if earlier else 0)  # a clock set back must not break the chain
        payload = Succession(Succession.CONTEXT, self.peer_id, new.peer_id, made).to_bytes()
        link = SignedSuccession(payload, self._private.sign(payload), new._private.sign(payload))
        return Identity(new.seed, new.mesh, (*self.successions, link)[-MAX_LINKS:])

    def save(self, path: Path) -> None:
        """Write a new file, mode 0600. Raises ConfigError; an existing file is never overwritten."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise ConfigError(f"{path}: there is an identity already; remove it or choose another file") from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot write the identity: {error.strerror}") from None
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump(self._document(), file)

    def replace(self, path: Path) -> None:
        """Put this identity in the place of the file that is there: afterwards it holds the one or the other, whole and on
        the disk, whatever happens in between. Raises ConfigError."""
        draft = None
        try:
            descriptor, draft = tempfile.mkstemp(prefix=path.name, suffix=".draft", dir=path.parent)  # mode 0600
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                json.dump(self._document(), file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            if draft is not None:
                with suppress(OSError):
                    os.unlink(draft)
            raise ConfigError(
                f"{path}: cannot write the identity: {error.strerror}; the one before is in place"
            ) from None

    def _document(self) -> dict[str, object]:
        return {
            "format": FORMAT,
            "ed25519_seed": self.seed.hex(),
            "mesh_secret": self.mesh.secret,
            "successions": [one.to_json() for one in self.successions],
        }

    @classmethod
    def load(cls, path: Path) -> Identity:
        """Read an identity file. Raises ConfigError naming the file, never its content."""
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise ConfigError(f"{path}: cannot read the identity: {error.strerror}") from None
        if mode & 0o077:
            raise ConfigError(f"{path}: others can read this identity (mode {mode:o}); run: chmod 600 {path}")
        try:
            found = parse_json(raw, MAX_BYTES)
            if not isinstance(found, dict):
                raise ValueError
            if set(found) == _KEYS and found["format"] == FORMAT_1:
                found = {**found, "format": FORMAT, "successions": []}
            if set(found) != {*_KEYS, "successions"} or found["format"] != FORMAT:
                raise ValueError
            if not re.fullmatch(r"[0-9a-f]{64}", str(found["ed25519_seed"])):
                raise ValueError
            secret = is_curve_key(found["mesh_secret"])
            public = zmq.curve_public(secret.encode("ascii")).decode("ascii")
            identity = cls(
                bytes.fromhex(found["ed25519_seed"]), CurveKeys(public, secret), is_chain(found["successions"])
            )
        except (ValueError, zmq.ZMQError):
            raise ConfigError(f"{path}: is not an identity file of Tacit") from None
        identity._check_successions(path)
        return identity

    def _check_successions(self, path: Path) -> None:
        if not self.successions:
            return
        try:
            leads_here = current(self.successions, self.peer_id, "this identity") == self.peer_id
        except PeerError as error:
            raise ConfigError(f"{path}: its successions are not in order: it {error.reason}") from None
        if not leads_here:
            raise ConfigError(f"{path}: was given up: its successions lead to another key")


def rotate(path: Path) -> Identity:
    """Put a successor in the place of the identity in `path`, and return it. Raises ConfigError.

    One at a time: two successors of one key would be a fork, and nobody would follow either.
    """
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                raise BlockingIOError
            new = Identity.load(path).successor()
            new.replace(path)
    except BlockingIOError:
        raise ConfigError(f"{path}: another process is just rotating this identity") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the identity: {error.strerror}") from None
    return new
