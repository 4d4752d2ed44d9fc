"""Which protocol is predicted to be fastest, on a map of round-trip time and bandwidth."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import altair as alt

from . import theme
from .cases import PLAINTEXT, Cases, line_of
from .parts import Absent, Chart, Figure, Part, Space, Table, layered, marks_of, names, numbers
from .scales import RATE, TIME, log_ticks
from .words import delay, listed, megabits, milliseconds, percent, short, significant

MOST_MODELS, MOST_SIDE, MOST_TABLE_SIDE = 2, 30, 6


@dataclass(frozen=True)
class Map:
    """Of one model: per round trip and bandwidth, what each protocol takes for a token, in ms."""

    model: str
    rtts: list[float]
    bandwidths: list[float]
    cells: dict[tuple[float, float], dict[str, float]]

    def winner(self, rtt: float, bandwidth: float) -> str | None:
        found = self.cells.get((rtt, bandwidth), {})
        return min(found, key=lambda protocol: found[protocol]) if len(found) > 1 else None

    @property
    def wins(self) -> Counter[str]:
        return Counter(
            won for rtt in self.rtts for bandwidth in self.bandwidths if (won := self.winner(rtt, bandwidth))
        )


def parts(cases: Cases) -> list[Part]:
    name, title = "crossover", "Which protocol is faster where"
    maps = _maps(cases)
    if not maps:
        protocols = sorted({short(each.protocol, 24) for each in cases.results.crossings} - {PLAINTEXT})
        if len(protocols) == 1:
            reason = f"only one protocol over a network, {protocols[0]}, was predicted over round trips and bandwidths"
        else:
            reason = "nothing was predicted over round trips and bandwidths"
        return [Absent(name, title, reason)]
    drawn = maps[:MOST_MODELS]
    first = drawn[0]
    wins = first.wins
    cells = sum(wins.values())
    ranking = wins.most_common()
    span = (
        f"from {delay(first.rtts[0])} to {delay(first.rtts[-1])} round trip and "
        f"{megabits(first.bandwidths[0])} to {megabits(first.bandwidths[-1])}"
    )
    if len(ranking) == 1:
        summary = f"{first.model}: {ranking[0][0]} is predicted to be the fastest everywhere, {span}."
    else:
        shares = [f"{protocol} on {percent(count / cells)}" for protocol, count in ranking]
        summary = f"{first.model}: predicted fastest per token {span}: {listed(shares)} of the map."
    reading = (
        "Areas show the fastest protocol (both scales logarithmic); lines join lines where its token takes the same time; "
        "marks are the networks that were measured. The plaintext model uses no network and is left out."
    )
    if len(maps) > len(drawn):
        reading += f" The first {len(drawn)} of {len(maps)} models are drawn."
    protocols = sorted({protocol for each in drawn for found in each.cells.values() for protocol in found})
    colours = [each for each in cases.protocols if each in protocols]
    order = [*colours, *(each for each in protocols if each not in colours)]
    return [
        Figure(
            name, title, summary, reading, lambda space: _draw(cases, drawn, order, space), _table(drawn, order, title)
        )
    ]


def _maps(cases: Cases) -> list[Map]:
    found: dict[str, dict[tuple[float, float], dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for each in cases.results.crossings:
        usable = each.rtt_ms > 0 and 0 < each.bandwidth_mbit < math.inf and each.tpot_ms > 0
        if each.protocol != PLAINTEXT and usable:
            found[short(each.model, 40)][each.rtt_ms, each.bandwidth_mbit][short(each.protocol, 24)] = each.tpot_ms
    maps = [
        Map(
            model,
            _thinned(sorted({rtt for rtt, _ in cells}), MOST_SIDE),
            _thinned(sorted({bandwidth for _, bandwidth in cells}), MOST_SIDE),
            dict(cells),
        )
        for model, cells in found.items()
    ]
    return [each for each in maps if len(each.rtts) > 1 and len(each.bandwidths) > 1 and each.wins]


def _edges(values: Sequence[float]) -> list[float]:
    """Between neighbours, as ratios; one more than there are values."""
    between = [math.sqrt(low * high) for low, high in pairwise(values)]
    return [values[0] ** 2 / between[0], *between, values[-1] ** 2 / between[-1]]


def _areas(each: Map) -> list[dict[str, object]]:
    """Neighbours with the same winner are one rectangle, along the round trip and then, where they fit, up the bandwidth."""
    lefts, bottoms = _edges(each.rtts), _edges(each.bandwidths)
    rows: list[dict[str, object]] = []
    for down, bandwidth in enumerate(each.bandwidths):
        winners = [each.winner(rtt, bandwidth) for rtt in each.rtts]
        start = 0
        for place in range(1, len(winners) + 1):
            if place == len(winners) or winners[place] != winners[start]:
                if winners[start]:
                    edges = {"x": lefts[start], "x2": lefts[place], "y": bottoms[down], "y2": bottoms[down + 1]}
                    rows.append({"protocol": winners[start], **edges})
                    _join(rows)
                start = place
    return rows


def _join(rows: list[dict[str, object]]) -> None:
    """The last rectangle with the one below it, if they are as wide and of the same winner."""
    last = rows[-1]
    for row in rows[:-1]:
        if row["y2"] == last["y"] and all(row[key] == last[key] for key in ("x", "x2", "protocol")):
            row["y2"] = last["y2"]
            del rows[-1]
            return


def _best(each: Map, rtt: float, bandwidth: float) -> float:
    found = each.cells.get((rtt, bandwidth), {})
    return min(found.values()) if len(found) > 1 else math.nan


def contour(each: Map, level: float) -> list[list[tuple[float, float]]]:
    """Where the fastest protocol takes `level` ms: lines, found by marching over the triangles of the grid."""
    pieces = []
    for left, right in pairwise(each.rtts):
        for low, high in pairwise(each.bandwidths):
            corners = [(left, low), (right, low), (right, high), (left, high)]
            for triangle in ((corners[0], corners[1], corners[2]), (corners[0], corners[2], corners[3])):
                sides = [sorted((triangle[n - 1], triangle[n])) for n in range(3)]
                crossings = [_crossing(each, one, other, level) for one, other in sides]
                ends = [crossing for crossing in crossings if crossing is not None]
                if len(ends) == 2 and ends[0] != ends[1]:
                    pieces.append((ends[0], ends[1]))
    return _chained(pieces)


def _chained(pieces: Sequence[tuple[tuple[float, float], tuple[float, float]]]) -> list[list[tuple[float, float]]]:
    """Pieces that meet, as one line. Neighbouring triangles find the same point on their common side, bit for bit."""
    at: dict[tuple[float, float], list[int]] = defaultdict(list)
    for number, piece in enumerate(pieces):
        for end in piece:
            at[end].append(number)
    left, lines = set(range(len(pieces))), []
    for start in sorted(range(len(pieces)), key=lambda number: min(len(at[end]) for end in pieces[number])):
        if start not in left:
            continue
        left.discard(start)
        one, other = pieces[start]
        line = [one, other] if len(at[one]) <= len(at[other]) else [other, one]
        while following := [number for number in at[line[-1]] if number in left]:
            left.discard(following[0])
            ends = pieces[following[0]]
            line.append(ends[1] if ends[0] == line[-1] else ends[0])
        lines.append(line)
    return lines


def _crossing(
    each: Map, one: tuple[float, float], other: tuple[float, float], level: float
) -> tuple[float, float] | None:
    first, second = _best(each, *one), _best(each, *other)
    if math.isnan(first) or math.isnan(second) or (first < level) == (second < level):
        return None
    share = math.log(level / first) / math.log(second / first)
    return one[0] * (other[0] / one[0]) ** share, one[1] * (other[1] / one[1]) ** share


def _draw(cases: Cases, maps: Sequence[Map], order: Sequence[str], space: Space) -> Chart:
    panels = [_panel(cases, each, order, space, len(maps)) for each in maps]
    return alt.concat(*panels, columns=space.columns(len(panels)), spacing=26)


def _panel(cases: Cases, each: Map, order: Sequence[str], space: Space, panels: int) -> alt.LayerChart:
    lefts, bottoms = _edges(each.rtts), _edges(each.bandwidths)

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
    areas = _areas(each)
    fill = alt.Fill(
        "protocol:N",
        scale=alt.Scale(
            domain=list(order), range=[theme.WASHES[number % len(theme.WASHES)] for number in range(len(order))]
        ),
        legend=alt.Legend(title="Fastest", symbolType="square", symbolSize=200),
    )
    layers = [
        marks_of(areas)
        .mark_rect(opacity=1, strokeWidth=0, aria=False)
        .encode(x=x, y=y, x2=alt.X2("x2:Q"), y2=alt.Y2("y2:Q"), fill=fill)
    ]
    best = [value for cell in each.cells for value in [_best(each, *cell)] if not math.isnan(value)]
    rules, texts = [], []
    for level in log_ticks(min(best), max(best), 6):
        for number, line in enumerate(contour(each, level)):
            path = f"{level} {number}"
            rules += [{"x": rtt, "y": rate, "path": path, "order": n} for n, (rtt, rate) in enumerate(line)]
            middle = line[len(line) // 2]
            texts.append({"x": middle[0], "y": middle[1], "text": delay(level)})
    if rules:
        layers.append(
            marks_of(rules)
            .mark_line(stroke=theme.INK, strokeWidth=1.1, aria=False)
            .encode(x=x, y=y, detail=alt.Detail("path:N"), order=alt.Order("order:Q"))
        )
    marked = {}
    for case in cases.all:
        profile = line_of(case)
        if (
            profile
            and lefts[0] <= 1e3 * profile.rtt <= lefts[-1]
            and bottoms[0] <= profile.bandwidth / 1e6 <= bottoms[-1]
        ):
            marked[case.network] = {
                "x": 1e3 * profile.rtt,
                "y": profile.bandwidth / 1e6,
                "text": short(case.network, 12),
            }
    points = [place for network, place in marked.items() if len(network) <= 12][:12]
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
        for rtt in _thinned(each.rtts, MOST_TABLE_SIDE):
            for bandwidth in _thinned(each.bandwidths, MOST_TABLE_SIDE):
                found = each.cells.get((rtt, bandwidth), {})
                won = each.winner(rtt, bandwidth)
                values = [milliseconds(found[protocol]) if protocol in found else "" for protocol in order]
                second = sorted(found.values())[1] / found[won] if won else 0.0
                rows.append(
                    [
                        each.model,
                        delay(rtt),
                        megabits(bandwidth),
                        *values,
                        won or "",
                        significant(second, 2) if won else "",
                    ]
                )
    columns = [
        *names("Model"),
        *numbers("Round trip", "Bandwidth", *order),
        *names("Fastest"),
        *numbers("Next, times as long"),
    ]
    return Table(f"{title}: predicted time per token", columns, rows, heads=3)


def _thinned(values: Sequence[float], most: int) -> list[float]:
    """Evenly taken, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(place * (len(values) - 1) / (most - 1))] for place in range(most)]
