"""Numbers as pages for people show them: some digits, a unit that does not stand alone at a line's beginning."""

from __future__ import annotations

import math

APART = "\N{NO-BREAK SPACE}"


def significant(value: float, digits: int = 3) -> str:
    """Rounded to so many digits, never in powers of ten: 0.0512, 36.0, 1,250."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "unknown"
    rounded = float(f"{value:.{digits - 1}e}")
    return f"{rounded:,.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"


def size(value: float, digits: int = 3) -> str:
    """Bytes, in powers of 1000 as networks count them."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 999.5:
            return f"{significant(value, digits) if unit != 'B' else format(value, '.0f')}{APART}{unit}"
        value /= 1e3
    return f"{significant(value, digits)}{APART}TB"
