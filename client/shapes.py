"""The network that a cluster on this machine is made to be like: where it is kept, read and changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import ConfigError, UsageError
from ..livenetwork import LiveNetwork
from ..network import CLIENT, FILE, Network, Profile
from . import state
from .resolve import Reference


def shaped_network(meant: Reference) -> LiveNetwork | None:
    """For a client's links to this cluster; None if they are not shaped. Raises ConfigError naming a file that is wrong."""
    roster = roster_of(meant)
    return None if roster is None else LiveNetwork.beside(roster, CLIENT)


def network_file(meant: Reference) -> Path:
    """Its network.json. Raises ConfigError if its links are not shaped."""
    roster = roster_of(meant)
    if roster is None:
        raise ConfigError(f"{meant.called} is no cluster of this machine: only links on one machine can be shaped")
    path = roster.parent / FILE
    if not path.exists():
        raise ConfigError(
            f"the links of {meant.called} are not shaped: start it with `tacit up --network lan`, or another"
        )
    return path


def roster_of(meant: Reference) -> Path | None:
    """Its cluster.json: the one it is named by, or that of the cluster which runs on this machine under its address.

    Raises ConfigError naming a file that is wrong."""
    if meant.file is not None and meant.file.suffix == ".json":
        return meant.file
    try:
        running = state.running()
    except ConfigError:
        return None  # who cannot read that directory has started no cluster there
    url = meant.where.rstrip("/")
    return next((Path(one.roster) for one in running if one.url == url), None)


def as_network(given: Network | Profile | str | Sequence[str]) -> Network:
    """As `Network.parse`, of what Python users write. Raises UsageError."""
    if isinstance(given, Network):
        return given
    if isinstance(given, Profile):
        return Network(given)
    return Network.parse([given] if isinstance(given, str) else given)


def check_names(network: Network, peers: Iterable[str]) -> None:
    """Raises UsageError for a pair with a party that is not in this cluster."""
    names = [*sorted(peers), CLIENT]
    for pair in network.pairs:
        for name in sorted(pair):
            if name not in names:
                raise UsageError(f"there is no {name!r} in this cluster: its parties are {', '.join(names)}")
