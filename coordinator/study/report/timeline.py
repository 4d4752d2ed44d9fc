"""The messages of one token between the parties, on their common clock, and the bytes they add up to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt

from ...numbers import size
from ..records import Case, Transfer
from . import theme
from .cases import Cases, Workload, protocol_of, spread_over
from .parts import Absent, Chart, Figure, Part, Space, Table, layered, marks_of, names, numbers
from .scales import SIZE, TIME
from .token import CLIENT, DEALER, KINDS, MOST_LINES, Token, beginning_of, kind_of, merged, token_of
from .words import counted, milliseconds, short

FIRST_LANES = (CLIENT, "compute 0", "compute 1", DEALER)
DASHES = {KINDS[0]: [1, 0], KINDS[1]: [7, 4], KINDS[2]: [2, 3]}
WEIGHTS = ((1_000, "under 1 kB", 0.9), (100_000, "1 to 100 kB", 1.9), (None, "over 100 kB", 3.8))
MOST_CASES, MOST_LANES = 2, 8


def parts(cases: Cases) -> list[Part]:
    name, title = "timeline", "The traffic of one token"
    tokens = [token for case in _chosen(cases) if (token := token_of(case, cases.results.transfers)) is not None]
    if not tokens:
        return [Absent(name, title, "no message of a token was recorded")]
    sentences = []
    for token in tokens:
        online = [each for each in token.messages if kind_of(each) == KINDS[0]]
        sentences.append(
            f"{cases.name(token.case)}: {counted(len(token.messages), 'message')} and {size(token.bytes)} in "
            f"{milliseconds(token.end_ms)}, {len(online)} of them between the compute peers"
        )
    ahead = [
        f"{counted(each.ahead, 'message')} of the dealer ({size(each.ahead_bytes)}) had arrived before"
        for each in tokens
        if each.ahead
    ]
    reading = (
        "Each slanted line is a message, from when its sender sent it to when its receiver had it in hand: the flatter, the longer "
        "it took, and the thicker, the larger it is. A triangle is a message that had been sent before, where its receiver took "
        "it in. Below are the bytes that have arrived, by kind, and the beginning of the token again, larger."
    )
    if ahead:
        reading += f" For this token {ahead[0]}."
    if any(len(each.messages) > MOST_LINES for each in tokens):
        reading += " Messages that lie close together between the same two parties are drawn as one."
    columns = [*names("Case", "From", "To"), *numbers("Messages", "Bytes", "First sent", "Last read", "Mean time")]
    table = Table(
        f"{title}, by pair of parties", columns, [row for each in tokens for row in _rows(cases, each)], heads=3
    )
    return [Figure(name, title, "; ".join(sentences) + ".", reading, lambda space: _draw(cases, tokens, space), table)]


def _chosen(cases: Cases) -> list[Case]:
    """Of the first protocol and question, on the nearest and on the farthest line."""
    found = cases.ordered(each.case for each in cases.results.transfers)
    alike = [
        case
        for case in found
        if (protocol_of(case), Workload.of(case)) == (protocol_of(found[0]), Workload.of(found[0]))
    ]
    return spread_over(alike, MOST_CASES)


def _rows(cases: Cases, token: Token) -> list[list[str]]:
    pairs: dict[tuple[str, str], list[Transfer]] = defaultdict(list)
    for each in token.messages:
        pairs[each.sender, each.receiver].append(each)
    return [
        [
            cases.name(token.case),
            short(sender, 24),
            short(receiver, 24),
            str(len(found)),
            size(sum(each.bytes for each in found)),
            milliseconds(max(0.0, found[0].sent_ms)),
            milliseconds(max(each.read_ms for each in found)),
            milliseconds(sum(each.read_ms - each.sent_ms for each in found) / len(found)),
        ]
        for (sender, receiver), found in pairs.items()
    ]


def _draw(cases: Cases, tokens: Sequence[Token], space: Space) -> Chart:
    width = space.panel(len(tokens), 84) if len(tokens) > 1 or space.narrow else space.width - 110
    look = _Look.of(tokens)
    panels: list[alt.Chart | alt.LayerChart] = []
    for token in tokens:
        heading = cases.name(token.case) if len(cases.all) > 1 else protocol_of(token.case)
        subtitle = f"token {token.step}, {milliseconds(token.end_ms)}"
        panels.append(
            _messages(token, space, look).properties(
                width=width, height=190, title=alt.TitleParams(heading, subtitle=subtitle)
            )
        )
        panels.append(_arrived(token, space, look).properties(width=width, height=110))
        beginning = beginning_of(token)
        title = f"the first {milliseconds(beginning.end_ms)}"
        panels.append(
            _messages(beginning, space, look).properties(width=width, height=170, title=alt.TitleParams(title))
        )
    if len(tokens) > 1 and not space.narrow:
        panels = [*panels[0::3], *panels[1::3], *panels[2::3]]
    return alt.concat(*panels, columns=space.columns(len(tokens)), spacing=14)


def _time(token: Token, title: str | None, space: Space) -> alt.X:
    scale = alt.Scale(domain=[0, token.end_ms or 1.0], nice=False)
    return alt.X("x:Q", scale=scale, title=title, axis=alt.Axis(labelExpr=TIME, tickCount=3 if space.narrow else 5))


def _messages(token: Token, space: Space, look: _Look) -> alt.LayerChart:
    seen = {end for message in token.messages for end in (message.sender, message.receiver)}
    lanes = [*FIRST_LANES, *sorted(seen - {*FIRST_LANES})][:MOST_LANES]
    lanes = [lane for lane in lanes if lane in seen]
    place = {lane: number for number, lane in enumerate(lanes)}
    shown = [each for each in merged(token) if each.sender in place and each.receiver in place]
    shown = [each for each in shown if each.sent_ms >= 0 or each.read_ms <= token.end_ms]
    rows = [_row(each, place, token.end_ms) for each in shown]
    labels = ", ".join(f"'{number}': {_quoted(lane)}" for lane, number in place.items())
    y = alt.Y(
        "y:Q",
        scale=alt.Scale(domain=[len(lanes) - 0.75, -0.25], nice=False),
        title=None,
        axis=alt.Axis(
            values=list(place.values()),
            labelExpr=f"({{{labels}}})[datum.value]",
            labelPadding=6,
            domain=False,
            ticks=False,
            gridColor=theme.AXIS,
        ),
    )
    x = _time(token, None, space)
    layers = [
        marks_of([row for row in rows if not row["before"]])
        .mark_rule(opacity=0.85)
        .encode(
            x=x,
            x2=alt.X2("x2:Q"),
            y=y,
            y2=alt.Y2("y2:Q"),
            stroke=look.stroke,
            strokeDash=look.dash,
            strokeWidth=look.width,
            description=alt.Description("says:N"),
        )
    ]
    if before := [row for row in rows if row["before"]]:
        layers.append(
            marks_of(before)
            .mark_point(shape="triangle-down", size=70, strokeWidth=1.6, fill=theme.PAPER, opacity=1, yOffset=-5)
            .encode(x=alt.X("x2:Q"), y=alt.Y("y2:Q"), stroke=look.stroke, description=alt.Description("says:N"))
        )
    return layered(*layers)


def _row(message: Transfer, place: Mapping[str, int], end_ms: float) -> dict[str, object]:
    """A line from sender to receiver, cut at the end of the picture; a message sent before it is a mark where it was read."""
    start, end = float(place[message.sender]), float(place[message.receiver])
    took = message.read_ms - message.sent_ms
    over = max(0.0, message.read_ms - end_ms) / took if took > 0 else 0.0
    before = message.sent_ms < 0
    return {
        "x": max(0.0, message.sent_ms),
        "x2": min(message.read_ms, end_ms),
        "y": start,
        "y2": end - (end - start) * (0.0 if before else over),
        "before": before,
        "kind": kind_of(message),
        "weight": _weight(message),
        "says": f"{short(message.sender, 24)} to {short(message.receiver, 24)}, {size(message.bytes)}, "
        f"{milliseconds(took)}, {short(message.site, 40)}",
    }


def _weight(message: Transfer) -> str:
    return next(text for limit, text, _ in WEIGHTS if limit is None or message.bytes < limit)


@dataclass(frozen=True, slots=True)
class _Look:
    """How kinds and sizes are drawn, the same in all panels."""

    stroke: alt.Stroke
    dash: alt.StrokeDash
    width: alt.StrokeWidth

    @classmethod
    def of(cls, tokens: Sequence[Token]) -> _Look:
        messages = [message for token in tokens for message in token.messages]
        there = {kind_of(message) for message in messages}
        kinds = [kind for kind in KINDS if kind in there]
        weights = {_weight(message) for message in messages}
        widths = {text: width for _, text, width in WEIGHTS if text in weights}
        legend = alt.Legend(title=None, symbolType="stroke", symbolSize=300)
        sizes = alt.Legend(title="Size", symbolType="stroke", symbolSize=300, symbolStrokeColor=theme.SOFT)
        colours = [theme.COLOURS[KINDS.index(kind)] for kind in kinds]
        return cls(
            alt.Stroke("kind:N", scale=alt.Scale(domain=kinds, range=colours), legend=legend),
            alt.StrokeDash(
                "kind:N", scale=alt.Scale(domain=kinds, range=[DASHES[kind] for kind in kinds]), legend=legend
            ),
            alt.StrokeWidth(
                "weight:N",
                scale=alt.Scale(type="ordinal", domain=list(widths), range=list(widths.values())),
                legend=sizes,
            ),
        )


def _quoted(lane: str) -> str:
    """As a string of the expression language: nothing of a name can end it."""
    return "'" + "".join(char if char.isalnum() or char in " -_." else " " for char in short(lane, 20)) + "'"


def _arrived(token: Token, space: Space, look: _Look) -> alt.Chart:
    """Steps of what has been read, one line for each kind."""
    kinds = [kind for kind in KINDS if any(kind_of(each) == kind for each in token.messages)]
    rows = []
    for kind in kinds:
        total = 0
        found = sorted((each for each in token.messages if kind_of(each) == kind), key=lambda each: each.read_ms)
        steps = [(0.0, 0)]
        for each in found:
            total += each.bytes
            steps.append((min(each.read_ms, token.end_ms), total))
        steps.append((token.end_ms, total))
        stride = max(1, len(steps) // 100)
        rows += [{"x": x, "y": y, "kind": kind} for x, y in [*steps[:-1:stride], steps[-1]]]
    chart: alt.Chart = (
        marks_of(rows)
        .mark_line(interpolate="step-after", strokeWidth=1.8, aria=False)
        .encode(
            x=_time(token, "Time since the token began", space),
            y=alt.Y("y:Q", title="Bytes arrived", axis=alt.Axis(labelExpr=SIZE, tickCount=4)),
            stroke=look.stroke,
            strokeDash=look.dash,
        )
    )
    return chart
