"""Which files of a folder are searched, and how a text is cut into passages."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LARGEST = 5 << 20  # bytes of a file: what is larger is hardly a note
SMALL = 24  # tokens of a passage that the next paragraph joins: a heading, a line of a list
_WORD = re.compile(r"\S+\s*")


@dataclass(frozen=True, slots=True)
class Passage:
    """Characters `start` to `end` of a text; `line`: of the first one, from 1 on."""

    start: int
    end: int
    line: int


def files_of(folder: Path, patterns: Sequence[str]) -> Iterator[Path]:
    """Files whose name fits one of the patterns, by name. Nothing hidden, and nothing behind a symbolic link."""
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(at, name)
            fits = any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
            if fits and not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path


def passages_of(text: str, count: Callable[[str], int], most: int) -> list[Passage]:
    """Paragraphs, small ones with what follows, larger ones cut between words: at most `most` tokens each, by `count`. A word
    of more tokens stands alone."""
    found: list[tuple[int, int]] = []
    small = False  # whether the last one is
    for start, end in _paragraphs(text):
        if small and count(text[found[-1][0] : end]) <= most:
            found[-1] = (found[-1][0], end)
        elif count(text[start:end]) <= most:
            found.append((start, end))
        else:
            found += _cut(text, start, end, count, most)
        small = count(text[slice(*found[-1])]) < SMALL
    return [Passage(start, end, 1 + text.count("\n", 0, start)) for start, end in found]


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """Lines that follow each other without a blank one between them."""
    at, start, end = 0, None, 0
    for line in text.splitlines(keepends=True):
        if line.strip():
            start = at + len(line) - len(line.lstrip()) if start is None else start
            end = at + len(line.rstrip())
        elif start is not None:
            yield start, end
            start = None
        at += len(line)
    if start is not None:
        yield start, end


def _cut(text: str, start: int, end: int, count: Callable[[str], int], most: int) -> Iterator[tuple[int, int]]:
    """A paragraph in pieces of whole words."""
    held, last = 0, start
    marks = count("")  # of begin and end, which every piece has once
    for word in _WORD.finditer(text, start, end):
        tokens = count(word[0]) - marks
        if held and marks + held + tokens > most:
            yield start, last
            start, held = word.start(), 0
        held += tokens
        last = word.start() + len(word[0].rstrip())
    yield start, last
