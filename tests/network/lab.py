"""A laboratory of network namespaces: machines of the test's own with addresses of their own, joined by one switch.

Each `Node` is a namespace with one interface, eth0 (10.77.0.x/24); see `tacit.coordinator.lines.namespaces`, which also
tells what happens to those of a test that crashed.

    with Lab(folder) as lab:
        alice = lab.add("alice")
        alice.start("peer", [sys.executable, "-P", "-m", ...])
        lab.cut(alice)                # the cable is out; neither end is told
        lab.slow(alice, kbit=2000)    # and so on: mend, kill, stop, go on
    lab.leaked                        # command lines of processes that were still there at the end
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from tacit.coordinator.lines import namespaces
from tacit.coordinator.lines.namespaces import Switch, call, fresh_prefix, ip, own_namespaces, remove, run_tool, sweep

__all__ = ["Holdings", "Lab", "LabError", "Node", "Running", "ip", "own_namespaces", "sweep", "why_not"]

SUBNET = "10.77.0"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")

T = TypeVar("T")


class LabError(Exception):
    """The laboratory itself does not work."""


def why_not() -> str | None:
    """Why there can be no laboratory here; None if there can be one."""
    return namespaces.why_not(("ip", "tc"))


@dataclass(frozen=True)
class Holdings:
    """What a process holds. Memory in MiB."""

    resident: float  # program and libraries included, which it shares with others
    private: float  # anonymous memory: heap and stacks, nobody else's
    threads: int
    files: int  # descriptors: sockets, pipes, files
    heap: float = 0.0  # in use, as the process itself tells
    blocks: int = 0  # objects of Python, as the process itself tells


class Running:
    """A process on a node. Its standard output is read line by line, its standard error goes to `log`."""

    def __init__(self, node: Node, name: str, command: Sequence[str], settings: Mapping[str, str]) -> None:
        self.node = node
        self.name = name
        self.command = list(command)
        self.log = node.folder / f"{name}.log"
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        with self.log.open("ab") as stderr:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", node.namespace, *command],  # becomes the command: same process id
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**node.environment, **settings},
                cwd=node.folder,
                start_new_session=True,
            )
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll()

    def line(self, seconds: float) -> str:
        """The next line of its output. Raises LabError, with the end of its log, if none comes."""
        try:
            found = self._lines.get(timeout=max(0.0, seconds))
        except queue.Empty:
            raise LabError(f"{self.name} said nothing for {seconds:.0f} s\n{self.tail()}") from None
        if found is None:
            raise LabError(f"{self.name} has ended ({self._process.wait()})\n{self.tail()}")
        return found

    def event(self, seconds: float) -> dict[str, Any]:
        """The next line, which is a JSON object."""
        line = self.line(seconds)
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise LabError(f"{self.name} said {line!r}, which is no JSON object\n{self.tail()}")
        return found

    def say(self, line: str) -> None:
        """One line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for the kernel to have done it."""
        self._process.kill()
        self._process.wait()

    def end(self, seconds: float = 5.0) -> int:
        """Ask it to end (SIGTERM), wait, insist. The exit status."""
        if self._process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()
        finally:
            if self._process.stdin is not None:
                with suppress(OSError):  # it may have gone before it read everything
                    self._process.stdin.close()

    def wait(self, seconds: float) -> int:
        """The exit status, once it ends of itself. Raises LabError if it does not."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} has not ended within {seconds:.0f} s\n{self.tail()}") from None

    def holds(self) -> Holdings:
        """What it holds at this moment. Raises LabError if it has ended."""
        place = Path(f"/proc/{self.pid}")
        try:
            rows = [line.split() for line in (place / "smaps_rollup").read_text().splitlines()[1:]]
            kib = {row[0]: int(row[1]) for row in rows}
            return Holdings(
                kib["Rss:"] / 1024,
                kib["Pss_Anon:"] / 1024,
                len(list((place / "task").iterdir())),
                len(list((place / "fd").iterdir())),
            )
        except OSError:
            raise LabError(f"{self.name} has ended\n{self.tail()}") from None

    def tail(self, lines: int = 30) -> str:
        with suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def _read(self, stdout: IO[bytes] | None) -> None:
        assert stdout is not None
        with stdout:
            for line in stdout:
                self._lines.put(line.decode(errors="replace").rstrip("\n"))
        self._lines.put(None)


class Node:
    """A machine of the lab: a namespace, an address, a home folder, processes."""

    def __init__(self, lab: Lab, name: str, number: int, address: str) -> None:
        self.name = name
        self.address = address
        self.namespace = f"{lab.prefix}-{name}"
        self.port = f"port{number}"  # its end of the cable at the switch
        self.folder = lab.folder / name
        self.folder.mkdir()
        self.running: list[Running] = []
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("TACIT_", "XDG_"))}
        self.environment = {
            **inherited,
            **ONE_THREAD,
            "HOME": str(self.folder),
            "TACIT_STATE": str(self.folder / "state"),
            "TACIT_RECEIPTS": str(self.folder / "receipts"),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def start(self, name: str, command: Sequence[str], settings: Mapping[str, str] | None = None) -> Running:
        """Start a process here."""
        found = Running(self, name, command, settings or {})
        self.running.append(found)
        return found

    def run(
        self, command: Sequence[str], seconds: float = 30.0, settings: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here to its end; text of both outputs."""
        return subprocess.run(
            ["ip", "netns", "exec", self.namespace, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            env={**self.environment, **(settings or {})},
            cwd=self.folder,
            check=False,
        )

    def call(self, function: Callable[[], T]) -> T:
        """`function()` with this node's network, in a thread of its own: sockets it opens belong to the node."""
        return call(self.namespace, function)

    def listening_ports(self) -> list[int]:
        """TCP ports that somebody listens on here."""
        rows = [line.split() for line in self.call(lambda: Path("/proc/thread-self/net/tcp").read_text()).splitlines()]
        listening = "0A"
        return sorted({int(row[1].rpartition(":")[2], 16) for row in rows[1:] if row[3] == listening})


class Lab:
    """Namespaces, made one by one with `add`, gone at the end of the `with`."""

    def __init__(self, folder: Path) -> None:
        """`folder`: an empty one, for the nodes' homes and logs."""
        self.folder = folder
        self.prefix = fresh_prefix()
        self._hub = f"{self.prefix}-switch"
        self.nodes: dict[str, Node] = {}
        self.leaked: list[str] = []

    def __enter__(self) -> Self:
        sweep()
        try:
            self._switch = Switch(self._hub)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def add(self, name: str, address: str = "") -> Node:
        """A new machine, connected; all addresses are in one network of 256."""
        number = len(self.nodes) + 1
        node = Node(self, name, number, address or f"{SUBNET}.{number}")
        self.nodes[name] = node
        self._switch.join(node.namespace, node.port, node.address)
        return node

    # What can befall a machine ---------------------------------------------------------------------------------------

    def cut(self, node: Node) -> None:
        """Partition: nothing gets through any more, in either direction, and nobody is told."""
        self._switch.pull(node.port)

    def mend(self, node: Node) -> None:
        self._switch.plug(node.port)

    def slow(self, node: Node, kbit: int, queue_ms: int = 400) -> None:
        """A slow line, both ways: so many kbit/s, and a queue of `queue_ms` in front of it (beyond: dropped)."""
        shape = ("root", "tbf", "rate", f"{kbit}kbit", "burst", "32kb", "latency", f"{queue_ms}ms")
        run_tool("tc", "-n", node.namespace, "qdisc", "replace", "dev", "eth0", *shape)
        run_tool("tc", "-n", self._hub, "qdisc", "replace", "dev", node.port, *shape)

    def quick(self, node: Node) -> None:
        """Undo `slow`."""
        run_tool("tc", "-n", node.namespace, "qdisc", "del", "dev", "eth0", "root")
        run_tool("tc", "-n", self._hub, "qdisc", "del", "dev", node.port, "root")

    def close(self) -> None:
        """End every process, note those that nobody had started in `leaked`, remove every namespace."""
        started = [one for node in self.nodes.values() for one in node.running]
        for one in started:
            if one.status is None:
                one.signal(signal.SIGCONT)
                one.signal(signal.SIGTERM)
        deadline = time.monotonic() + 5
        for one in started:
            one.end(max(0.1, deadline - time.monotonic()))
        for name in (*(node.namespace for node in self.nodes.values()), self._hub):
            self.leaked += remove(name)
