"""The laboratory itself: machines that reach each other, cables that can be pulled, nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from lab import Lab, LabError, Node, own_namespaces, sweep, why_not

pytestmark = pytest.mark.skipif(bool(reason := why_not()), reason=str(reason))
SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


@pytest.fixture
def lab(tmp_path):
    with Lab(tmp_path) as found:
        yield found
    assert own_namespaces() == []


def listener(node: Node) -> socket.socket:
    return node.call(lambda: socket.create_server((node.address, 0)))


def reaches(node: Node, server: socket.socket) -> bool:
    address = server.getsockname()
    try:
        node.call(lambda: socket.create_connection(address, timeout=0.5)).close()
    except OSError:
        return False
    return True


def test_nodes_reach_each_other_until_the_cable_is_pulled(lab):
    alice, bob = lab.add("alice"), lab.add("bob")
    with closing(listener(bob)) as server:
        assert reaches(alice, server)
        lab.cut(bob)
        assert not reaches(alice, server)
        lab.mend(bob)
        assert reaches(alice, server)


def test_nodes_do_not_reach_the_host_nor_the_host_them(lab):
    alice = lab.add("alice")
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        assert not reaches(alice, server)
    with closing(listener(alice)) as server, pytest.raises(OSError, match=r"timed out|unreachable|refused"):
        socket.create_connection(server.getsockname(), timeout=0.3)


def test_a_slow_line_is_slow_both_ways(lab):
    alice, bob = lab.add("alice"), lab.add("bob")
    payload = b"x" * 80_000

    def seconds(sender: Node, receiver: Node) -> float:
        with closing(listener(receiver)) as server:
            started = time.monotonic()
            out = sender.call(lambda: socket.create_connection(server.getsockname(), timeout=5))
            with closing(out), closing(server.accept()[0]) as arriving:
                out.sendall(payload)
                left = len(payload)
                while left:
                    left -= len(arriving.recv(left))
            return time.monotonic() - started

    lab.slow(bob, kbit=1000)  # what is beyond the burst of 32 KiB takes 0.38 s
    assert seconds(alice, bob) > 0.3
    assert seconds(bob, alice) > 0.3
    lab.quick(bob)
    assert seconds(alice, bob) < 0.3


def test_processes_are_stopped_killed_and_ended(lab):
    alice = lab.add("alice")
    first, second = (alice.start(name, SLEEP) for name in ("first", "second"))
    assert [one.line(10) for one in (first, second)] == ["up", "up"]
    assert first.holds().resident > first.holds().private > 1
    assert first.holds().threads == 1
    second.kill()
    assert second.status == -signal.SIGKILL
    with pytest.raises(LabError, match="second has ended"):
        second.line(1)
    with pytest.raises(LabError, match="second has ended"):
        second.holds()
    first.signal(signal.SIGSTOP)
    lab.close()
    assert first.status == -signal.SIGTERM
    assert lab.leaked == []


def test_a_process_that_nobody_started_is_ended_and_told(lab):
    alice = lab.add("alice")
    stray = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(61)'])"
    alice.start("parent", [sys.executable, "-c", stray]).wait(10)
    lab.close()
    [told] = lab.leaked
    assert "time.sleep(61)" in told


def test_what_a_crashed_test_left_behind_is_swept_away(tmp_path):
    code = (
        f"import os, sys, pathlib; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from lab import Lab\n"
        f"lab = Lab(pathlib.Path({str(tmp_path)!r})); lab.__enter__()\n"
        f"running = lab.add('alice').start('sleep', {SLEEP!r}); running.line(10)\n"
        "print(lab.prefix, running.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    prefix, pid = done.stdout.split()
    assert done.returncode == -signal.SIGKILL

    def left() -> bool:
        names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        return prefix in names

    assert left()
    sweep()
    assert not left()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            break
        if "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]:
            break  # dead; whoever is init here has not looked yet
        time.sleep(0.02)
    else:
        pytest.fail(f"process {pid} of the crashed test is still there")
