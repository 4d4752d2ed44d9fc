"""Numbers and lists as people read them: three digits, a unit, plain words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ....records import tidy
from ...numbers import APART, significant


def trimmed(value: float) -> str:
    """Of what was set rather than measured: 40, 0.5, 1,000."""
    text = significant(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def milliseconds(value: float, number: Callable[[float], str] = significant) -> str:
    if abs(value) < 0.9995 and value:
        return f"{number(1e3 * value)}{APART}µs"
    if abs(value) < 999.5:
        return f"{number(value)}{APART}ms"
    if abs(value) < 120e3:
        return f"{number(value / 1e3)}{APART}s"
    if abs(value) < 7200e3:
        return f"{value / 60e3:,.1f}{APART}min"
    return f"{value / 3600e3:,.1f}{APART}h"


def delay(value: float) -> str:
    """Milliseconds of a profile."""
    return milliseconds(value, trimmed)


def megabits(value: float) -> str:
    """Mbit/s, as a bandwidth."""
    if value == float("inf"):
        return "unlimited"
    return f"{trimmed(value / 1e3)}{APART}Gbit/s" if value >= 1e3 else f"{trimmed(value)}{APART}Mbit/s"


def percent(share: float) -> str:
    if 0.995 <= share < 1:
        return f"over 99{APART}%"
    return f"{significant(100 * share, 2) if share < 1 else format(100 * share, ',.0f')}{APART}%"


def times(ratio: float) -> str:
    return f"{significant(ratio, 2)} times"


def fraction(ratio: float) -> str:
    """Of something smaller: 1/68, 0.83."""
    return f"1/{significant(1 / ratio, 2)}" if 0 < ratio < 0.4 else significant(ratio, 2)


def listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def counted(count: int, noun: str, several: str = "") -> str:
    return f"{count:,} {noun if count == 1 else several or noun + 's'}"


def short(text: str, limit: int) -> str:
    """A name from outside, cut where it would not fit."""
    text = tidy(text, limit + 1)
    return text if len(text) <= limit else text[: limit - 1] + "…"
