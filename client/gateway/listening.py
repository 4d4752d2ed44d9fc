"""Where the gateway listens, and who may come in: loopback alone, unless there is a token."""

from __future__ import annotations

import os
import secrets
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ...errors import ConfigError, NetworkError
from .guard import Rules, is_loopback

LEAST_TOKEN = 16  # characters


def token_of(file: Path | None, variable: str | None) -> str:
    """The token of a file, which is made if it is not there, or of TACIT_SERVE_TOKEN; "" for none. Raises ConfigError."""
    if file is None:
        return _checked(variable, "TACIT_SERVE_TOKEN") if variable else ""
    try:
        if not file.exists():
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="ascii") as fresh:
                fresh.write(secrets.token_urlsafe(32) + "\n")
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise ConfigError(f"others can read {file}: chmod 600 {file}")
        return _checked(file.read_text(encoding="utf-8").strip(), str(file))
    except OSError as error:
        raise ConfigError(f"cannot read the token in {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file} holds no token: it is not text") from None


def _checked(found: str, source: str) -> str:
    if len(found) < LEAST_TOKEN or not all("!" <= char <= "~" for char in found):
        raise ConfigError(f"{source} is no token: it takes {LEAST_TOKEN} printable ASCII characters, no blanks")
    return found


def rules_of(host: str, hosts: Sequence[str], origins: Sequence[str], token: str) -> Rules:
    """Who may ask at `host`. Raises ConfigError for an address that others reach without a token, and for what is no name."""
    if not token and not only_here(host):
        raise ConfigError(
            f"--host {host} lets other machines ask in your name: give a token (--token-file FILE makes one; or set "
            "TACIT_SERVE_TOKEN), or leave --host out"
        )
    allowed = {_named(one) for one in hosts}
    if host not in ("", "0.0.0.0", "::"):
        allowed.add(host.lower())
    return Rules(frozenset(allowed), frozenset(map(_origin, origins)), token)


def only_here(host: str) -> bool:
    """Whether a name or address is of this machine alone. Raises NetworkError for a name that is none."""
    if is_loopback(host):
        return True
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise NetworkError(f"--host {host} is no address of this machine") from None
    return all(is_loopback(str(address[0])) for *_, address in found)


def _named(host: str) -> str:
    if not host or any(char in host for char in "/@ ") or host.count(":") == 1:
        raise ConfigError(f"--allow-host {host!r} is not a name or an address: leave out scheme and port")
    return host.strip("[]").lower()


def _origin(origin: str) -> str:
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or "@" in parts.netloc:
        raise ConfigError(f"--allow-origin {origin!r} is not an origin such as https://app.example")
    return origin.lower()
