"""Real peers, killed, stopped or garbled in the middle of an answer: the text goes on, and equals the plaintext model's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tacit
from tacit.client import launch

ROOT = Path(__file__).resolve().parents[2]
MODEL = Path(os.environ.get("TACIT_TEST_MODELS", ROOT.parent / "shared" / "models")) / "stories260K"
PROMPT = "Once upon a time"
COUNT = 24

pytestmark = pytest.mark.skipif(not MODEL.exists(), reason=f"no checkpoint at {MODEL}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TACIT_STATE", str(tmp_path_factory.mktemp("state")))
        patch.delenv("TACIT_CLUSTER", raising=False)
        with tacit.Cluster(model=MODEL, peers=5) as found:
            yield found


def expected() -> list[int]:
    return json.loads((MODEL / "expected.json").read_text())["greedy_new_ids"][:COUNT]


def pid_of(cluster: tacit.Cluster, peer: str) -> int:
    return next(process.pid for process in cluster.processes if process.name == peer.split()[0])


def now_seated(client: tacit.Client) -> list[str]:
    return list(client.status()["sessions"]["recent"][0]["roles"].values())


def test_the_command_line_says_who_was_lost_and_who_goes_on(cluster: tacit.Cluster) -> None:
    command = [sys.executable, "-P", "-m", "tacit.client.cli", "ask", PROMPT, "--max-new-tokens", "64"]
    command += ["--cluster", str(cluster.roster_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    assert process.stdout is not None
    begun = process.stdout.read(3)
    with tacit.Client(cluster) as client:
        lost = now_seated(client)[1]
    os.kill(pid_of(cluster, lost), signal.SIGSTOP)
    rest, err = process.communicate(timeout=30)
    said = err.decode()
    os.kill(pid_of(cluster, lost), signal.SIGCONT)
    assert process.returncode == 0, said
    text = json.loads((MODEL / "expected.json").read_text())["greedy_text"]
    assert PROMPT + (begun + rest).decode().removesuffix("\n") == text
    [line] = said.strip().splitlines()
    assert line.startswith(lost)
    assert "going on after " in line
    assert line.count("peer-") >= 4


def test_one_answer_outlives_a_stopped_dealer_and_a_killed_compute_peer(cluster: tacit.Cluster) -> None:
    heard: list[tacit.Resume] = []
    with tacit.Client(cluster) as client:
        answer = client.generate(PROMPT, max_new_tokens=COUNT, on_resume=heard.append)
        for _ in range(4):
            next(answer)
        dealer = now_seated(client)[2]
        os.kill(pid_of(cluster, dealer), signal.SIGSTOP)
        stopped = time.monotonic()
        while not heard:
            next(answer)
        assert time.monotonic() - stopped < 5
        assert heard[0].lost == dealer
        assert dealer not in heard[0].peers
        os.kill(pid_of(cluster, dealer), signal.SIGCONT)

        next(answer)
        compute = now_seated(client)[0]
        os.kill(pid_of(cluster, compute), signal.SIGKILL)
        killed = time.monotonic()
        result = answer.complete()
        assert time.monotonic() - killed < 8
    assert list(result.token_ids) == expected()
    assert [resume.lost for resume in result.resumes] == [dealer, compute]
    assert set(heard[1].peers) & {dealer, compute} == set()
    assert len({*heard[0].peers}) == 3
    assert result.peers == heard[1].peers
    assert result.text == answer.text


def test_the_cluster_goes_on_for_others(cluster: tacit.Cluster) -> None:
    with tacit.Client(cluster) as client:
        result = client.complete(PROMPT, max_new_tokens=8)
    assert list(result.token_ids) == expected()[:8]
    assert result.resumes == ()


def test_when_too_few_are_left_the_loss_is_told_with_the_reason(cluster: tacit.Cluster) -> None:
    """Last in this module: it takes the cluster with it."""
    with tacit.Client(cluster) as client:
        answer = client.generate(PROMPT, max_new_tokens=200)
        for _ in range(3):
            next(answer)
        alive = [process for process in cluster.processes if process.name != launch.COORDINATOR]
        seated = now_seated(client)
        spare = [one for one in alive if one.name not in {name.split()[0] for name in seated}]
        for one in spare:
            os.kill(one.pid, signal.SIGKILL)
        os.kill(pid_of(cluster, seated[1]), signal.SIGKILL)
        killed = time.monotonic()
        with pytest.raises(tacit.PeerLost, match=rf"{seated[1].split()[0]} .*the answer could not go on: .*") as caught:
            list(answer)
        assert time.monotonic() - killed < 15
        assert "this client goes on with" not in str(caught.value)  # the cluster is one's own: any peer would do
        assert list(answer.token_ids)[:COUNT] == expected()[: len(answer.token_ids)]
