"""Peers and a coordinator as real processes around the echo engine, and a client for them."""

from __future__ import annotations

import json
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import zmq
from tacit.members import CoordinatorEntry, Roster, RosterMember
from tacit.party.identity import Identity
from tacit.records import error_from_json
from tacit.sizes import Sizes
from tacit.transport import ClientLinks, CurveKeys, LinkSettings, dial_peers
from tacit.wire import SessionReply, SessionRequest, check_statements

HERE = Path(__file__).parent


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def make_roster(identities: dict[str, Identity], ports: list[int], own: bool = False) -> Roster:
    coordinator = identities["coordinator"]
    return Roster(
        cluster="echo",
        own=own,
        coordinator=CoordinatorEntry(
            name="coordinator",
            url=f"http://127.0.0.1:{ports[-1]}",
            peer_id=coordinator.peer_id,
            mesh_key=coordinator.mesh_key,
        ),
        members=tuple(
            RosterMember(
                name=name,
                operator=f"operator of {name}",
                peer_id=identity.peer_id,
                mesh_endpoint=f"tcp://127.0.0.1:{port}",
                mesh_key=identity.mesh_key,
            )
            for (name, identity), port in zip(
                ((name, identity) for name, identity in identities.items() if name != "coordinator"),
                ports,
                strict=False,
            )
        ),
    )


class EchoCluster:
    """`peers` peers and a coordinator, ready when made; `stop()` ends them all and returns their exit statuses."""

    def __init__(self, folder: Path, peers: int = 3, options: tuple[str, ...] = (), models: str = "echo") -> None:
        self.folder = folder
        self.models = models
        names = [f"peer-{number}" for number in range(peers)]
        self.identities = {name: Identity.create() for name in (*names, "coordinator")}
        self.roster = make_roster(self.identities, free_ports(peers + 1))
        self.roster_path = folder / "cluster.json"
        self.roster.save(self.roster_path)
        self.processes: dict[str, subprocess.Popen[str]] = {}
        for name, identity in self.identities.items():
            identity.save(folder / f"{name}.identity")
        try:
            for name in names:
                self.start(name, *options)
            self.start("coordinator")
            for name in self.processes:
                self.ready(name)
            self.http = httpx2.Client(base_url=self.roster.coordinator.url, trust_env=False, timeout=20)
            while not self.http.get("/v1/models").json():
                pass
        except BaseException:
            self.stop()
            raise

    def start(self, name: str, *options: str) -> None:
        common = ["--identity", str(self.folder / f"{name}.identity"), "--roster", str(self.roster_path), *options]
        if name == "coordinator":
            port = self.roster.coordinator.url.rpartition(":")[2]
            command = [sys.executable, "-P", "-m", "tacit.coordinator.server", *common, "--port", port]
        else:
            command = [sys.executable, "-P", str(HERE / "echo_peer.py"), self.models, *common]
        with self.log(name).open("a") as log:
            self.processes[name] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def ready(self, name: str) -> dict[str, Any]:
        stdout = self.processes[name].stdout
        assert stdout is not None
        return json.loads(stdout.readline())["ready"]

    def name_in_role(self, links: EchoSession, role: int) -> str:
        member = self.roster.member(links.peer_ids[role])
        assert member is not None
        return member.name

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        self.processes[name].send_signal(number)

    def session(self, prompt_tokens: int = 4, max_new_tokens: int = 8) -> EchoSession:
        return EchoSession(self, prompt_tokens, max_new_tokens)

    def status_of(self, name: str) -> dict[str, Any]:
        peers = self.http.get("/v1/status").json()["peers"]
        return next(peer for peer in peers if peer["name"] == name)

    def stop(self) -> dict[str, int]:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        found = {}
        for name, process in self.processes.items():
            try:
                found[name] = process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                found[name] = process.wait()
            if process.stdout is not None:
                process.stdout.close()
        return found


class EchoSession:
    """A client's session: request, check, dial. Close with `close`."""

    def __init__(self, cluster: EchoCluster, prompt_tokens: int, max_new_tokens: int) -> None:
        keys = CurveKeys.fresh()
        model = cluster.models.split(",")[0]
        request = SessionRequest(
            secrets.token_hex(16), keys.public, model, "pair", Sizes.of([prompt_tokens], max_new_tokens)
        )
        response = cluster.http.post("/v1/sessions", content=request.to_bytes())
        if response.status_code != 200:
            raise error_from_json(response.json()["error"], "coordinator")
        reply = SessionReply.from_bytes(response.content, "coordinator")
        statements = check_statements(request, reply, cluster.roster)
        self.request, self.reply, self.statements = request, reply, statements
        self.peer_ids = statements[0].peers
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self.links: ClientLinks = dial_peers(
                self.context, statements, cluster.roster, keys, LinkSettings(timeout=10)
            )
        except BaseException:
            self.context.term()
            raise

    def close(self) -> None:
        self.links.close()
        self.context.term()
