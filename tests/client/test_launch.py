"""The launcher: everything up or nothing, found by others while it lives, tidy however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tacit
from tacit.client import launch, process, state
from tacit.client.process import Child
from tacit.errors import ConfigError, ModelError, NetworkError, UsageError

HERE = Path(__file__).parent


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Clusters of toy peers, in a state directory of their own."""
    monkeypatch.setenv("TACIT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.delenv("TACIT_CLUSTER", raising=False)
    monkeypatch.setattr(launch, "PEER_MODULE", "toy_peer")
    monkeypatch.setattr(launch, "is_warm", lambda: True)
    return tmp_path / "state"


def gone(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z" if Path("/proc").exists() else False
    return True


def soon(condition, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def folders(state_directory: Path) -> list[Path]:
    return [entry for entry in state_directory.iterdir() if entry.is_dir()]


def test_a_cluster_comes_up_is_found_and_goes_down_without_a_trace(toy):
    said: list[str] = []
    with tacit.Cluster().start(said.append) as cluster:
        assert [one.name for one in cluster.processes] == ["peer-0", "peer-1", "peer-2", "coordinator"]
        assert said == ["starting coordinator and peers"]
        [folder] = folders(toy)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert all(one.stat().st_mode & 0o777 == 0o600 for one in folder.glob("*.identity"))
        [found] = state.running()
        assert (found.pid, found.roster) == (os.getpid(), str(cluster.roster_path))
        with tacit.Client() as client:  # finds it by itself
            assert client.models() == ["toy"]
            assert all(peer["live"] for peer in client.status()["peers"])
        with pytest.raises(UsageError, match="already running"):
            cluster.start()
        cluster.check()
        pids = [one.pid for one in cluster.processes]
    assert all(gone(pid) for pid in pids)
    assert folders(toy) == []
    assert state.running() == []
    cluster.stop()


def test_a_program_that_never_stops_its_cluster_leaves_no_trace(toy):
    code = """
import tacit
from tacit.client import launch
launch.PEER_MODULE, launch.is_warm = "toy_peer", lambda: True
client = tacit.Client()
print(client.models(), *(peer["name"] for peer in client.status()["peers"]))
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "['toy'] peer-0 peer-1 peer-2\n", done.stderr
    assert done.stderr == ""
    assert folders(toy) == []


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("error", ModelError, "peer-1: toy: the weights are damaged"),
        ("crash", NetworkError, "peer-1 ended with exit status 3 before it was ready: something went very wrong"),
        ("babble", NetworkError, "peer-1 said 'hello'"),
        ("silence", NetworkError, "peer-1 was not ready in time"),
    ],
)
def test_if_one_fails_to_start_none_stays_and_the_reason_is_told(toy, monkeypatch, how, kind, words):
    monkeypatch.setenv("TOY_FAILS", f"peer-1:{how}")
    if how == "silence":
        monkeypatch.setattr(launch, "_READY_SECONDS", 4.0)
    started: list[int] = []
    real = Child.__init__

    def watch(self, *arguments):
        real(self, *arguments)
        started.append(self.pid)

    monkeypatch.setattr(Child, "__init__", watch)
    with pytest.raises(kind) as caught:
        tacit.Cluster().start()
    assert words in str(caught.value)
    assert len(started) == 4
    assert all(gone(pid) for pid in started)
    assert folders(toy) == []


def test_a_port_in_use_is_named(toy):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NetworkError, match=f"coordinator: .*{port}.*in use"):
            tacit.Cluster(port=port).start()
    assert folders(toy) == []


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(UsageError, match="2 peers"):
        tacit.Cluster(peers=2)
    with pytest.raises(UsageError, match="70000"):
        tacit.Cluster(port=70000)
    with pytest.raises(UsageError, match="not running"):
        tacit.Client(tacit.Cluster())


def test_a_state_directory_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TACIT_STATE", str(tmp_path / "file" / "state"))
    with pytest.raises(ConfigError, match="TACIT_STATE"):
        state.ClusterFolder()


def up(toy: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """`tacit up` with toy peers, as a process, once it is ready, and what it showed."""
    code = (
        "from tacit.client import launch, cli\n"
        "launch.PEER_MODULE, launch.is_warm = 'toy_peer', lambda: True\n"
        f"import sys; sys.argv = ['tacit', 'up', *{arguments!r}]\n"
        "cli.main()\n"
    )
    found = subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert found.stdout is not None
    shown: list[str] = []
    while not (shown and shown[-1].startswith("Ready")):
        shown.append(found.stdout.readline())
        assert shown[-1], found.communicate(timeout=5)
    return found, "".join(shown)


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


needs_proc = pytest.mark.skipif(
    not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists(), reason="children are looked up in /proc"
)


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_shows_its_processes_and_ends_tidily_on_a_signal(toy, number):
    process_, shown = up(toy, "--peers", "4")
    pids = children(process_.pid)
    assert len(pids) == 5
    process_.send_signal(number)
    _, err = process_.communicate(timeout=10)
    assert process_.returncode == 0
    for word in ("peer-0", "peer-3", "coordinator", "http://127.0.0.1:", *map(str, pids)):
        assert word in shown
    assert "Traceback" not in err
    assert all(gone(pid) for pid in pids)
    assert folders(toy) == []


@needs_proc
def test_up_ends_and_says_why_when_a_process_is_killed(toy):
    process_, _ = up(toy)
    pids = children(process_.pid)
    os.kill(pids[1], signal.SIGKILL)
    _, err = process_.communicate(timeout=15)
    assert process_.returncode == 1
    assert err.strip().splitlines()[-1] == "error: peer-1: was killed (SIGKILL)"
    assert all(gone(pid) for pid in pids)
    assert folders(toy) == []


@needs_proc
def test_up_goes_on_while_three_peers_are_left_and_says_who_ended(toy):
    process_, _ = up(toy, "--peers", "4")
    pids = children(process_.pid)
    os.kill(pids[1], signal.SIGKILL)
    assert process_.stderr is not None
    said = ""
    while "peer-1" not in said:
        said = process_.stderr.readline()
    assert said == "peer-1 was killed (SIGKILL); 3 peers go on without it\n"
    assert process_.poll() is None
    os.kill(pids[3], signal.SIGKILL)
    _, err = process_.communicate(timeout=15)
    assert process_.returncode == 1
    assert err.strip().splitlines()[-1] == "error: peer-3: was killed (SIGKILL)"
    assert all(gone(pid) for pid in pids)


def line_with(process_, words: str) -> str:
    said = ""
    while words not in said:
        said = process_.stderr.readline()
        assert said, "nothing more is said"
    return said


@needs_proc
def test_up_starts_its_coordinator_again_until_it_dies_too_often(toy):
    process_, _ = up(toy)
    before = children(process_.pid)
    [found] = state.running()
    roster = Path(found.roster).read_bytes()
    for _ in range(launch.RESTARTS):
        [now] = [pid for pid in children(process_.pid) if pid not in before[:3]]
        os.kill(now, signal.SIGKILL)
        killed = time.monotonic()
        said = line_with(process_, "coordinator was")
        assert said == "coordinator was killed (SIGKILL); it was started again, answers were not disturbed\n"
        with tacit.Client() as client:
            assert soon(lambda client=client: client.models() == ["toy"], 5)
        assert time.monotonic() - killed < 6
    assert Path(found.roster).read_bytes() == roster
    assert children(process_.pid)[:3] == before[:3]
    [now] = [pid for pid in children(process_.pid) if pid not in before[:3]]
    os.kill(now, signal.SIGKILL)
    _, err = process_.communicate(timeout=15)
    assert process_.returncode == 1
    last = err.strip().splitlines()[-1]
    assert last == "error: coordinator: was killed (SIGKILL), for the 4th time within 60 s"
    assert all(gone(pid) for pid in [*before, now])
    assert folders(toy) == []


@needs_proc
def test_children_do_not_outlive_a_launcher_that_is_killed(toy):
    process_, _ = up(toy)
    pids = children(process_.pid)
    process_.kill()
    process_.communicate(timeout=10)
    assert soon(lambda: all(gone(pid) for pid in pids), 5)
    assert state.running() == []
    [left] = folders(toy)
    os.utime(left, (0, 0))  # not a folder in the making
    assert state.running() == []
    assert folders(toy) == []


def test_the_newest_cluster_is_found_first_and_nonsense_is_passed_over(toy):
    with state.ClusterFolder() as first, state.ClusterFolder() as second, state.ClusterFolder() as third:
        first.announce("http://127.0.0.1:1", Path("first.json"))
        time.sleep(0.01)
        second.announce("http://127.0.0.1:2", Path("second.json"))
        (third.path / "running.json").write_text('{"pid": 1}')
        assert [word.roster for word in state.running()] == ["second.json", "first.json"]
    assert state.running() == []


def test_preparing_kernels_reports_what_went_wrong():
    process.run_to_end("print('fine')", 30.0)
    with pytest.raises(NetworkError, match="ValueError: no compiler"):
        process.run_to_end("raise ValueError('no compiler')", 30.0)
    with pytest.raises(NetworkError, match=r"longer than 0\.5 s"):
        process.run_to_end("import time; time.sleep(20)", 0.5)
