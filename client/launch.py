"""A cluster on this machine: fresh identities, a coordinator and peers as processes, all or none of them running."""

from __future__ import annotations

import atexit
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from ..errors import NetworkError, PeerLost, TacitError, UsageError
from ..network import FILE, Network, Profile
from ..tracing.recorder import Traces
from ..tracing.whereabouts import tell_folder
from .directory import Directory
from .extras import need_peer_extra
from .process import Child, run_to_end
from .shapes import as_network, check_names
from .state import ClusterFolder
from .warmth import is_warm, set_warm

DEFAULT_MODEL = "stories"
PEER_MODULE = "tacit.party.server"
COORDINATOR_MODULE = "tacit.coordinator.server"
OPERATOR = "this machine"
COORDINATOR = "coordinator"

RESTARTS = 3  # of the coordinator, within
RESTART_WINDOW = 60.0  # seconds

_READY_SECONDS = 60.0
_RESTART_SECONDS = 20.0
_STOP_SECONDS = 3.0
_FAREWELL_SECONDS = 2.0

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Process:
    """A row of the table of processes."""

    name: str
    pid: int
    peer_id: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process of a cluster is to run."""

    host: str  # listened on, for the links of a peer or the HTTP of the coordinator
    endpoint: str  # where others find it: the mesh of a peer, the URL of the coordinator
    within: tuple[str, ...] = ()  # what comes before its command


class Cluster:
    """Coordinator and peers on this machine, up from `start()` (or entering a `with`) until `stop()`.

    ``with tacit.Cluster(model="stories") as cluster, tacit.Client(cluster) as client: …``
    """

    def __init__(
        self,
        *,
        model: str | Path | Sequence[str | Path] = DEFAULT_MODEL,
        peers: int = 3,
        port: int = 0,
        host: str = "127.0.0.1",
        network: Network | Profile | str | Sequence[str] | None = None,
        trace: str | Path | None = None,
    ) -> None:
        """`model`: what the peers serve (folders or names); `port` of the coordinator, 0 for any free one.
        `network`: makes the links of sessions like lines with these profiles, as `tacit up --network` does: "wan", or
        ["wan", "peer-0:peer-1=rtt=200ms"]; the peers are peer-0, peer-1 …, and whoever asks is "client". None: as they are.
        `trace`: a folder in which every peer leaves what its sessions spend their time on (no content; see docs/tracing.md).

        Raises UsageError for settings that cannot work, ConfigError for a folder that cannot be written.
        """
        if peers < 3:
            raise UsageError(f"a cluster of {peers} peers cannot serve: a session takes two compute peers and a dealer")
        if not 0 <= port <= 65535:
            raise UsageError(f"port {port} does not exist; choose one from 1 to 65535, or 0 for any free one")
        self._models = [str(model)] if isinstance(model, str | Path) else [str(one) for one in model]
        self._peers = peers
        self._port = port
        self._host = host
        self._network = None if network is None else as_network(network)
        if self._network is not None:
            check_names(self._network, self._names)
        self.trace = None if trace is None else Traces(trace).folder
        self._folder: ClusterFolder | None = None
        self._children: list[Child] = []
        self._processes: list[Process] = []
        self.url = ""
        self.roster_path = Path()

    def start(self, progress: Progress = lambda what: None) -> Self:
        """Start everything and wait until it can serve. On failure nothing is left running, and the error says why.

        `progress` is told what is being done, in a few words.
        """
        if self._folder is not None:
            raise UsageError("this cluster is already running")
        need_peer_extra("running peers")
        self._folder = ClusterFolder()
        atexit.register(self.stop)  # for a program that ends without having stopped it
        try:
            self._start(self._folder, progress)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End every process and remove the cluster's folder. Stopping twice is fine."""
        for child in reversed(self._children):
            child.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for child in reversed(self._children):
            child.reap(deadline - time.monotonic())
        self._children.clear()
        if self._folder is not None:
            self._folder.close()
            self._folder = None
        atexit.unregister(self.stop)

    def __enter__(self) -> Self:
        return self if self._folder is not None else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def network(self) -> Network | None:
        """What its links are made to be like, now; None: as they are."""
        if self._network is None or self._folder is None:
            return self._network
        return Network.load(self._folder.path / FILE)

    def set_network(self, network: Network | Profile | str | Sequence[str]) -> None:
        """Make the links like other lines, those of running sessions too, within 0.1 s; what is on its way arrives as before.

        Raises UsageError if the cluster was started without a network, or for a party that it does not have.
        """
        found = as_network(network)
        check_names(found, self._names)
        if self._network is None or self._folder is None:
            raise UsageError("the links of this cluster are not shaped: start it with Cluster(network=…)")
        found.save(self._folder.path / FILE)

    @property
    def _names(self) -> list[str]:
        return [f"peer-{number}" for number in range(self._peers)]

    @property
    def processes(self) -> list[Process]:
        """Who runs here."""
        return list(self._processes)

    def check(self) -> None:
        """Raises PeerLost naming a process that has ended."""
        for child in self._children:
            if (ending := child.ended()) is not None:
                raise PeerLost(child.name, ending)

    def wait(self, progress: Progress = lambda what: None) -> None:
        """Watch over the processes for as long as the cluster can serve; `progress` hears of every one that ends.

        A coordinator that ends is started again: same identity, port and state, and answers that run do not need it.
        PeerLost when one peer too many has ended, or the coordinator more than RESTARTS times within RESTART_WINDOW, once
        the sessions had time to say who it was.
        """
        deaths: deque[float] = deque(maxlen=RESTARTS + 1)
        gone: set[str] = set()
        while True:
            time.sleep(0.2)
            for child in [one for one in self._children if one.name not in gone and one.ended() is not None]:
                if child.name == COORDINATOR:
                    self._start_again(child, deaths, progress)
                    continue
                gone.add(child.name)
                peers = sum(one.name != COORDINATOR and one.name not in gone for one in self._children)
                if peers < 3:
                    time.sleep(_FAREWELL_SECONDS)
                    raise PeerLost(child.name, child.ended() or "ended")
                progress(f"{child.name} {child.ended()}; {peers} peers go on without it")

    def _start_again(self, ended: Child, deaths: deque[float], progress: Progress) -> None:
        """Put another coordinator in the place of one that `ended`, at the times `deaths`. Raises PeerLost at one too many."""
        how = ended.ended() or "ended"
        deaths.append(time.monotonic())
        if len(deaths) > RESTARTS and deaths[-1] - deaths[0] < RESTART_WINDOW:
            time.sleep(_FAREWELL_SECONDS)
            raise PeerLost(ended.name, f"{how}, for the {len(deaths)}th time within {RESTART_WINDOW:.0f} s")
        at = self._children.index(ended)
        ended.reap(0)
        self._children[at] = again = ended.again()
        try:
            again.await_ready(_RESTART_SECONDS)
        except TacitError as error:  # it is looked at like any other that ended
            progress(f"{ended.name} {how}; starting it again failed: {error}")
            again.terminate()
            return
        self._processes = [replace(one, pid=again.pid) if one.name == COORDINATOR else one for one in self._processes]
        progress(f"{ended.name} {how}; it was started again, answers were not disturbed")

    def _start(self, folder: ClusterFolder, progress: Progress) -> None:
        from ..members import Roster
        from ..party.budget import default_allowance
        from ..party.identity import Identity
        from ..party.setup import coordinator_entry, member_entry

        if not is_warm():
            progress("compiling kernels (once per installation)")
            _warm()
            set_warm()
        progress("starting coordinator and peers")
        names = self._names
        identities = {name: Identity.create() for name in (COORDINATOR, *names)}
        places = self._places()
        self.url = places[COORDINATOR].endpoint
        roster = Roster(
            cluster="local",
            own=True,
            coordinator=coordinator_entry(identities[COORDINATOR], COORDINATOR, self.url),
            members=tuple(member_entry(identities[name], name, OPERATOR, places[name].endpoint) for name in names),
        )
        self.roster_path = folder.path / "cluster.json"
        roster.save(self.roster_path)
        if self._network is not None:
            self._network.save(folder.path / FILE)
        for name, identity in identities.items():
            identity.save(folder.path / f"{name}.identity")

        def child(name: str, module: str, *arguments: str) -> Child:
            files = ["--identity", str(folder.path / f"{name}.identity"), "--roster", str(self.roster_path)]
            place, log = places[name], folder.path / f"{name}.log"
            started = Child(name, module, [*files, "--host", place.host, *arguments], log, place.within)
            self._children.append(started)
            return started

        models = [argument for model in self._models for argument in ("--model", _absolute(model))]
        memory = default_allowance(self._peers)  # each on its own would take half of what all of them have
        limits = [] if memory is None else ["--max-memory", str(memory)]
        traced = [] if self.trace is None else ["--trace", str(self.trace)]
        for name in names:
            child(name, PEER_MODULE, *limits, *traced, *models)
        child(COORDINATOR, COORDINATOR_MODULE, "--port", self.url.rpartition(":")[2])
        self._await_all()
        self._await_models()
        self._processes = [
            Process(one.name, one.pid, identities[one.name].peer_id, endpoint)
            for one, endpoint in zip(
                self._children, [*(member.mesh_endpoint for member in roster.members), self.url], strict=True
            )
        ]
        if self.trace is not None:
            tell_folder(self.roster_path, self.trace)
        self._announce(folder)

    def _announce(self, folder: ClusterFolder) -> None:
        folder.announce(self.url, self.roster_path)

    def _places(self) -> dict[str, Place]:
        """Where the coordinator and the peers are to run, by name."""
        with _free_ports(self._host, self._peers + 1) as ports:
            port, mesh_ports = self._port or ports[-1], ports[:-1]
        places = {COORDINATOR: Place(self._host, f"http://{self._host}:{port}")}
        for name, mesh_port in zip(self._names, mesh_ports, strict=True):
            places[name] = Place(self._host, f"tcp://{self._host}:{mesh_port}")
        return places

    def _await_all(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        for child in self._children:
            child.await_ready(deadline - time.monotonic())

    def _await_models(self) -> None:
        """The coordinator has to have met the peers before it can propose them."""
        directory = Directory(self.url)
        deadline = time.monotonic() + _READY_SECONDS
        try:
            while not directory.models():
                self.check()
                if time.monotonic() > deadline:
                    raise NetworkError("the coordinator does not see three peers; look at the logs beside cluster.json")
                time.sleep(0.05)
        finally:
            directory.close()


def _absolute(model: str) -> str:
    """A folder by its full path, a name as it is: the children run wherever they like."""
    path = Path(model).expanduser()
    return str(path.resolve()) if path.exists() else model


def _warm() -> None:
    """Compile the kernels once, in a child: three peers compiling side by side would take three times as long."""
    run_to_end("from tacit.kernels.warm import warm; warm()", 300.0)


@contextmanager
def _free_ports(host: str, count: int) -> Iterator[list[int]]:
    """Ports nobody listens on, all different. If another program is quicker to take one, the process says so."""
    sockets = []
    try:
        for _ in range(count):
            one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            sockets.append(one)
            one.bind((host, 0))
        yield [int(one.getsockname()[1]) for one in sockets]
    except OSError as error:
        raise NetworkError(f"cannot listen on {host}: {error.strerror}") from None
    finally:
        for one in sockets:
            with suppress(OSError):
                one.close()
