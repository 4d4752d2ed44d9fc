from __future__ import annotations

from collections.abc import Iterator

import pytest
from echo_cluster import EchoCluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EchoCluster]:
    """Three peers that nobody may harm."""
    found = EchoCluster(tmp_path_factory.mktemp("cluster"))
    yield found
    assert set(found.stop().values()) == {0}


@pytest.fixture
def victims(tmp_path: pytest.TempPathFactory) -> Iterator[EchoCluster]:
    """Three peers to be killed."""
    found = EchoCluster(tmp_path)  # type: ignore[arg-type]
    yield found
    found.stop()
