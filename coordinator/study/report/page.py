"""The page: one file that needs nothing else, no script among it."""

from __future__ import annotations

from importlib import resources

from ..records import Results
from . import draw, markup, summary, theme
from .cases import Cases
from .parts import NARROW, WIDE, Absent, Figure, Section
from .sections import sections
from .sound import sound
from .words import counted, short

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def page(results: Results) -> str:
    """The whole HTML document."""
    results, unsound = sound(results)
    cases = Cases(results)
    every = sections(cases)
    shown = [section for section in every if section.figures]
    absent = [part for section in every for part in section.parts if isinstance(part, Absent)]
    missing = sorted(results.missing.items())
    title = "Latency study" if results.answers or not results.predictions else "Predicted latency"
    made = summary.moment(results.provenance.made)
    body = [
        f"<header><h1>{title}</h1><p>{markup.text(summary.extent(cases))} Made {markup.text(made)}.</p></header>",
        _contents(shown, measured=bool(cases.all), left_out=bool(absent or missing or unsound)),
        '<main id="main" tabindex="-1">',
        _glance(shown, cases),
        *(_section(section) for section in shown),
        _numbers(cases),
        _left_out(absent, missing, unsound),
        _provenance(results, cases),
        "</main>",
        _footer(results),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}, {markup.text(made)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<style>{theme.variables()}{_style()}</style></head><body>"
        f'<a class="skip" href="#main">Skip to the results</a>'
        f'<svg class="patterns" width="0" height="0" aria-hidden="true" focusable="false"><defs>{theme.patterns()}</defs></svg>'
        f"{''.join(body)}</body></html>\n"
    )


def _footer(results: Results) -> str:
    words = "Drawn by <code>tacit study report</code> from results.json, which lies beside this page with all numbers."
    if results.predictions and not results.answers:
        words = "Drawn by <code>tacit estimate --sweep</code> from shapes and from rates of the machine below; nothing was run."
    return f"<footer><p>{words}</p></footer>"


def _style() -> str:
    return resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")


def _contents(shown: list[Section], *, measured: bool, left_out: bool) -> str:
    places = [("glance", "At a glance"), *((section.name + "-section", section.heading) for section in shown)]
    places += [("numbers-section", "All times")] if measured else []
    places += [("left-out", "Not in this report")] if left_out else []
    places.append(("made", "Provenance"))
    links = "".join(f'<li><a href="#{name}">{markup.text(heading)}</a></li>' for name, heading in places)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


def _glance(shown: list[Section], cases: Cases) -> str:
    networks = summary.networks(cases)
    about = f"<h3>The networks</h3><dl>{markup.definitions(networks)}</dl>" if networks else ""
    return (
        f'<section id="glance" aria-labelledby="glance-heading"><h2 id="glance-heading">At a glance</h2>'
        f'{summary.glance(shown)}{about}<p class="note">{summary.PARTIES}</p></section>'
    )


def _section(section: Section) -> str:
    heading = f"{section.name}-heading"
    figures = "".join(_figure(figure) for figure in section.figures)
    return (
        f'<section id="{section.name}-section" aria-labelledby="{heading}"><h2 id="{heading}">{markup.text(section.heading)}</h2>'
        f"<p>{markup.text(section.lead)}</p>{figures}</section>"
    )


def _figure(figure: Figure) -> str:
    return markup.figure(figure, [(space, draw.inline(figure, space)) for space in (WIDE, NARROW)])


def _numbers(cases: Cases) -> str:
    if not cases.all:
        return ""
    return (
        '<section id="numbers-section" aria-labelledby="numbers-heading"><h2 id="numbers-heading">All times</h2>'
        f'{summary.table(cases)}<p class="note">{markup.text(summary.table_notes(cases))}</p></section>'
    )


def _left_out(absent: list[Absent], missing: list[tuple[str, str]], unsound: int) -> str:
    if not absent and not missing and not unsound:
        return ""
    listed = "".join(
        f"<li><strong>{markup.text(short(key, 160))}</strong>: {markup.text(short(why, 300))}</li>"
        for key, why in missing[:100]
    )
    cases = f"<p>{counted(len(missing), 'case')} of the study without answers:</p><ul>{listed}</ul>" if missing else ""
    parts = f"<ul>{markup.absent(absent)}</ul>" if absent else ""
    if unsound:
        parts += f"<p>{counted(unsound, 'record')} of results.json whose numbers cannot be: negative, not finite, or out of all bounds.</p>"
    return (
        '<section id="left-out" aria-labelledby="left-out-heading"><h2 id="left-out-heading">Not in this report</h2>'
        f"{cases}{parts}</section>"
    )


def _provenance(results: Results, cases: Cases) -> str:
    return (
        '<section id="made" aria-labelledby="made-heading"><h2 id="made-heading">Provenance</h2>'
        f"<dl>{markup.definitions(summary.provenance(results.provenance))}</dl></section>"
    )
