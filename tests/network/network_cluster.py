"""Five peers of five operators, a coordinator and a client, each a machine of the lab, all real processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
from forms import HTTP_PORT, FormMaker
from lab import Holdings, Lab, Running

HERE = Path(__file__).parent
PEERS = ("alice", "bob", "carol", "dave", "erin")
START_SECONDS = 60.0


class NetworkCluster:
    """Up and whole when made; ends with its lab. `form` makes the arguments, see `forms`."""

    def __init__(self, lab: Lab, form: FormMaker) -> None:
        warm = "from tacit.kernels.warm import warm; warm()"  # side by side five peers would take five times as long
        subprocess.run([sys.executable, "-P", "-c", warm], check=True, timeout=300)
        self.lab = lab
        self.peers = {name: lab.add(name) for name in PEERS}
        self.hub, self.desk, self.street = lab.add("hub"), lab.add("desk"), lab.add("street")
        self.form = form(list(self.peers.values()), self.hub, [self.desk])
        self.servers: dict[str, Running] = {}
        for name in PEERS:
            self.start(name)
        self.start(self.hub.name)
        for running in self.servers.values():
            running.event(START_SECONDS)
        self.await_whole()
        self.asker = self.desk.start("asker", [sys.executable, str(HERE / "asker.py"), self.form.client(self.desk)])
        self.asker.event(START_SECONDS)

    def start(self, name: str) -> Running:
        """Start (again) what belongs on this node; the line that says it is ready is still to be read."""
        node = self.hub if name == self.hub.name else self.peers[name]
        if node is self.hub:
            script, arguments = "faulty_coordinator.py", self.form.coordinator(node)
        else:
            script, arguments = "faulty_peer.py", self.form.peer(node)
        found = node.start(name, [sys.executable, str(HERE / script), *arguments])
        self.servers[name] = found
        return found

    def status(self) -> dict[str, Any]:
        """What the coordinator tells the client's machine. Raises httpx2.HTTPError."""
        url = f"http://{self.hub.address}:{HTTP_PORT}/v1/status"
        found = self.desk.call(lambda: httpx2.get(url, timeout=5, trust_env=False))
        return dict(found.raise_for_status().json())

    def await_whole(self, seconds: float = START_SECONDS, idle: bool = True, without: str = "") -> None:
        """Until the coordinator sees all peers (but one), idle ones. Raises TimeoutError with what it saw instead."""
        deadline = time.monotonic() + seconds
        seen: object = None
        while time.monotonic() < deadline:
            try:
                seen = self.status()["peers"]
                live = {peer["name"] for peer in seen if peer["live"]}
                whole = live == set(PEERS) - {without}
                if whole and not (idle and any(peer["sessions"] for peer in seen)):
                    return
            except httpx2.HTTPError as error:
                seen = repr(error)
            time.sleep(0.05)
        raise TimeoutError(f"the cluster was not whole and idle within {seconds:.0f} s: {json.dumps(seen)}")

    def ask(self, prompt: str, max_new_tokens: int) -> None:
        """Begin an answer; what happens comes as events of `asker`."""
        self.asker.say(json.dumps({"prompt": prompt, "max_new_tokens": max_new_tokens}))

    def holdings(self, asker: bool = True) -> dict[tuple[str, int], Holdings]:
        """What every process that serves holds, and the one that asks (not while it does), by name and process id."""
        found = {}
        for one in (*self.servers.values(), *([self.asker] if asker else [])):
            one.say(json.dumps({"tell": True}) if one is self.asker else "tell")
            told = one.event(20)
            found[one.name, one.pid] = replace(one.holds(), heap=told["heap"] / (1 << 20), blocks=told["blocks"])
        return found

    def logs(self) -> str:
        """The last words of every process."""
        return "\n".join(f"--- {one.name}\n{one.tail(12)}" for one in (*self.servers.values(), self.asker))
