"""Many answers at once from real peers: each equals the undisturbed one, seats are spread, nothing is left behind.

TACIT_ALL=1: 20 sessions over 6 peers, with times and memory shown (pytest -s); else a slice of it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import tacit

ROOT = Path(__file__).resolve().parents[2]
MODEL = Path(os.environ.get("TACIT_TEST_MODELS", ROOT.parent / "shared" / "models")) / "stories260K"
ALL = bool(os.environ.get("TACIT_ALL"))
SESSIONS, TOKENS, PEERS = (20, 48, 6) if ALL else (6, 8, 6)
PROMPTS = ("Once upon a time", "The big dog", "Lily saw a bird", "One day, a little boy")

pytestmark = [
    pytest.mark.skipif(not MODEL.exists(), reason=f"no checkpoint at {MODEL}"),
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="threads and descriptors are counted in /proc"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TACIT_STATE", str(tmp_path_factory.mktemp("state")))
        patch.delenv("TACIT_CLUSTER", raising=False)
        with tacit.Cluster(model=MODEL, peers=PEERS) as found:
            yield found


def held(pid: int) -> tuple[int, int]:
    """Threads and descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))


def resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM:"))


def at_once(cluster: tacit.Cluster, count: int) -> tuple[list[tacit.Completion | BaseException], list[float]]:
    """`count` answers, each of a client of its own, asked for at the same time; and how long each took."""
    found: list[tacit.Completion | BaseException] = [RuntimeError("never came")] * count
    seconds = [0.0] * count
    go = threading.Barrier(count)

    def ask(number: int) -> None:
        try:
            with tacit.Client(cluster) as client:
                go.wait(60)
                started = time.monotonic()
                found[number] = client.complete(PROMPTS[number % len(PROMPTS)], max_new_tokens=TOKENS)
                seconds[number] = time.monotonic() - started
        except BaseException as error:  # noqa: BLE001  the test looks at it
            found[number] = error

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(280)
    assert not any(thread.is_alive() for thread in threads)
    return found, seconds


def test_many_sessions_at_once_are_each_as_if_alone(cluster: tacit.Cluster) -> None:
    with tacit.Client(cluster) as client:
        alone = [client.complete(prompt, max_new_tokens=TOKENS) for prompt in PROMPTS]
        before = client.status()
    expected = json.loads((MODEL / "expected.json").read_text())["greedy_new_ids"]
    assert list(alone[0].token_ids) == expected[:TOKENS]
    started = time.monotonic()
    found, seconds = at_once(cluster, SESSIONS)
    whole = time.monotonic() - started
    assert [one for one in found if isinstance(one, BaseException)] == []
    for number, one in enumerate(found):
        assert isinstance(one, tacit.Completion)
        assert one.token_ids == alone[number % len(PROMPTS)].token_ids
        assert one.resumes == (), "a busy peer was taken for a lost one"
        assert one.receipts[0].transcript == one.receipts[1].transcript
    with tacit.Client(cluster) as client:
        assert client.status()["sessions"]["opened"] == before["sessions"]["opened"] + SESSIONS
    seats = Counter(name for one in found if isinstance(one, tacit.Completion) for name in one.peers)
    assert len(seats) == PEERS
    assert max(seats.values()) - min(seats.values()) <= max(2, SESSIONS // 5), seats
    peaks = [resident(one.pid) for one in cluster.processes]
    print(
        f"{SESSIONS} sessions of {TOKENS} tokens over {PEERS} peers: {whole:.1f} s in all, each {min(seconds):.1f} to "
        f"{max(seconds):.1f} s; seats {sorted(seats.values())}; peak memory of a process {min(peaks)} to {max(peaks)} MB"
    )


def test_nothing_is_left_of_them(cluster: tacit.Cluster) -> None:
    """Once as many were there, more of them leave no thread and no descriptor behind, in any process."""
    pids = {one.name: one.pid for one in cluster.processes}
    own = os.getpid()
    settled(cluster)
    before = {name: held(pid) for name, pid in pids.items()} | {"client": held(own)}
    found, _ = at_once(cluster, SESSIONS // 2)
    assert [one for one in found if isinstance(one, BaseException)] == []
    settled(cluster)
    deadline = time.monotonic() + 10
    while True:
        after = {name: held(pid) for name, pid in pids.items()} | {"client": held(own)}
        more = {name: (before[name], now) for name, now in after.items() if grown(before[name], now)}
        if not more:
            break
        assert time.monotonic() < deadline, more
        time.sleep(0.2)
    cluster.check()


def grown(before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Beyond what pools and idle connections of the mesh may add."""
    return after[0] > before[0] + 4 or after[1] > before[1] + 8


def settled(cluster: tacit.Cluster) -> None:
    deadline = time.monotonic() + 10
    with tacit.Client(cluster) as client:
        while any(peer["sessions"] for peer in client.status()["peers"]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
