"""Asking for another protocol than `pair`: the word reaches peers, statements and receipts, and a refusal reaches the user."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import tacit
from tacit.errors import ConfigError, RefusedError, UsageError
from tacit.party.budget import Need
from tacit.sizes import Sizes
from toy_cluster import ToyCluster
from toy_model import ToyModel, text_model


@dataclass(frozen=True)
class Choosy(ToyModel):
    """Its peers lack what `crypten` needs."""

    def need(self, role: int, sizes: Sizes, protocol: str, padded: bool) -> Need:
        if protocol == "crypten":
            raise ConfigError("needs CrypTen: pip install it")
        return Need(1, {0: 1 << 20, 1: 1 << 20, 2: 1 << 20, 3: 1 << 20})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyCluster]:
    lacking = text_model("lacking")
    models: list[Any] = [text_model(), Choosy(lacking.name, lacking.manifest, lacking.tokenizer)]
    found = ToyCluster(tmp_path_factory.mktemp("cluster"), free_port, models=models)
    yield found
    found.close()


def test_a_session_is_of_the_protocol_asked_for(cluster: ToyCluster) -> None:
    with tacit.Client(cluster.path, model="toy", timeout=10) as client:
        for protocol in ("pair", "crypten"):
            result = client.complete("Once", max_new_tokens=3, protocol=protocol)
            assert result.protocol == protocol
            assert {receipt.protocol for receipt in result.receipts} == {protocol}
            assert cluster.limits[-1].protocol == protocol


def test_peers_that_lack_what_a_protocol_needs_refuse_and_say_so(cluster: ToyCluster) -> None:
    with tacit.Client(cluster.path, model="lacking", timeout=10) as client:
        with pytest.raises(RefusedError, match="'crypten' sessions of lacking: needs CrypTen: pip install it"):
            client.complete("Once", max_new_tokens=3, protocol="crypten")
        assert client.complete("Once", max_new_tokens=3).protocol == "pair"


def test_an_unknown_protocol_is_the_callers_mistake(cluster: ToyCluster) -> None:
    with (
        tacit.Client(cluster.path, model="toy", timeout=10) as client,
        pytest.raises(UsageError, match="choose one of pair, crypten"),
    ):
        client.generate("Once", protocol="plain")
