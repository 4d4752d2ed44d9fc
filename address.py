"""Multiaddrs as Tacit uses them: /ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT, with /p2p/ID where a certain peer is meant.

libp2p writes the peer behind an Ed25519 key as base58 of an identity multihash (12D3Koo…); everywhere else in Tacit a
peer id is base64url of the raw key. Pure Python, so that configuration can be read where libp2p is not installed.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass

from .errors import UsageError

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# identity multihash of 36 bytes, which are a protobuf: key type Ed25519, then 32 bytes of key
_PREFIX = bytes.fromhex("002408011220")
_FORM = re.compile(
    r"/(ip4|ip6|dns|dns4|dns6)/([0-9A-Za-z._:-]{1,253})/tcp/([0-9]{1,5})(?:/p2p/([1-9A-HJ-NP-Za-km-z]{52}))?"
)

MAX_LENGTH = 400  # characters


@dataclass(frozen=True, slots=True)
class Address:
    """Where a mesh listens, and as whom (`peer_id`, "" if it is not said)."""

    kind: str
    host: str
    port: int
    peer_id: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises UsageError naming the text and the form expected."""
        found = _FORM.fullmatch(text) if len(text) <= MAX_LENGTH else None
        if found is None or not 0 <= int(found[3]) <= 65535:
            raise UsageError(f"{text[:80]!r} is not an address of the form /ip4/192.0.2.7/tcp/7450/p2p/12D3Koo…")
        kind, host, port, name = found[1], found[2], int(found[3]), found[4]
        try:
            if kind in ("ip4", "ip6"):
                host = str(ipaddress.IPv4Address(host) if kind == "ip4" else ipaddress.IPv6Address(host))
            return cls(kind, host, port, from_libp2p(name) if name else "")
        except ValueError as error:
            raise UsageError(f"{text[:80]!r} is not an address: {error}") from None

    def __str__(self) -> str:
        return self.place + (f"/p2p/{to_libp2p(self.peer_id)}" if self.peer_id else "")

    @property
    def place(self) -> str:
        """Without the peer."""
        return f"/{self.kind}/{self.host}/tcp/{self.port}"

    @property
    def is_everywhere(self) -> bool:
        """0.0.0.0 or ::, fit for listening only."""
        return self.kind in ("ip4", "ip6") and ipaddress.ip_address(self.host).is_unspecified

    def of(self, peer_id: str) -> Address:
        """The same place, as this peer's."""
        return Address(self.kind, self.host, self.port, peer_id)

    @classmethod
    def at(cls, host: str, port: int) -> Address:
        """For a host as people write it: an IP address or a name."""
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            return cls("dns", host, port)
        return cls(f"ip{ip.version}", str(ip), port)


def to_libp2p(peer_id: str) -> str:
    """12D3Koo… of a peer id."""
    raw = _PREFIX + base64.urlsafe_b64decode(peer_id + "=")
    value, digits = int.from_bytes(raw, "big"), ""
    while value:
        value, digit = divmod(value, 58)
        digits = _ALPHABET[digit] + digits
    return "1" + digits  # for the leading zero byte


def from_libp2p(text: str) -> str:
    """The peer id behind 12D3Koo…. Raises ValueError for anything but an Ed25519 key."""
    value = 0
    for char in text:
        value = value * 58 + _ALPHABET.index(char)
    try:
        return from_multihash(value.to_bytes(38, "big"))
    except OverflowError:
        raise ValueError(f"{text[:20]} is not the id of an Ed25519 key") from None


def from_multihash(raw: bytes) -> str:
    """The peer id behind libp2p's binary form. Raises ValueError for anything but an Ed25519 key."""
    if len(raw) != 38 or not raw.startswith(_PREFIX):
        raise ValueError("not the id of an Ed25519 key")
    return base64.urlsafe_b64encode(raw[6:]).rstrip(b"=").decode("ascii")
