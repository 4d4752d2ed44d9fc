"""The whole thing: three real peers, the real protocol, a real checkpoint, through the launcher and the client."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tacit
from tacit.client.events import Failed, Finished, Said
from tacit.client.many import complete_all
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
MODEL = Path(os.environ.get("TACIT_TEST_MODELS", ROOT.parent / "shared" / "models")) / "stories260K"
PROMPT = "Once upon a time"

pytestmark = pytest.mark.skipif(not MODEL.exists(), reason=f"no checkpoint at {MODEL}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TACIT_STATE", str(tmp_path_factory.mktemp("state")))
        patch.delenv("TACIT_CLUSTER", raising=False)
        with tacit.Cluster(model=MODEL) as found:
            yield found


def test_private_tokens_are_the_plaintext_models(cluster):
    expected = json.loads((MODEL / "expected.json").read_text())
    with tacit.Client(cluster) as client:
        answer = client.generate(PROMPT, max_new_tokens=64, logprobs=True, top_logprobs=5)
        text = PROMPT + "".join(answer)
    result = answer.result
    assert list(result.token_ids) == expected["greedy_new_ids"]
    assert text == expected["greedy_text"]
    assert result.usage == tacit.Usage(len(expected["prompt_ids"]), 64, "EUR", "0.00", "0.00")
    assert result.layers == 5
    assert 0 < result.traffic.rounds_per_token <= 20 * result.layers
    assert result.traffic.online_bytes_per_token > 0
    assert result.traffic.offline_bytes_per_token > 0
    assert result.timings.offline_ms_per_token > 0
    first, second = result.receipts
    assert first.transcript == second.transcript
    assert first.steps == second.steps == 64
    assert first.rounds == round(64 * result.traffic.rounds_per_token)


def test_two_answers_at_once_do_not_mix(cluster):
    found: dict[str, tacit.Completion] = {}

    def ask(prompt: str) -> None:
        with tacit.Client(cluster) as client:
            found[prompt] = client.complete(prompt, max_new_tokens=12)

    prompts = (PROMPT, "The big dog")
    threads = [threading.Thread(target=ask, args=(prompt,)) for prompt in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with tacit.Client(cluster) as client:
        for prompt in prompts:
            assert found[prompt].token_ids == client.complete(prompt, max_new_tokens=12).token_ids


def test_several_prompts_at_once_are_each_as_if_alone_and_take_the_rounds_of_one(cluster):
    prompts = [
        PROMPT,
        "The big dog",
        "A cat",
        "Lily and Tom went to the park",
        "One day",
        "He was sad",
        "In the",
        "Mom",
    ]
    with tacit.Client(cluster) as client:
        alone = [client.complete(prompt, max_new_tokens=6, ignore_eos=True) for prompt in prompts]
        found = client.complete_all(prompts, max_new_tokens=6, ignore_eos=True)
        assert [one.choices[0].token_ids for one in found] == [one.token_ids for one in alone]
        assert [one.usage.prompt_tokens for one in found] == [one.usage.prompt_tokens for one in alone]
        facts, _ = client._model_of(None, "pair")
        receipts = []
        start = client._starter(facts, lambda resume: None, False)

        def noting(sizes):
            receipts.append(start(sizes))
            return receipts[-1]

        complete_all(facts, noting, [[client.answer(prompt, max_new_tokens=6, ignore_eos=True)] for prompt in prompts])
    together = receipts[0].receipts[0]
    assert together.rounds == alone[0].receipts[0].rounds  # exactly those of one answer
    assert together.steps == 6
    assert together.tokens == sum(one.receipts[0].tokens for one in alone)


def test_answers_to_one_prompt_share_it(cluster):
    with tacit.Client(cluster) as client:
        [found] = client.complete_all([PROMPT], n=3, max_new_tokens=24, temperature=1.0, seed=4)
        first = client.complete(PROMPT, max_new_tokens=24, temperature=1.0, seed=4)
    assert found.choices[0].token_ids == first.token_ids
    assert len({one.token_ids for one in found.choices}) == 3


def test_a_conversation_keeps_its_tokens_at_the_peers_and_a_cancel_frees_them(cluster):
    heard: queue.Queue[object] = queue.Queue()
    with tacit.Client(cluster) as client, client.batcher() as batcher:
        first = client.answer(PROMPT, max_new_tokens=10, ignore_eos=True)
        batcher.submit([first], heard.put)
        finished(heard)
        prompt = [*first.prompt, *first.token_ids, *client.encode("Then")[1:]]
        second = client.answer(prompt, max_new_tokens=10, ignore_eos=True)
        batcher.submit([second], heard.put)
        assert finished(heard).cached == len(first.prompt) + 9
        assert client.complete(prompt, max_new_tokens=10, ignore_eos=True).token_ids == second.token_ids
        until(lambda: seats(client) == 3, 5)  # the batcher's, kept
        ticket = batcher.submit([client.answer(PROMPT, max_new_tokens=200, ignore_eos=True)], heard.put)
        while not isinstance(heard.get(timeout=20), Said):
            pass
        ticket.cancel()
        until(lambda: seats(client) == 0, 2)


def finished(heard):
    while True:
        event = heard.get(timeout=30)
        assert not isinstance(event, Failed), event.error
        if isinstance(event, Finished):
            return event


def until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def seats(client):
    return sum(peer["sessions"] for peer in client.status()["peers"])


def test_a_hidden_length_changes_the_traffic_and_not_the_answer(cluster):
    prompts = [PROMPT, "A cat sat on"]
    with tacit.Client(cluster) as client:
        alone = [client.complete(prompt, max_new_tokens=12, ignore_eos=True) for prompt in prompts]
        padded = [client.complete(prompt, max_new_tokens=12, ignore_eos=True, pad_prompt=True) for prompt in prompts]
        [together] = client.complete_all(prompts[:1], n=2, max_new_tokens=12, ignore_eos=True, pad_prompt=True)
    assert [one.token_ids for one in padded] == [one.token_ids for one in alone]
    assert [one.token_ids for one in together.choices] == [alone[0].token_ids] * 2
    first, second = (one.receipts[0] for one in padded)
    assert alone[0].usage.prompt_tokens != alone[1].usage.prompt_tokens
    assert [one.usage.prompt_tokens for one in padded] == [one.usage.prompt_tokens for one in alone]
    for field in ("tokens", "steps", "rounds", "online_bytes", "offline_bytes"):
        assert getattr(first, field) == getattr(second, field)  # of two different lengths
    # A few bytes more or less are timings, written as short as they are.
    assert abs(padded[0].traffic.client_bytes_per_token - padded[1].traffic.client_bytes_per_token) < 20


def test_no_log_holds_a_word_of_prompt_or_answer(cluster):
    with tacit.Client(cluster) as client:
        answer = client.complete("Zebedee juggled", max_new_tokens=8)
    logs = "".join(path.read_text() for path in cluster.roster_path.parent.glob("*.log"))
    assert "session" in logs  # the peers do log what they do
    words = [word for word in answer.text.split() if len(word) > 4]
    assert not [word for word in ("Zebedee", "juggled", *words) if word in logs]


def holds(pid: int, needles: list[bytes]) -> bool:
    """Whether one of them stands in the writable memory of a process."""
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            place, access, *_ = line.split()
            start, end = (int(number, 16) for number in place.split("-"))
            if not access.startswith("rw"):
                continue
            for at in range(start, end, 16 << 20):
                with contextlib.suppress(OSError):  # unmapped since, or a device
                    memory.seek(at)
                    found = memory.read(min(end - at, (16 << 20) + 256))
                    if any(needle in found for needle in needles):
                        return True
    return False


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no /proc to read memory from")
def test_no_memory_but_the_clients_holds_prompt_or_answer(cluster):
    """After an answer, and in the middle of one: both texts as UTF-8, and the prompt's first ids as int32 or int64.

    Other forms (ids of the answer, one-hot rows, activations) are not searched for here.
    """
    prompt = "Zebedee juggled nine lemons"
    with tacit.Client(cluster) as client:
        answer = client.complete(prompt, max_new_tokens=12)
        prompt_ids = Tokenizer.from_file(str(MODEL / "tokenizer.json")).encode(prompt).ids[1:]
        needles = [prompt.encode(), answer.text.encode()]
        # From a byte that is not 0: searching for zeros in memory that is mostly zeros takes long.
        needles += [np.array(prompt_ids[:6], kind).tobytes().rstrip(b"\0") for kind in ("<i4", "<i8")]
        with client.generate(prompt, max_new_tokens=200) as running:
            next(running)
            try:
                told = [process.name for process in cluster.processes if holds(process.pid, needles)]
            except PermissionError:
                pytest.skip("this machine does not let a process read its children's memory")
        for needle in needles:  # the search finds each of them where it is: here
            assert holds(os.getpid(), [needle])
    assert told == []


def test_what_peers_tell_the_coordinator_of_their_work_is_what_they_sign(cluster):
    """Rounds exactly; bytes with the headers that carry them, which receipts leave out."""
    import httpx2
    from prometheus_client.parser import text_string_to_metric_families

    def counted(name: str) -> float:
        text = httpx2.get(f"{cluster.url}/metrics", trust_env=False).text
        families = text_string_to_metric_families(text)
        return sum(
            one.value
            for family in families
            for one in family.samples
            if one.name + str(one.labels.get("plane")) == name
        )

    def work() -> tuple[float, float, float]:
        names = (
            "tacit_peer_rounds_totalNone",
            "tacit_peer_sent_bytes_totalonline",
            "tacit_peer_sent_bytes_totaloffline",
        )
        return counted(names[0]), counted(names[1]), counted(names[2])

    def still() -> bool:
        """Nothing has been counted between two looks of the coordinator, and no session runs."""
        found = work()
        time.sleep(2.5)
        return found == work() and not counted("tacit_sessions_runningNone")

    until(still, 20)
    before = work()
    with tacit.Client(cluster) as client:
        result = client.complete(PROMPT, max_new_tokens=5)
    signed = result.receipts
    until(lambda: work()[0] > before[0] and still(), 20)
    rounds, online, offline = (now - then for now, then in zip(work(), before, strict=True))
    assert rounds == sum(one.rounds for one in signed) > 0
    paid = sum(one.online_bytes for one in signed)
    assert paid < online < paid + 200 * rounds
    paid = sum(one.offline_bytes for one in signed)
    assert paid < offline < 1.05 * paid + 100_000


def test_a_killed_peer_is_named_within_three_seconds_and_what_came_is_kept(cluster):
    """Last in this module: it takes the cluster with it."""
    pids = {process.name: process.pid for process in cluster.processes}
    with tacit.Client(cluster) as client:
        answer = client.generate(PROMPT, max_new_tokens=300)
        for _ in range(5):
            next(answer)
        os.kill(pids["peer-1"], signal.SIGKILL)
        killed = time.monotonic()
        with pytest.raises(tacit.PeerLost, match="peer-1"):
            list(answer)
        assert time.monotonic() - killed < 3
        expected = json.loads((MODEL / "expected.json").read_text())["greedy_new_ids"]
        received = list(answer.token_ids)
        assert len(received) >= 5
        assert received[:64] == expected[: len(received)]
    with pytest.raises(tacit.PeerLost, match=r"peer-1: was killed \(SIGKILL\)"):
        cluster.check()
