"""The commands of docs/deployment.md: what is typed on which machine, in the order of the page.

A block's first line says it: ```sh MACHINE… [stays|stops]. "stays": its command goes on in the foreground; "stops": the one
that stays there gets Ctrl-C. Blocks that name no machine (console, text) are for readers only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DEPLOYMENT = Path(__file__).resolve().parents[2] / "docs" / "deployment.md"
_BLOCK = re.compile(r"^```sh ([a-z ]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| ([a-z, ]+) \| ([0-9]+\.[0-9., ]+) \|", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """`text` is typed on each of the machines."""

    machines: tuple[str, ...]
    text: str
    stays: bool
    stops: bool


def blocks(page: str) -> list[Block]:
    found = []
    for words, text in _BLOCK.findall(page):
        names = words.split()
        how = names.pop() if names[-1] in ("stays", "stops") else ""
        found.append(Block(tuple(names), text, how == "stays", how == "stops"))
    return found


def addresses(page: str) -> dict[str, str]:
    """The table of machines: `192.0.2.11, .12` stands for two addresses."""
    found: dict[str, str] = {}
    for names, shown in _ROW.findall(page):
        base = ""
        for name, address in zip(names.split(", "), shown.split(", "), strict=True):
            base = base if address.startswith(".") else address.rpartition(".")[0]
            found[name] = base + address if address.startswith(".") else address
    return found
