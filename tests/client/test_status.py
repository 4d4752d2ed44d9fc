"""`tacit status`: what people and machines get to see of a cluster, on terminals of any width and from any coordinator."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from tacit.client.status import shown
from test_cli import TACIT
from test_client import free_port
from toy_cluster import ToyCluster

NAMES = ("alice", "bob", "carol", "dave", "erin")


def peer(number: int, **changes: Any) -> dict[str, Any]:
    others = {f"id-{other}": 1000 * (number + other) for other in range(5) if other != number}
    return {
        "name": NAMES[number],
        "peer_id": f"id-{number}",
        "operator": f"Operator {number}",
        "live": True,
        "reason": None,
        "sessions": number,
        "max_sessions": 8,
        "version": "0.1.0",
        "load": 0.25,
        "memory_bytes": 412_000_000,
        "clock_skew_seconds": 0,
        "price": {"currency": "EUR", "compute": "1.50", "dealer": "0.20"},
        "models": ["stories"],
        "round_trips_us": others,
        "roles": {"compute 0": 2, "compute 1": 0, "dealer": 1},
        "history": {"failures": 0, "last_seconds_ago": None, "last_reason": "", "reports": 0},
        "seen_seconds_ago": 0.0,
        **changes,
    }


def status(**changes: Any) -> dict[str, Any]:
    roles = {"compute 0": "alice (id-0)", "compute 1": "bob (id-1)", "dealer": "carol (id-2)"}
    seated = {"session": "abababab", "model": "stories", "roles": roles, "price": "3.20 EUR", "seconds_ago": 12.3}
    return {
        "peers": [peer(number) for number in range(5)],
        "models": [{"name": "stories", "architecture": "llama", "layers": 4, "vocab": 512, "context": 256}],
        "sessions": {"opened": 7, "refused": 1, "recent": [seated]},
        **changes,
    }


def screen(found: dict[str, Any], width: int) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, force_terminal=False)
    console.print(shown(found, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 160])
def test_everything_is_there_at_any_width(width: int) -> None:
    text = screen(status(), width)
    assert max(map(len, text.splitlines())) <= width
    for word in (*NAMES, "ready", "412 MB", "0.25", "3 of 8", "stories", "llama", "abababab", "3.20 EUR", "12 s ago"):
        assert word in text, word
    assert "7 sessions were opened, 1 requests refused." in text
    assert "…" not in text.split("Latest")[0]
    if width == 160:
        assert "1.50 compute, 0.20 dealer EUR" in text
        assert "2 compute 0, 1 dealer" in text


def test_the_matrix_is_aligned_and_says_from_where_to_where() -> None:
    found = status()
    found["peers"][0]["round_trips_us"] = {"id-1": 12_340, "id-2": 150_900}
    found["peers"][1]["round_trips_us"]["id-0"] = 3_000
    lines = screen(found, 80).partition("Round trips")[2].splitlines()
    rows = [line for line in lines if line.startswith("│")][:5]
    assert len({len(row) for row in rows}) == 1
    cells = [[cell.strip() for cell in row.strip("│").split("│")] for row in rows]
    assert cells[0] == ["1 alice", "", "12.3", "151", "-", "-"]
    assert cells[1][:3] == ["2 bob", "3.0", ""]


def test_uneven_ways_stand_out() -> None:
    found = status()
    found["peers"][0]["round_trips_us"]["id-1"] = 90_000
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard", highlight=False)
    console.print(shown(found, 80))
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[33m90.0\x1b[0m" in console.file.getvalue()
    assert "\x1b[33m3.0" not in console.file.getvalue()


def test_many_peers_come_in_blocks() -> None:
    many = [{**peer(0), "name": f"p{n}", "peer_id": f"id-{n}", "round_trips_us": {"id-39": 7_000}} for n in range(40)]
    text = screen(status(peers=many), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("7.0") == 39


def test_what_is_wrong_with_a_peer_is_said_in_words() -> None:
    history = {"failures": 3, "last_seconds_ago": 100.0, "last_reason": "x", "reports": 4}
    silent = peer(1, live=False, reason="bob (id-1): no answer", seen_seconds_ago=7300.0, load=None, round_trips_us={})
    found = status(peers=[peer(0, clock_skew_seconds=-75, history=history), silent])
    text = " ".join(screen(found, 160).split())
    assert "alice has a clock that is -75 s from the coordinator's; failed 3 times, the last time 2 min ago" in text
    assert "was left out by clients 4 times" in text
    assert "bob is silent: bob (id-1): no answer; was there 2 h ago" in text


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(peer(0))), anything, st.sampled_from(["peers", "models", "sessions"]), anything)
def test_whatever_a_coordinator_sends_is_shown_or_left_out(field: str, value: Any, part: str, other: Any) -> None:
    for found in (status(peers=[peer(0, **{field: value}), peer(1)]), status(**{part: other})):
        text = screen(found, 80)
        assert all(char.isprintable() or char == "\n" for char in text)


def test_control_codes_and_markup_of_a_coordinator_do_nothing() -> None:
    text = screen(status(peers=[peer(0, name="\x1b[2Jbob", operator="[red]x[/red][/]")]), 160)
    assert "\x1b" not in text
    assert "[red]x[/red]" in text


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    prices = [("1.50", "0.20", "EUR")] * 3
    found = ToyCluster(tmp_path_factory.mktemp("cluster"), free_port, prices=prices)
    yield found
    found.close()


def run(cluster: ToyCluster, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*TACIT, "status", "--cluster", str(cluster.path), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_of_a_real_cluster(cluster) -> None:
    deadline = time.monotonic() + 20
    while True:  # until the peers have measured each other
        found = json.loads(run(cluster, "--json").stdout)
        if all(len(peer["round_trips_us"]) == 2 for peer in found["peers"]):
            break
        assert time.monotonic() < deadline
    assert found["peers"][0]["price"] == {"currency": "EUR", "compute": "1.50", "dealer": "0.20"}
    assert {model["name"] for model in found["models"]} == {"toy", "ids"}
    people = run(cluster)
    assert people.returncode == 0, people.stderr
    for word in ("peer-0", "Round trips in ms", "1.50 compute, 0.20 dealer EUR", "toy"):
        assert word in people.stdout


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_watching_ends_with_an_interrupt(cluster, options: tuple[str, ...]) -> None:
    command = [*TACIT, "status", "--watch", "--cluster", str(cluster.path), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "peer-0" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")


def test_watching_on_a_terminal_fits_it(cluster) -> None:
    """A pseudo-terminal of 80 columns: drawn within it, and left as it was found."""
    owner, terminal = pty.openpty()
    command = ["/bin/sh", "-c", f"stty cols 80 rows 60; exec {' '.join(TACIT)} status --watch --cluster {cluster.path}"]
    process = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env={**os.environ, "TERM": "xterm"}
    )
    os.close(terminal)
    seen, deadline = b"", time.monotonic() + 20
    while b"sessions were opened" not in seen:
        assert time.monotonic() < deadline, seen
        seen += os.read(owner, 65536)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert b"\x1b[?1049h" in seen  # a screen of its own
    os.close(owner)


if __name__ == "__main__":
    sys.stdout.write(screen(status(), int(sys.argv[1])))
