"""Axes: domains and ticks for times, bytes and rates, logarithmic where the values span much."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt

TIME = (
    "datum.value == 0 ? '0' : datum.value < 1 ? format(datum.value * 1000, '~r') + ' µs' : "
    "datum.value < 1000 ? format(datum.value, '~r') + ' ms' : format(datum.value / 1000, ',~r') + ' s'"
)
SIZE = (
    "datum.value == 0 ? '0' : datum.value < 1e3 ? format(datum.value, '~r') + ' B' : "
    "datum.value < 1e6 ? format(datum.value / 1e3, '~r') + ' kB' : "
    "datum.value < 1e9 ? format(datum.value / 1e6, '~r') + ' MB' : format(datum.value / 1e9, '~r') + ' GB'"
)
RATE = (
    "datum.value < 1 ? format(datum.value * 1000, '~r') + ' kbit/s' : "
    "datum.value < 1e3 ? format(datum.value, '~r') + ' Mbit/s' : format(datum.value / 1e3, '~r') + ' Gbit/s'"
)


def wide_span(values: Iterable[float], factor: float = 12) -> bool:
    """Whether a logarithmic scale shows them better."""
    found = [value for value in values if value > 0]
    return bool(found) and max(found) / min(found) > factor


def log_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Powers of ten, with 2 and 5 between them where there is room."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for mantissas in ((1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**power for power in range(first, last + 1) for m in mantissas]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) <= most:
            break
    step = math.ceil(len(ticks) / most)
    return ticks[::step] if len(ticks) > most else ticks


def measured_axis(
    values: Iterable[float], title: str, label: str, *, room: float = 1.35, ticks: int = 7, zero: bool = True
) -> dict[str, Any]:
    """`scale`, `axis` and `title` of a quantitative channel that fits the values."""
    found = [value for value in values if value > 0 and math.isfinite(value)] or [1.0]
    if wide_span(found):
        low, high = min(found) / room, max(found) * room
        return {
            "scale": alt.Scale(type="log", domain=[low, high], nice=False),
            "axis": alt.Axis(values=log_ticks(low, high, ticks), labelExpr=label, grid=True),
            "title": f"{title}, log scale",
        }
    return {
        "scale": alt.Scale(domain=[0 if zero else min(found) / 1.08, max(found) * 1.08], nice=False),
        "axis": alt.Axis(tickCount=min(ticks, 5), labelExpr=label, grid=True),
        "title": title,
    }


def spread_out(values: Sequence[float], scale: alt.Scale, height: int, gap: int) -> list[float]:
    """Where texts beside these growing values stand so that none covers another: values of the scale, `gap` pixels apart."""
    low, high = map(float, scale["domain"])
    logarithmic = scale["type"] == "log"

    def pixel(value: float) -> float:
        return height * (math.log(value / low) / math.log(high / low) if logarithmic else (value - low) / (high - low))

    def value(pixel: float) -> float:
        share = pixel / height
        return low * math.exp(share * math.log(high / low)) if logarithmic else low + share * (high - low)

    places: list[float] = []
    for one in values:
        places.append(max(pixel(one), places[-1] + gap if places else 0.0))
    over = (places[-1] if places else 0.0) - height
    for number in reversed(range(len(places))):
        above = places[number + 1] - gap if number + 1 < len(places) else height
        places[number] = min(places[number], above) if over > 0 else places[number]
    return [value(place) for place in places]
