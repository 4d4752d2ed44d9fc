"""`tacit config`: the settings that hold, and where each comes from."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..config import Config, Effective

_WIDE = 160  # what a pipe or file takes, so that nothing is cut off there


def run_config(*, as_json: bool) -> None:
    """Show them. Raises ConfigError for a file or variable that is wrong."""
    config = Config.load()
    effective = config.all()
    if as_json:
        print(json.dumps(_report(config, effective), indent=2))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    there = "" if config.path.exists() else " (no such file: all is at its default)"
    console.print(f"Configuration: {escape(str(config.path))}{there}")
    table = Table("setting", "value", "from", "variable")
    for one in effective:
        table.add_row(one.setting.name, escape(_shown(one)), escape(one.source), one.setting.variable)
    console.print(table)
    if config.clusters:
        table = Table("cluster", "where", "own rules", title="Clusters", title_justify="left")
        for entry in config.clusters.values():
            rules = ", ".join(f"{key} = {_text(value)}" for key, value in entry.values.items())
            table.add_row(entry.name, escape(entry.coordinator or str(entry.file)), escape(rules))
        console.print(table)


def _report(config: Config, effective: list[Effective]) -> dict[str, Any]:
    return {
        "path": str(config.path),
        "settings": {one.setting.name: {"value": _shown(one, plain=True), "from": one.source} for one in effective},
        "clusters": {
            entry.name: {
                "coordinator": entry.coordinator,
                "file": str(entry.file) if entry.file else "",
                **entry.values,
            }
            for entry in config.clusters.values()
        },
    }


def _shown(one: Effective, plain: bool = False) -> Any:
    if one.setting.secret and one.value is not None:
        return "(hidden)"
    if plain:
        return one.value
    return one.setting.shown if one.source == "default" else _text(one.value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
