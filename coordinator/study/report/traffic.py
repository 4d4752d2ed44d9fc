"""Rounds and bytes by layer; online, offline and the client's bytes and times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import altair as alt

from ...numbers import size
from ..records import Case, Site
from . import theme
from .cases import PLAINTEXT, TPOT, Cases, Workload, protocol_of, spread_over
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
from .scales import SIZE, TIME, measured_axis
from .where import OUTSIDE, focus, layer_labels
from .words import counted, milliseconds, short, times, trimmed

MOST_PROTOCOLS, MOST_GATES, MOST_ROWS = 3, 6, 20


def layer_parts(cases: Cases) -> list[Part]:
    return [_layers(cases)]


def plane_parts(cases: Cases) -> list[Part]:
    return [_bytes(cases), _times(cases)]


def _layers(cases: Cases) -> Part:
    """Rounds and bytes do not depend on the network: one case of each protocol stands for all."""
    name, title = "layers", "Rounds and bytes of one token by layer"
    chosen: dict[str, Case] = {}
    for case in focus(cases):
        chosen.setdefault(protocol_of(case), case)
    sites: dict[Case, list[Site]] = {case: [] for case in chosen.values()}
    for site in cases.results.sites:
        if site.phase == "token" and site.case in sites:
            sites[site.case].append(site)
    sites = dict([(case, found) for case, found in sites.items() if found][:MOST_PROTOCOLS])
    if not sites:
        return Absent(name, title, "no rounds and bytes of the model's places were recorded")
    sentences = []
    for case, found in sites.items():
        layers = {site.layer for site in found if site.layer >= 0}
        inside = [site for site in found if site.layer >= 0]
        each = max(len(layers), 1)
        sentences.append(
            f"{protocol_of(case)}: {counted(sum(site.rounds for site in found), 'round')} a token, "
            f"{trimmed(sum(site.rounds for site in inside) / each)} in each of {counted(len(layers), 'layer')}, with "
            f"{size(sum(site.online_bytes for site in inside) / each)} between the peers and "
            f"{size(sum(site.offline_bytes for site in inside) / each)} from the dealer a layer"
        )
    reading = (
        f"One step after the prompt ({cases.workload_name(Workload.of(next(iter(sites))))}); the network changes neither. "
        "Online bytes are between the compute peers, offline bytes from the dealer to both. "
        f"“{OUTSIDE.capitalize()}” is what belongs to no layer: the embedding, the last norm, the logits."
    )
    rows = [
        [protocol_of(case), label, gate, str(values[0]), size(values[1]), size(values[2])]
        for case, found in sites.items()
        for (label, gate), values in _by_layer_and_gate(found).items()
    ]
    columns = [*names("Protocol", "Layer", "Gate"), *numbers("Rounds", "Online", "Offline")]
    table = Table(title, columns, rows, heads=3)
    return Figure(name, title, "; ".join(sentences) + ".", reading, lambda space: _draw_layers(sites, space), table)


def _by_layer_and_gate(sites: Sequence[Site]) -> dict[tuple[str, str], list[int]]:
    label = layer_labels(sites)
    order = list(dict.fromkeys(label.values()))
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for site in sorted(sites, key=lambda site: order.index(label[site.layer])):
        for number, value in enumerate((site.rounds, site.online_bytes, site.offline_bytes)):
            sums[label[site.layer], short(site.gate, 20)][number] += value
    return sums


def _draw_layers(sites: dict[Case, list[Site]], space: Space) -> Chart:
    gates = list(dict.fromkeys(short(site.gate, 20) for found in sites.values() for site in found if _any(site)))
    quantities: list[tuple[str, str | None]] = [("Rounds", None), ("Online bytes", SIZE), ("Offline bytes", SIZE)]
    columns = 1 if space.narrow else 3
    width = space.width - 100 if space.narrow else (space.width - 3 * 60 - 2 * 22) // 3
    panels = []
    for case, found in sites.items():
        cells = _by_layer_and_gate(found)
        labels = list(dict.fromkeys(label for label, _ in cells))
        for number, (title, label_expr) in enumerate(quantities):
            rows = [
                {
                    "layer": label,
                    "gate": gate if gates.index(gate) < MOST_GATES - 1 or len(gates) <= MOST_GATES else "others",
                    "order": gates.index(gate),
                    "value": values[number],
                    "says": f"{_layer(label)}, {gate}: "
                    + (size(values[number]) if label_expr else counted(values[number], "round")),
                }
                for (label, gate), values in cells.items()
                if values[number] and gate in gates
            ]
            axis = alt.Axis(labelExpr=label_expr, tickCount=3) if label_expr else alt.Axis(tickCount=4, format="d")
            panels.append(
                marks_of(rows)
                .mark_bar(stroke=theme.PAPER, strokeWidth=0.8)
                .encode(
                    x=alt.X("value:Q", title=title, axis=axis),
                    y=alt.Y(
                        "layer:N",
                        scale=alt.Scale(domain=labels),
                        title="Layer" if number == 0 or space.narrow else None,
                        axis=alt.Axis(ticks=False, domain=False, labelPadding=6, labelLimit=70),
                    ),
                    fill=_gate_fill(gates),
                    order=alt.Order("order:Q"),
                    description=alt.Description("says:N"),
                )
                .properties(
                    width=width,
                    height=alt.Step(20 if len(labels) < 12 else 13),
                    title=protocol_of(case) if len(sites) > 1 and number == 0 else "",
                )
            )
    return alt.concat(*panels, columns=columns, spacing=22)


def _any(site: Site) -> bool:
    return bool(site.rounds or site.online_bytes or site.offline_bytes)


def _gate_fill(gates: Sequence[str]) -> alt.Fill:
    shown = list(gates) if len(gates) <= MOST_GATES else [*gates[: MOST_GATES - 1], "others"]
    scale = alt.Scale(domain=shown, range=theme.FILLS[: len(shown)])
    return alt.Fill("gate:N", scale=scale, legend=alt.Legend(title="Gate", columns=3))


def _layer(label: str) -> str:
    return label if label == OUTSIDE else f"layer {label}"


PLANES: dict[str, tuple[str, Callable[..., Sequence[int]]]] = {
    "online": ("between the compute peers", lambda answer: answer.online_bytes),
    "offline": ("from the dealer", lambda answer: answer.offline_bytes),
    "client": ("between client and peers", lambda answer: answer.client_bytes),
}


def _bytes(cases: Cases) -> Part:
    name, title = "planes", "Bytes of a token, online and offline"
    groups: dict[tuple[str, Workload], list[Case]] = defaultdict(list)
    for case in cases.all:
        if case.protocol != PLAINTEXT:
            groups[protocol_of(case), Workload.of(case)].append(case)
    rows = []
    for (protocol, workload), of_it in groups.items():
        found = [cases.per_token(case, of) for _, of in PLANES.values() for case in of_it[:1]]
        rounds = cases.per_token(of_it[0], lambda answer: answer.rounds)
        if rounds is not None and any(found):
            label = protocol if len(cases.workloads) == 1 else f"{protocol}, {cases.workload_name(workload)}"
            rows.append((label, [value or 0.0 for value in found], rounds))
    if not rows:
        return Absent(name, title, "the study has no answers of more than one token over a network")
    label, (online, offline, client), rounds = rows[0]
    summary = (
        f"A token of {label} takes {trimmed(rounds)} rounds and {size(online)} between the compute peers; the dealer sends "
        f"{size(offline)}"
        + (f", {times(offline / online)} as much" if online and offline else "")
        + f", and the client exchanges {size(client)} with the peers."
    )
    reading = (
        "Means over the steps after the prompt. Offline bytes are dealt ahead of the prompt; a mark at 0 is not drawn."
    )
    if len(rows) > MOST_ROWS:
        reading += f" The first {MOST_ROWS} of {len(rows)} are drawn."
    columns = [*names("Protocol"), *numbers("Rounds", "Online", "Offline", "Client")]
    table = Table(f"{title}: means", columns, [[text, trimmed(r), *map(size, values)] for text, values, r in rows])
    data = [
        {"row": text, "kind": f"{kind}: {PLANES[kind][0]}", "value": value, "says": f"{text}, {kind}: {size(value)}"}
        for text, values, _ in rows[:MOST_ROWS]
        for kind, value in zip(PLANES, values, strict=True)
        if value > 0
    ]
    kinds = [f"{kind}: {where}" for kind, (where, _) in PLANES.items()]
    return Figure(
        name,
        title,
        summary,
        reading,
        lambda space: _dots(data, kinds, [row[0] for row in rows], "Bytes a token", SIZE, space),
        table,
    )


def _times(cases: Cases) -> Part:
    name, title = "dealing", "Time of a token, online and the dealer's"
    rows = []
    for case in cases.all:
        spread = cases.spread(case, TPOT)
        dealer = cases.per_token(case, lambda answer: answer.offline_ms)
        if case.protocol != PLAINTEXT and spread and dealer:
            rows.append((case, spread.mean, dealer))
    if not rows:
        return Absent(name, title, "no dealer's time was recorded")
    most = max(rows, key=lambda row: row[2] / row[1])
    keeps = "keeps ahead of the peers in every case" if most[2] < most[1] else "is slower than the peers at least once"
    summary = (
        f"The dealer {keeps}: its largest share of a token's time is {milliseconds(most[2])} of {milliseconds(most[1])} "
        f"({cases.name(most[0])})."
    )
    reading = "Mean time per token beside the dealer's mean work for one. They run at the same time, so the times do not add up."
    shown = set(spread_over([row[0] for row in rows], MOST_ROWS))
    if len(shown) < len(rows):
        reading += f" {len(shown)} of {len(rows)} cases are drawn, evenly taken; the table has all."
    kinds = ["time per token", "the dealer's work"]
    data = [
        {
            "row": cases.name(case),
            "kind": kind,
            "value": value,
            "says": f"{cases.name(case)}, {kind}: {milliseconds(value)}",
        }
        for case, *values in rows
        if case in shown
        for kind, value in zip(kinds, values, strict=True)
    ]
    order = [cases.name(case) for case, *_ in rows if case in shown]
    columns = [*names("Case"), *numbers("Time per token", "The dealer's work")]
    table = Table(
        f"{title}: means", columns, [[cases.name(case), *map(milliseconds, values)] for case, *values in rows]
    )
    return Figure(
        name, title, summary, reading, lambda space: _dots(data, kinds, order, "Time a token", TIME, space), table
    )


def _dots(
    data: list[dict[str, object]], kinds: Sequence[str], order: Sequence[str], title: str, label: str, space: Space
) -> Chart:
    """One row for each case, one mark for each kind, on one axis."""
    values = [float(str(row["value"])) for row in data]
    x = measured_axis(values, title, label, ticks=4 if space.narrow else 7)
    scales = {
        "stroke": alt.Scale(domain=list(kinds), range=theme.COLOURS[: len(kinds)]),
        "shape": alt.Scale(domain=list(kinds), range=theme.SHAPES[: len(kinds)]),
    }
    legend = alt.Legend(title=None, direction="vertical" if space.narrow else "horizontal")
    rows = [{**row, "row": row_label(str(row["row"]), space)} for row in data]
    labels = [row_label(label, space) for label in order]
    base = marks_of(rows).encode(
        y=alt.Y(
            "row:N",
            sort=labels,
            title=None,
            axis=alt.Axis(
                labelOffset=row_offset(labels),
                grid=True,
                ticks=False,
                domain=False,
                labelPadding=6,
                labelLimit=space.widest_label,
            ),
        )
    )
    return layered(
        base.mark_rule(stroke=theme.AXIS, aria=False).encode(x=alt.X("min(value):Q", **x), x2=alt.X2("max(value):Q")),
        base.mark_point(size=90, strokeWidth=1.8, opacity=1).encode(
            x=alt.X("value:Q", **x),
            stroke=alt.Stroke("kind:N", scale=scales["stroke"], legend=legend),
            fill=alt.Fill("kind:N", scale=scales["stroke"], legend=legend),
            shape=alt.Shape("kind:N", scale=scales["shape"], legend=legend),
            description=alt.Description("says:N"),
        ),
    ).properties(
        width=beside(labels, space),
        height=alt.Step(row_height(labels, 26)),
    )
