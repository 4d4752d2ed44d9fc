"""The invite: a cluster's name and the secret that its members share. It lets a node in; prompts do not depend on it.

Whoever holds it can join and be seen; clients still take peers that they pinned only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path

from ...checks import is_name
from ...errors import ConfigError

SECRET_BYTES = 16


@dataclass(frozen=True, slots=True, repr=False)
class Invite:
    """`NAME:SECRET`, the secret as 22 characters of base64url; never shown by accident."""

    cluster: str
    secret: bytes

    @classmethod
    def create(cls, cluster: str) -> Invite:
        """A new cluster's. Raises ConfigError for a name that cannot be one."""
        return cls.parse(f"{cluster}:{_text(os.urandom(SECRET_BYTES))}")

    @classmethod
    def parse(cls, text: str) -> Invite:
        """Raises ConfigError, which does not repeat the secret."""
        cluster, _, coded = text.strip().rpartition(":")
        try:
            secret = base64.b64decode(coded + "==", altchars=b"-_", validate=True)
            if len(secret) != SECRET_BYTES or _text(secret) != coded:
                raise ValueError("its secret is not 22 characters of base64url")
            return cls(is_name(cluster), secret)
        except (ValueError, binascii.Error) as error:
            reason = "its secret is not base64url" if isinstance(error, binascii.Error) else f"its name {error}"
            reason = str(error) if str(error).startswith("its") else reason
            raise ConfigError(
                f"the invite is not of the form NAME:SECRET as the first node printed it: {reason}"
            ) from None

    @property
    def text(self) -> str:
        """What the next node is given."""
        return f"{self.cluster}:{_text(self.secret)}"

    @property
    def namespace(self) -> str:
        """Under which members look for each other in public: 32 hex digits that do not disclose the secret."""
        return hashlib.sha256(b"tacit cluster" + self.secret).digest()[:16].hex()

    def proof(self, content: bytes) -> bytes:
        """HMAC-SHA256 that only holders of the invite can make."""
        return hmac.digest(self.secret, content, "sha256")

    def proves(self, content: bytes, proof: bytes) -> bool:
        return hmac.compare_digest(self.proof(content), proof)

    def __repr__(self) -> str:
        return f"Invite({self.cluster}:…)"

    def save(self, path: Path) -> None:
        """Keep it, mode 0600. Raises ConfigError."""
        draft = path.with_name(path.name + ".draft")
        try:
            draft.unlink(missing_ok=True)
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(self.text + "\n")
            draft.replace(path)
        except OSError as error:
            raise ConfigError(f"{path}: the invite cannot be kept: {error.strerror}") from None

    @classmethod
    def load(cls, path: Path) -> Invite | None:
        """The one that was kept, None if there is none. Raises ConfigError naming the file, never its content."""
        try:
            text = path.read_text(encoding="ascii")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"{path}: the invite cannot be read") from None
        try:
            return cls.parse(text)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None


def _text(secret: bytes) -> str:
    return base64.urlsafe_b64encode(secret).rstrip(b"=").decode("ascii")
