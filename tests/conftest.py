"""What holds for all tests: nothing is written where the user keeps things."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def receipts_elsewhere(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("receipts")
        patch.setenv("TACIT_RECEIPTS", str(folder))
        yield folder
