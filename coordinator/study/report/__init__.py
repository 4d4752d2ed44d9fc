"""The report of a study: report.html from its results alone, and single plots for documents."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ....errors import ConfigError, UsageError
from ..records import Results

if TYPE_CHECKING:
    from .parts import Figure

PAGE = "report.html"


def write_report(results: Results, folder: Path) -> Path:
    """Draw report.html in the folder, replacing an older one as a whole; it needs no other file and no network.

    Raises ConfigError if the packages that draw are missing, or the file cannot be written; what was there stays then.
    """
    return write_page(results, folder / PAGE)


def write_page(results: Results, path: Path) -> Path:
    """As `write_report`, into a file of this name."""
    need_packages()
    from .page import page

    return _write(path, page(results).encode())


def figures(results: Results) -> dict[str, Figure]:
    """What this study has plots for, by the names that `save_plot` takes. Raises ConfigError as `write_report` does."""
    need_packages()
    from .cases import Cases
    from .sections import sections
    from .sound import sound

    kept, _ = sound(results)
    return {figure.name: figure for section in sections(Cases(kept)) for figure in section.figures}


def save_plot(results: Results, which: str, path: Path) -> Path:
    """One plot alone, for a document: SVG (light and dark) or PNG (light, twice its size), by the path's ending.

    Raises UsageError for a plot that this study does not have, ConfigError as `write_report` does.
    """
    drawn = figures(results)
    if which not in drawn:
        raise UsageError(f"this study has no plot {which!r}: it has {', '.join(drawn) or 'none'}")
    if path.suffix not in (".svg", ".png"):
        raise UsageError(f"{path}: a plot is written as .svg or .png")
    import vl_convert

    from . import draw, theme
    from .parts import WIDE

    svg = draw.standalone(drawn[which], WIDE)
    if path.suffix == ".svg":
        return _write(path, svg.encode())
    return _write(path, vl_convert.svg_to_png(theme.flat(svg), scale=2))


def need_packages() -> None:
    """Raises ConfigError that says what to install."""
    lacking = [name for name in ("altair", "vl_convert") if importlib.util.find_spec(name) is None]
    if lacking:
        raise ConfigError(
            f"a study's report is drawn with {' and '.join(lacking)}, which cannot be found here: pip install 'tacit[study]'"
        )


def _write(path: Path, body: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(body)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}; what was there is kept") from None
    return path
