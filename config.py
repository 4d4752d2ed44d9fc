"""The user's config.toml, and which value of a setting holds: flag, variable, config.toml, default, in this order.

    default_cluster = "friends"

    [clusters.friends]
    coordinator = "http://192.0.2.1:7440"
    operators = ["Alice", "Bob", "Carol"]

    [client]
    max_new_tokens = 200

    [node]
    operator = "Alice"

The file is config.toml in the user's configuration folder for tacit, or what TACIT_CONFIG names. All settings are in
`settings.SETTINGS`, with the TACIT_* variable of each.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from .checks import is_name
from .errors import ConfigError
from .settings import CLIENT, CLUSTER, NODE, SETTINGS, VARIABLE, Setting
from .tables import Table

FILE = "config.toml"


@dataclass(frozen=True, slots=True)
class Effective:
    """A setting's value and where it comes from."""

    setting: Setting
    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class ClusterEntry:
    """[clusters.NAME]: exactly one of `coordinator` (its address) and `file` is there."""

    name: str
    coordinator: str
    file: Path | None
    values: Mapping[str, Any]  # the rest of its table, as far as given

    @property
    def own(self) -> bool:
        return bool(self.values.get("own", False))

    @property
    def trust_on_first_use(self) -> bool:
        return bool(self.values.get("trust_on_first_use", False))


class Config:
    """What the file says, checked."""

    def __init__(self, path: Path, values: Mapping[str, Any], clusters: Mapping[str, ClusterEntry]) -> None:
        self.path = path
        self.clusters = clusters
        self._values = values  # by `Setting.name`

    @classmethod
    def load(cls) -> Config:
        """The user's file; without one, nothing is set. Raises ConfigError naming file, line, table and key."""
        path = config_path()
        if not path.exists() and not os.environ.get("TACIT_CONFIG"):
            return cls(path, {}, {})
        top = Table.read(path, "configuration")
        values = _values(top, "")
        for name in (CLIENT, NODE):
            table = top.table(name)
            values |= _values(table, name)
            table.end()
        tables = top.table("clusters")
        clusters = {name: _cluster(tables, name) for name in tables}
        top.end()
        return cls(path, values, clusters)

    def get(self, name: str, flag: Any = None, cluster: str | None = None) -> Any:
        """The value that holds for a setting ("client.timeout"); `flag` is what the command line says, None if nothing.

        `cluster`: the name of one in the file, whose table goes before the others. Raises ConfigError for a variable
        that is wrong.
        """
        return flag if flag is not None else self.effective(name, cluster).value

    def effective(self, name: str, cluster: str | None = None) -> Effective:
        """As `get` without a flag, with the source in words. A setting of a cluster goes by "clusters.*.KEY"."""
        setting = _BY_NAME[name]
        given = os.environ.get(setting.variable, "") if setting.variable else ""
        if given:
            try:
                return Effective(setting, setting.check(setting.read(given)), setting.variable)
            except ValueError as error:
                reason = "is not as it should be" if setting.secret else str(error)
                raise ConfigError(f"{setting.variable} {reason}") from None
        entry = self.clusters.get(cluster) if cluster is not None else None
        if entry is not None and setting.key in entry.values and setting.table in (CLUSTER, CLIENT):
            return Effective(setting, entry.values[setting.key], f"{self.path} [clusters.{entry.name}]")
        if name in self._values:
            return Effective(setting, self._values[name], str(self.path))
        return Effective(setting, setting.default, "default")

    def all(self) -> list[Effective]:
        """Everything that is not a cluster's own."""
        return [self.effective(one.name) for one in SETTINGS if one.table != CLUSTER]


def config_path() -> Path:
    """config.toml, which may not exist."""
    chosen = os.environ.get("TACIT_CONFIG")
    return Path(chosen).expanduser() if chosen else platformdirs.user_config_path("tacit") / FILE


_BY_NAME: Mapping[str, Setting] = {one.name: one for one in SETTINGS}


def _values(table: Table, name: str) -> dict[str, Any]:
    taken = {one.name: table.take(one.key, one.check, None) for one in SETTINGS if one.table == name != VARIABLE}
    return {key: value for key, value in taken.items() if value is not None}


def _cluster(tables: Table, name: str) -> ClusterEntry:
    table = tables.table(name)
    try:
        is_name(name)
        if name.endswith((".json", ".toml")):
            raise ValueError(f"looks like a file: {name!r}")
    except ValueError as error:
        raise table.fault("", f"cannot be what a cluster is called: it {error}") from None
    values = {key.rpartition(".")[2]: value for key, value in _values(table, CLUSTER).items()}
    table.end()
    url, file = values.pop("coordinator", ""), values.pop("file", None)
    if bool(url) == bool(file):
        raise table.fault("", 'needs either coordinator = "http://…" or file = "…/cluster.toml"')
    if file and (odd := {"own", "trust_on_first_use"} & set(values)):
        raise table.fault(min(odd), "is for a cluster that is known by its coordinator; the file says it all")
    path = tables.source.path.parent / Path(file).expanduser() if file else None
    return ClusterEntry(name, url, path, values)
