"""What `tacit study` and its commands do. Results go to stdout, how it goes on to stderr."""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from ...client.commands import interrupt_on_signals
from ...client.studies import study
from ...errors import ConfigError
from .compare import compare
from .records import Results
from .run import FILES, finish
from .show import Shown, comparison_table, named, results_table

_WIDE = 160  # what a pipe or file takes, so that nothing is cut off there

_out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def run_study(out: Path, **settings: Any) -> None:
    """Measure, write everything into `out`, show it. Settings and errors are those of `tacit.study`."""
    interrupt_on_signals()
    try:
        with Shown(_err) as watcher:
            results = study(out, watcher=watcher, **settings)
    except KeyboardInterrupt:
        _say_kept(out)
        raise
    _show(results, out)


def run_report(folder: Path) -> None:
    """Write table and report of a study anew."""
    results, into = Results.load(folder), folder if folder.is_dir() else folder.parent
    finish(results, into)
    _show(results, into)


def run_compare(first: Path, second: Path) -> None:
    """Show what two studies measured alike, and what only one has."""
    names = [str(path) for path in (first, second)]
    results = [Results.load(path) for path in (first, second)]
    found = compare(*results)
    for warning in found.warnings:
        _err.print(f"[yellow]{escape(warning)}[/]")
    if found.differences:
        _out.print(comparison_table(found, [escape(name) for name in names]))
    else:
        _out.print("The two studies have no case in common.")
    for name, cases in zip(names, (found.only_first, found.only_second), strict=True):
        for case in cases:
            _out.print(escape(f"only in {name}: {named(case)}"))


def _show(results: Results, folder: Path) -> None:
    if results.answers:
        _out.print(results_table(results))
    for key, reason in results.missing.items():
        _err.print(f"[yellow]not measured: {escape(key)}: {escape(reason)}[/]")
    _out.print(escape(f"{folder}: {', '.join(name for name in FILES if (folder / name).exists())}"))


def _say_kept(out: Path) -> None:
    words = [word for word in sys.argv[1:] if word != "--resume"]
    if "--out" not in words and not any(word.startswith("--out=") for word in words):
        words += ["--out", str(out)]
    again = escape(shlex.join(["tacit", *words, "--resume"]))
    with suppress(ConfigError):  # interrupted before there was anything
        _err.print(f"{len(Results.load(out).answers)} answers are kept in {escape(str(out))}; go on with: {again}")
