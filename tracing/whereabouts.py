"""Where the peers of a cluster on this machine leave their traces: tracing.json beside its cluster.json, {"folder": path}."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import ConfigError
from ..records import parse_json

FILE = "tracing.json"


def tell_folder(roster: Path, folder: Path) -> None:
    """Whoever starts the cluster says so. Raises ConfigError."""
    path = roster.with_name(FILE)
    try:
        path.write_text(json.dumps({"folder": str(folder)}) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


def told_folder(roster: Path) -> Path | None:
    """None where the peers leave no traces, or their folder is not on this machine. Raises ConfigError for a wrong file."""
    path = roster.with_name(FILE)
    try:
        found = parse_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("folder"), str):
        raise ConfigError(f'{path}: must be {{"folder": path}}')
    folder = Path(found["folder"])
    return folder if folder.is_dir() else None
