"""What `tacit network show` and `tacit network set` do."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..config import Config
from ..network import CLIENT, Network, Profile, pair
from .resolve import Reference, load_file, need
from .shapes import check_names, network_file, roster_of


def run_show(cluster: str | None, *, as_json: bool) -> None:
    """Every pair of parties with its profile. Raises ConfigError if the cluster's links are not shaped."""
    meant = need(cluster, Config.load())
    network = Network.load(network_file(meant))
    rows = [(one, other, network.between(one, other)) for one, other in combinations([*_peers(meant), CLIENT], 2)]
    if as_json:
        print(json.dumps({f"{one}:{other}": _facts(profile) for one, other, profile in rows}))
        return
    table = Table("pair", "profile", "round trip", "bandwidth", "jitter", "loss", title="Links", title_justify="left")
    for one, other, profile in rows:
        table.add_row(f"{one}:{other}", profile.text, *_columns(profile))
    Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160).print(table)


def run_set(words: Sequence[str], cluster: str | None) -> None:
    """`words`: PROFILE for all pairs, A:B PROFILE (or A:B=PROFILE) for one. Raises ConfigError, UsageError."""
    meant = need(cluster, Config.load())
    path = network_file(meant)
    network = _changed(path, words)
    check_names(network, _peers(meant))
    network.save(path)
    print(f"links are made like: {network.text}")


def _changed(path: Path, words: Sequence[str]) -> Network:
    if len(words) == 2:
        names, profile = pair(words[0]), Profile.parse(words[1])
        return Network.load(path).changed(names, profile)
    change = Network.parse(words)
    if not change.pairs:
        return change  # for all pairs, also those that had one of their own
    ((names, profile),) = change.pairs.items()
    return Network.load(path).changed(names, profile)


def _peers(meant: Reference) -> list[str]:
    roster = roster_of(meant)
    return [] if roster is None else sorted(member.name for member in load_file(roster).members)


def _columns(profile: Profile) -> list[str]:
    bandwidth = "unlimited" if profile.bandwidth == math.inf else f"{profile.bandwidth / 1e6:g} Mbit/s"
    return [f"{1e3 * profile.rtt:g} ms", bandwidth, f"{1e3 * profile.jitter:g} ms", f"{100 * profile.loss:g} %"]


def _facts(profile: Profile) -> dict[str, Any]:
    return {
        "profile": profile.text,
        "rtt_ms": 1e3 * profile.rtt,
        "bandwidth_bits": None if profile.bandwidth == math.inf else profile.bandwidth,
        "jitter_ms": 1e3 * profile.jitter,
        "loss": profile.loss,
    }
