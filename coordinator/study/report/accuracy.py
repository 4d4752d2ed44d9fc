"""What the model of costs predicted against what was measured, case by case, with a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt

from ...numbers import significant
from . import theme
from .cases import TPOT, TTFT, Cases
from .parts import (
    Absent,
    Chart,
    Figure,
    Part,
    Space,
    Table,
    beside,
    layered,
    marks_of,
    names,
    numbers,
    row_height,
    row_label,
    row_offset,
)
from .words import counted, milliseconds, percent

BAND = 0.2  # what a prediction may be away from the measured median
MOST_ROWS, FARTHEST = 24, 1.0


@dataclass(frozen=True, slots=True)
class Check:
    case: str
    metric: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Of the measured median: 0.1 is a prediction 10 % too high."""
        return self.predicted / self.measured - 1

    @property
    def holds(self) -> bool:
        return abs(self.error) <= BAND

    @property
    def verdict(self) -> str:
        if self.holds:
            return f"within {percent(BAND)}"
        return f"{percent(abs(self.error))} too {'high' if self.error > 0 else 'low'}"


def checks(cases: Cases) -> list[Check]:
    found = []
    for case in cases.all:
        prediction = cases.predictions.get(case)
        if prediction is None:
            continue
        for metric, predicted in ((TTFT, prediction.ttft_ms), (TPOT, prediction.tpot_ms)):
            spread = cases.spread(case, metric)
            if spread is not None and spread.p50 > 0 and predicted > 0:
                found.append(Check(cases.name(case), metric.name, predicted, spread.p50))
    return found


def parts(cases: Cases) -> list[Part]:
    name, title = "accuracy", "Predicted against measured"
    found = checks(cases)
    if not found:
        return [Absent(name, title, "no case was both predicted and measured")]
    held = sum(check.holds for check in found)
    farthest = max(found, key=lambda check: abs(check.error))
    verdict = "All" if held == len(found) else "None" if not held else f"{held}"
    of_all = f"{verdict} of {counted(len(found), 'prediction')}" if len(found) > 1 else f"{held} of 1 prediction"
    summary = (
        f"{of_all} {'lies' if held == 1 or len(found) == 1 else 'lie'} within {percent(BAND)} of the measured median; the farthest, "
        f"{farthest.metric} of {farthest.case}, is {percent(abs(farthest.error))} "
        f"{'above' if farthest.error > 0 else 'below'} it."
    )
    order = list(dict.fromkeys(check.case for check in sorted(found, key=lambda check: -abs(check.error))))
    shown = set(order[:MOST_ROWS])
    reading = (
        f"Marks right of 0 were predicted too slow, left of it too fast; the shaded band is {percent(BAND)} either way, and a "
        "mark outside of it says how far off it is."
    )
    if len(order) > len(shown):
        reading += f" The {len(shown)} cases farthest off, of {len(order)}, are drawn; the table has all."
    if any(abs(check.error) > FARTHEST for check in found):
        reading += f" Marks at the edge are farther off than {percent(FARTHEST)}."
    columns = [*names("Case", "Metric"), *numbers("Predicted", "Measured", "Off by"), *names("Verdict")]
    rows = [
        [
            check.case,
            check.metric,
            milliseconds(check.predicted),
            milliseconds(check.measured),
            f"{'+' if check.error > 0 else '−' if check.error < 0 else ''}{significant(100 * abs(check.error), 2)} %",
            check.verdict,
        ]
        for check in found
    ]
    table = Table(f"{title}: medians, and the verdict on each", columns, rows, heads=2)
    drawn = [check for check in found if check.case in shown]
    return [Figure(name, title, summary, reading, lambda space: _draw(drawn, space), table)]


def _draw(found: Sequence[Check], space: Space) -> Chart:
    rows = [
        {
            "case": row_label(check.case, space),
            "metric": check.metric,
            "error": max(-FARTHEST, min(FARTHEST, check.error)),
            "off": "" if check.holds else f"{check.error:+.0%}".replace("-", "−"),
            "says": f"{check.case}, {check.metric}: {milliseconds(check.predicted)} predicted, "
            f"{milliseconds(check.measured)} measured, {check.verdict}",
        }
        for check in found
    ]
    reach = min(FARTHEST, max(0.3, 1.15 * max(abs(check.error) for check in found)))
    step = 0.1 if reach <= 0.5 else 0.25 if reach <= 0.8 else 0.5
    ticks = [step * number for number in range(-round(reach // step), round(reach // step) + 1)]
    if space.narrow:
        ticks = [tick for tick in ticks if round(tick / step) % 2 == 0]
    x = alt.X(
        "error:Q",
        scale=alt.Scale(domain=[-reach * 1.04, reach * 1.04], nice=False),
        axis=alt.Axis(values=ticks, labelExpr="(datum.value > 0.001 ? '+' : '') + format(datum.value, '.0%')"),
        title="Predicted, off the measured median",
    )
    order = list(dict.fromkeys(row_label(check.case, space) for check in found))
    labels = alt.Axis(
        labelOffset=row_offset(order),
        ticks=False,
        domain=False,
        grid=True,
        labelPadding=6,
        labelLimit=space.widest_label,
    )
    metrics = [metric for metric in (TTFT.name, TPOT.name) if any(check.metric == metric for check in found)]
    numbers_ = [(TTFT.name, TPOT.name).index(metric) for metric in metrics]
    legend = alt.Legend(title=None)
    colours = alt.Scale(domain=metrics, range=[theme.COLOURS[number] for number in numbers_])
    shapes = alt.Scale(domain=metrics, range=[theme.SHAPES[number] for number in numbers_])
    band = marks_of([{"low": -BAND, "high": BAND}])
    return layered(
        band.mark_rect(fill=theme.COLOURS[2], opacity=0.16, aria=False).encode(x=alt.X("low:Q"), x2=alt.X2("high:Q")),
        band.mark_rule(stroke=theme.COLOURS[2], strokeDash=[4, 3], aria=False).encode(x=alt.X("low:Q")),
        band.mark_rule(stroke=theme.COLOURS[2], strokeDash=[4, 3], aria=False).encode(x=alt.X("high:Q")),
        marks_of([{"zero": 0}]).mark_rule(stroke=theme.INK, aria=False).encode(x=alt.X("zero:Q")),
        marks_of(rows)
        .mark_point(size=90, strokeWidth=1.8, opacity=1)
        .encode(
            x=x,
            y=alt.Y("case:N", sort=order, title=None, axis=labels),
            yOffset=alt.YOffset("metric:N", sort=metrics),
            stroke=alt.Stroke("metric:N", scale=colours, legend=legend),
            fill=alt.Fill("metric:N", scale=colours, legend=legend),
            shape=alt.Shape("metric:N", scale=shapes, legend=legend),
            description=alt.Description("says:N"),
        ),
        marks_of([row for row in rows if row["off"]])
        .mark_text(align="left", dx=9, fontSize=10, aria=False)
        .encode(
            x=x,
            y=alt.Y("case:N", sort=order, title=None, axis=labels),
            yOffset=alt.YOffset("metric:N", sort=metrics),
            text=alt.Text("off:N"),
        ),
    ).properties(
        width=beside(order, space),
        height=alt.Step(row_height(order, 26), **{"for": "position"}),
    )
