"""The findings on the terminal, or as JSON. Exit status 1 if a check failed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from .finding import Finding, Verdict, failed

_WIDE = 160  # what a pipe or file takes, so that nothing is cut off there
_STYLES = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red", Verdict.SKIPPED: "dim"}


def run_doctor(*, cluster: str | None, model: str | None, as_json: bool) -> None:
    """For a client."""
    from .examine import examine_client

    show(examine_client(cluster, model), as_json)


def run_node_doctor(arguments: Sequence[str], *, as_json: bool) -> None:
    """For a node that is started with these arguments."""
    from ..nodes import with_configured
    from .examine_node import examine_node

    show(examine_node(with_configured(arguments)), as_json)


def show(findings: Sequence[Finding], as_json: bool) -> None:
    """Print them all; then exit with status 1 if one of them is a failure."""
    if as_json:
        good = not failed(findings)
        print(json.dumps({"good": good, "findings": [one.to_json() for one in findings]}))
    else:
        console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)
        for one in findings:
            style = _STYLES[one.verdict]
            console.print(f"[{style}]{one.verdict:>7}[/]  [bold]{escape(one.check)}[/]: {escape(one.seen)}")
            if one.advice:
                console.print(f"         -> {escape(one.advice)}")
        console.print(_summary(findings))
    if failed(findings):
        sys.exit(1)


def _summary(findings: Sequence[Finding]) -> str:
    counts = {verdict: sum(one.verdict is verdict for one in findings) for verdict in Verdict}
    if counts[Verdict.FAIL]:
        return f"[red]{counts[Verdict.FAIL]} of {len(findings)} checks failed[/]; begin with the first of them"
    if counts[Verdict.WARN]:
        return f"[yellow]nothing is in the way, {counts[Verdict.WARN]} things are worth a look[/]"
    return "[green]all is well[/]"
