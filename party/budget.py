"""Memory that sessions may take: what one needs, what a peer allows, and the account of what is taken.

A peer reserves a session's whole need before it takes the seat, and gives it back when the seat ends; what does not fit is
refused with the sizes. How much a session needs is said by its model (`Weighed`); a model that cannot say is not bounded.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..errors import ConfigError
from ..sizes import Sizes

_UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 1 << 10, "MiB": 1 << 20,
          "GiB": 1 << 30, "TiB": 1 << 40}  # fmt: skip
_SHARE = 2  # the default allowance is one part in so many of what the machine has free
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Need:
    """What one role of a session can take, in bytes: all together, and what each sender may have on its link to it."""

    total: int
    frames: Mapping[int, int] = field(default_factory=dict)  # sender's role -> its largest frame
    unread: Mapping[int, int] = field(default_factory=dict)  # sender's role -> most that may lie unread


@runtime_checkable
class Weighed(Protocol):
    """A served model that knows what its sessions take."""

    def need(self, role: int, sizes: Sizes, protocol: str, padded: bool) -> Need: ...


class Account:
    """What of a peer's allowance is taken. Several threads may use it."""

    def __init__(self, allowed: int, most: int | None = None) -> None:
        """`allowed` bytes for all sessions together, `most` for a single one (None: as many). ConfigError if not positive."""
        if allowed < 1 or (most is not None and most < 1):
            raise ConfigError("--max-memory and --max-session-memory must be positive")
        self.allowed = allowed
        self.most = min(allowed, most) if most is not None else allowed
        self._taken: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        with self._lock:
            return self.allowed - sum(self._taken.values())

    def reserve(self, session: str, need: int) -> str | None:
        """Take `need` bytes for a session; None, or why that cannot be."""
        with self._lock:
            free = self.allowed - sum(self._taken.values())
            if need <= min(free, self.most):
                self._taken[session] = need
                return None
        if need > self.most:
            option = "--max-memory" if self.most == self.allowed else "--max-session-memory"
            return f"it allows a session {size(self.most)}; ask for fewer tokens or raise {option}"
        return (
            f"{size(free)} of the {size(self.allowed)} it may use are free; "
            "ask for fewer tokens, try again later or raise --max-memory"
        )

    def release(self, session: str) -> None:
        """The session is over. Releasing twice is fine."""
        with self._lock:
            self._taken.pop(session, None)


def available() -> int | None:
    """Bytes that this process could still take: what the kernel calls available, or less where a control group bounds it.

    None where neither can be read.
    """
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(1024 * int(line.split()[1]))
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            found.append(max(0, int(limit) - int((_CGROUP / "memory.current").read_text())))
    except (OSError, ValueError, IndexError):
        pass  # another system, or no control group: what was found before counts
    return min(found) if found else None


def default_allowance(peers: int = 1) -> int | None:
    """The allowance where none is given: half of the memory available now, divided among `peers` peers of this machine."""
    free = available()
    return None if free is None else max(1, free // (_SHARE * peers))


def parse_size(text: str, option: str) -> int:
    """Bytes of "2GB", "512MiB", "1.5 GB" or a plain number. ConfigError naming `option`."""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if found is None or found[2] not in _UNITS or float(found[1]) <= 0:
        raise ConfigError(f"{option} {text!r} is not a size: write it like 2GB, 512MiB or a number of bytes")
    return int(float(found[1]) * _UNITS[found[2]])


def size(count: int) -> str:
    """Bytes for people: 812 B, 74 kB, 14 MB, 1.9 GB."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 999.5:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
