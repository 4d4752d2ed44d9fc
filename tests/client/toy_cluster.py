"""A whole cluster in this process: three real peers (mesh, seats, CURVE links), a real coordinator over HTTP, and the
toy model of `committee` where the engine would be. Peers of one session meet in memory to add their shares up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvicorn
from committee import Committee
from tacit.coordinator.app import make_app
from tacit.coordinator.registry import Registry
from tacit.coordinator.sessions import Sessions
from tacit.members import CoordinatorEntry, Roster, RosterMember
from tacit.party.identity import Identity
from tacit.party.links import ComputeLinks, DealerLinks, SessionLimits, Tally
from tacit.party.node import Node
from tacit.party.quoting import Quoting
from tacit.party.roster import RosterMesh
from tacit.party.session import Engines, Surroundings
from tacit.party.zap import Doorkeeper
from tacit.transport import LinkSettings, new_context
from toy_model import VOCAB, ToyModel, id_model, text_model


class ToyCluster:
    """Up when made, down after `close()`. `sessions`: the committees that sat, by session id."""

    def __init__(
        self,
        folder: Path,
        ports: Callable[[], int],
        *,
        models: list[ToyModel] | None = None,
        served_tokenizer: bytes | None = None,
        max_sessions: int = 32,
        own: bool = True,
        operators: Sequence[str] = ("me", "me", "me"),
        prices: Sequence[tuple[str, str, str]] = (),
    ) -> None:
        """`prices`: of each peer as a compute peer, as the dealer, and in which currency; free if left out."""
        self.sessions: dict[bytes, Committee] = {}
        self.limits: list[SessionLimits] = []
        self._lock = threading.Lock()
        self._stack = ExitStack()
        names = [f"peer-{number}" for number in range(len(operators))]
        identities = self.identities = {name: Identity.create() for name in (*names, "coordinator")}
        self.roster = Roster(
            cluster="toy",
            own=own,
            coordinator=CoordinatorEntry(
                name="coordinator",
                url=f"http://127.0.0.1:{ports()}",
                peer_id=identities["coordinator"].peer_id,
                mesh_key=identities["coordinator"].mesh_key,
            ),
            members=tuple(
                RosterMember(
                    name=name,
                    operator=operator,
                    peer_id=identities[name].peer_id,
                    mesh_endpoint=f"tcp://127.0.0.1:{ports()}",
                    mesh_key=identities[name].mesh_key,
                )
                for name, operator in zip(names, operators, strict=True)
            ),
        )
        self.path = folder / "cluster.json"
        self.roster.save(self.path)
        self.models = models or [text_model(), id_model()]
        for name, price in zip_longest(names, prices, fillvalue=("0", "0", "EUR")):
            identity = identities[name]
            self._start_peer(identity, max_sessions, Quoting.parsed(identity, *price))
        context = new_context()
        self._stack.callback(context.term)  # waits for the last thread that has a socket
        mesh = RosterMesh(context, None, identities["coordinator"], self.roster, None)
        self._stack.callback(mesh.close)
        registry = Registry(mesh)
        registry.start()
        self._stack.callback(registry.close)
        self._serve(registry, Sessions(mesh, registry))
        deadline = time.monotonic() + 20
        while not registry.models():
            assert time.monotonic() < deadline, [registry.silence(one.peer_id) for one in self.roster.members]
            time.sleep(0.01)

    def close(self) -> None:
        self._stack.close()

    def _start_peer(self, identity: Identity, max_sessions: int, quoting: Quoting) -> None:
        member = self.roster.member(identity.peer_id)
        assert member is not None
        context = new_context()
        self._stack.callback(context.term)  # waits for the last thread that has a socket
        doorkeeper = self._stack.enter_context(Doorkeeper(context))
        mesh = RosterMesh(context, doorkeeper, identity, self.roster, member.mesh_endpoint)
        engines = Engines(self._compute, self._deal)
        settings = LinkSettings(timeout=10.0)
        around = Surroundings(context, doorkeeper, identity, mesh, "127.0.0.1", "127.0.0.1", settings, engines)
        node = Node(around, list(self.models), max_sessions, quoting)
        node.serve()
        self._stack.callback(node.close)

    def _serve(self, registry: Registry, sessions: Sessions) -> None:
        port = int(self.roster.coordinator.url.rpartition(":")[2])
        config = uvicorn.Config(
            make_app(self.roster, registry, sessions), port=port, log_config=None, access_log=False, lifespan="off"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(5)

        self._stack.callback(stop)
        while not server.started:
            assert thread.is_alive(), f"the coordinator could not listen on port {port}"
            time.sleep(0.01)

    def _compute(self, role: int, model: Any, links: ComputeLinks, limits: SessionLimits) -> Tally:
        with self._lock:
            committee = self.sessions.setdefault(links.session, Committee(VOCAB))
            committee.session = links.session
            self.limits.append(limits)
        committee.serve(role, links.client)
        links.dealer.send("end")
        return committee.tally(role)

    def _deal(self, model: Any, links: DealerLinks, limits: SessionLimits) -> None:
        for link in (links.peer0, links.peer1):
            link.receive("end", timeout=30)


def stand_in(cluster: ToyCluster) -> SimpleNamespace:
    """What `Client` needs of a `Cluster`."""
    return SimpleNamespace(url=cluster.roster.coordinator.url, roster_path=cluster.path, trace=None)
