"""TUN devices: interfaces whose packets a process reads and writes. They are gone with its descriptor."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

from ...errors import ConfigError
from .namespaces import inside

DEVICE = Path("/dev/net/tun")
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000


def why_not() -> str | None:
    """Why there are no TUN devices here."""
    if not DEVICE.exists():
        return f"no {DEVICE} here (the kernel module tun)"
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return f"{DEVICE} cannot be opened: this takes root"
    return None


def open_tun(namespace: str, name: str) -> int:
    """Make a device in a namespace; a descriptor that gives and takes one packet of IP at a time and never waits."""
    with inside(namespace):
        try:
            found = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(f"{DEVICE} cannot be opened: {error.strerror}") from None
        try:
            fcntl.ioctl(found, _TUNSETIFF, struct.pack("16sH22x", name.encode("ascii"), _IFF_TUN | _IFF_NO_PI))
        except OSError as error:
            os.close(found)
            raise ConfigError(f"{name} in {namespace}: no TUN device can be made: {error.strerror}") from None
    return found
