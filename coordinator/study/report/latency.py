"""Time to first token and time per token against round-trip time and against bandwidth."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from .axes import BANDWIDTH, RTT, Axis, Point, other_of, sweeps
from .cases import PLAINTEXT, TPOT, TTFT, Cases, Metric, Spread, Workload, line_of, protocol_of
from .latency_chart import draw
from .parts import Absent, Figure, Part, Table, names, numbers
from .words import fraction, listed, milliseconds, times

MOST_WORKLOADS, MOST_POINTS = 4, 64


def parts(cases: Cases) -> list[Part]:
    return [
        _against(cases, metric, axis, f"{metric.meaning.lower()}-{name}")
        for axis, name in ((RTT, "rtt"), (BANDWIDTH, "bandwidth"))
        for metric in (TTFT, TPOT)
    ]


def _points(cases: Cases, metric: Metric) -> list[Point]:
    predictions = {case: each.ttft_ms if metric is TTFT else each.tpot_ms for case, each in cases.predictions.items()}
    predictions = {case: value for case, value in predictions.items() if value > 0}
    found = []
    for case in cases.ordered([*cases.all, *predictions]):
        line, spread = line_of(case), cases.spread(case, metric)
        if line is not None and (spread is not None or case in predictions):
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
    reading = "Hollow marks and dashed lines are predicted from the model of costs."
    if any(point.measured is not None for point in points):
        reading = (
            "Filled marks and solid lines are medians of what was measured, with bars from the 10th to the 90th percentile; "
            f"{reading[0].lower()}{reading[1:]}"
        )
    if plain:
        reading += " The dotted line is the plaintext model on this machine, without any network."
    if varied:
        reading += f" Networks are joined in the order of their {axis.name}; {axis.fixed}."
    if any(sweeps(of_it, axis) for of_it in chosen.values()):
        reading += f" Each line has one {axis.other_name}, which stands at its right, in the order of the lines."
    if len(shown) > len(chosen):
        reading += f" The first {len(chosen)} of {len(shown)} questions are drawn; the table has all."
    return Figure(
        name,
        title,
        _summary(cases, chosen, axis, metric),
        reading,
        lambda space: draw(cases, chosen, plain, metric, axis, space),
        _table(cases, [point for of_it in shown.values() for point in of_it], axis, title),
    )


def _both_vary(points: Sequence[Point], axis: Axis) -> bool:
    return len({axis.other(point.line) for point in points}) > 1 and not sweeps(points, axis)


def _summary(cases: Cases, chosen: dict[Workload, list[Point]], axis: Axis, metric: Metric) -> str:
    """Each protocol from its least to its greatest place on the axis, of the first question drawn."""
    workload, points = next(iter(chosen.items()))
    sentences = []
    for protocol in dict.fromkeys(protocol_of(point.case) for point in points):
        of_it = [point for point in points if protocol_of(point.case) == protocol]
        first, last, at = _ends(of_it, axis)
        if axis.of(first.line) == axis.of(last.line):
            continue
        before, after = first.value, last.value
        change = f"{times(after / before)} as long" if after >= before else f"{fraction(after / before)} of that"
        sentences.append(
            f"with {protocol}{at} {milliseconds(before)} at {_place(axis, first)} and {milliseconds(after)} at {_place(axis, last)}, "
            + ("about the same" if abs(after / before - 1) < 0.1 else change)
        )
    of_which = f" ({cases.workload_name(workload)})" if len(chosen) > 1 else ""
    measured = "Median" if all(point.measured is not None for point in points) else "Measured or predicted"
    measured = "Predicted" if all(point.measured is None for point in points) else measured
    return f"{measured} {metric.name}{of_which}: {'; '.join(sentences)}."


def _ends(points: Sequence[Point], axis: Axis) -> tuple[Point, Point, str]:
    """The first and the last of one protocol's points; where lines were varied one by one, of the line with the most."""
    if not sweeps(points, axis):
        return points[0], points[-1], ""
    by_other: dict[float, list[Point]] = defaultdict(list)
    for point in points:
        by_other[axis.other(point.line)].append(point)
    ordered = [by_other[other] for other in sorted(by_other)]
    most = max(len(found) for found in ordered)
    alike = [found for found in ordered if len(found) == most]
    chosen = alike[len(alike) // 2]
    return chosen[0], chosen[-1], f" ({other_of(axis, chosen[0])})"


def _place(axis: Axis, point: Point) -> str:
    value = axis.of(point.line)
    text = axis.shown(value) if value and math.isfinite(value) else axis.edge_named
    return f"{text} ({point.case.network})" if len(point.case.network) <= 10 else text


def _spread(measured: Spread | None) -> list[str]:
    if measured is None:
        return ["0", "", "", ""]
    return [str(measured.n), *map(milliseconds, (measured.p10, measured.p50, measured.p90))]


def _table(cases: Cases, points: Sequence[Point], axis: Axis, title: str) -> Table:
    rows = [
        [
            cases.name(point.case),
            axis.shown(axis.of(point.line)) if axis.of(point.line) else axis.edge,
            *_spread(point.measured),
            milliseconds(point.predicted) if point.predicted is not None else "",
        ]
        for point in points
    ]
    columns = [*names("Case"), *numbers(axis.name.capitalize(), "n", "p10", "Median", "p90", "Predicted")]
    return Table(f"{title}: {listed(['measured', 'predicted'])}", columns, rows)
