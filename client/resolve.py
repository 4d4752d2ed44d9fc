"""Which cluster is meant: a file that pins its peers, a name in config.toml, or a coordinator's address.

| --cluster, TACIT_CLUSTER, default_cluster | where the pins come from            |
| ----------------------------------------- | ----------------------------------- |
| path of a cluster.json                    | that file                           |
| path of a cluster.toml                    | that file                           |
| name of a [clusters.NAME] with `file`     | that file                           |
| name of a [clusters.NAME] otherwise       | <pins>/NAME.json (`tacit peers pin`) |
| http(s) address of a coordinator          | as for the name that has it, else <pins>/ADDRESS.json |

If none is named: the newest cluster that runs on this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..checks import is_url
from ..clusterfile import ClusterFile
from ..config import ClusterEntry, Config
from ..errors import ConfigError
from ..members import Pinned, Roster
from . import state
from .directory import Directory
from .pinned import PinnedPeers, cluster_name, pin_first_seen
from .pins import PinStore


@dataclass(frozen=True, slots=True)
class Reference:
    """A cluster, found but not read yet: by its coordinator's `url` (the pins are the user's own), or by its `file`."""

    called: str
    url: str = ""
    file: Path | None = None
    entry: ClusterEntry | None = None

    @property
    def name(self) -> str | None:
        """Its name in config.toml, if it has one there."""
        return self.entry.name if self.entry else None

    @property
    def where(self) -> str:
        """Its coordinator's address. Raises ConfigError naming a file that is wrong."""
        return load_file(self.file).url if self.file is not None else self.url

    def store(self) -> PinStore:
        """Where its pins are. Raises ConfigError if they are in its file."""
        if self.file is not None:
            raise ConfigError(f"the peers of {self.called} are pinned by {self.file}: change that file")
        return PinStore(self.called)

    def pinned(
        self, *, trust_on_first_use: bool = False, say: Callable[[str], None] = lambda what: None, timeout: float = 30.0
    ) -> Pinned:
        """Its pins. Nothing pinned is a ConfigError, unless the peers shown now are to be pinned (`say` hears which).

        Raises ConfigError naming the file that is wrong; on first use also NetworkError and PeerError.
        """
        if self.file is not None:
            if trust_on_first_use:
                raise ConfigError(f"--trust-on-first-use is not for {self.called}: {self.file} pins its peers")
            file = load_file(self.file)
            return PinnedPeers.of_file(file, say) if isinstance(file, ClusterFile) else file
        store = self.store()
        own, asked = (self.entry.own, self.entry.trust_on_first_use) if self.entry else (False, False)
        if trust_on_first_use or asked:
            directory = Directory(self.url, timeout=timeout)
            try:
                pin_first_seen(store, directory, say)
            finally:
                directory.close()
        found = PinnedPeers(store, self.name or cluster_name(self.url), self.url, own, say)
        if not found.members:
            raise ConfigError(
                f"no peer of {self.called} is pinned: see who is there (tacit peers list --cluster {_quoted(self.called)}), "
                "compare the ids with what their operators say (tacit identity show), and pin them (tacit peers pin PEER_ID "
                "--operator NAME); or say --trust-on-first-use to take the coordinator's word this once"
            )
        return found


def load_file(path: Path) -> ClusterFile | Roster:
    """A cluster.toml or a cluster.json, by its ending. Raises ConfigError."""
    return ClusterFile.load(path) if path.suffix == ".toml" else Roster.load(path)


def find(cluster: str | Path | None, config: Config) -> Reference | None:
    """What `cluster` means; None: what TACIT_CLUSTER, default_cluster or a running cluster says; None if none does.

    Raises ConfigError listing the names there are.
    """
    if cluster is not None:
        return _named(cluster, config, "--cluster" if isinstance(cluster, str) else "")
    chosen = config.effective("default_cluster")
    if chosen.value is not None:
        source = chosen.source if chosen.source == chosen.setting.variable else f"{chosen.source}: default_cluster"
        return _named(chosen.value, config, source)
    running = state.running()
    return Reference(running[0].roster, file=Path(running[0].roster)) if running else None


def need(cluster: str | Path | None, config: Config) -> Reference:
    """As `find`, and ConfigError if no cluster is named or running."""
    found = find(cluster, config)
    if found is None:
        raise ConfigError(
            "no cluster is running on this machine: start one with `tacit up`, or name one with --cluster"
        )
    return found


def _named(cluster: str | Path, config: Config, source: str) -> Reference:
    if isinstance(cluster, Path):
        return Reference(str(cluster), file=cluster)
    if "://" in cluster:
        return _by_url(cluster, config, source)
    if entry := config.clusters.get(cluster):
        return Reference(cluster, entry.coordinator.rstrip("/"), entry.file, entry)
    path = Path(cluster).expanduser()
    if path.is_file() or path.suffix in (".json", ".toml"):
        return Reference(cluster, file=path)
    names = ", ".join(sorted(config.clusters)) or "no clusters"
    raise ConfigError(
        f"{source} is {cluster!r}, which is no cluster: neither one of {config.path} (it has {names}), nor a cluster.toml or "
        "cluster.json, nor a coordinator's address such as http://192.0.2.1:7440"
    )


def _by_url(cluster: str, config: Config, source: str) -> Reference:
    url = cluster.rstrip("/")
    try:
        is_url(url)
    except ValueError as error:
        raise ConfigError(f"{source} {error}") from None
    known = [entry for entry in config.clusters.values() if entry.coordinator.rstrip("/") == url]
    if len(known) == 1:
        return Reference(known[0].name, url, None, known[0])
    return Reference(url, url)


def _quoted(name: str) -> str:
    return repr(name) if " " in name else name
