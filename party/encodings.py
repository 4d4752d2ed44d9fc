"""What a session of a rarer protocol needs of a model, made when the first one asks, and kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Encodings:
    """By protocol. Several threads may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}

    def get(self, protocol: str, make: Callable[[], T]) -> T:
        """What `make` gave when it was first asked for; others wait meanwhile."""
        with self._lock:
            if protocol not in self._made:
                self._made[protocol] = make()
            found: T = self._made[protocol]
            return found
