"""The engines of a session in four threads over in-memory links: two compute peers, the dealer, and a client of ours."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tacit.batch import Batch, Part
from tacit.errors import PeerError, TacitError
from tacit.kernels.dpf.hashing import tree_keys
from tacit.kernels.dpf.keygen import one_hot_key_bytes, one_hot_keys
from tacit.kernels.dpf.trees import make_trees
from tacit.models.decoder import forward
from tacit.models.scales import plan
from tacit.party.engine import AHEAD_BYTES, expand_keys, fitting, serve_compute, serve_dealer
from tacit.party.links import AHEAD_STEPS, ComputeLinks, DealerLinks, SessionLimits
from tacit.party.served import ServedModel
from tacit.protocols.base import Spec
from tacit.protocols.pair.weights import prepare
from tacit.protocols.plain.plain import Plain
from tacit.protocols.trace.trace import Trace
from tacit.sizes import Sizes
from tacit.tracing.recorder import DONE, Recorder, Traces
from tacit.transport import Circle, Ends, Link, LinkSettings, memory_pair

SPEC = Spec("llama", 2, 2, 1, 8, 16, 24, 40, 24, 1e-5, "silu", 10000.0)
PROMPT = [3, 1, 4, 1, 5]


@dataclass(frozen=True)
class Toy:
    served: ServedModel
    folded: dict[str, NDArray[np.float64]]

    def greedy(self, prompt: list[int], count: int) -> tuple[list[int], list[NDArray[np.float64]]]:
        """Tokens and logits in the clear."""
        oracle = Plain(SPEC, self.folded)
        caches, ids, logits = oracle.new_cache(), list(prompt), []
        new = ids
        for _ in range(count):
            logits.append(forward(oracle, SPEC, new, caches, Batch.one(len(new), len(ids) - len(new)))[-1])
            new = [int(logits[-1].argmax())]
            ids = ids + new
        return ids[len(prompt) :], logits


def limits(prompt: int, new: int) -> SessionLimits:
    """Of a session with one prompt."""
    return SessionLimits(Sizes.of([prompt], new))


@pytest.fixture(scope="module")
def toy() -> Toy:
    rng = np.random.default_rng(6)  # weights are no secret
    c = SPEC.width

    def matrix(rows: int, columns: int, gain: float = 1.0) -> NDArray[np.float64]:
        return rng.normal(0, gain / np.sqrt(rows), (rows, columns))

    w = {"embed": rng.normal(0, 0.7, (SPEC.vocab, c)), "head.weight": matrix(c, SPEC.vocab, 3.0)}
    for i in range(SPEC.layers):
        w[f"layers.{i}.qkv.weight"] = matrix(c, SPEC.qkv_width, 0.7)
        w[f"layers.{i}.out.weight"] = matrix(SPEC.heads * SPEC.head_size, c)
        w[f"layers.{i}.gate_up.weight"] = matrix(c, 2 * SPEC.hidden)
        w[f"layers.{i}.down.weight"] = matrix(SPEC.hidden, c)
    check = plan(SPEC, w, None, "toy")
    served = ServedModel("toy", SPEC, check.scales, prepare(SPEC, check.scales, w), b"", "00" * 32, None, {})
    return Toy(served, w)


@dataclass
class Session:
    """Four threads' worth of links, the client's two ends of theirs, and what each engine did."""

    id: bytes
    client: tuple[Link, Link]
    errors: dict[int, BaseException] = field(default_factory=dict)
    tallies: dict[int, Any] = field(default_factory=dict)
    heard: dict[str, list[tuple[str, dict[str, Any], int]]] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)
    length: int = 0  # of the one sequence
    ends: list[Link] = field(default_factory=list)  # all ten, where the session is traced

    def finish(self) -> None:
        """All engines come to an end by themselves."""
        for t in self.threads:
            t.join(20)
        assert not any(t.is_alive() for t in self.threads)

    def ask(
        self, step: int, ids: list[int], ahead: int = 0, batch: Batch | None = None
    ) -> tuple[NDArray[np.float64], list[dict[str, Any]]]:
        """One step: logits, and what both peers say about it. `batch`: by default the one sequence goes on."""
        batch = batch or Batch.one(len(ids), self.length)
        self.length = batch.parts[0].total
        keys = [one_hot_keys(i, SPEC.vocab, tree_keys(self.id)) for i in ids]
        for role, link in enumerate(self.client):
            link.send("tokens", b"".join(k[role] for k in keys), step=step, batch=batch.to_bytes(), ahead=ahead)
        answers = [link.receive("logits") for link in self.client]
        total = sum(np.frombuffer(a.body, "<u4").astype(np.uint32) for a in answers)
        scale = answers[0].fields["scale"]
        assert isinstance(scale, int)
        return np.asarray(total, np.uint32).view(np.int32) / 2.0**scale, [dict(a.fields) for a in answers]

    def end(self) -> list[dict[str, Any]]:
        for link in self.client:
            link.send("end")
        return [dict(link.receive("account").fields) for link in self.client]


def spied(link: Link, log: list[tuple[str, dict[str, Any], int]]) -> Link:
    """Note what a link's owner sends."""
    send = link.send

    def noting(kind: str, body: Any = b"", **fields: Any) -> None:
        log.append((kind, fields, memoryview(body).nbytes))
        send(kind, body, **fields)

    link.send = noting  # type: ignore[method-assign]
    return link


@contextmanager
def session(
    toy: Toy, agreed: SessionLimits, dealer_limits: SessionLimits | None = None, traces: Traces | None = None
) -> Iterator[Session]:
    """Engines running; errors are kept, and end the session as the peer's own session code would."""
    identity = os.urandom(16)
    circles = [Circle() for _ in range(4)]

    def pair(a: int, b: int) -> tuple[Link, Link]:
        names = ("peer-0", "peer-1", "dealer", "client")
        ends = Ends(identity, ("id-0", "id-1", "id-2", "client"), a, b, "", "manifest")
        return memory_pair(ends, (circles[a], circles[b]), LinkSettings(timeout=20), (names[a], names[b]))

    l01, l02, l12, l03, l13 = (pair(a, b) for a, b in ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3)))
    every = [end for both in (l01, l02, l12, l03, l13) for end in both]
    opening = [threading.Thread(target=end.open) for end in every]
    for t in opening:
        t.start()
    for t in opening:
        t.join()
    s = Session(identity, (l03[1], l13[1]))
    recorders: list[Recorder | None] = [None] * 4
    if traces is not None:
        recorders = [traces.open(identity, i, name=f"p{i}", model="toy", protocol="pair") for i in range(4)]
        for end in every:
            end.recorder = recorders[end.ends.own_role]
        s.ends = every
    s.heard = {name: [] for name in ("0->2", "1->2", "0->1", "1->0")}
    sets = [
        ComputeLinks(
            identity,
            0,
            spied(l01[0], s.heard["0->1"]),
            spied(l02[0], s.heard["0->2"]),
            l03[0],
            circles[0],
            recorders[0],
        ),
        ComputeLinks(
            identity,
            1,
            spied(l01[1], s.heard["1->0"]),
            spied(l12[0], s.heard["1->2"]),
            l13[0],
            circles[1],
            recorders[1],
        ),
    ]
    dealer = DealerLinks(identity, 2, l02[1], l12[1], circles[2], recorders[2])
    jobs: list[Callable[[], Any]] = [
        lambda: serve_compute(0, toy.served, sets[0], agreed),
        lambda: serve_compute(1, toy.served, sets[1], agreed),
        lambda: serve_dealer(toy.served, dealer, dealer_limits or agreed),
    ]

    def act(i: int) -> None:
        try:
            s.tallies[i] = jobs[i]()
        except TacitError as error:
            s.errors[i] = error
            circles[i].fail(error)
        except BaseException as error:  # noqa: BLE001 (the test looks at it)
            s.errors[i] = error
        finally:
            circles[i].close()
            if (recorder := recorders[i]) is not None:
                recorder.close(type(s.errors[i]).__name__ if i in s.errors else DONE)

    s.threads = [threading.Thread(target=act, args=(i,), daemon=True) for i in range(3)]
    for t in s.threads:
        t.start()
    try:
        yield s
    finally:
        circles[3].close()
        s.finish()
        if recorders[3] is not None:
            recorders[3].close()


def test_tokens_equal_plaintext(toy: Toy) -> None:
    count = 8
    want, logits = toy.greedy(PROMPT, count)
    got, step_ids = [], PROMPT
    with session(toy, limits(len(PROMPT), count)) as s:
        fields = []
        for step in range(count):
            y, said = s.ask(step, step_ids, count - 1 - step)
            assert np.abs(y - logits[step]).max() < 0.02
            got.append(int(y.argmax()))
            step_ids = got[-1:]
            fields.append(said)
        accounts = s.end()
        s.finish()
        assert not s.errors
    assert got == want
    at = 0
    for step, said in enumerate(fields):
        tokens = len(PROMPT) if step == 0 else 1
        trace = Trace(SPEC, toy.served.scales)
        forward(trace, SPEC, tokens, trace.new_cache(), Batch.one(tokens, at))
        at += tokens
        for role, f in enumerate(said):
            assert (f["step"], f["count"], f["layers"]) == (step, SPEC.vocab, SPEC.layers)
            assert (f["rounds"], f["online_bytes"]) == (trace.total.rounds, trace.total.online)
            assert f["offline_bytes"] == (trace.total.offline0, trace.total.offline1)[role]
            assert min(f["compute_us"], f["wait_us"], f["dealer_us"]) >= 0
    for role, account in enumerate(accounts):
        assert account["steps"] == count
        tally = s.tallies[role]
        assert (tally.steps, tally.rounds, tally.online_bytes, tally.offline_bytes) == (
            count,
            *(account[name] for name in ("rounds", "online_bytes", "offline_bytes")),
        )
        for name in ("rounds", "online_bytes", "offline_bytes"):
            assert account[name] == sum(f[role][name] for f in fields)
    assert len(s.tallies[0].transcript) == 32
    assert s.tallies[0].transcript == s.tallies[1].transcript


def test_the_dealer_is_told_step_numbers_and_nothing_else(toy: Toy) -> None:
    """From both peers the same, for two prompts the same; and all traffic between the peers has the same shape."""
    traffic = []
    for prompt in ([0, 0, 0], [39, 7, 21]):
        with session(toy, limits(3, 2)) as s:
            s.ask(0, prompt, 1)
            s.ask(1, [prompt[0]])
            s.end()
            s.finish()
            assert not s.errors
            traffic.append(s.heard)
    assert traffic[0] == traffic[1]
    digest = toy.served.weights.digest
    batches = (Batch.one(3), Batch.one(1, 3))
    plans = [("plan", {"deal": k, "batch": one.to_bytes(), "digest": digest}, 0) for k, one in enumerate(batches)]
    plans.append(("end", {}, 0))
    assert traffic[0]["0->2"] == traffic[0]["1->2"] == plans


def test_no_two_transcripts_are_the_same(toy: Toy) -> None:
    """Openings are masked afresh: the same question leaves another transcript each time, the same at both peers."""
    found = []
    for _ in range(3):
        with session(toy, limits(2, 1)) as s:
            s.ask(0, [1, 2])
            s.end()
            s.finish()
            assert s.tallies[0].transcript == s.tallies[1].transcript
            found.append(s.tallies[0].transcript)
    assert len(set(found)) == 3


def test_the_client_may_stop_early_and_before_anything(toy: Toy) -> None:
    for steps in (0, 1, 3):
        with session(toy, limits(2, 20)) as s:
            for step in range(steps):
                s.ask(step, [1, 2] if step == 0 else [3])
            assert [a["steps"] for a in s.end()] == [steps, steps]
            s.finish()
            assert not s.errors


def test_no_more_than_a_window_is_dealt_ahead(toy: Toy) -> None:
    with session(toy, limits(2, 20)) as s:
        s.ask(0, [1, 2], 19)
        ahead = max(f["deal"] for kind, f, _ in s.heard["0->2"] if kind == "plan")
        assert ahead == AHEAD_STEPS
        s.end()
        s.finish()
        assert not s.errors
    assert fitting(AHEAD_BYTES // 3) == 3
    assert (fitting(1), fitting(AHEAD_BYTES + 1)) == (AHEAD_STEPS, 0)


def test_the_context_can_be_filled(toy: Toy) -> None:
    prompt = [int(i) % SPEC.vocab for i in range(SPEC.context - 1)]
    want, _ = toy.greedy(prompt, 2)
    with session(toy, limits(len(prompt), 2)) as s:
        first, _ = s.ask(0, prompt, 1)
        second, _ = s.ask(1, want[:1])
        assert [int(first.argmax()), int(second.argmax())] == want
        s.end()
        s.finish()
        assert not s.errors


def keys_of(s: Session, ids: list[int], role: int) -> bytes:
    return b"".join(one_hot_keys(i, SPEC.vocab, tree_keys(s.id))[role] for i in ids)


def asked(said: Batch, **changed: Any) -> dict[str, Any]:
    """The fields of a first step."""
    return {"step": 0, "batch": said.to_bytes(), "ahead": 0, **changed}


@pytest.mark.parametrize(
    ("fields", "keys", "reason"),
    [
        (asked(Batch.one(4)), 4, "4 new tokens, announced were at most 3"),
        (asked(Batch.one(1, 2)), 1, "tokens that are not there"),
        (asked(Batch((Part(1, 1, 0, 1),))), 1, "other than 1 to 1 different sequences"),
        (asked(Batch((Part(0, 0, 0, 1), Part(0, 0, 0, 1)))), 2, "other than 1 to 1 different sequences"),
        (asked(Batch((Part(0, 5, 0, 1),))), 1, "tokens that are not there"),
        (asked(Batch((Part(0, 0, 0, 0),))), 0, "no new token"),
        (asked(Batch(())), 0, "other than 1 to 1 different sequences"),
        (asked(Batch.one(3), step=1), 3, "no step 0"),
        (asked(Batch.one(3), ahead="3"), 3, "no step 0"),
        (asked(Batch.one(3), batch="3"), 3, "no step 0"),
        (asked(Batch.one(3), batch=b""), 3, "no description of a step"),
        (asked(Batch.one(3), batch=Batch.one(3).to_bytes() + b"0"), 3, "no description of a step"),
        ({"step": 0}, 3, "no step 0"),
        (asked(Batch.one(3)), 2, "bytes of token keys"),
        (asked(Batch.one(3)), 4, "bytes of token keys"),
        (asked(Batch.one(3)), 0, "bytes of token keys"),
    ],
)
def test_another_prompt_than_announced_is_refused(toy: Toy, fields: dict[str, Any], keys: int, reason: str) -> None:
    """The peer that notices names the client, and everybody's thread ends."""
    with session(toy, limits(3, 4)) as s:
        for role, link in enumerate(s.client):
            link.send("tokens", keys_of(s, [1] * keys, role), **fields)
        with pytest.raises(TacitError):
            s.client[0].receive("logits")
        s.finish()
    assert set(s.errors) == {0, 1, 2}
    for role in (0, 1):
        error = s.errors[role]
        assert isinstance(error, PeerError)
        assert "client" in str(error)
    assert any(reason in str(s.errors[role]) for role in (0, 1))


def test_the_other_peers_key_is_refused(toy: Toy) -> None:
    with session(toy, limits(2, 4)) as s:
        for link in s.client:
            link.send("tokens", keys_of(s, [1, 2], 1), **asked(Batch.one(2)))
        with pytest.raises(PeerError, match="other peer"):
            s.client[0].receive("logits")
        s.finish()
    assert isinstance(s.errors[0], PeerError)
    assert "made for the other peer" in str(s.errors[0])


def test_more_tokens_than_announced_are_refused(toy: Toy) -> None:
    with session(toy, limits(2, 2)) as s:
        s.ask(0, [1, 2], 1)
        s.ask(1, [3])
        for role, link in enumerate(s.client):
            link.send("tokens", keys_of(s, [4], role), **asked(Batch.one(1, 3), step=2))
        with pytest.raises(PeerError, match="4 pairs of tokens, announced were at most 3"):
            s.client[0].receive("logits")
        s.finish()
    assert isinstance(s.errors[0], PeerError)


def test_a_dealer_that_was_told_another_length_refuses(toy: Toy) -> None:
    with session(toy, limits(3, 2), dealer_limits=limits(2, 2)) as s:
        with pytest.raises(TacitError):
            s.ask(0, [1, 2, 3], 1)
        s.finish()
    assert isinstance(s.errors[2], PeerError)
    assert "3 new tokens, announced were at most 2" in str(s.errors[2])


@pytest.mark.parametrize(
    ("tokens", "digest", "said"),
    [(2, None, "another step than its partner"), (3, "other", "peer-1: computed other weights or tables")],
)
def test_peers_that_ask_for_different_things_are_refused(toy: Toy, tokens: int, digest: str | None, said: str) -> None:
    """Different steps, or a model that came out differently on one of the machines."""
    circles = [Circle() for _ in range(3)]
    links = []
    for role in (0, 1):
        ends = Ends(bytes(16), ("id-0", "id-1", "id-2", "client"), role, 2, "", "manifest")
        links.append(
            memory_pair(ends, (circles[role], circles[2]), LinkSettings(timeout=20), (f"peer-{role}", "dealer"))
        )
    opening = [threading.Thread(target=end.open) for both in links for end in both]
    for t in opening:
        t.start()
    for t in opening:
        t.join()
    own = toy.served.weights.digest
    links[0][0].send("plan", deal=0, batch=Batch.one(3).to_bytes(), digest=own)
    links[1][0].send("plan", deal=0, batch=Batch.one(tokens).to_bytes(), digest=digest or own)
    dealer = DealerLinks(bytes(16), 2, links[0][1], links[1][1], circles[2])
    with pytest.raises(PeerError, match=said):
        serve_dealer(toy.served, dealer, limits(3, 2))


# Several sequences ----------------------------------------------------------------------------------------------------

MANY = Sizes(sequences=3, step_tokens=8, step_pairs=60, kept_tokens=40)
TAKEN = [  # batch, tokens of its rows, how many steps of a token each the client expects
    (Batch((Part(0, 0, 0, 3), Part(1, 1, 0, 2))), [3, 1, 4, 1, 5], 3),
    (Batch((Part(0, 0, 3, 1), Part(1, 1, 2, 1))), [9, 2], 2),  # as expected
    (Batch((Part(0, 0, 4, 1), Part(2, 0, 3, 1))), [6, 5], 5),  # 1 stops, 2 branches off where 0 was
    (Batch((Part(1, 1, 1, 4),), forget=(0,)), [3, 5, 8, 9], 0),  # 1 goes back and takes another way, 0 is given up
    (Batch((Part(0, 2, 4, 2), Part(2, 2, 4, 1))), [7, 9, 3], 9),
    (Batch((Part(2, 2, 5, 1),)), [2], 1),
]


def replayed(toy: Toy) -> list[NDArray[np.float64]]:
    """Logits of the steps in the clear: each sequence run anew from its tokens."""
    held: dict[int, list[int]] = {}
    out = []
    for batch, tokens, _ in TAKEN:
        before = {slot: list(ids) for slot, ids in held.items() if slot not in batch.forget}
        held, rows = dict(before), []
        for part, span in zip(batch.parts, batch.spans, strict=True):
            held[part.slot] = before.get(part.source, [])[: part.start] + tokens[span]
            oracle = Plain(SPEC, toy.folded)
            rows.append(forward(oracle, SPEC, held[part.slot], oracle.new_cache(), Batch.one(part.total))[0])
        out.append(np.stack(rows))
    return out


def test_sequences_of_one_session_are_each_as_if_alone(toy: Toy) -> None:
    """Several at once, forked, cut back, forgotten, and otherwise than was expected when the dealer worked ahead."""
    rounds = set()
    with session(toy, SessionLimits(MANY)) as s:
        for step, ((batch, tokens, ahead), want) in enumerate(zip(TAKEN, replayed(toy), strict=True)):
            y, said = s.ask(step, tokens, ahead, batch)
            assert np.abs(y.reshape(want.shape) - want).max() < 0.02
            trace = Trace(SPEC, toy.served.scales)
            forward(trace, SPEC, batch.rows, trace.new_cache(), batch)
            for role, fields in enumerate(said):
                assert fields["rows"] == len(batch.parts)
                assert (fields["rounds"], fields["online_bytes"]) == (trace.total.rounds, trace.total.online)
                assert fields["offline_bytes"] == (trace.total.offline0, trace.total.offline1)[role]
                rounds.add(fields["rounds"])
        assert [account["steps"] for account in s.end()] == [len(TAKEN)] * 2
        s.finish()
        assert not s.errors
    assert len(rounds) == 1  # whatever the batch
    assert s.tallies[0].tokens == s.tallies[1].tokens == sum(batch.rows for batch, _, _ in TAKEN)
    plans = [fields for kind, fields, _ in s.heard["0->2"] if kind == "plan"]
    assert plans == [fields for kind, fields, _ in s.heard["1->2"] if kind == "plan"]
    assert [fields["deal"] for fields in plans] == list(range(len(plans)))
    assert len(plans) > len(TAKEN)  # some were dealt and thrown away


def test_what_was_dealt_for_nothing_is_used_for_nothing(toy: Toy) -> None:
    """A rewind over steps that were dealt ahead: no stream's name occurs twice in what is opened afterwards."""
    with session(toy, limits(4, 12)) as s:
        s.ask(0, [1, 2, 3, 4], 6)
        s.ask(1, [5], 6)
        s.ask(2, [6, 7, 8], 6, Batch.one(3, 2))  # from the second token on anew
        s.ask(3, [5], 0, Batch.one(1, 2))
        s.end()
        s.finish()
        assert not s.errors
    opened = [fields["step"] for kind, fields, _ in s.heard["0->1"] if kind == "open" and fields["round"] == 0]
    assert opened == sorted(set(opened))
    assert len(opened) == 4


# The client's keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocab", [1, 2, 3, 40, 1000])
def test_keys_expand_to_shares_of_rows(vocab: int) -> None:
    public = tree_keys(os.urandom(16))
    trees = make_trees(public)
    ids = sorted({0, vocab // 2, vocab - 1})
    keys = [one_hot_keys(i, vocab, public) for i in ids]
    total = sum(
        expand_keys(memoryview(b"".join(k[role] for k in keys)), len(ids), vocab, role, trees)[:][:, :vocab]
        for role in (0, 1)
    )
    assert np.array_equal(total, np.eye(vocab, dtype=np.uint64)[ids])


@pytest.mark.parametrize("change", [-1, 1, -16, 16])
def test_keys_of_a_wrong_size_are_refused(change: int) -> None:
    trees = make_trees(tree_keys(bytes(16)))
    body = memoryview(bytes(2 * one_hot_key_bytes(40) + change))
    with pytest.raises(PeerError, match="bytes of token keys") as caught:
        expand_keys(body, 2, 40, 0, trees)
    assert caught.value.peer == "client"


def test_the_other_peers_key_is_seen_among_right_ones() -> None:
    public = tree_keys(os.urandom(16))
    right, wrong = one_hot_keys(3, 40, public)
    for keys in ([wrong, right], [right, wrong]):
        with pytest.raises(PeerError, match="made for the other peer"):
            expand_keys(memoryview(b"".join(keys)), 2, 40, 0, make_trees(public))
