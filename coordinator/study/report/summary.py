"""The study in numbers: what was measured, its summary table, where it was made."""

from __future__ import annotations

from datetime import UTC, datetime

from ....network import CLIENT, NAMED
from ...numbers import size
from ..records import Provenance
from . import markup
from .cases import METRICS, PLAINTEXT, Cases, Spread, line_of
from .parts import Section
from .words import counted, delay, listed, megabits, milliseconds, percent, short

MOST_CASES = 80
KEY_FIGURES = ("tpot-rtt", "ttft-rtt", "shares", "planes", "crossover", "map", "accuracy", "lines")
PARTIES = f"The parties are the {CLIENT}, two compute peers (compute 0 and 1) and the dealer."


def extent(cases: Cases) -> str:
    """One sentence: how much was measured."""
    found = cases.all
    networks = {case.network for case in found if case.protocol != PLAINTEXT}
    models = {case.model for case in found}
    answers = len(cases.results.answers)
    if not found and cases.predictions:
        return f"{counted(len(cases.predictions), 'case')}, predicted from the model of costs; nothing was measured."
    if not found:
        return "This study has no measured answers."
    return (
        f"{counted(answers, 'measured answer')} in {counted(len(found), 'case')}: "
        f"{counted(len({case.protocol for case in found}), 'protocol')}, {counted(len(networks), 'network')}, "
        f"{counted(len(models), 'model')}; {counted(cases.results.repetitions, 'repetition')} a case was asked for, after "
        f"{counted(cases.results.warmup, 'answer')} to warm up that {'is' if cases.results.warmup == 1 else 'are'} not counted."
    )


def moment(text: str) -> str:
    """ISO 8601 as people write it; as it is if it is something else."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return short(text, 40)


def glance(found: list[Section]) -> str:
    """The figures' own sentences, each a link to its figure."""
    figures = {figure.name: figure for section in found for figure in section.figures}
    rows = [
        f'<li><a href="#{name}">{markup.text(figures[name].title)}</a>: {markup.text(figures[name].summary)}</li>'
        for name in KEY_FIGURES
        if name in figures
    ]
    return f'<ul class="glance">{"".join(rows)}</ul>' if rows else ""


def table(cases: Cases) -> str:
    """Mean and percentiles of each metric, one group of rows for each case."""
    groups = []
    for case in cases.all[:MOST_CASES]:
        spreads = [(metric, spread) for metric in METRICS if (spread := cases.spread(case, metric)) is not None]
        for number, (metric, spread) in enumerate(spreads):
            head = (
                f'<th scope="rowgroup" rowspan="{len(spreads)}">{markup.text(cases.name(case))}</th>'
                if number == 0
                else ""
            )
            values = (spread.mean, spread.p50, spread.p90, spread.p99)
            cells = "".join(f'<td class="n">{markup.text(milliseconds(value))}</td>' for value in values)
            row = f'{head}<th scope="row">{metric.meaning}</th>{cells}<td class="n">{spread.n}</td>'
            groups.append(f"<tbody><tr>{row}</tr>" if number == 0 else f"<tr>{row}</tr>")
        groups.append("</tbody>" if spreads else "")
    heads = "".join(
        f'<th scope="col"{" class=n" if number > 1 else ""}>{title}</th>'
        for number, title in enumerate(("Case", "Metric", "Mean", "p50", "p90", "p99", "n"))
    )
    return markup.scrolling("numbers", "Times of every case", f"<thead><tr>{heads}</tr></thead>{''.join(groups)}")


def table_notes(cases: Cases) -> str:
    notes = [f"{metric.meaning} is the {metric.name}" for metric in METRICS]
    text = f"{listed(notes)}. Percentiles are linear between neighbours: of fewer than 100 values, p99 lies close to the largest."
    setup = Spread.of(answer.setup_ms for answer in cases.results.answers if answer.case.protocol != PLAINTEXT)
    if setup is not None:
        text += f" The session's set-up is part of the time to first token: its median over all networks is {milliseconds(setup.p50)}."
    if len(cases.all) > MOST_CASES:
        text += f" The first {MOST_CASES} of {len(cases.all)} cases are listed; results.csv has all."
    return text


def networks(cases: Cases) -> list[tuple[str, str]]:
    """What the names of the networks stand for; what is called by its profile says that itself."""
    found = []
    every = cases.ordered([*cases.all, *cases.predictions])
    lines = {case.network: line_of(case) for case in every if case.protocol != PLAINTEXT}
    for network, line in lines.items():
        if line is None:
            unlike = "pairs of parties had different lines" if ";" in network else "what it was is not known"
            found.append((short(network, 80), unlike))
            continue
        if network not in NAMED:
            continue
        words = [f"round trip {delay(1e3 * line.rtt)}", f"{megabits(line.bandwidth / 1e6)} each way"]
        words += [f"jitter {delay(1e3 * line.jitter)}"] if line.jitter else []
        words += [f"loss {percent(line.loss)}"] if line.loss else []
        found.append((short(network, 80), ", ".join(words)))
    return found[:40]


def provenance(made: Provenance) -> list[tuple[str, str]]:
    commit = made.commit.removesuffix("+")
    changed = " with changes" if made.commit.endswith("+") else ""
    return [
        ("Made", moment(made.made)),
        ("Tacit", made.tacit),
        ("Commit", f"{commit}{changed}" if commit else "outside of a checkout"),
        ("System", made.system),
        ("Processor", made.processor),
        ("Cores", str(made.cores)),
        ("Memory", size(made.memory_bytes)),
        ("Python", made.python),
        *sorted((short(name, 60), short(version, 60)) for name, version in made.packages.items()),
    ]
