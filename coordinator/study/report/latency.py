"""Time to first token and time per token against round-trip time and against bandwidth."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from ....network import Profile
from ..records import Case
from . import theme
from .cases import PLAINTEXT, TPOT, TTFT, Cases, Metric, Spread, Workload, line_of, protocol_of
from .parts import Absent, Chart, Figure, Part, Space, Table, layered, marks_of, names, numbers
from .scales import RATE, TIME, log_ticks, measured_axis
from .words import delay, fraction, listed, megabits, milliseconds, short, times

MOST_WORKLOADS, MOST_POINTS, MOST_NAMES = 4, 64, 8


@dataclass(frozen=True, slots=True)
class Axis:
    """What is varied: its value for a line, and how it is written. A value that no log scale can hold is drawn at its edge."""

    name: str
    title: str
    of: Callable[[Profile], float]
    other: Callable[[Profile], float]
    other_name: str
    shown: Callable[[float], str]
    label: str
    edge: str
    fixed: str  # what is said when the other quantity changes too


RTT = Axis(
    "round-trip time",
    "Round-trip time",
    lambda line: 1e3 * line.rtt,
    lambda line: line.bandwidth / 1e6,
    "bandwidth",
    delay,
    TIME,
    "none",
    "their bandwidths differ too",
)
BANDWIDTH = Axis(
    "bandwidth",
    "Bandwidth, each way",
    lambda line: line.bandwidth / 1e6,
    lambda line: 1e3 * line.rtt,
    "round trip",
    megabits,
    RATE,
    "unlimited",
    "their round trips differ too",
)


@dataclass(frozen=True, slots=True)
class Point:
    case: Case
    line: Profile
    measured: Spread
    predicted: float | None


def parts(cases: Cases) -> list[Part]:
    return [
        _against(cases, metric, axis, f"{metric.meaning.lower()}-{name}")
        for axis, name in ((RTT, "rtt"), (BANDWIDTH, "bandwidth"))
        for metric in (TTFT, TPOT)
    ]


def _points(cases: Cases, metric: Metric) -> list[Point]:
    predictions = {case: each.ttft_ms if metric is TTFT else each.tpot_ms for case, each in cases.predictions.items()}
    found = []
    for case in cases.all:
        line, spread = line_of(case), cases.spread(case, metric)
        if line is not None and spread is not None:
            found.append(Point(case, line, spread, predictions.get(case)))
    return found


def _against(cases: Cases, metric: Metric, axis: Axis, name: str) -> Part:
    title = f"{metric.name.capitalize()} against {axis.name}"
    points = _points(cases, metric)
    by_workload: dict[Workload, list[Point]] = defaultdict(list)
    for point in points:
        by_workload[Workload.of(point.case)].append(point)
    shown = {
        workload: sorted(of_it, key=lambda point: axis.of(point.line))
        for workload, of_it in by_workload.items()
        if len({axis.of(point.line) for point in of_it}) > 1
    }
    if not shown:
        return Absent(name, title, f"the study has no two networks of different {axis.name} for the same question")
    chosen: dict[Workload, list[Point]] = {}
    for workload, of_it in list(shown.items())[:MOST_WORKLOADS]:
        if not chosen or sum(map(len, chosen.values())) + len(of_it) <= MOST_POINTS:
            chosen[workload] = of_it
    plain = {
        workload: spread
        for case in cases.all
        if case.protocol == PLAINTEXT and (workload := Workload.of(case)) in chosen
        if (spread := cases.spread(case, metric)) is not None
    }
    varied = any(_both_vary(of_it, axis) for of_it in chosen.values())
    reading = (
        "Filled marks and solid lines are medians of what was measured, with bars from the 10th to the 90th percentile; "
        "hollow marks and dashed lines are predicted from the model of costs."
    )
    if plain:
        reading += " The dotted line is the plaintext model on this machine, without any network."
    if varied:
        reading += f" Networks are joined in the order of their {axis.name}; {axis.fixed}."
    if len(shown) > len(chosen):
        reading += f" The first {len(chosen)} of {len(shown)} questions are drawn; the table has all."
    return Figure(
        name,
        title,
        _summary(cases, chosen, axis, metric),
        reading,
        lambda space: _draw(cases, chosen, plain, metric, axis, space),
        _table(cases, [point for of_it in shown.values() for point in of_it], axis, title),
    )


def _both_vary(points: Sequence[Point], axis: Axis) -> bool:
    return len({axis.other(point.line) for point in points}) > 1 and not _sweeps(points, axis)


def _sweeps(points: Sequence[Point], axis: Axis) -> bool:
    """Whether the study varied one quantity while the other stood still: then lines join only what is alike."""
    still: dict[tuple[str, float], set[float]] = defaultdict(set)
    for point in points:
        still[protocol_of(point.case), axis.other(point.line)].add(axis.of(point.line))
    return len({other for _, other in still}) > 1 and any(len(found) > 1 for found in still.values())


def _summary(cases: Cases, chosen: dict[Workload, list[Point]], axis: Axis, metric: Metric) -> str:
    """Each protocol from its least to its greatest place on the axis, of the first question drawn."""
    workload, points = next(iter(chosen.items()))
    sentences = []
    for protocol in dict.fromkeys(protocol_of(point.case) for point in points):
        of_it = [point for point in points if protocol_of(point.case) == protocol]
        first, last = of_it[0], of_it[-1]
        if axis.of(first.line) == axis.of(last.line):
            continue
        before, after = first.measured.p50, last.measured.p50
        change = f"{times(after / before)} as long" if after >= before else f"{fraction(after / before)} of that"
        sentences.append(
            f"with {protocol} {milliseconds(before)} at {_place(axis, first)} and {milliseconds(after)} at {_place(axis, last)}, "
            + ("about the same" if abs(after / before - 1) < 0.1 else change)
        )
    of_which = f" ({cases.workload_name(workload)})" if len(chosen) > 1 else ""
    return f"Median {metric.name}{of_which}: {'; '.join(sentences)}."


def _place(axis: Axis, point: Point) -> str:
    value = axis.of(point.line)
    text = axis.shown(value) if value and math.isfinite(value) else f"{axis.edge} {axis.name}"
    return f"{text} ({point.case.network})" if len(point.case.network) <= 10 else text


def _draw(
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
        for value in (point.measured.p10, point.measured.p90, point.predicted or point.measured.p50)
    ]
    y = measured_axis(
        [*values, *(spread.p50 for spread in plain.values())], f"{metric.name.capitalize()}", TIME, room=1.6
    )
    width = space.panel(len(chosen), 74)
    protocols = list(dict.fromkeys(protocol_of(point.case) for point in everything))
    panels = [
        _panel(cases, workload, points, plain.get(workload), axis, edge, x, y, protocols, cases.protocols).properties(
            width=width if len(chosen) > 1 or space.narrow else space.width - 90,
            height=250 if space.narrow else 290,
            title=alt.TitleParams(cases.workload_name(workload), offset=6),
        )
        for workload, points in chosen.items()
    ]
    return alt.concat(*panels, columns=space.columns(len(panels)), spacing=26)


def _named(points: Sequence[Point], axis: Axis) -> list[dict[str, Any]]:
    """Networks with a short name, where they fit above the panel."""
    found = {point.case.network: point for point in points if len(point.case.network) <= 10}
    places = sorted(found.values(), key=lambda point: axis.of(point.line))
    return [{"network": short(point.case.network, 10), "point": point} for point in places[:MOST_NAMES]]


def _panel(
    cases: Cases,
    workload: Workload,
    points: Sequence[Point],
    plain: Spread | None,
    axis: Axis,
    edge: float,
    x: dict[str, Any],
    y: dict[str, Any],
    protocols: Sequence[str],
    every: Sequence[str],
) -> alt.LayerChart:
    sweeps = _sweeps(points, axis)

    def place(point: Point) -> float:
        value = axis.of(point.line)
        return value if 0 < value < math.inf else edge

    rows = []
    for point in points:
        protocol = protocol_of(point.case)
        group = repr(axis.other(point.line)) if sweeps else ""
        common = {"x": place(point), "group": f"{protocol} {group}"}
        text = f"{protocol}, {short(point.case.network, 40)}"
        spread = point.measured
        rows.append(
            common
            | {
                "series": f"{protocol}, measured",
                "y": spread.p50,
                "low": spread.p10,
                "high": spread.p90,
                "says": f"{text}: {milliseconds(spread.p50)} measured "
                f"({milliseconds(spread.p10)} to {milliseconds(spread.p90)}, n {spread.n})",
            }
        )
        if point.predicted is not None and point.predicted > 0:
            says = f"{text}: {milliseconds(point.predicted)} predicted"
            rows.append(common | {"series": f"{protocol}, predicted", "y": point.predicted, "says": says})
    kinds = [kind for kind in ("measured", "predicted") if any(str(row["series"]).endswith(kind) for row in rows)]
    series = [f"{protocol}, {kind}" for protocol in protocols for kind in kinds]
    numbers_ = {protocol: every.index(protocol) % len(theme.COLOURS) for protocol in protocols}
    colours = [theme.COLOURS[numbers_[one.rpartition(", ")[0]]] for one in series]
    legend = alt.Legend(title=None, columns=2 if len(kinds) == 2 else 4, symbolOpacity=1)
    stroke = alt.Stroke("series:N", scale=alt.Scale(domain=series, range=colours), legend=legend)
    dash = alt.StrokeDash(
        "series:N",
        scale=alt.Scale(domain=series, range=[[1, 0] if "measured" in s else [5, 4] for s in series]),
        legend=legend,
    )
    shape = alt.Shape(
        "series:N",
        scale=alt.Scale(domain=series, range=[theme.SHAPES[numbers_[s.rpartition(", ")[0]]] for s in series]),
        legend=legend,
    )
    fills = [colour if "measured" in s else theme.PAPER for s, colour in zip(series, colours, strict=True)]
    fill = alt.Fill("series:N", scale=alt.Scale(domain=series, range=fills), legend=legend)
    base = marks_of(rows).encode(x=alt.X("x:Q", **x), y=alt.Y("y:Q", **y))
    layers: list[alt.Chart] = []
    marked = _named(points, axis)
    if marked:
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
            stroke=stroke, strokeDash=dash, detail=alt.Detail("group:N")
        ),
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=5, opacity=0.35, strokeCap="round", aria=False)
        .encode(y=alt.Y("low:Q", **y), y2=alt.Y2("high:Q"), stroke=stroke),
        base.mark_point(size=64, strokeWidth=1.6, opacity=1).encode(
            stroke=stroke, shape=shape, fill=fill, description=alt.Description("says:N")
        ),
    ]
    if sweeps:
        layers.append(_group_names(points, axis, place))
    return layered(*layers)


def _group_names(points: Sequence[Point], axis: Axis, place: Callable[[Point], float]) -> alt.Chart:
    """What stood still on each line, written at its end."""
    last: dict[tuple[str, float], Point] = {}
    for point in points:
        last[protocol_of(point.case), axis.other(point.line)] = point
    rows = [{"x": place(p), "y": p.measured.p50, "text": axis_text(axis, p)} for p in list(last.values())[:6]]
    chart: alt.Chart = (
        marks_of(rows)
        .mark_text(align="right", dx=-8, dy=-9, color=theme.SOFT, aria=False)
        .encode(x=alt.X("x:Q"), y=alt.Y("y:Q"), text=alt.Text("text:N"))
    )
    return chart


def axis_text(axis: Axis, point: Point) -> str:
    value = axis.other(point.line)
    return megabits(value) if axis is RTT else f"round trip {delay(value)}"


def _table(cases: Cases, points: Sequence[Point], axis: Axis, title: str) -> Table:
    rows = [
        [
            cases.name(point.case),
            axis.shown(axis.of(point.line)) if axis.of(point.line) else axis.edge,
            str(point.measured.n),
            milliseconds(point.measured.p10),
            milliseconds(point.measured.p50),
            milliseconds(point.measured.p90),
            milliseconds(point.predicted) if point.predicted is not None else "",
        ]
        for point in points
    ]
    columns = [*names("Case"), *numbers(axis.name.capitalize(), "n", "p10", "Median", "p90", "Predicted")]
    return Table(f"{title}: {listed(['measured', 'predicted'])}", columns, rows)
