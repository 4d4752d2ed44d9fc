"""A study on the terminal: how it goes on, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from ...client.commands import size
from . import metrics
from .compare import Comparison, Difference
from .records import Answer, Case, Results
from .run import Watcher


class Shown(Watcher):
    """A bar with the time left on a terminal; elsewhere a line for every answer."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}"),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("starting", total=None, left="")
        self._answers = self._there = 0
        self._left: float | None = None
        self._left_at = 0.0

    def __enter__(self) -> Shown:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, what: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=escape(what))
        else:
            self._console.print(escape(what))

    def begins(self, answers: int, there: int) -> None:
        self._answers, self._there = answers, there
        if self._bar is not None:
            self._bar.update(self._task, total=answers, completed=there)
        words = f"{answers} answers to measure" + (f", {there} of them were measured before" if there else "")
        self._console.print(words)

    def measuring(self, case: Case, repetition: int, left: float | None) -> None:
        self._left, self._left_at = left, time.monotonic()
        if self._bar is not None:
            words = f"{named(case)}{' (warming up)' if repetition < 0 else ''}"
            self._bar.update(self._task, description=escape(words), left=_left(left))

    def measured(self, answer: Answer) -> None:
        self._there += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self._there)
            return
        left = None if self._left is None else max(0.0, self._left - (time.monotonic() - self._left_at))
        tpot = metrics.tpot_ms(answer)
        words = f"{self._there}/{self._answers} {named(answer.case)}: first token {_ms(answer.ttft_ms)}"
        words += f", then {_ms(tpot)} each" if tpot is not None else ""
        self._console.print(escape(f"{words}; {_left(left)}" if left is not None else words))

    def warn(self, what: str) -> None:
        self._console.print(f"[yellow]{escape(what)}[/]")

    def failed(self, case: Case, reason: str) -> None:
        self._console.print(f"[yellow]left out: {escape(named(case))}: {escape(reason)}[/]")


def named(case: Case) -> str:
    """For people: pair, wan, stories, 8+8 tokens."""
    words = [case.protocol, case.network, case.model, f"{case.prompt_tokens}+{case.new_tokens} tokens"]
    return ", ".join([*words, "kernel's stack"] if case.forwarded else words)


def results_table(results: Results) -> Table:
    """A row for each case: how many answers, and what a first and a later token took."""
    table = Table(title="Measured", title_justify="left")
    for heading in ("protocol", "network", "model", "tokens"):
        table.add_column(heading, overflow="fold")
    for heading in ("n", "TTFT p50", "TPOT p50", "ITL p99", "E2E p50", "rounds", "online", "offline"):
        table.add_column(heading, justify="right", no_wrap=True)
    for case in results.cases():
        answers = list(results.of(case))
        found = metrics.summaries(answers)
        token = metrics.per_step(answers, "token") or metrics.per_step(answers, "prompt")
        assert token is not None  # a case of `cases` has an answer, and an answer has a first step
        table.add_row(
            case.protocol + (" (kernel)" if case.forwarded else ""),
            case.network,
            case.model,
            f"{case.prompt_tokens}+{case.new_tokens}",
            str(len(answers)),
            *(
                _ms(getattr(found[metric], name)) if metric in found else ""
                for metric, name in (("ttft", "p50"), ("tpot", "p50"), ("itl", "p99"), ("e2e", "p50"))
            ),
            f"{token.rounds:.0f}",
            size(token.online_bytes),
            size(token.offline_bytes),
        )
    return table


def comparison_table(found: Comparison, names: Sequence[str]) -> Table:
    """The same cases side by side; a difference that is more than chance says so."""
    table = Table(title=f"{names[0]} and {names[1]}: means over answers", title_justify="left")
    table.add_column("case", overflow="fold")
    table.add_column("metric")
    for heading in (*names, "difference", "95 % interval", "n"):
        table.add_column(heading, justify="right", overflow="fold")
    last: Case | None = None
    for one in found.differences:
        table.add_row(
            named(one.case) if one.case != last else "",
            one.metric.upper(),
            _ms(one.first_ms),
            _ms(one.second_ms),
            _difference(one),
            "one answer only" if one.low is None else f"{one.low:+.1f} to {one.high:+.1f} %",
            f"{one.first_n}, {one.second_n}",
        )
        last = one.case
    return table


def _difference(one: Difference) -> str:
    words = f"{one.percent:+.1f} %"
    if not one.clear:
        return words
    return f"[green]{words} faster[/]" if one.percent < 0 else f"[red]{words} slower[/]"


def _ms(value: float) -> str:
    return f"{value / 1e3:.2f} s" if value >= 1e3 else f"{value:.1f} ms"


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 5400 else f"{seconds / 3600:.1f} h left"
