"""Peers of the libp2p mesh as their coordinator shows them: distances and prices."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

pytest.importorskip("libp2p")

from tacit.client.status import shown
from test_mesh_processes import LOCAL, Nodes, eventually
from test_sessions import run


def test_distances_and_prices_over_libp2p(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path)
    try:
        nodes.start("a", "--listen", LOCAL, "--operator", "house a", "--name", "a", "--price-compute", "1.5")
        nodes.await_ready("a")
        join = ["--listen", LOCAL, "--join", nodes.ready["a"]["multiaddrs"][0]]
        invite = _invite(nodes)
        for name in "bc":
            prices = ["--price-dealer", "0.25"] if name == "b" else []
            nodes.start(name, *join, "--operator", f"house {name}", "--name", name, *prices, invite=invite)
        nodes.start("coordinator", *join, invite=invite, module="coordinator")
        nodes.await_ready("b", "c", "coordinator")

        def status() -> dict[str, Any]:
            return nodes.http.get("/v1/status").json()

        def measured() -> bool:
            return [len(peer["round_trips_us"]) for peer in status()["peers"]] == [2, 2, 2]

        eventually(measured)
        found = {peer["name"]: peer for peer in status()["peers"]}
        assert found["a"]["price"] == {"currency": "EUR", "compute": "1.50", "dealer": "0.00"}
        assert found["b"]["price"] == {"currency": "EUR", "compute": "0.00", "dealer": "0.25"}
        for peer in found.values():
            assert abs(peer["clock_skew_seconds"]) <= 2
            assert all(0 < value < 1_000_000 for value in peer["round_trips_us"].values())
        assert "Round trips in ms" in screen({**status(), "models": nodes.http.get("/v1/models").json()})
        run(nodes.session(), 2)
        assert status()["sessions"]["recent"][0]["price"] in ("0.00 EUR", "0.25 EUR", "1.50 EUR", "1.75 EUR")
    finally:
        for process in nodes.processes.values():
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def screen(status: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(shown(status, 80))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _invite(nodes: Nodes) -> str:
    return (nodes.folder / "a.identity.cluster").read_text().strip()
