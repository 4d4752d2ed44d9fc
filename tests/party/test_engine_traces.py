"""The record of a session against what its links and its peers counted: the same messages, bytes, rounds and waiting."""

from __future__ import annotations

import itertools
import time

import pytest
from tacit.batch import Batch
from tacit.coordinator.study.records import Case
from tacit.coordinator.study.trace_files import sites, transfers
from tacit.errors import PeerLost
from tacit.models.decoder import forward
from tacit.party.links import SessionLimits
from tacit.protocols.trace.trace import Trace
from tacit.sizes import Sizes
from tacit.tracing.files import PartyTrace, Span, read_session
from tacit.tracing.recorder import Traces
from test_engine import PROMPT, SPEC, Toy, session, toy  # noqa: F401  a fixture

COUNT = 5
CASE = Case("pair", "", "toy", len(PROMPT), COUNT)
LAST_WORDS = ("bye", "abort")  # `LinkStats` counts them where they arrive alone


def inside(party: PartyTrace) -> int:
    """How deep its spans and the messages it sent and read nest. Fails where two of them overlap otherwise."""
    order = {"step": 0, "site": 1, "unpacking": 2, "waiting": 3}
    reading = [Span("reading", one.start, one.end, one.step, one.site) for one in party.messages if not one.sent]
    every = sorted([*party.timeline(), *reading], key=lambda one: (one.start, -one.end, order.get(one.name, 4)))
    stack: list[Span] = []
    deepest = 0
    for one in every:
        assert one.start <= one.end
        while stack and stack[-1].end <= one.start and stack[-1].end < one.end:
            stack.pop()
        assert not stack or one.end <= stack[-1].end, (stack[-1], one)
        stack.append(one)
        deepest = max(deepest, len(stack))
    return deepest


@pytest.fixture(scope="module")
def traced(toy: Toy, tmp_path_factory):  # noqa: F811
    """A session of COUNT steps, what both peers said of each, and the ends of its links."""
    folder = tmp_path_factory.mktemp("traces")
    said, ids = [], PROMPT
    with session(toy, SessionLimits(Sizes.of([len(PROMPT)], COUNT)), traces=Traces(folder)) as s:
        for step in range(COUNT):
            logits, fields = s.ask(step, ids)
            said.append(fields)
            ids = [int(logits.argmax())]
        s.end()
        s.finish()
        assert not s.errors
    return read_session(folder, s.id.hex()), said, s.ends


def test_every_party_left_a_whole_record(traced):
    trace, _, _ = traced
    assert trace.notes == []
    assert [trace.parties[role].ended for role in range(4)] == ["done"] * 4
    assert {role: party.party for role, party in trace.parties.items()} == {
        0: "compute 0",
        1: "compute 1",
        2: "dealer",
        3: "client",
    }


def test_spans_nest(traced):
    trace, _, _ = traced
    depths = [inside(trace.parties[role]) for role in range(3)]
    assert min(depths) >= 3  # step, site, what is done there


def test_sites_fill_the_step_in_the_models_order(traced, toy):  # noqa: F811
    trace, _, _ = traced
    shapes = Trace(SPEC, toy.served.scales)
    forward(shapes, SPEC, 1, shapes.new_cache(), Batch.one(1))
    gates = [site for site, _ in shapes.sites]
    for role in range(3):
        spans = trace.parties[role].spans
        steps = [one for one in spans if one.name == "step"]
        assert [one.step for one in steps] == list(range(COUNT))
        for step in steps:
            inner = [one for one in spans if one.name == "site" and one.step == step.step]
            assert inner[0].start == step.start
            assert inner[-1].end == step.end
            assert all(one.end == two.start for one, two in itertools.pairwise(inner))
            assert [one.site for one in inner if one.site in gates] == gates
            assert inner[0].site == "embed"
            assert inner[-1].site == ("head" if role == 2 else "reveal")


def test_every_message_read_was_sent_before(traced):
    trace, _, _ = traced
    flights = {(one.sender, one.receiver, one.sent.number): one for one in trace.flights()}
    read = [(role, one) for role, party in trace.parties.items() for one in party.messages if not one.sent]
    assert len(read) > 100
    for role, one in read:
        flight = flights[one.remote, role, one.number]
        assert flight.sent.start <= flight.read.start <= flight.read.end
        assert (flight.sent.kind, flight.sent.bytes) == (one.kind, one.bytes)


def test_sums_are_those_of_the_links(traced):
    trace, _, ends = traced
    for end in ends:
        party = trace.parties[end.ends.own_role]
        mine = [one for one in party.messages if one.remote == end.ends.remote_role]
        sent = [one for one in mine if one.sent and one.kind not in LAST_WORDS]
        read = [one for one in mine if not one.sent]
        stats = end.stats
        assert (len(sent), sum(one.bytes for one in sent)) == (stats.messages_sent, stats.bytes_sent)
        assert (len(read), sum(one.bytes for one in read)) == (stats.messages_received, stats.bytes_received)
        waited = sum(
            one.end - one.start for one in party.spans if one.name == "waiting" and one.remote == end.ends.remote_role
        )
        assert 1e-9 * waited == pytest.approx(stats.waiting_seconds + stats.stalled_seconds, abs=1e-6)


def test_sums_are_what_the_peers_count(traced):
    trace, said, _ = traced
    for step, fields in enumerate(said):
        for role, counted in enumerate(fields):
            spans = [one for one in trace.parties[role].spans if one.name == "site" and one.step == step]
            assert sum(one.rounds for one in spans) == counted["rounds"]
            assert sum(one.online for one in spans) == counted["online_bytes"]
            assert sum(one.offline for one in spans) == counted["offline_bytes"]
            opened = [
                one for one in trace.parties[role].messages if one.sent and one.kind == "open" and one.step == step
            ]
            assert len(opened) == counted["rounds"]


def test_sites_are_what_the_tracer_declares(traced, toy):  # noqa: F811
    trace, said, _ = traced
    shapes = Trace(SPEC, toy.served.scales)
    forward(shapes, SPEC, len(PROMPT), shapes.new_cache(), Batch.one(len(PROMPT)))
    found = sites(CASE, [trace])
    prompt = {one.site: one for one in found if one.phase == "prompt"}
    for site, cost in shapes.sites:
        assert prompt[site].rounds == cost.rounds
        assert prompt[site].online_bytes == 2 * cost.online
        assert prompt[site].offline_bytes == cost.offline0 + cost.offline1
    assert (prompt["layers.1.attention"].gate, prompt["layers.1.attention"].layer) == ("attention", 1)
    assert {one.site: one.gate for one in found if one.layer < 0} == {
        "embed": "embed",
        "norm": "norm",
        "head": "linear",
        "reveal": "reveal",
    }
    steps = [one for one in trace.parties[0].spans if one.name == "step" and one.step > 0]
    longest = max(
        sum(one.end - one.start for one in trace.parties[role].spans if one.name == "step" and one.step > 0)
        for role in (0, 1)
    )
    shortest = min(
        sum(one.end - one.start for one in trace.parties[role].spans if one.name == "step" and one.step > 0)
        for role in (0, 1)
    )
    total = sum(one.compute_ms + one.waiting_ms + one.serialising_ms for one in found if one.phase == "token")
    assert 1e-6 * shortest * 0.999 <= total * len(steps) <= 1e-6 * longest * 1.001
    tokens = [one for one in found if one.phase == "token"]
    assert sum(one.rounds for one in tokens) == said[1][0]["rounds"]
    assert all(min(one.compute_ms, one.waiting_ms, one.serialising_ms) >= 0 for one in found)


def test_transfers_are_the_messages_of_steps(traced):
    trace, _, _ = traced
    found = transfers(CASE, trace)
    openings = [one for one in found if {one.sender, one.receiver} == {"compute 0", "compute 1"}]
    assert all(0 <= one.sent_ms <= one.read_ms for one in found)
    assert {one.site for one in openings} >= {"layers.0.attention", "layers.1.act", "norm"}
    dealt = sum(one.bytes for one in found if one.sender == "dealer")
    assert dealt > sum(one.offline_bytes for one in sites(CASE, [trace]) if one.phase == "prompt")
    assert {one.step for one in transfers(CASE, trace, steps=(2,))} == {2}


def test_a_session_that_breaks_leaves_what_there_was(toy: Toy, tmp_path):  # noqa: F811
    with session(toy, SessionLimits(Sizes.of([len(PROMPT)], COUNT)), traces=Traces(tmp_path)) as s:
        s.ask(0, PROMPT)
        time.sleep(0.2)
        s.client[0].abort(PeerLost("client", "had enough"))
        for link in s.client:
            link.close()
        s.finish()
    trace = read_session(tmp_path, s.id.hex())
    assert set(trace.parties) == {0, 1, 2, 3}
    assert trace.parties[0].ended == "PeerLost"
    for role in range(3):
        inside(trace.parties[role])
        assert next(one.step for one in trace.parties[role].spans if one.name == "step") == 0
        vain = max((one for one in trace.parties[role].spans if one.name == "waiting"), key=lambda one: one.end)
        assert vain.end - vain.start >= 30e6 or role == 2  # the dealer was told by a peer, perhaps in a wait of its own
    assert sites(CASE, [trace])
    aborts = [one for one in trace.flights() if one.sent.kind == "abort"]
    assert {(one.sender, one.receiver) for one in aborts} >= {(3, 0)}
