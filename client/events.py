"""What is heard of a request to a batcher, in this order: it begins, its prompt goes through, each answer grows and ends, all have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import TacitError
from .results import Piece, Usage


@dataclass(frozen=True, slots=True)
class Opened:
    """The request's first tokens are about to be fed to these peers, in role order."""

    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of the prompt's `total` tokens are through; the first `cached` of them were at the peers already."""

    done: int
    total: int
    cached: int


@dataclass(frozen=True, slots=True)
class Said:
    """A step of answer `index`: the text that is certain now, if any."""

    index: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """Answer `index` is complete."""

    index: int


@dataclass(frozen=True, slots=True)
class Finished:
    """All answers of the request are complete. `cached`: tokens of the prompt that were at the peers already."""

    usage: Usage
    cached: int
    peers: tuple[str, ...]
    operators: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The request ends without all of its answers."""

    error: TacitError


Event = Opened | Progress | Said | Ended | Finished | Failed
Heard = Callable[[Event], None]
