"""Numbers as the page shows them: two digits, a unit, plain words."""

from __future__ import annotations

from .. import numbers
from ..numbers import APART

DIGITS = 2  # of what is measured: exact figures would tell the length of an answer that runs alone


def significant(value: float) -> str:
    return numbers.significant(value, DIGITS)


def size(value: float) -> str:
    """Bytes."""
    return numbers.size(value, DIGITS)


def age(seconds: float) -> str:
    """How long something lasts or has been over, in its largest unit."""
    for most, length, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < most:
            return f"{seconds / length:.0f}{APART}{unit}"
    return f"{seconds / 86400:,.0f}{APART}days"


def counted(number: int, what: str) -> str:
    """`1 peer`, `2 peers`."""
    return f"{number:,}{APART}{what}{'' if number == 1 else 's'}"
