"""Numbers as the page shows them: two digits or three, a unit, plain words."""

from __future__ import annotations

import math

APART = "\N{NO-BREAK SPACE}"


def significant(value: float, digits: int = 2) -> str:
    """Rounded to so many digits, never in powers of ten."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "unknown"
    rounded = float(f"{value:.{digits - 1}e}")
    return f"{rounded:,.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"


def size(value: float, digits: int = 2) -> str:
    """Bytes, in powers of 1000 as networks count them."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 999.5:
            return f"{significant(value, digits) if unit != 'B' else format(value, '.0f')}{APART}{unit}"
        value /= 1e3
    return f"{significant(value, digits)}{APART}TB"


def age(seconds: float) -> str:
    """How long something lasts or has been over, in its largest unit."""
    for most, length, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < most:
            return f"{seconds / length:.0f}{APART}{unit}"
    return f"{seconds / 86400:,.0f}{APART}days"


def counted(number: int, what: str) -> str:
    """`1 peer`, `2 peers`."""
    return f"{number:,}{APART}{what}{'' if number == 1 else 's'}"
