"""What a report is made of: figures with their sentence and their table, and what had to be left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import altair as alt

Chart: TypeAlias = alt.TopLevelMixin


@dataclass(frozen=True, slots=True)
class Space:
    """How much room a figure has: it is drawn once for wide pages and print, once for telephones."""

    name: str
    width: int  # CSS pixels, labels included
    most_columns: int

    def columns(self, panels: int) -> int:
        return min(self.most_columns, panels)

    def panel(self, panels: int, labels: int) -> int:
        """Width of one panel, when so many pixels beside each are for the vertical axis."""
        columns = self.columns(panels)
        return max(110, (self.width - columns * labels - (columns - 1) * GAP - 12) // columns)

    @property
    def widest_label(self) -> int:
        return 112 if self.narrow else 250

    @property
    def narrow(self) -> bool:
        return self.most_columns == 1


GAP = 26
WIDE, NARROW = Space("wide", 860, 2), Space("narrow", 310, 1)


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    number: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """`heads`: how many columns, from the left, say what a row is about."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    heads: int = 1


@dataclass(frozen=True, slots=True)
class Figure:
    name: str  # of its file and its place in the page
    title: str
    summary: str  # one line, true of this data
    reading: str  # what the marks mean
    draw: Callable[[Space], Chart]
    table: Table


@dataclass(frozen=True, slots=True)
class Absent:
    """A figure that this study has nothing for, and why."""

    name: str
    title: str
    reason: str


Part: TypeAlias = Figure | Absent


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    heading: str
    lead: str
    parts: Sequence[Part]
    figures: Sequence[Figure] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "figures", [part for part in self.parts if isinstance(part, Figure)])


def marks_of(rows: Sequence[Mapping[str, object]]) -> alt.Chart:
    """A chart over these rows, its marks still to be said."""
    return alt.Chart(alt.InlineData(values=[dict(row) for row in rows]))


def row_label(name: str, space: Space) -> str:
    """A case's name beside its row: in two lines where there is little room."""
    words = name.split(", ")
    return "\n".join((", ".join(words[:2]), ", ".join(words[2:]))) if space.narrow and len(words) > 2 else name


def beside(labels: Sequence[str], space: Space) -> int:
    """The width that is left beside these labels of rows, about; the widest labels are cut."""
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    return space.width - 30 - min(space.widest_label, round(longest * (5.6 if space.narrow else 6.1)))


def row_height(labels: Sequence[str], one_line: int) -> int:
    return one_line + 10 if any("\n" in label for label in labels) else one_line


def row_offset(labels: Sequence[str]) -> int:
    """Brings the middle of two lines to where that of one would be."""
    return -6 if any("\n" in label for label in labels) else 0


def layered(*layers: alt.Chart) -> alt.LayerChart:
    return alt.LayerChart(layer=list(layers))


def names(*titles: str) -> list[Column]:
    return [Column(title, number=False) for title in titles]


def numbers(*titles: str) -> list[Column]:
    return [Column(title) for title in titles]
