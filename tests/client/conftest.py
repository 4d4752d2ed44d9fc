"""A configuration of the test's own."""

from __future__ import annotations

import pytest
from tacit import settings


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes config.toml, where Tacit looks for it; no variable says anything."""
    for one in settings.SETTINGS:
        monkeypatch.delenv(one.variable or "TACIT_", raising=False)

    def write(text: str):
        path = tmp_path / "config.toml"
        path.write_text(text)
        monkeypatch.setenv("TACIT_CONFIG", str(path))
        return path

    return write
