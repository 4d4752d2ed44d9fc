"""A coordinator killed in the middle of an answer: the answer goes on, and the next one finds it started again."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import tacit
from tacit.client import launch

ROOT = Path(__file__).resolve().parents[2]
MODEL = Path(os.environ.get("TACIT_TEST_MODELS", ROOT.parent / "shared" / "models")) / "stories260K"
PROMPT = "Once upon a time"

pytestmark = pytest.mark.skipif(not MODEL.exists(), reason=f"no checkpoint at {MODEL}")


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("TACIT_STATE", str(tmp_path))
    monkeypatch.delenv("TACIT_CLUSTER", raising=False)
    with tacit.Cluster(model=MODEL) as found:
        yield found


class Watch:
    """`Cluster.wait` in a thread; how it ended."""

    def __init__(self, cluster: tacit.Cluster) -> None:
        self.said: list[str] = []
        self.error: tacit.TacitError | None = None
        self._cluster = cluster
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._cluster.wait(self.said.append)
        except tacit.TacitError as error:
            self.error = error
            self._cluster.stop()


def kill_coordinator(cluster: tacit.Cluster) -> None:
    [pid] = [one.pid for one in cluster.processes if one.name == launch.COORDINATOR]
    os.kill(pid, signal.SIGKILL)


def expected(count: int) -> list[int]:
    return json.loads((MODEL / "expected.json").read_text())["greedy_new_ids"][:count]


def test_a_killed_coordinator_disturbs_no_answer_and_comes_back(cluster):
    watch = Watch(cluster)
    with tacit.Client(cluster) as client:
        answer = client.generate(PROMPT, max_new_tokens=64)
        for _ in range(4):
            next(answer)
        kill_coordinator(cluster)
        killed = time.monotonic()
        while True:  # the next question, while the first answer waits
            try:
                second = client.complete(PROMPT, max_new_tokens=4)
                break
            except (tacit.NetworkError, tacit.UsageError, tacit.RefusedError):
                assert time.monotonic() - killed < 8
                time.sleep(0.05)
        print(f"the next answer was there {time.monotonic() - killed:.1f} s after the kill")
        first = answer.complete()
    assert list(first.token_ids) == expected(64)
    assert first.resumes == ()
    assert list(second.token_ids) == expected(4)
    assert watch.said == ["coordinator was killed (SIGKILL); it was started again, answers were not disturbed"]
    assert watch.error is None


def test_if_it_is_gone_for_good_the_answer_names_the_coordinator(cluster, monkeypatch):
    monkeypatch.setattr(launch, "RESTARTS", 0)
    monkeypatch.setattr(launch, "_FAREWELL_SECONDS", 0.0)
    with tacit.Client(cluster) as client:
        answer = client.generate(PROMPT, max_new_tokens=400)
        for _ in range(4):
            next(answer)
        watch = Watch(cluster)
        kill_coordinator(cluster)
        with pytest.raises(tacit.NetworkError, match=r"^no coordinator at http.*could not go on without it") as caught:
            list(answer)
        assert not isinstance(caught.value, tacit.PeerLost)
        assert list(answer.token_ids)[:64] == expected(len(answer.token_ids))
    assert isinstance(watch.error, tacit.PeerLost)
    assert watch.error.peer == launch.COORDINATOR
