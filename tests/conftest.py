"""What holds for all tests: nothing is written where the user keeps things."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def receipts_elsewhere(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("receipts")
        patch.setenv("TACIT_RECEIPTS", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def nothing_configured(tmp_path_factory):
    """No config.toml of the user's, and no pins."""
    with pytest.MonkeyPatch.context() as patch:
        file = tmp_path_factory.mktemp("config") / "config.toml"
        file.write_text("")
        patch.setenv("TACIT_CONFIG", str(file))
        yield file
