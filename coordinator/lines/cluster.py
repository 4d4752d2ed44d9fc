"""A cluster whose parties are on different machines as far as the kernel is concerned, with lines between them.

    with ForwardedCluster(model="stories", lines=Network.parse(["wan"])) as cluster, cluster.inside():
        with tacit.Client(cluster.roster_path) as client: …

What takes the lines is what shaped links shape: the links of sessions. The mesh and the coordinator's HTTP do not, so that
answers over either can be compared.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from ...client.launch import COORDINATOR, DEFAULT_MODEL, Cluster, Place, Progress
from ...client.shapes import check_names
from ...client.state import ClusterFolder
from ...network import CLIENT, Network
from .counts import Counts
from .lay import CONGESTION, KernelLines

_MESH_PORT, _HTTP_PORT = 7450, 7440  # every party has its own machine: nobody else listens there


class ForwardedCluster(Cluster):
    """As `Cluster`, on lines of the kernel's own. Its client must be made, used and closed `inside()`."""

    def __init__(
        self,
        *,
        lines: Network,
        model: str | Path = DEFAULT_MODEL,
        peers: int = 3,
        trace: str | Path | None = None,
        congestion: str = CONGESTION,
    ) -> None:
        """`lines`: between peer-0, peer-1 … and "client". Raises UsageError for lines that cannot be carried as they say,
        ConfigError where none can be laid: it takes root on Linux."""
        super().__init__(model=model, peers=peers, trace=trace)
        check_names(lines, self._names)
        self._lines = KernelLines(lines, (CLIENT, *self._names), congestion)

    @property
    def how(self) -> str:
        """What shapes the lines, for a report."""
        return self._lines.how

    def start(self, progress: Progress = lambda what: None) -> Self:
        progress("laying lines")
        self._lines.open()
        try:
            with self.inside():
                return super().start(progress)
        except BaseException:
            self._lines.close()
            raise

    def stop(self) -> None:
        super().stop()
        self._lines.close()

    def inside(self) -> AbstractContextManager[None]:
        """The calling thread, and threads it starts meanwhile, are where the client is."""
        return self._lines.inside(CLIENT)

    def set_lines(self, lines: Network) -> None:
        """Other profiles from now on, also for sessions that run. Raises UsageError, ConfigError or NetworkError."""
        check_names(lines, self._names)
        self._lines.set(lines)

    def counts(self) -> list[Counts]:
        """What the lines carried so far, where they are forwarded."""
        return self._lines.counts()

    def _places(self) -> dict[str, Place]:
        def within(party: str) -> tuple[str, ...]:
            return "ip", "netns", "exec", self._lines.namespaces[party]

        plain, links = self._lines.plain_address, self._lines.address
        places = {name: Place(links[name], f"tcp://{plain[name]}:{_MESH_PORT}", within(name)) for name in self._names}
        places[COORDINATOR] = Place(plain[CLIENT], f"http://{plain[CLIENT]}:{_HTTP_PORT}", within(CLIENT))
        return places

    def _announce(self, folder: ClusterFolder) -> None:
        """To nobody: it cannot be reached from outside."""
