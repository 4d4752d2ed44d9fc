"""What an installation holds: every package of the repository, and the data that goes with it."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_every_package_is_listed():
    """setuptools cannot search them by itself: the repository's root is the package."""
    folders = [path.parent.relative_to(ROOT) for path in ROOT.glob("[a-z]*/**/__init__.py")]
    kept = [folder for folder in folders if folder.parts[0] not in ("tests", "scripts", "build")]
    assert len(kept) > 5
    assert sorted(SETUPTOOLS["packages"]) == ["tacit", *sorted(".".join(("tacit", *folder.parts)) for folder in kept)]


def test_shipped_data_is_there():
    for package, patterns in SETUPTOOLS["package-data"].items():
        folder = ROOT.joinpath(*package.split(".")[1:])
        for pattern in patterns:
            assert list(folder.glob(pattern)), f"{package}: {pattern}"
