"""The charts of latency: one panel for each question, measured and predicted beside each other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from ....network import NAMED
from . import theme
from .axes import RTT, Axis, Point, sweeps
from .cases import Cases, Metric, Spread, Workload, protocol_of
from .parts import Chart, Space, layered, marks_of
from .scales import TIME, log_ticks, measured_axis, spread_out
from .words import delay, megabits, milliseconds, short

MOST_NAMES = 8
NAME_WIDTH, NAME_HEIGHT = 66, 13  # CSS pixels, of what stands beside a line's end
MEASURED, PREDICTED = "measured", "predicted"


@dataclass(frozen=True, slots=True)
class _Look:
    """How each series is drawn, the same in all panels: colour and shape say the protocol, dash and filling the kind."""

    stroke: alt.Stroke
    fill: alt.Fill
    dash: alt.StrokeDash
    shape: alt.Shape
    colours: Mapping[str, str]  # by protocol

    @classmethod
    def of(cls, points: Sequence[Point], protocols: Sequence[str]) -> _Look:
        """`protocols`: all of the report, so that each has its colour throughout."""
        kinds: dict[str, list[str]] = {}
        for point in points:
            of_it = kinds.setdefault(protocol_of(point.case), [])
            for kind, value in ((MEASURED, point.measured), (PREDICTED, point.predicted)):
                if value is not None and kind not in of_it:
                    of_it.append(kind)
        series = [(protocol, kind) for protocol, of_it in kinds.items() for kind in sorted(of_it)]
        place = [protocols.index(protocol) % len(theme.COLOURS) for protocol, _ in series]
        measured = [kind == MEASURED for _, kind in series]
        legend = alt.Legend(
            title=None, columns=2 if any(kind == PREDICTED for _, kind in series) else 3, symbolOpacity=1
        )

        def scale(values: list[Any]) -> alt.Scale:
            return alt.Scale(domain=[_series(*one) for one in series], range=values)

        colours = [theme.COLOURS[number] for number in place]
        fills = [colour if filled else theme.PAPER for colour, filled in zip(colours, measured, strict=True)]
        return cls(
            alt.Stroke("series:N", scale=scale(colours), legend=legend),
            alt.Fill("series:N", scale=scale(fills), legend=legend),
            alt.StrokeDash("series:N", scale=scale([[1, 0] if solid else [5, 4] for solid in measured]), legend=legend),
            alt.Shape("series:N", scale=scale([theme.SHAPES[number] for number in place]), legend=legend),
            {protocol: colour for (protocol, _), colour in zip(series, colours, strict=True)},
        )


def _series(protocol: str, kind: str) -> str:
    return f"{protocol}, {kind}"


def draw(
    cases: Cases,
    chosen: dict[Workload, list[Point]],
    plain: dict[Workload, Spread],
    metric: Metric,
    axis: Axis,
    space: Space,
) -> Chart:
    everything = [point for of_it in chosen.values() for point in of_it]
    finite = [value for point in everything if 0 < (value := axis.of(point.line)) < math.inf] or [1.0]
    low, high = min(finite), max(finite)
    edge = low / 4 if axis is RTT else high * 4
    outside = any(not 0 < axis.of(point.line) < math.inf for point in everything)
    domain = [min(low, edge if outside else low) / 1.6, max(high, edge if outside else high) * 1.6]
    x = {
        "scale": alt.Scale(type="log", domain=domain, nice=False),
        "axis": alt.Axis(
            values=[*log_ticks(low / 1.05, high * 1.05, 4 if space.narrow else 6), *([edge] if outside else [])],
            labelExpr=f"datum.value == {edge!r} ? '{axis.edge}' : {axis.label}" if outside else axis.label,
        ),
        "title": f"{axis.title}, log scale",
    }
    values = [
        value
        for point in everything
        for value in (*((point.measured.p10, point.measured.p90) if point.measured else ()), point.predicted)
        if value is not None
    ]
    y = measured_axis(
        [*values, *(spread.p50 for spread in plain.values())], f"{metric.name.capitalize()}", TIME, room=1.6
    )
    names = NAME_WIDTH if any(sweeps(points, axis) for points in chosen.values()) else 0
    width = space.panel(len(chosen), 74) if len(chosen) > 1 or space.narrow else space.width - 90
    size = (width - names, 250 if space.narrow else 290)
    look = _Look.of(everything, cases.protocols)
    panels = [
        _panel(points, plain.get(workload), axis, edge, x, y, look, size).properties(
            title=alt.TitleParams(cases.workload_name(workload), offset=6)
        )
        for workload, points in chosen.items()
    ]
    return alt.concat(*panels, columns=space.columns(len(panels)), spacing=26)


def _named(points: Sequence[Point], axis: Axis) -> list[dict[str, Any]]:
    """Networks with a short name, where they fit above the panel."""
    found = {point.case.network: point for point in points if point.case.network in NAMED}
    places = sorted(found.values(), key=lambda point: axis.of(point.line))
    return [{"network": short(point.case.network, 10), "point": point} for point in places[:MOST_NAMES]]


def _panel(
    points: Sequence[Point],
    plain: Spread | None,
    axis: Axis,
    edge: float,
    x: dict[str, Any],
    y: dict[str, Any],
    look: _Look,
    size: tuple[int, int],
) -> alt.LayerChart:
    def place(point: Point) -> float:
        value = axis.of(point.line)
        return value if 0 < value < math.inf else edge

    base = marks_of(_rows(points, axis, place)).encode(x=alt.X("x:Q", **x), y=alt.Y("y:Q", **y))
    layers: list[alt.Chart] = []
    if marked := _named(points, axis):
        named = marks_of([{"x": place(each["point"]), "network": each["network"]} for each in marked])
        layers += [
            named.mark_rule(stroke=theme.RULE, aria=False).encode(x=alt.X("x:Q")),
            named.mark_text(angle=315, align="left", baseline="middle", dx=4, color=theme.SOFT, aria=False).encode(
                x=alt.X("x:Q"), y=alt.value(-6), text=alt.Text("network:N")
            ),
        ]
    if plain is not None:
        data = marks_of([{"y": plain.p50, "text": f"plaintext, {milliseconds(plain.p50)}"}])
        layers += [
            data.mark_rule(stroke=theme.BASELINE, strokeDash=[2, 3], strokeWidth=1.6, aria=False).encode(
                y=alt.Y("y:Q")
            ),
            data.mark_text(align="left", baseline="bottom", dx=4, dy=-3, color=theme.SOFT, aria=False).encode(
                x=alt.value(0), y=alt.Y("y:Q"), text=alt.Text("text:N")
            ),
        ]
    layers += [
        base.mark_line(strokeWidth=1.8, aria=False).encode(
            stroke=look.stroke, strokeDash=look.dash, detail=alt.Detail("group:N")
        ),
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=5, opacity=0.35, strokeCap="round", aria=False)
        .encode(y=alt.Y("low:Q", **y), y2=alt.Y2("high:Q"), stroke=look.stroke),
        base.mark_point(size=64, strokeWidth=1.6, opacity=1).encode(
            stroke=look.stroke, shape=look.shape, fill=look.fill, description=alt.Description("says:N")
        ),
    ]
    if sweeps(points, axis):
        layers += _group_names(points, axis, look, y, size)
    return layered(*layers).properties(width=size[0], height=size[1])


def _rows(points: Sequence[Point], axis: Axis, place: Callable[[Point], float]) -> list[Mapping[str, object]]:
    apart = sweeps(points, axis)
    rows: list[Mapping[str, object]] = []
    for point in points:
        protocol = protocol_of(point.case)
        common = {"x": place(point), "group": f"{protocol} {axis.other(point.line)!r}" if apart else protocol}
        text = f"{protocol}, {short(point.case.network, 40)}"
        if (spread := point.measured) is not None:
            says = f"{text}: {milliseconds(spread.p50)} measured "
            says += f"({milliseconds(spread.p10)} to {milliseconds(spread.p90)}, n {spread.n})"
            measured = {"series": _series(protocol, MEASURED), "y": spread.p50, "low": spread.p10, "high": spread.p90}
            rows.append(common | measured | {"says": says})
        if point.predicted is not None:
            says = f"{text}: {milliseconds(point.predicted)} predicted"
            rows.append(common | {"series": _series(protocol, PREDICTED), "y": point.predicted, "says": says})
    return rows


def _group_names(
    points: Sequence[Point], axis: Axis, look: _Look, y: dict[str, Any], size: tuple[int, int]
) -> list[alt.Chart]:
    """What stood still on each line, beside its end, in the order of the lines."""
    last: dict[tuple[str, float], Point] = {}
    for point in points:
        last[protocol_of(point.case), axis.other(point.line)] = point
    counts = Counter((protocol_of(point.case), axis.other(point.line)) for point in points)
    ends = sorted((end for end in last.items() if counts[end[0]] > 1), key=lambda end: end[1].value)
    places = spread_out([point.value for _, point in ends], y["scale"], size[1], NAME_HEIGHT)
    rows = [
        {
            "y": place,
            "text": megabits(other) if axis is RTT else delay(other) if other else "none",
            "colour": look.colours[protocol],
        }
        for place, ((protocol, other), _) in zip(places, ends, strict=True)
    ]
    heading = marks_of([{"text": axis.other_name}]).mark_text(align="left", color=theme.SOFT, dx=8, dy=-14, aria=False)
    names = marks_of(rows).mark_text(align="left", baseline="middle", dx=8, aria=False)
    return [
        heading.encode(x=alt.value(size[0]), y=alt.value(0), text=alt.Text("text:N")),
        names.encode(
            x=alt.value(size[0]),
            y=alt.Y("y:Q", **y),
            text=alt.Text("text:N"),
            color=alt.Color("colour:N", scale=None),
        ),
    ]
