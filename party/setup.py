"""Making identities and rosters: `python -P -m tacit.party.setup local FOLDER`, or member by member.

    local FOLDER       identities and cluster.json for a cluster of one's own on this machine, and the commands to start it
    identity FILE      a peer's new identity; prints its entry for "members" of cluster.json
    coordinator FILE   a coordinator's new identity; prints its entry for "coordinator" of cluster.json

An entry holds public keys only; the identity file never leaves its machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError, TacitError
from ..members import CoordinatorEntry, Roster, RosterMember
from ..records import Record
from .identity import Identity


def make_local(folder: Path, peers: int, port: int, mesh_port: int, host: str = "127.0.0.1") -> Roster:
    """Write `folder`/cluster.json, coordinator.identity and peer-N.identity. Raises ConfigError, UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made: {error.strerror}") from None
    names = [f"peer-{number}" for number in range(peers)]
    identities = {name: Identity.create() for name in ("coordinator", *names)}
    roster = Roster(
        cluster="local",
        own=True,
        coordinator=coordinator_entry(identities["coordinator"], "coordinator", f"http://{host}:{port}"),
        members=tuple(
            member_entry(identities[name], name, "this machine", f"tcp://{host}:{mesh_port + number}")
            for number, name in enumerate(names)
        ),
    )
    for name, identity in identities.items():
        identity.save(folder / f"{name}.identity")
    roster.save(folder / "cluster.json")
    return roster


def member_entry(identity: Identity, name: str, operator: str, endpoint: str) -> RosterMember:
    """A peer's line in the roster."""
    return RosterMember(name, operator, identity.peer_id, endpoint, identity.mesh_key)


def coordinator_entry(identity: Identity, name: str, url: str) -> CoordinatorEntry:
    """The coordinator's line in the roster."""
    return CoordinatorEntry(name, url, identity.peer_id, identity.mesh_key)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    options = _arguments().parse_args(argv)
    try:
        if options.what == "local":
            roster = make_local(options.folder, options.peers, options.port, options.mesh_port)
            print("\n".join(start_commands(options.folder, roster, options.port)))
        else:
            _single(options)
    except TacitError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def start_commands(folder: Path, roster: Roster, port: int) -> list[str]:
    """What to type, one process per line."""

    def files(name: str) -> str:
        return f"--identity {folder}/{name}.identity --roster {folder}/cluster.json"

    peers = [f"python -P -m tacit.party.server {files(one.name)} --model stories" for one in roster.members]
    return [*peers, f"python -P -m tacit.coordinator.server {files('coordinator')} --port {port}"]


def _single(options: argparse.Namespace) -> None:
    identity = Identity.create()
    entry: Record
    if options.what == "identity":
        entry = member_entry(identity, options.name, options.operator, options.mesh_endpoint)
    else:
        entry = coordinator_entry(identity, options.name, options.url)
    identity.save(options.file)
    print(json.dumps(entry.to_json(), indent=2))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tacit.party.setup", description="Make identities and rosters.")
    commands = parser.add_subparsers(dest="what", required=True)
    local = commands.add_parser("local", help="all of a cluster on this machine")
    local.add_argument("folder", type=Path)
    local.add_argument("--peers", type=int, default=3)
    local.add_argument("--port", type=int, default=7440, help="of the coordinator (%(default)s)")
    local.add_argument("--mesh-port", type=int, default=7450, help="of the first peer's mesh (%(default)s)")
    peer = commands.add_parser("identity", help="one peer")
    peer.add_argument("file", type=Path)
    peer.add_argument("--name", required=True)
    peer.add_argument("--operator", required=True)
    peer.add_argument("--mesh-endpoint", required=True, help="tcp://host:port where its mesh listens")
    coordinator = commands.add_parser("coordinator", help="one coordinator")
    coordinator.add_argument("file", type=Path)
    coordinator.add_argument("--name", default="coordinator")
    coordinator.add_argument("--url", required=True, help="http(s)://host:port under which clients find it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
