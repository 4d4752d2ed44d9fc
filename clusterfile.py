"""cluster.toml: a cluster over several machines, written by people. It says who belongs to it, by peer id.

    [cluster]
    name = "three-friends"
    own = false                       # true: one person runs every peer (then operators may repeat)

    [coordinator]
    name = "coordinator"
    url = "http://192.0.2.1:7440"     # where clients find it
    peer_id = "…43 characters…"       # tacit identity show
    address = "/ip4/192.0.2.1/tcp/7449"

    [[peer]]                          # three or more
    name = "alice"
    operator = "Alice"                # what holds, whatever the peer itself claims
    peer_id = "…43 characters…"
    address = "/dns4/alice.example/tcp/7450"   # may end in /p2p/12D3Koo…, which then has to be this peer's
    models = ["stories"]              # folders or names, on that machine
    price = { currency = "EUR", compute = 0.12, dealer = 0.04 }  # for a million tokens; free if left out

All nodes and clients use the same file: nodes admit nobody else and take their settings from it, clients pin it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar

from .address import Address
from .checks import display_name, is_currency, is_name, is_peer_id, is_url
from .errors import ConfigError, UsageError
from .members import Member, name_in
from .records import Check, Record, boolean, distinct, many, text
from .tables import Table

MAX_PEERS = 4096

is_model_argument = text(r"[^\x00-\x1f\x7f]{1,1024}", "a model's folder or name")
_is_decimal = text(r"[0-9]{1,9}(?:\.[0-9]{1,6})?", "an amount of at most six decimal places, from 0 to 999999999")


def is_amount(value: Any) -> str:
    """Decimal text, or a number of TOML made such."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = format(Decimal(repr(value)), "f")  # as it was written
    found: str = _is_decimal(value)
    return found


def is_address(value: Any) -> str:
    """A multiaddr that others can dial, in its plainest form."""
    try:
        found = Address.parse(str(value))
    except UsageError as error:
        raise ValueError(f"is wrong: {error}") from None
    if found.port == 0 or found.is_everywhere:
        raise ValueError(f"is nowhere that others could dial: {value!r}")
    return str(found)


@dataclass(frozen=True)
class Prices(Record):
    """What a peer asks for a million tokens, in units of `currency`, as decimal text."""

    currency: str = "EUR"
    compute: str = "0"
    dealer: str = "0"

    CHECKS: ClassVar[dict[str, Check]] = {"currency": is_currency, "compute": is_amount, "dealer": is_amount}


@dataclass(frozen=True)
class PeerEntry(Member):
    """A [[peer]]. `address` carries its id; no `prices` means that it is free."""

    address: str
    models: tuple[str, ...] = ()
    prices: Prices | None = None

    CHECKS: ClassVar[dict[str, Check]] = {
        **Member.CHECKS,
        "address": is_address,
        "models": distinct(many(is_model_argument, 0, 256)),
    }


@dataclass(frozen=True)
class CoordinatorPlace(Record):
    """The [coordinator]: `url` for clients, `address` for the mesh."""

    name: str
    url: str
    peer_id: str
    address: str

    CHECKS: ClassVar[dict[str, Check]] = {
        "name": is_name,
        "url": is_url,
        "peer_id": is_peer_id,
        "address": is_address,
    }


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What one node starts with. `listen` and `join` are multiaddrs; `join` are all others of the cluster."""

    name: str
    peer_id: str
    operator: str  # "" for the coordinator
    listen: str
    advertise: str  # host under which others reach it
    join: tuple[str, ...]
    models: tuple[str, ...] = ()
    prices: Prices | None = None


@dataclass(frozen=True)
class ClusterFile:
    """A whole cluster.toml. It is a `members.Pinned`: what a client pins, and the closed list of members of a mesh."""

    path: Path
    cluster: str
    own: bool
    coordinator: CoordinatorPlace
    members: tuple[PeerEntry, ...]

    @classmethod
    def load(cls, path: Path) -> ClusterFile:
        """Read a file. Raises ConfigError naming file, line, table and key, and what is allowed there."""
        top = Table.read(path, "cluster file")
        cluster, coordinator = top.table("cluster"), top.table("coordinator")
        peers = list(top.tables("peer"))
        top.end()
        found = cls(
            path,
            cluster.take("name", is_name),
            cluster.take("own", boolean, False),
            _coordinator(coordinator),
            tuple(_peer(one) for one in peers),
        )
        cluster.end()
        _no_repeats([(coordinator, found.coordinator), *zip(peers, found.members, strict=True)])
        if not 3 <= len(peers) <= MAX_PEERS:
            raise ConfigError(f"{path}: has {len(peers)} [[peer]] tables; a cluster has from 3 to {MAX_PEERS} peers")
        operators = {member.operator for member in found.members}
        if not found.own and len(operators) < 3:
            raise cluster.fault(
                "own",
                f"is false, and the peers have {len(operators)} operators ({', '.join(sorted(operators))}): a session takes "
                "three; add peers of others, or say own = true if all of them are yours",
            )
        return found

    # As members.Pinned -----------------------------------------------------------------------------------------------

    def member(self, peer_id: str) -> PeerEntry | None:
        """The peer with this id, None for a stranger."""
        return next((member for member in self.members if member.peer_id == peer_id), None)

    def name_of(self, peer_id: str) -> str:
        """A peer or the coordinator as messages show it; a stranger by its short id."""
        return self.coordinator_name if self.is_coordinator(peer_id) else name_in(self, peer_id)

    def is_coordinator(self, peer_id: str) -> bool:
        """Whether this id may offer seats."""
        return peer_id == self.coordinator.peer_id

    @property
    def url(self) -> str:
        """Where clients find the coordinator."""
        return self.coordinator.url

    @property
    def coordinator_name(self) -> str:
        """The coordinator as messages show it."""
        return display_name(self.coordinator.name, self.coordinator.peer_id)

    # For a node ------------------------------------------------------------------------------------------------------

    def node(self, name: str) -> NodeSettings:
        """How the peer or coordinator of this name starts. Raises ConfigError listing the names there are."""
        everyone: tuple[CoordinatorPlace | PeerEntry, ...] = (self.coordinator, *self.members)
        for one in everyone:
            if one.name == name:
                join = tuple(other.address for other in everyone if other is not one)
                address = Address.parse(one.address)
                found = NodeSettings(name, one.peer_id, "", _listen(address), address.host, join)
                if isinstance(one, PeerEntry):
                    found = replace(found, operator=one.operator, models=one.models, prices=one.prices)
                return found
        names = ", ".join(one.name for one in everyone)
        raise ConfigError(f"{self.path}: has no {name!r}; it has {names}: say --name")


def _coordinator(table: Table) -> CoordinatorPlace:
    peer_id = table.take("peer_id", is_peer_id)
    found = CoordinatorPlace(
        table.take("name", is_name, "coordinator"), table.take("url", is_url), peer_id, _address(table, peer_id)
    )
    table.end()
    return found


def _peer(table: Table) -> PeerEntry:
    peer_id = table.take("peer_id", is_peer_id)
    found = PeerEntry(
        table.take("name", is_name),
        table.take("operator", is_name),
        peer_id,
        _address(table, peer_id),
        table.take("models", PeerEntry.CHECKS["models"], ()),
        table.take("price", is_prices, None),
    )
    table.end()
    return found


def _address(table: Table, peer_id: str) -> str:
    found = Address.parse(table.take("address", is_address))
    if found.peer_id not in ("", peer_id):
        raise table.fault(
            "address", "ends in another peer's /p2p/… than peer_id says: leave the ending out, or correct it"
        )
    return str(found.of(peer_id))


def is_prices(value: Any) -> Prices:
    """A table of any of currency, compute and dealer."""
    if not isinstance(value, dict) or not set(value) <= set(Prices.CHECKS):
        raise ValueError('is not a table of the form { currency = "EUR", compute = 0.12, dealer = 0.04 }')
    try:
        return Prices(**value)
    except UsageError as error:
        raise ValueError(str(error).removeprefix("Prices.")) from None


def _listen(address: Address) -> str:
    """Everywhere on the address's port; on this machine only for an address of this machine only."""
    if address.kind in ("ip4", "ip6") and ip_address(address.host).is_loopback:
        return address.place
    host = "/ip6/::" if address.kind in ("ip6", "dns6") else "/ip4/0.0.0.0"
    return f"{host}/tcp/{address.port}"


def _no_repeats(entries: Iterable[tuple[Table, CoordinatorPlace | PeerEntry]]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for table, entry in entries:
        for key, value in (
            ("name", entry.name),
            ("peer_id", entry.peer_id),
            ("address", Address.parse(entry.address).place),
        ):
            if (key, value) in seen:
                raise table.fault(key, f"is that of {seen[key, value]} as well: {value}")
            seen[key, value] = entry.name
