"""Lines of the kernel's own: what packets and TCP see of a profile, and that nothing is left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from tacit.coordinator.lines import lay
from tacit.coordinator.lines.lay import FORWARDER, KernelLines
from tacit.coordinator.lines.namespaces import call, own_namespaces, sweep
from tacit.errors import NetworkError, UsageError
from tacit.network import Network, Profile, pair

pytestmark = pytest.mark.skipif(bool(reason := lay.why_not()), reason=str(reason))
SO_TIMESTAMPNS = 35


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    assert own_namespaces() == []


def network(*texts: str) -> Network:
    return Network.parse(texts)


def lateness(lines: KernelLines, sender: str, receiver: str, count: int = 60, gap: float = 0.003) -> list[float]:
    """Milliseconds that each of `count` datagrams was under way; what does not arrive is not in it.

    The kernel says when one came in, so that it does not matter when this process gets to run.
    """
    with lines.inside(receiver):
        inbox = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        inbox.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        inbox.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # it is read when all are sent
        inbox.bind((lines.address[receiver], 0))
    with lines.inside(sender):
        outbox = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with closing(inbox), closing(outbox):
        for _ in range(count):
            outbox.sendto(struct.pack("q60x", time.time_ns()), inbox.getsockname())
            time.sleep(gap)
        inbox.settimeout(0.3)
        found = []
        with suppress(TimeoutError):
            while len(found) < count:
                body, [(_, _, stamp)], _, _ = inbox.recvmsg(100, 64)
                seconds, nanoseconds = struct.unpack("qq", stamp)
                found.append((10**9 * seconds + nanoseconds - struct.unpack("q60x", body)[0]) / 1e6)
    return found


def seconds_for(lines: KernelLines, sender: str, receiver: str, size: int) -> float:
    """From connected to all there, over TCP."""
    with ExitStack() as stack:
        with lines.inside(receiver):
            server = stack.enter_context(socket.create_server((lines.address[receiver], 0)))
        with lines.inside(sender):
            out = stack.enter_context(socket.create_connection(server.getsockname(), timeout=5))
        arriving = stack.enter_context(server.accept()[0])
        arriving.settimeout(20)
        thread = threading.Thread(target=out.sendall, args=(bytes(size),))
        started = time.monotonic()
        thread.start()
        left = size
        while left:
            left -= len(arriving.recv(min(left, 1 << 18)))
        took = time.monotonic() - started
        thread.join()
        return took


def test_a_datagram_takes_half_a_round_trip_each_way_and_each_pair_has_a_line_of_its_own():
    with KernelLines(network("wan", "a:c=rtt=10ms"), ("a", "b", "c")) as lines:
        for sender, receiver, due in (("a", "b", 20), ("b", "a", 20), ("c", "a", 5), ("b", "c", 20)):
            late = lateness(lines, sender, receiver, 40)
            assert len(late) == 40
            assert min(late) >= due
            assert statistics.median(late) == pytest.approx(due, abs=0.5)
        assert all(one.faithful for one in lines.counts())
        [there, back, *_] = lines.counts()
        assert there.carried == back.carried == 40


def test_nothing_slows_down_what_takes_the_plain_addresses():
    with KernelLines(network("wan"), ("a", "b")) as lines:
        with lines.inside("b"):
            server = socket.create_server((lines.plain_address["b"], 0))
        with closing(server):
            started = time.monotonic()
            call(lines.namespaces["a"], lambda: socket.create_connection(server.getsockname(), timeout=2)).close()
            assert time.monotonic() - started < 0.02


def test_a_stream_gets_the_bandwidth_less_what_frames_and_tcp_take():
    with KernelLines(network("rtt=4ms,bandwidth=100mbit"), ("a", "b")) as lines:
        size = 4 << 20
        best = min(seconds_for(lines, "a", "b", size) for _ in range(3))
        assert (
            88e6 < 8 * size / best < 95.7e6
        )  # 95.6 % at most; the rest is TCP's beginning, and its packets lost in the queue


def test_tcp_starts_slowly_on_a_long_line():
    with KernelLines(network("rtt=60ms,bandwidth=100mbit"), ("a", "b")) as lines:
        took = min(seconds_for(lines, "a", "b", 1 << 20) for _ in range(2))
        at_once = 0.030 + 8 * 1.046 * (1 << 20) / 100e6
        assert at_once + 2 * 0.060 < took < at_once + 8 * 0.060


def test_jitter_and_loss_are_as_stated():
    with KernelLines(network("rtt=20ms,jitter=5ms,loss=10%"), ("a", "b")) as lines:
        count, gap = 400, 0.002
        late = lateness(lines, "a", "b", count, gap)
        assert 0.05 * count < count - len(late) < 0.16 * count  # 40, give or take four standard deviations
        assert min(late) >= 5
        assert statistics.quantiles(late, n=20)[-1] < 15.5  # 15 at most, and what it takes to send
        assert 10 < statistics.mean(late) < 13  # 10 were they far apart; one that is late holds up those behind it


def test_a_change_holds_from_the_next_packet_on():
    with KernelLines(network("wan"), ("a", "b", "c")) as lines:
        assert statistics.median(lateness(lines, "a", "b", 20)) == pytest.approx(20, abs=0.5)
        started = time.monotonic()
        lines.set(network("wan").changed(pair("a:b"), Profile.parse("rtt=6ms")))
        assert time.monotonic() - started < 0.1
        assert statistics.median(lateness(lines, "a", "b", 20)) == pytest.approx(3, abs=0.5)
        assert statistics.median(lateness(lines, "a", "c", 20)) == pytest.approx(20, abs=0.5)
        if lines.how == FORWARDER:
            with pytest.raises(UsageError, match="faster than a TUN forwarder"):
                lines.set(network("lan"))


def test_a_forwarder_that_is_killed_is_told_of_and_nothing_is_left():
    with KernelLines(network("wan"), ("a", "b")) as lines:
        if lines.how != FORWARDER:
            pytest.skip("this kernel has netem, there is no forwarder")
        os.kill(lines._forwarder.pid, signal.SIGKILL)
        with pytest.raises(NetworkError, match="forwarder of the lines: it has ended"):
            lines.counts()
        devices = call(lines.namespaces["a"], lambda: Path("/proc/thread-self/net/dev").read_text())
        assert "line0" not in devices


def test_what_a_killed_process_left_behind_is_swept_away_and_its_forwarder_ends():
    code = (
        "import os\n"
        "from tacit.coordinator.lines.lay import KernelLines\n"
        "from tacit.network import Network, Profile\n"
        "lines = KernelLines(Network(Profile.parse('wan')), ('a', 'b')).__enter__()\n"
        "print(lines.namespaces['a'], lines._forwarder.pid if lines._forwarder else 0, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    namespace, forwarder = done.stdout.split()

    def listed() -> bool:
        return namespace in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout

    assert listed()
    sweep()
    assert not listed()
    deadline = time.monotonic() + 5
    while forwarder != "0" and _runs(int(forwarder)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no `setpriv` here (package util-linux)")
@pytest.mark.parametrize("without", ["-all", "-net_admin", "-sys_admin"])
def test_without_privileges_it_says_so(without):
    code = (
        "from tacit.coordinator.lines.lay import KernelLines\n"
        "from tacit.errors import ConfigError\n"
        "from tacit.network import Network, Profile\n"
        "try:\n"
        "    KernelLines(Network(Profile.parse('wan')), ('a', 'b'))\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    unprivileged = ["setpriv", f"--bounding-set={without}", f"--inh-caps={without}"]
    done = subprocess.run([*unprivileged, sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60)
    assert re.fullmatch("lines of the kernel's own cannot be laid here: .* they take root on Linux\n", done.stdout)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
