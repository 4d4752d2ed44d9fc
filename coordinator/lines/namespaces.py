"""Network namespaces of this process: machines with a network of their own, joined by a switch; Linux, as root.

A switch is a bridge in a namespace of its own; a namespace that is joined to it has one interface, eth0, whose other end is
a port of the bridge. So nothing of the host's network is touched, and nothing in there can reach the host.

Names hold this process's id and start time, so that whatever a process that was killed has left behind (namespaces, and the
processes in them) is found and removed by the next one that makes some, and those of a running process are not.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from ...errors import ConfigError

PREFIX = "tacitnet"
CLONE_NEWNET = 0x40000000
_TOOL_SECONDS = 20.0

T = TypeVar("T")
_serial = itertools.count()


def why_not(tools: Sequence[str] = ("ip",)) -> str | None:
    """Why there can be no namespaces here; None if there can be."""
    for tool in tools:
        if shutil.which(tool) is None:
            return f"no `{tool}` here (package iproute2)"
    name = fresh_prefix()
    try:
        ip("netns", "add", name)
        try:
            ip("-n", name, "link", "set", "lo", "up")
        finally:
            ip("netns", "del", name)
    except ConfigError as error:
        return f"network namespaces cannot be made here: {error}; they take root on Linux"
    return None


def ip(*arguments: str) -> str:
    """Run ip(8). Raises ConfigError with what it said."""
    return run_tool("ip", *arguments)


def run_tool(*words: str) -> str:
    """Run a tool to its end; what it said. Raises ConfigError."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_TOOL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{' '.join(words)}: {error}") from None
    if done.returncode:
        raise ConfigError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Switch:
    """A bridge that namespaces are joined to by a cable each."""

    def __init__(self, namespace: str) -> None:
        """Raises ConfigError; `remove(namespace)` is its end."""
        self.namespace = namespace
        ip("netns", "add", namespace)
        self.ip("link", "add", "switch", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        self.ip("link", "set", "switch", "up")

    def join(self, namespace: str, port: str, address: str) -> None:
        """Make a namespace with `address` (IPv4, in a network of 256) on its eth0; `port` is the cable's end here."""
        ip("netns", "add", namespace)
        self.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        self.plug(port)
        for words in (
            ("link", "set", "lo", "up"),
            ("address", "add", f"{address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
        ):
            ip("-n", namespace, *words)

    def plug(self, port: str) -> None:
        self.ip("link", "set", port, "master", "switch", "up")

    def pull(self, port: str) -> None:
        """Nothing gets through any more, in either direction, and nobody is told."""
        self.ip("link", "set", port, "nomaster")

    def ip(self, *words: str) -> None:
        ip("-n", self.namespace, *words)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """The calling thread, and threads that it starts meanwhile, have the network of `namespace`. Raises ConfigError.

    A ZeroMQ context must be made in there: its own threads open the sockets.
    """
    with Path("/proc/thread-self/ns/net").open("rb") as own:
        try:
            with Path(f"/run/netns/{namespace}").open("rb") as place:
                _enter(place.fileno(), namespace)
        except OSError as error:
            raise ConfigError(f"{namespace}: there is no such network namespace: {error.strerror}") from None
        try:
            yield
        finally:
            _enter(own.fileno(), "the network before")


def call(namespace: str, function: Callable[[], T]) -> T:
    """`function()` with the network of `namespace`, in a thread of its own: sockets it opens belong there."""

    def there() -> T:
        with inside(namespace):
            return function()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(there).result()


def fresh_prefix() -> str:
    """For the names of namespaces of one purpose of this process."""
    return f"{_own_prefix()}-{next(_serial)}"


def sweep() -> None:
    """Remove namespaces, and end the processes in them, whose maker is no more."""
    for name in namespaces():
        found = re.match(rf"{PREFIX}-(\d+)-(\d+)-", name)
        if found and _started(int(found[1])) != found[2]:
            remove(name)


def namespaces() -> list[str]:
    """The names of all namespaces made here, anybody's."""
    return [line.split()[0] for line in ip("netns", "list").splitlines() if line.startswith(f"{PREFIX}-")]


def own_namespaces() -> list[str]:
    return [name for name in namespaces() if name.startswith(f"{_own_prefix()}-")]


def remove(name: str) -> list[str]:
    """Delete a namespace; the command lines of processes that had to be ended for it."""
    if name not in namespaces():
        return []
    ended = []
    for pid in ip("netns", "pids", name).split():
        if int(pid) == os.getpid():
            continue  # a thread of ours is just leaving
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            os.kill(int(pid), signal.SIGKILL)
            ended.append(words)
    ip("netns", "del", name)
    return ended


def _enter(descriptor: int, name: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET):
        raise ConfigError(f"{name}: cannot be entered: {os.strerror(ctypes.get_errno())}")


def _own_prefix() -> str:
    return f"{PREFIX}-{os.getpid()}-{_started(os.getpid())}"


def _started(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; None if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
