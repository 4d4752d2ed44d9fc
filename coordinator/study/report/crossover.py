"""Which protocol is predicted to be fastest, on a map of round-trip time and bandwidth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import altair as alt

from ...numbers import significant
from . import theme
from .cases import PLAINTEXT, Cases, line_of
from .parts import Absent, Chart, Figure, Part, Space, Table, layered, marks_of, names, numbers
from .plane import Map, areas, best, contour, edges, lead_of, maps_of, refined, thinned
from .scales import RATE, TIME, log_ticks
from .words import delay, listed, megabits, milliseconds, percent, short

MOST_MODELS, MOST_TABLE_SIDE = 2, 6


def parts(cases: Cases) -> list[Part]:
    """The map of several protocols; of a single one, how long its token takes."""
    name, title = "crossover", "Which protocol is faster where"
    if maps := maps_of(cases):
        return [_rivals(cases, maps, name, title)]
    protocols = sorted({short(each.protocol, 24) for each in cases.results.crossings} - {PLAINTEXT})
    if len(protocols) != 1:
        return [Absent(name, title, "nothing was predicted over round trips and bandwidths")]
    reason = f"only one protocol over a network, {protocols[0]}, was predicted over round trips and bandwidths"
    return [Absent(name, title, reason), *(_alone(cases, maps) for maps in [maps_of(cases, rivals=1)] if maps)]


def _rivals(cases: Cases, maps: Sequence[Map], name: str, title: str) -> Figure:
    drawn = [refined(each) for each in maps[:MOST_MODELS]]
    first = drawn[0]
    ranking = first.wins.most_common()
    if len(ranking) == 1:
        ahead = sorted(lead for cell in first.cells.values() if (lead := lead_of(cell)))
        by = significant(ahead[0], 2), significant(ahead[-1], 2)
        faster = by[0] if by[0] == by[1] else f"{by[0]} to {by[1]}"
        summary = f"{first.model}: {ranking[0][0]} is predicted to be the fastest everywhere, {_span(first)}; "
        summary += f"the next takes {faster} times as long."
    else:
        cells = sum(first.wins.values())
        shares = [f"{protocol} on {percent(count / cells)}" for protocol, count in ranking]
        summary = f"{first.model}: predicted fastest per token {_span(first)}: {listed(shares)} of the map."
    reading = f"Areas show the fastest protocol; {_READING} The plaintext model uses no network and is left out."
    return _figure(cases, maps, drawn, name, title, summary, reading)


def _alone(cases: Cases, maps: Sequence[Map]) -> Figure:
    drawn = [refined(each) for each in maps[:MOST_MODELS]]
    first = drawn[0]
    times = [best(first, *cell) for cell in first.cells]
    summary = (
        f"{first.model}: a token of {next(iter(first.wins))} is predicted to take {milliseconds(min(times))} to "
        f"{milliseconds(max(times))}, {_span(first)}."
    )
    reading = f"{_READING[0].upper()}{_READING[1:]}"
    return _figure(cases, maps, drawn, "map", "Time per token on any line", summary, reading)


_READING = (
    "lines join round trips and bandwidths where a token takes the same time (both scales logarithmic); marks are networks by "
    "their names. Between the points that were predicted, times are interpolated."
)


def _span(each: Map) -> str:
    rtts, rates = each.rtts, each.bandwidths
    return f"from {delay(rtts[0])} to {delay(rtts[-1])} round trip and {megabits(rates[0])} to {megabits(rates[-1])}"


def _figure(
    cases: Cases, maps: Sequence[Map], drawn: Sequence[Map], name: str, title: str, summary: str, reading: str
) -> Figure:
    if len(maps) > len(drawn):
        reading += f" The first {len(drawn)} of {len(maps)} models are drawn."
    protocols = sorted({protocol for each in drawn for found in each.cells.values() for protocol in found})
    colours = [each for each in cases.protocols if each in protocols]
    order = [*colours, *(each for each in protocols if each not in colours)]
    table = _table(maps[: len(drawn)], order, title)
    return Figure(name, title, summary, reading, lambda space: _draw(cases, drawn, order, space), table)


def _draw(cases: Cases, maps: Sequence[Map], order: Sequence[str], space: Space) -> Chart:
    panels = [_panel(cases, each, order, space, len(maps)) for each in maps]
    return alt.concat(*panels, columns=space.columns(len(panels)), spacing=26)


def _panel(cases: Cases, each: Map, order: Sequence[str], space: Space, panels: int) -> alt.LayerChart:
    lefts, bottoms = edges(each.rtts), edges(each.bandwidths)

    def scale(edges: Sequence[float]) -> alt.Scale:
        return alt.Scale(type="log", domain=[edges[0], edges[-1]], nice=False)

    x_ticks = log_ticks(lefts[0], lefts[-1], 4 if space.narrow else 7)
    y_ticks = log_ticks(bottoms[0], bottoms[-1], 7)
    x = alt.X(
        "x:Q",
        scale=scale(lefts),
        title="Round-trip time, log scale",
        axis=alt.Axis(values=x_ticks, labelExpr=TIME, grid=False),
    )
    y = alt.Y(
        "y:Q",
        scale=scale(bottoms),
        title="Bandwidth, log scale",
        axis=alt.Axis(values=y_ticks, labelExpr=RATE, grid=False),
    )
    fill = alt.Fill(
        "protocol:N",
        scale=alt.Scale(
            domain=list(order), range=[theme.WASHES[number % len(theme.WASHES)] for number in range(len(order))]
        ),
        legend=alt.Legend(title="Fastest", symbolType="square", symbolSize=200) if each.rivals > 1 else None,
    )
    layers: list[alt.Chart] = [
        marks_of(areas(each))
        .mark_rect(opacity=1, strokeWidth=0, aria=False)
        .encode(x=x, y=y, x2=alt.X2("x2:Q"), y2=alt.Y2("y2:Q"), fill=fill)
    ]
    times = [value for cell in each.cells if not math.isnan(value := best(each, *cell))]
    points = _measured(cases, (lefts[0], lefts[-1]), (bottoms[0], bottoms[-1]))
    taken = [(place["x"], place["y"]) for place in points]
    rules: list[dict[str, object]] = []
    texts: list[dict[str, object]] = []
    for level in log_ticks(min(times), max(times), 6):
        found = contour(each, level)
        for number, line in enumerate(found):
            path = f"{level} {number}"
            rules += [{"x": rtt, "y": rate, "path": path, "order": n} for n, (rtt, rate) in enumerate(line)]
        if found:
            taken.append(_clear_place(max(found, key=len), taken, lefts[-1] / lefts[0], bottoms[-1] / bottoms[0]))
            texts.append({"x": taken[-1][0], "y": taken[-1][1], "text": delay(level)})
    if rules:
        layers.append(
            marks_of(rules)
            .mark_line(stroke=theme.INK, strokeWidth=1.1, aria=False)
            .encode(x=x, y=y, detail=alt.Detail("path:N"), order=alt.Order("order:Q"))
        )
    if points:
        data = marks_of(points).encode(x=x, y=y)
        layers.append(
            data.mark_point(shape="diamond", size=80, fill=theme.INK, stroke=theme.PAPER, opacity=1, aria=False)
        )
        layers += _texts(points, x, y, dy=-12, bold=True)
    layers += _texts(texts, x, y, dy=0, bold=False)
    return layered(*layers).properties(
        width=space.panel(panels, 92) if panels > 1 or space.narrow else space.width - 120,
        height=260 if space.narrow else 380,
        title=each.model,
    )


def _measured(cases: Cases, rtts: tuple[float, float], bandwidths: tuple[float, float]) -> list[dict[str, Any]]:
    """The networks, measured or predicted, that lie on the map and have a short name."""
    found: dict[str, dict[str, Any]] = {}
    for case in cases.ordered([*cases.all, *cases.predictions]):
        line = line_of(case)
        if line is None or len(case.network) > 12:
            continue
        rtt, bandwidth = 1e3 * line.rtt, line.bandwidth / 1e6
        if rtts[0] <= rtt <= rtts[1] and bandwidths[0] <= bandwidth <= bandwidths[1]:
            found[case.network] = {"x": rtt, "y": bandwidth, "text": short(case.network, 12)}
    return list(found.values())[:12]


def _clear_place(
    line: Sequence[tuple[float, float]], taken: Sequence[tuple[float, float]], across: float, up: float
) -> tuple[float, float]:
    """The point of a contour, not at its ends, that is farthest from what is written already; `across`, `up`: the map's spans."""

    def distance(one: tuple[float, float], other: tuple[float, float]) -> float:
        return math.hypot(math.log(one[0] / other[0]) / math.log(across), math.log(one[1] / other[1]) / math.log(up))

    inner = line[len(line) // 6 : max(len(line) - len(line) // 6, 1)] or line
    if not taken:
        return inner[len(inner) // 2]
    return max(inner, key=lambda place: min(distance(place, other) for other in taken))


def _texts(rows: Sequence[dict[str, object]], x: alt.X, y: alt.Y, *, dy: int, bold: bool) -> list[alt.Chart]:
    """Each with the page's colour behind it, readable over any area."""
    base = marks_of(rows).encode(x=x, y=y, text=alt.Text("text:N"))
    weight: Literal["bold", "normal"] = "bold" if bold else "normal"
    return [
        base.mark_text(
            color=theme.PAPER,
            dy=dy,
            fontWeight=weight,
            aria=False,
            stroke=theme.PAPER,
            strokeWidth=4,
            strokeJoin="round",
        ),
        base.mark_text(color=theme.INK, dy=dy, fontWeight=weight, aria=False),
    ]


def _table(maps: Sequence[Map], order: Sequence[str], title: str) -> Table:
    """At most `MOST_TABLE_SIDE` round trips and bandwidths, evenly taken from the map."""
    rows = []
    for each in maps:
        for rtt in thinned(each.rtts, MOST_TABLE_SIDE):
            for bandwidth in thinned(each.bandwidths, MOST_TABLE_SIDE):
                found = each.cells.get((rtt, bandwidth), {})
                won = each.winner(rtt, bandwidth)
                values = [milliseconds(found[protocol]) if protocol in found else "" for protocol in order]
                lead = [won or "", significant(lead_of(found), 2) if won else ""] if each.rivals > 1 else []
                rows.append([each.model, delay(rtt), megabits(bandwidth), *values, *lead])
    columns = [*names("Model"), *numbers("Round trip", "Bandwidth", *order)]
    if any(each.rivals > 1 for each in maps):
        columns += [*names("Fastest"), *numbers("Next, times as long")]
    return Table(f"{title}: predicted time per token", columns, rows, heads=3)
