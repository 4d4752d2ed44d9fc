"""The messages of one token between the parties, on their common clock, and the bytes they add up to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import altair as alt

from ..records import Case, Transfer
from . import theme
from .cases import Cases, protocol_of, spread_over
from .parts import Absent, Chart, Figure, Part, Space, Table, layered, marks_of, names, numbers
from .scales import SIZE, TIME
from .words import counted, milliseconds, short, size

CLIENT, DEALER = "client", "dealer"
FIRST_LANES = (CLIENT, "compute 0", "compute 1", DEALER)
KINDS = ("online", "from the dealer", "with the client")
DASHES = {KINDS[0]: [1, 0], KINDS[1]: [7, 4], KINDS[2]: [2, 3]}
WEIGHTS = ((1_000, "under 1 kB", 1.0), (100_000, "1 to 100 kB", 2.0), (None, "over 100 kB", 3.6))
MOST_CASES, MOST_LINES, MOST_LANES = 2, 200, 8


@dataclass(frozen=True)
class Token:
    """The messages of one step; times from its first message on that is not the dealer's."""

    case: Case
    step: int
    messages: list[Transfer]
    end_ms: float
    ahead: int  # messages of the dealer that were there before
    ahead_bytes: int

    @property
    def bytes(self) -> int:
        return sum(each.bytes for each in self.messages)

    def rounds_trips(self) -> int:
        return sum(1 for each in self.messages if kind_of(each) == KINDS[0])


def kind_of(message: Transfer) -> str:
    ends = {message.sender, message.receiver}
    return KINDS[2] if CLIENT in ends else KINDS[1] if DEALER in ends else KINDS[0]


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
        "it took. Thickness is its size. Below, the bytes that have arrived, by kind."
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
    found = cases.ordered(each.case for each in cases.results.transfers)
    return spread_over(found, MOST_CASES)


def token_of(case: Case, transfers: Sequence[Transfer]) -> Token | None:
    """The second token if it was recorded whole, the first otherwise: the prompt's step is not one."""
    steps: dict[int, list[Transfer]] = defaultdict(list)
    for each in transfers:
        if each.case == case:
            steps[each.step].append(each)
    later = sorted(step for step in steps if step > 0) or sorted(steps)
    for step in later[1:2] + later[:1]:
        own = [each for each in steps[step] if DEALER not in (each.sender, each.receiver)]
        if not own:
            continue
        start, end = min(each.sent_ms for each in own), max(each.read_ms for each in own)
        moved = [replace(each, sent_ms=each.sent_ms - start, read_ms=each.read_ms - start) for each in steps[step]]
        during = [each for each in moved if each.read_ms >= 0 and each.sent_ms <= end - start]
        before = [each for each in moved if each.read_ms < 0]
        ordered = sorted(during, key=lambda each: each.sent_ms)
        return Token(case, step, ordered, end - start, len(before), sum(each.bytes for each in before))
    return None


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
    panels: list[alt.Chart | alt.LayerChart] = []
    for token in tokens:
        heading = cases.name(token.case) if len(cases.all) > 1 else protocol_of(token.case)
        subtitle = f"token {token.step}, {milliseconds(token.end_ms)}"
        panels.append(
            _messages(token, space).properties(
                width=width, height=190, title=alt.TitleParams(heading, subtitle=subtitle)
            )
        )
        panels.append(_arrived(token, space).properties(width=width, height=110))
    if len(tokens) > 1 and not space.narrow:
        panels = [*panels[0::2], *panels[1::2]]
    return alt.concat(*panels, columns=space.columns(len(tokens)), spacing=14)


def _time(token: Token, title: str | None, space: Space) -> alt.X:
    scale = alt.Scale(domain=[0, token.end_ms or 1.0], nice=False)
    return alt.X("x:Q", scale=scale, title=title, axis=alt.Axis(labelExpr=TIME, tickCount=3 if space.narrow else 5))


def _messages(token: Token, space: Space) -> alt.LayerChart:
    lanes = [*FIRST_LANES, *sorted({e for m in token.messages for e in (m.sender, m.receiver)} - {*FIRST_LANES})]
    seen = {end for message in token.messages for end in (message.sender, message.receiver)}
    lanes = [lane for lane in lanes if lane in seen][:MOST_LANES]
    place = {lane: number for number, lane in enumerate(lanes)}
    rows = []
    for message in _merged(token):
        if message.sender not in place or message.receiver not in place:
            continue
        start, end = float(place[message.sender]), float(place[message.receiver])
        took = message.read_ms - message.sent_ms
        cut = max(0.0, -message.sent_ms) / took if took > 0 else 0.0
        over = max(0.0, message.read_ms - token.end_ms) / took if took > 0 else 0.0
        rows.append(
            {
                "x": max(0.0, message.sent_ms),
                "x2": min(message.read_ms, token.end_ms),
                "y": start + (end - start) * cut,
                "y2": end - (end - start) * over,
                "kind": kind_of(message),
                "weight": next(text for limit, text, _ in WEIGHTS if limit is None or message.bytes < limit),
                "says": f"{short(message.sender, 24)} to {short(message.receiver, 24)}, {size(message.bytes)}, "
                f"{milliseconds(took)}, {short(message.site, 40)}",
            }
        )
    labels = ", ".join(f"'{number}': {_quoted(lane)}" for lane, number in place.items())
    y = alt.Y(
        "y:Q",
        scale=alt.Scale(domain=[len(lanes) - 0.75, -0.25], nice=False),
        title=None,
        axis=alt.Axis(
            values=list(place.values()),
            labelExpr=f"({{{labels}}})[datum.value]",
            domain=False,
            ticks=False,
            gridColor=theme.AXIS,
        ),
    )
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in rows)]
    weights = [(text, width) for _, text, width in WEIGHTS if any(row["weight"] == text for row in rows)]
    legend = alt.Legend(title=None, symbolType="stroke", symbolSize=300)
    return layered(
        marks_of(rows)
        .mark_rule(opacity=0.85)
        .encode(
            x=_time(token, None, space),
            x2=alt.X2("x2:Q"),
            y=y,
            y2=alt.Y2("y2:Q"),
            stroke=alt.Stroke("kind:N", scale=_kind_colours(kinds), legend=legend),
            strokeDash=alt.StrokeDash(
                "kind:N", scale=alt.Scale(domain=kinds, range=[DASHES[kind] for kind in kinds]), legend=legend
            ),
            strokeWidth=alt.StrokeWidth(
                "weight:N",
                scale=alt.Scale(domain=[text for text, _ in weights], range=[width for _, width in weights]),
                legend=alt.Legend(title="Size", symbolType="stroke", symbolSize=300),
            ),
            description=alt.Description("says:N"),
        )
    )


def _quoted(lane: str) -> str:
    """As a string of the expression language: nothing of a name can end it."""
    return "'" + "".join(char if char.isalnum() or char in " -_." else " " for char in short(lane, 20)) + "'"


def _kind_colours(kinds: Sequence[str]) -> alt.Scale:
    return alt.Scale(domain=list(kinds), range=[theme.COLOURS[KINDS.index(kind)] for kind in kinds])


def _merged(token: Token) -> list[Transfer]:
    """At most about `MOST_LINES` messages: those close together between the same parties become one."""
    if len(token.messages) <= MOST_LINES:
        return token.messages
    pairs = len({(each.sender, each.receiver) for each in token.messages})
    slot = (token.end_ms or 1.0) / max(1, MOST_LINES // pairs)
    together: dict[tuple[str, str, int], list[Transfer]] = defaultdict(list)
    for each in token.messages:
        together[each.sender, each.receiver, int(max(0.0, each.sent_ms) / slot)].append(each)
    return [
        replace(
            found[0],
            read_ms=max(each.read_ms for each in found),
            bytes=sum(each.bytes for each in found),
            site=found[0].site if len(found) == 1 else f"{len(found)} messages",
        )
        for found in together.values()
    ]


def _arrived(token: Token, space: Space) -> alt.Chart:
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
            stroke=alt.Stroke("kind:N", scale=_kind_colours(kinds), legend=None),
            strokeDash=alt.StrokeDash(
                "kind:N", scale=alt.Scale(domain=kinds, range=[DASHES[kind] for kind in kinds]), legend=None
            ),
        )
    )
    return chart
