"""HTML by functions that escape what they are given."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from .parts import Absent, Column, Figure, Space, Table

MOST_ROWS = 60  # of a table: a large study must not make a large page
_CONTROLS = dict.fromkeys([*range(32), *range(127, 160)], " ")


def text(words: object) -> str:
    return escape(str(words).translate(_CONTROLS), quote=True)


def table(content: Table, name: str) -> str:
    """In a region of its own that scrolls and that the keyboard reaches."""
    rows = "".join(f"<tr>{_row(row, content)}</tr>" for row in content.rows[:MOST_ROWS])
    caption = content.caption
    if len(content.rows) > MOST_ROWS:
        caption += f"; the first {MOST_ROWS} of {len(content.rows)} rows, results.json has all"
    return scrolling(name, caption, f"<thead><tr>{_head(content.columns)}</tr></thead><tbody>{rows}</tbody>")


def scrolling(name: str, caption: str, body: str) -> str:
    caption_id = f"{name}-caption"
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{caption_id}"><table>'
        f'<caption id="{caption_id}">{text(caption)}</caption>{body}</table></div>'
    )


def _head(columns: Iterable[Column]) -> str:
    return "".join(f'<th scope="col"{_kind(column)}>{text(column.title)}</th>' for column in columns)


def _row(row: Iterable[str], content: Table) -> str:
    cells = []
    for number, (cell, column) in enumerate(zip(row, content.columns, strict=True)):
        tag, scope = ("th", ' scope="row"') if number < content.heads else ("td", "")
        cells.append(f"<{tag}{scope}{_kind(column)}>{text(cell)}</{tag}>")
    return "".join(cells)


def _kind(column: Column) -> str:
    return ' class="n"' if column.number else ""


def figure(content: Figure, pictures: Iterable[tuple[Space, str]]) -> str:
    """Its pictures are SVG already; one is shown, by the width of the page."""
    drawn = "".join(f'<div class="{space.name}">{svg}</div>' for space, svg in pictures)
    return (
        f'<figure id="{content.name}"><h3>{text(content.title)}</h3>'
        f'<p class="summary">{text(content.summary)}</p>{drawn}'
        f"<figcaption>{text(content.reading)}</figcaption>"
        f'<details><summary>Data as a table<span class="hidden">: {text(content.title)}</span></summary>'
        f"{table(content.table, content.name)}</details></figure>"
    )


def absent(parts: Iterable[Absent]) -> str:
    return "".join(f"<li><strong>{text(part.title)}</strong>: {text(part.reason)}.</li>" for part in parts)


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<div><dt>{text(term)}</dt><dd>{text(meaning)}</dd></div>" for term, meaning in pairs if meaning)
