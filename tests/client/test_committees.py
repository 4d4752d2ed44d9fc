"""Six peers of three operators, a real coordinator, many clients: who sits with whom, and what happens when one fails."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import tacit
from committee import Committee, toy_logits
from tacit.client.connect import Opener
from tacit.client.directory import Directory
from tacit.errors import IdentityError, PeerError, UsageError
from tacit.sizes import Sizes
from toy_cluster import ToyCluster
from toy_model import BOS, EOS, VOCAB

OPERATORS = ("A", "B", "C", "A", "B", "C")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    found = ToyCluster(tmp_path_factory.mktemp("cluster"), free_port, own=False, operators=OPERATORS)
    yield found
    found.close()


def greedy(prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    while len(tokens) < len(prompt) + count:
        tokens.append(int(np.argmax(toy_logits(tokens, VOCAB))))
        if tokens[-1] == EOS:
            return tokens[len(prompt) : -1]
    return tokens[len(prompt) :]


def operators_of(cluster: ToyCluster, peers: tuple[str, ...]) -> set[str]:
    return {member.operator for member in cluster.roster.members if member.display in peers}


def fail_at(monkeypatch: pytest.MonkeyPatch, step: int, times: int = 1) -> list[bytes]:
    """Compute peer 1 breaks down at this step, in the first `times` sessions; their ids."""
    failed: list[bytes] = []
    real = Committee._answer

    def breaking(self, role, link, body):
        if role == 1 and len(self.seen[1].steps) == step + 1 and (self.session in failed or len(failed) < times):
            failed.append(self.session)
            threading.Timer(0.3, self._barrier.abort).start()  # its partner waits there, and must not outlive the test
            raise RuntimeError("out of luck")
        real(self, role, link, body)

    monkeypatch.setattr(Committee, "_answer", breaking)
    return failed


def test_an_answer_goes_on_with_other_peers_of_the_same_operators(cluster, monkeypatch):
    failed = fail_at(monkeypatch, 2)
    with tacit.Client(cluster.path, model="ids", timeout=10) as client:
        result = client.complete([BOS, 7], max_new_tokens=8)
    assert list(result.token_ids) == greedy([BOS, 7], 8)
    [resume] = result.resumes
    assert resume.after_tokens == 2
    assert resume.lost not in resume.peers
    assert operators_of(cluster, resume.peers) == {"A", "B", "C"}
    assert len(failed) == 1
    assert failed[0].hex() != result.receipts[0].session
    assert result.receipts[0].tokens == 9  # all but the last, anew


def test_when_an_operator_has_no_other_peer_left_the_error_says_whose(cluster, monkeypatch):
    fail_at(monkeypatch, 1, times=9)
    with (
        tacit.Client(cluster.path, model="ids", timeout=10) as client,
        pytest.raises(PeerError, match=r"failed inside.*the answer could not go on: .*(tried already|A, B, C only)"),
    ):
        client.complete([BOS, 7], max_new_tokens=8)


def test_twenty_at_once_are_all_right_and_spread_over_all_peers(cluster):
    results: dict[int, tacit.Completion] = {}

    def ask(number: int) -> None:
        with tacit.Client(cluster.path, model="ids", timeout=30) as client:
            results[number] = client.complete([BOS, number], max_new_tokens=5)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 20
    seats: Counter[str] = Counter()
    for number, result in results.items():
        assert list(result.token_ids) == greedy([BOS, number], 5)
        assert operators_of(cluster, result.peers) == {"A", "B", "C"}
        assert result.resumes == ()
        seats.update(result.peers)
    assert len(seats) == 6
    assert max(seats.values()) <= 14  # 60 seats, 10 each if nobody had finished before another came


def test_only_allowed_operators_are_seated(cluster):
    with pytest.raises(UsageError, match="operator 'D' is not in the roster"):
        tacit.Client(cluster.path, policy=tacit.Policy(frozenset("ABD")))
    with tacit.Client(cluster.path, model="ids", policy=tacit.Policy(frozenset("ABC"))) as client:
        assert operators_of(cluster, client.complete([BOS, 1], max_new_tokens=2).peers) == {"A", "B", "C"}


def test_a_coordinator_that_does_not_heed_the_clients_wishes_is_found_out(cluster, monkeypatch):
    """All of one operator's peers are ruled out; a coordinator that passes over that has to seat one of them."""
    real = Directory.open_session

    def careless(self, request):
        return real(self, replace(request, without=()))

    monkeypatch.setattr(Directory, "open_session", careless)
    with tacit.Client(cluster.path, model="ids", timeout=10) as client:
        opener = Opener(
            client._context, client._directory, client._pinned, client._catalogue.get("ids").facts, timeout=10.0
        )
        others = [member.peer_id for member in cluster.roster.members if member.operator == "C"]
        with pytest.raises(IdentityError, match=r"coordinator .*seated peer-[25] .*which this client had left out"):
            opener.seat(Sizes.of([2], 2), without=others)
