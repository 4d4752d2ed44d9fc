"""Where the time of a prompt and of a token goes: computing, waiting, serialising; by case, by gate and by layer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import altair as alt

from ..records import Case, Site
from . import theme
from .cases import PLAINTEXT, TPOT, Cases, Workload, line_of, protocol_of, spread_over
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
from .scales import TIME
from .words import delay, milliseconds, percent, short

KINDS = ("computing", "waiting", "serialising")
PHASES = {"token": "one token", "prompt": "the prompt"}
MOST_CASES, MOST_PANELS, MOST_LAYERS = 24, 6, 26
OUTSIDE = "outside"


def parts(cases: Cases) -> list[Part]:
    found: list[Part] = [_shares(cases)]
    chosen = focus(cases)
    for phase in PHASES:
        for by in ("gate", "layer"):
            found.append(_stacked(cases, chosen, phase, by))
    return found


def focus(cases: Cases) -> list[Case]:
    """The cases whose places are drawn: of the question asked over most networks, at most `MOST_PANELS`."""
    timed = cases.ordered(site.case for site in cases.results.sites)
    if not timed:
        return []
    counts = Counter(Workload.of(case) for case in timed)
    best = max(counts, key=lambda workload: counts[workload])
    return spread_over([case for case in timed if Workload.of(case) == best], MOST_PANELS)


def _shares(cases: Cases) -> Part:
    name, title = "shares", "What a token's time is made of"
    rows = []
    for case in cases.all:
        spread = cases.spread(case, TPOT)
        compute = cases.per_token(case, lambda answer: answer.compute_ms)
        waiting = cases.per_token(case, lambda answer: answer.waiting_ms)
        if case.protocol != PLAINTEXT and spread and compute is not None and waiting is not None:
            rows.append((case, spread.mean, compute, waiting, max(0.0, spread.mean - compute - waiting)))
    if not rows:
        return Absent(name, title, "the study has no answers of more than one token over a network")
    most = max(rows, key=lambda row: row[3] / row[1])
    least = min(rows, key=lambda row: row[3] / row[1])
    summary = (
        f"{cases.name(most[0])}: {percent(most[3] / most[1])} of a token's {milliseconds(most[1])} is waiting on links"
    )
    if least is not most:
        summary += f"; {cases.name(least[0])}: {percent(least[3] / least[1])} of {milliseconds(least[1])}"
    shown = set(spread_over([row[0] for row in rows], MOST_CASES))
    reading = (
        "Each bar is the mean time per token of one case, which stands at its right, as shares: the slower compute peer computing, "
        "that peer waiting on its links, and the rest (client, sampling, the client's links)."
    )
    if len(shown) < len(rows):
        reading += f" {len(shown)} of {len(rows)} cases are drawn, evenly taken; the table has all."
    columns = [*names("Case"), *numbers("Time per token", "Computing", "Waiting", "Rest")]
    table = Table(f"{title}: means", columns, [[cases.name(case), *map(milliseconds, times)] for case, *times in rows])
    drawn = [row for row in rows if row[0] in shown]
    return Figure(name, title, summary + ".", reading, lambda space: _draw_shares(cases, drawn, space), table)


def _draw_shares(cases: Cases, rows: Sequence[tuple[Case, float, float, float, float]], space: Space) -> Chart:
    kinds = ("computing", "waiting", "the rest")
    values = []
    for case, _total, *parts_of_it in rows:
        for number, (kind, part) in enumerate(zip(kinds, parts_of_it, strict=True)):
            says = f"{cases.name(case)}, {kind}: {milliseconds(part)}, {percent(part / sum(parts_of_it))}"
            values.append(
                {"case": row_label(cases.name(case), space), "kind": kind, "ms": part, "order": number, "says": says}
            )
    order = [row_label(cases.name(row[0]), space) for row in rows]
    y = alt.Y("case:N", sort=order, title=None, axis=_case_axis(space, row_offset(order)))
    bars = (
        marks_of(values)
        .mark_bar(stroke=theme.PAPER, strokeWidth=1)
        .encode(
            x=alt.X(
                "ms:Q", stack="normalize", title="Share of the time per token", axis=alt.Axis(format="%", tickCount=5)
            ),
            y=y,
            fill=alt.Fill(
                "kind:N", scale=alt.Scale(domain=kinds, range=theme.FILLS[:3]), legend=alt.Legend(title=None)
            ),
            order=alt.Order("order:Q"),
            description=alt.Description("says:N"),
        )
    )
    ends = [{"case": row_label(cases.name(case), space), "text": milliseconds(total)} for case, total, *_ in rows]
    width = beside(order, space) - 50  # for the times at the right
    texts = (
        marks_of(ends)
        .mark_text(align="left", dx=5, aria=False)
        .encode(y=y, x=alt.value(width), text=alt.Text("text:N"))
    )
    return layered(bars, texts).properties(width=width, height=alt.Step(row_height(order, 24)))


def _case_axis(space: Space, offset: float) -> alt.Axis:
    return alt.Axis(ticks=False, domain=False, labelOffset=offset, labelPadding=6, labelLimit=space.widest_label)


@dataclass(frozen=True, slots=True)
class Bar:
    """One stacked bar: of a gate, or of a layer."""

    label: str
    times: tuple[float, float, float]

    @property
    def total(self) -> float:
        return sum(self.times)


def _stacked(cases: Cases, chosen: Sequence[Case], phase: str, by: str) -> Part:
    name = f"{phase}-by-{by}"
    title = f"Time of {PHASES[phase]} by {by}"
    by_case: dict[Case, list[Site]] = defaultdict(list)
    for site in cases.results.sites:
        if site.phase == phase:
            by_case[site.case].append(site)
    panels = {
        case: by_gate(by_case[case]) if by == "gate" else by_layer(by_case[case]) for case in chosen if by_case[case]
    }
    if not panels:
        reason = "no timing of the model's places was recorded" if phase == "token" else "no prompt's places were timed"
        return Absent(name, title, reason)
    slowest = max(panels, key=lambda case: sum(bar.total for bar in panels[case]))
    bars = panels[slowest]
    total = sum(bar.total for bar in bars) or 1.0
    top = max(bars, key=lambda bar: bar.total)
    kind = max(range(3), key=lambda number: sum(bar.times[number] for bar in bars))
    evenly = by == "layer" and _alike([bar.total for bar in bars if bar.label != OUTSIDE])
    place = (
        top.label if by == "gate" else {OUTSIDE: "what lies outside of the layers"}.get(top.label, f"layer {top.label}")
    )
    together = "groups of layers" if any("–" in bar.label for bar in bars) else "the layers"
    takes = f"{together} take about the same" if evenly else f"{place} takes most"
    summary = (
        f"On {short(slowest.network, 40)} ({protocol_of(slowest)}), {takes}, {milliseconds(top.total)}{' each' if evenly else ''} of "
        f"{milliseconds(total)}; {percent(sum(bar.times[kind] for bar in bars) / total)} of all is {KINDS[kind]}."
    )
    origin = "Means over the steps that were recorded" if cases.all else "From the model of costs"
    reading = (
        f"{origin}, of the slower compute peer: {cases.workload_name(Workload.of(slowest))}. "
        "Serialising is packing, sending and unpacking. Each panel has its own scale."
    )
    every = len({site.case for site in cases.results.sites if site.phase == phase})
    if every > len(panels):
        reading += f" {len(panels)} of {every} timed cases are drawn and tabled."
    rows = [
        [cases.name(case), bar.label, *map(milliseconds, bar.times), milliseconds(bar.total)]
        for case, of_it in panels.items()
        for bar in of_it
    ]
    columns = [*names("Case", by.capitalize()), *numbers("Computing", "Waiting", "Serialising", "Together")]
    table = Table(f"{title}: means", columns, rows, heads=2)
    return Figure(name, title, summary, reading, lambda space: _draw_stacked(panels, by, space), table)


def _alike(values: Sequence[float]) -> bool:
    return len(values) > 1 and max(values) <= 1.1 * min(values)


def by_gate(sites: Sequence[Site]) -> list[Bar]:
    """Largest first."""
    return sorted(_bars(sites, lambda site: site.gate), key=lambda bar: -bar.total)


def by_layer(sites: Sequence[Site]) -> list[Bar]:
    label = layer_labels(sites)
    order = {text: number for number, text in enumerate(dict.fromkeys(label.values()))}
    return sorted(_bars(sites, lambda site: label[site.layer]), key=lambda bar: order[bar.label])


def _order(panels: Iterable[Sequence[Bar]]) -> list[str]:
    """One order for all panels: by the mean share of each panel's time."""
    shares: dict[str, float] = defaultdict(float)
    for bars in panels:
        total = sum(bar.total for bar in bars) or 1.0
        for bar in bars:
            shares[bar.label] += bar.total / total
    return sorted(shares, key=lambda label: -shares[label])


def layer_labels(sites: Sequence[Site]) -> dict[int, str]:
    """Layers by their number, several together where they are many; -1 is what lies outside of them."""
    layers = sorted({site.layer for site in sites if site.layer >= 0})
    group = -(-len(layers) // MOST_LAYERS)
    found = {}
    for start in range(0, len(layers), max(group, 1)):
        members = layers[start : start + group]
        text = str(members[0]) if len(members) == 1 else f"{members[0]}–{members[-1]}"
        found.update(dict.fromkeys(members, text))
    return found | {site.layer: OUTSIDE for site in sites if site.layer < 0}


def _bars(sites: Sequence[Site], label: Callable[[Site], str]) -> list[Bar]:
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for site in sites:
        for number, value in enumerate((site.compute_ms, site.waiting_ms, site.serialising_ms)):
            sums[short(label(site), 24)][number] += value
    return [Bar(text, (times[0], times[1], times[2])) for text, times in sums.items()]


def _draw_stacked(panels: dict[Case, list[Bar]], by: str, space: Space) -> Chart:
    columns = min(len(panels), 1 if space.narrow else 3)
    width = (space.width - 86 * columns - 26 * (columns - 1)) // columns
    labels = {protocol_of(case) for case in panels}
    order = _order(panels.values()) if by == "gate" else None

    def panel(case: Case, bars: Sequence[Bar]) -> alt.Chart:
        total = sum(bar.total for bar in bars)
        heading = short(case.network, 30) if len(labels) == 1 else f"{protocol_of(case)}, {short(case.network, 24)}"
        line = line_of(case)
        rows = [
            {
                "label": bar.label,
                "kind": kind,
                "ms": value,
                "order": number,
                "says": f"{bar.label}, {kind}: {milliseconds(value)}",
            }
            for bar in bars
            for number, (kind, value) in enumerate(zip(KINDS, bar.times, strict=True))
        ]
        subtitle = milliseconds(total) + (
            "" if line is None or by == "layer" else f", round trip {delay(1e3 * line.rtt)}"
        )
        chart: alt.Chart = (
            marks_of(rows)
            .mark_bar(stroke=theme.PAPER, strokeWidth=0.8)
            .encode(
                x=alt.X("ms:Q", title="Time", axis=alt.Axis(labelExpr=TIME, tickCount=4 if columns < 3 else 3)),
                y=alt.Y(
                    "label:N",
                    sort=order or [bar.label for bar in bars],
                    title=None if by == "gate" else "Layer",
                    axis=alt.Axis(ticks=False, domain=False, labelPadding=6, labelLimit=90),
                ),
                fill=alt.Fill(
                    "kind:N", scale=alt.Scale(domain=KINDS, range=theme.FILLS[:3]), legend=alt.Legend(title=None)
                ),
                order=alt.Order("order:Q"),
                description=alt.Description("says:N"),
            )
            .properties(
                width=width,
                height=alt.Step(20 if len(bars) < 12 else 13),
                title=alt.TitleParams(heading, subtitle=subtitle),
            )
        )
        return chart

    drawn = [panel(case, bars) for case, bars in panels.items()]
    return alt.concat(*drawn, columns=columns, spacing=22)
