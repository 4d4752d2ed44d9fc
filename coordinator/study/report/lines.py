"""Shaped links against the kernel's network stack, the same transfer with the same profile."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from ...numbers import significant
from ..records import LineCheck
from . import theme
from .cases import Cases
from .parts import Absent, Chart, Figure, Part, Space, Table, layered, marks_of, names, numbers
from .scales import wide_span
from .words import counted, listed, milliseconds, percent, short

KINDS = ("shaped links", "the kernel's stack")
MOST_NETWORKS, MOST_ROWS = 6, 16


def parts(cases: Cases) -> list[Part]:
    name, title = "lines", "Shaped links against the kernel's stack"
    checks = [
        each for each in cases.results.lines if each.expected_ms > 0 and each.shaped_ms > 0 and each.kernel_ms > 0
    ]
    if not checks:
        return [Absent(name, title, "the shaped links were not compared with the kernel's stack")]
    between = [each.shaped_ms / each.kernel_ms - 1 for each in checks]
    close = sum(abs(share) <= 0.1 for share in between)
    number, apart = max(enumerate(between), key=lambda found: abs(found[1]))
    farthest = checks[number]
    summary = (
        f"{close} of {counted(len(checks), 'transfer')} take within 10 % of the kernel's time over a shaped link; the farthest apart, "
        f"{short(farthest.what, 40)} on {short(farthest.network, 40)}, takes {milliseconds(farthest.shaped_ms)} shaped and "
        f"{milliseconds(farthest.kernel_ms)} in the kernel ({percent(abs(apart))} {'more' if apart > 0 else 'less'})."
    )
    how = listed(sorted({short(each.how, 40) for each in checks}))
    reading = (
        f"Times as a share of what the profile alone would take: 1 is exactly that. The kernel's stack is shaped by {how}; a TCP "
        "connection that has been idle starts slowly there, which shaped links do not imitate."
    )
    networks = list(dict.fromkeys(each.network for each in checks))
    if len(networks) > MOST_NETWORKS:
        reading += f" The first {MOST_NETWORKS} of {len(networks)} networks are drawn; the table has all."
    columns = [
        *names("Network", "Transfer"),
        *numbers("Expected", "Shaped", "Kernel", "Shaped to kernel"),
        *names("Shaped by"),
    ]
    rows = [
        [
            short(each.network, 48),
            short(each.what, 48),
            *map(milliseconds, (each.expected_ms, each.shaped_ms, each.kernel_ms)),
            significant(each.shaped_ms / each.kernel_ms),
            short(each.how, 40),
        ]
        for each in checks
    ]
    table = Table(f"{title}: the same transfers", columns, rows, heads=2)
    drawn = {
        network: [each for each in checks if each.network == network][:MOST_ROWS]
        for network in networks[:MOST_NETWORKS]
    }
    return [Figure(name, title, summary, reading, lambda space: _draw(drawn, space), table)]


def _draw(drawn: dict[str, list[LineCheck]], space: Space) -> Chart:
    everything = [each for found in drawn.values() for each in found]
    ratios = [value / each.expected_ms for each in everything for value in (each.shaped_ms, each.kernel_ms)]
    low, high = min(*ratios, 0.95), max(*ratios, 1.05)
    if wide_span(ratios, 2.5):
        scale = alt.Scale(type="log", domain=[low / 1.1, high * 1.1], nice=False)
        ticks = [tick for tick in (0.2, 0.5, 0.8, 1, 1.5, 2, 3, 5, 10, 20, 50, 100) if low / 1.1 <= tick <= high * 1.1]
        axis, note = alt.Axis(values=ticks, format="~r"), ", log scale"
    else:
        margin = 0.06 * (high - low)
        scale = alt.Scale(domain=[low - margin, high + margin], nice=False, zero=False)
        axis, note = alt.Axis(tickCount=4, format="~r"), ""
    title = f"Time, of the profile's{note}"
    labels = 130 if space.narrow else 170
    panels = [
        _panel(network, found, alt.X("ratio:Q", scale=scale, axis=axis, title=title), labels).properties(
            width=space.panel(len(drawn), labels) if len(drawn) > 1 or space.narrow else space.width - labels - 30,
            height=alt.Step(24),
            title=short(network, 36),
        )
        for network, found in drawn.items()
    ]
    return alt.concat(*panels, columns=space.columns(len(panels)), spacing=26)


def _panel(network: str, found: Sequence[LineCheck], x: alt.X, labels: int) -> alt.LayerChart:
    rows = [
        {
            "what": short(each.what, 30),
            "kind": kind,
            "ratio": value / each.expected_ms,
            "says": f"{short(each.what, 40)}, {kind}: {milliseconds(value)}, {significant(value / each.expected_ms)} of the profile's",
        }
        for each in found
        for kind, value in zip(KINDS, (each.shaped_ms, each.kernel_ms), strict=True)
    ]
    legend = alt.Legend(title=None)
    colours = alt.Scale(domain=KINDS, range=theme.COLOURS[:2])
    fills = alt.Scale(domain=KINDS, range=[theme.COLOURS[0], theme.PAPER])
    shapes = alt.Scale(domain=KINDS, range=theme.SHAPES[:2])
    base = marks_of(rows).encode(
        y=alt.Y(
            "what:N",
            sort=[short(each.what, 30) for each in found],
            title=None,
            axis=alt.Axis(ticks=False, domain=False, labelPadding=6, labelLimit=labels - 14),
        )
    )
    return layered(
        marks_of([{"one": 1}]).mark_rule(stroke=theme.INK, strokeDash=[2, 3], aria=False).encode(x=alt.X("one:Q")),
        base.mark_rule(stroke=theme.AXIS, aria=False).encode(x=alt.X("min(ratio):Q"), x2=alt.X2("max(ratio):Q")),
        base.mark_point(size=85, strokeWidth=1.9, opacity=1).encode(
            x=x,
            stroke=alt.Stroke("kind:N", scale=colours, legend=legend),
            fill=alt.Fill("kind:N", scale=fills, legend=legend),
            shape=alt.Shape("kind:N", scale=shapes, legend=legend),
            description=alt.Description("says:N"),
        ),
    )
