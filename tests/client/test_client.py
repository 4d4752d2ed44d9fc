"""`Client` against a cluster with real sockets, signatures and HTTP, and a toy model behind them."""

from __future__ import annotations

import json
import socket
from dataclasses import replace

import numpy as np
import pytest
import tacit
from committee import ROUNDS, Committee, toy_logits
from tacit.client import state
from tacit.client.directory import Directory
from tacit.client.receipts import Book
from tacit.errors import ConfigError, IdentityError, NetworkError, PeerError, UsageError
from tacit.members import Roster, RosterMember
from tacit.party.identity import Identity
from tacit.sizes import Sizes
from toy_cluster import ToyCluster, stand_in
from toy_model import BOS, CONTEXT, EOS, VOCAB, byte_tokenizer, manifest

PROMPT = "Once"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    found = ToyCluster(tmp_path_factory.mktemp("cluster"), free_port)
    yield found
    found.close()


@pytest.fixture
def client(cluster):
    with tacit.Client(cluster.path, model="toy", timeout=10) as found:
        yield found


def greedy(prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    while len(tokens) < len(prompt) + count:
        tokens.append(int(np.argmax(toy_logits(tokens, VOCAB))))
        if tokens[-1] == EOS:
            return tokens[len(prompt) : -1]
    return tokens[len(prompt) :]


def prompt_ids(client) -> list[int]:
    return client._catalogue.get("toy").tokenizer.encode(PROMPT)


def test_generate_streams_the_models_answer(client, cluster):
    answer = client.generate(PROMPT, max_new_tokens=12)
    pieces = list(answer)
    assert all(isinstance(piece, tacit.Piece) and isinstance(piece, str) for piece in pieces)
    expected = greedy(prompt_ids(client), 12)
    assert list(answer.result.token_ids) == expected
    assert answer.result.text == "".join(pieces) == answer.text
    assert answer.result.usage == tacit.Usage(5, len(expected), "EUR", "0.00", "0.00")
    assert answer.result.traffic.rounds_per_token == ROUNDS
    assert (answer.result.model, answer.result.protocol, answer.result.layers) == ("toy", "pair", 2)
    assert {name.split()[0] for name in answer.result.peers} == {"peer-0", "peer-1", "peer-2"}
    assert [one.sizes for one in cluster.limits[-2:]] == [Sizes.of([5], 12)] * 2


def test_both_peers_sign_for_the_answer_and_the_client_keeps_it(client, cluster):
    result = client.complete(PROMPT, max_new_tokens=6)
    first, second = result.receipts
    assert (first.role, second.role, first.steps) == (0, 1, second.steps)
    assert first.transcript == second.transcript
    assert first.rounds == ROUNDS * first.steps
    assert first.session == list(cluster.sessions)[-1].hex()
    *_, kept = Book().read()
    assert kept.verified(cluster.roster) == result.receipts
    assert PROMPT not in Book().path.read_text()


def test_peers_whose_transcripts_differ_are_found_out(client, monkeypatch):
    real = Committee.tally

    def lying(self, role):
        return replace(real(self, role), transcript=bytes([role]) * 32)

    monkeypatch.setattr(Committee, "tally", lying)
    answer = client.generate(PROMPT, max_new_tokens=4)
    with pytest.raises(PeerError, match="different transcripts"):
        answer.complete()
    assert answer.token_ids


def test_complete_is_the_same_at_once_and_takes_ids(client):
    result = client.complete([BOS, 40, 41], model="ids", max_new_tokens=4, logprobs=True, top_logprobs=1)
    assert list(result.token_ids) == greedy([BOS, 40, 41], 4)
    assert result.text.split() == [str(token) for token in result.token_ids]
    assert result.logprobs is not None
    assert [one.top[0][0] for one in result.logprobs] == list(result.token_ids)
    assert str(result) == result.text
    json.dumps(result.to_dict())
    assert client.complete(f"{BOS} 40 41", model="ids", max_new_tokens=4).token_ids == result.token_ids


def test_the_whole_context_can_be_used_and_no_more(client):
    result = client.complete([BOS] * CONTEXT, model="ids", max_new_tokens=9)
    assert result.usage.completion_tokens == 1
    with pytest.raises(UsageError, match=f"{CONTEXT + 1} tokens .* context is {CONTEXT}"):
        client.generate([BOS] * (CONTEXT + 1), model="ids")


def test_refusals_leave_the_client_usable_and_open_no_session(client, cluster):
    before = len(cluster.sessions)
    with pytest.raises(UsageError, match=r"'other'.*toy, ids|'other'.*ids, toy"):
        client.generate(PROMPT, model="other")
    with pytest.raises(UsageError, match="temperature"):
        client.generate(PROMPT, temperature=-1)
    with pytest.raises(UsageError, match="max_new_tokens"):
        client.generate(PROMPT, max_new_tokens=0)
    assert len(cluster.sessions) == before
    assert client.complete(PROMPT, max_new_tokens=1).usage.completion_tokens <= 1


def test_sessions_follow_one_another_and_never_share_keys(client, cluster):
    cluster.sessions.clear()
    for _ in range(3):
        client.complete(PROMPT, max_new_tokens=2)
    assert len(cluster.sessions) == 3
    bodies = [seen.bodies[0] for committee in cluster.sessions.values() for seen in committee.seen]
    assert len(set(bodies)) == 6


def test_several_models_ask_for_a_choice(cluster):
    with tacit.Client(stand_in(cluster)) as client:
        assert sorted(client.models()) == ["ids", "toy"]
        with pytest.raises(UsageError, match="several models"):
            client.generate(PROMPT)
        assert [peer["name"] for peer in client.status()["peers"]] == ["peer-0", "peer-1", "peer-2"]


def test_a_closed_client_says_so(cluster):
    client = tacit.Client(cluster.path)
    client.close()
    client.close()
    with pytest.raises(UsageError, match="closed"):
        client.generate(PROMPT, model="toy")
    for question in (client.models, client.describe_models, client.status):
        with pytest.raises(UsageError, match="closed"):
            question()


def test_a_stranger_among_the_peers_is_refused(cluster, tmp_path):
    """The user pins other peers than those the coordinator brings: whoever they are, they get nothing."""
    identity = Identity.create()
    stranger = RosterMember(**{**cluster.roster.members[0].to_json(), "peer_id": identity.peer_id, "name": "mine"})
    pinned = Roster(
        cluster="toy", own=True, coordinator=cluster.roster.coordinator, members=(stranger, *cluster.roster.members[1:])
    )
    pinned.save(tmp_path / "pinned.json")
    before = dict(cluster.sessions)
    with (
        tacit.Client(tmp_path / "pinned.json", model="toy") as client,
        pytest.raises(IdentityError, match="not in the pinned roster"),
    ):
        client.complete(PROMPT, max_new_tokens=4)
    new = [committee for session, committee in cluster.sessions.items() if session not in before]
    assert all(not seen.bodies for committee in new for seen in committee.seen)


def test_three_peers_of_one_operator_are_refused_unless_they_are_mine(cluster, tmp_path):
    shared = Roster(cluster="toy", own=False, coordinator=cluster.roster.coordinator, members=cluster.roster.members)
    shared.save(tmp_path / "shared.json")
    with (
        tacit.Client(tmp_path / "shared.json", model="toy") as client,
        pytest.raises(IdentityError, match="three operators"),
    ):
        client.complete(PROMPT, max_new_tokens=4)


def test_a_manifest_other_than_the_peers_signed_is_refused(client, monkeypatch):
    other = manifest("toy", byte_tokenizer()).replace(b'"layers":2', b'"layers":3')
    monkeypatch.setattr(Directory, "manifest", lambda self, name: other)
    with pytest.raises(PeerError, match="manifest"):
        client.complete(PROMPT, max_new_tokens=4)


def test_a_tokenizer_other_than_the_manifests_is_refused(client, monkeypatch):
    monkeypatch.setattr(Directory, "tokenizer", lambda self, name: byte_tokenizer() + b" ")
    with pytest.raises(PeerError, match="tokenizer of toy"):
        client.generate(PROMPT)


def test_a_manifest_that_is_damaged_or_anothers_is_refused(client, monkeypatch):
    monkeypatch.setattr(Directory, "manifest", lambda self, name: b"{}")
    with pytest.raises(PeerError, match="damaged"):
        client.generate(PROMPT)
    monkeypatch.setattr(Directory, "manifest", lambda self, name: manifest("another", None))
    with pytest.raises(PeerError, match="another model"):
        client.generate(PROMPT)


def test_a_replayed_reply_is_refused(client, monkeypatch):
    """A coordinator that answers with the statements of an earlier session."""
    replies = []
    real = Directory.open_session

    def replay(self, request):
        replies.append(real(self, request))
        return replies[0]

    monkeypatch.setattr(Directory, "open_session", replay)
    client.complete(PROMPT, max_new_tokens=1)
    with pytest.raises(PeerError, match="session"):
        client.complete(PROMPT, max_new_tokens=1)


def test_no_coordinator_is_a_network_error_that_says_what_to_do(cluster, tmp_path):
    gone = Roster.load(cluster.path).to_json()
    gone["coordinator"]["url"] = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "gone.json").write_text(json.dumps(gone))
    with tacit.Client(tmp_path / "gone.json") as client, pytest.raises(NetworkError, match="tacit up"):
        client.models()


def test_which_cluster_is_meant(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("TACIT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("TACIT_CLUSTER", str(cluster.path))
    with tacit.Client() as client:
        assert "toy" in client.models()
    monkeypatch.setenv("TACIT_CLUSTER", str(tmp_path / "nowhere.json"))
    with pytest.raises(ConfigError, match=r"nowhere\.json"):
        tacit.Client()
    monkeypatch.delenv("TACIT_CLUSTER")
    with state.ClusterFolder() as folder:
        folder.announce(cluster.roster.coordinator.url, cluster.path)
        with tacit.Client() as client:
            assert "toy" in client.models()
    with pytest.raises(ConfigError, match="cannot read"):
        tacit.Client(tmp_path / "nothing.json")


def test_nothing_that_goes_to_the_coordinator_depends_on_the_prompt(client, monkeypatch):
    said = []
    real = Directory._bytes

    def listen(self, method, path, limit, content=None):
        said.append((method, path, None if content is None else json.loads(content)))
        return real(self, method, path, limit, content)

    monkeypatch.setattr(Directory, "_bytes", listen)
    heard = []
    for prompt in ("abcd", "WXYZ"):
        said.clear()
        client.complete(prompt, max_new_tokens=3)
        for _, _, content in said:
            if content:
                del content["session"], content["client_key"]
        heard.append(list(said))
    assert heard[0][-1] == heard[1][-1]
    assert "abcd" not in repr(heard)
