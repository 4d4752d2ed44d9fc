"""A session under crypten: the engines in threads over in-memory links, the client's end as under pair."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tacit.batch import Batch
from tacit.errors import ConfigError, ModelError, PeerError
from tacit.manifest import Manifest
from tacit.models.decoder import forward
from tacit.models.scales import plan
from tacit.party.crypten import weights_of
from tacit.party.crypten_need import ANSWER, OPENED, TUPLES, dealt_bytes, elements
from tacit.party.links import SessionLimits
from tacit.protocols.base import Spec
from tacit.protocols.crypten import library
from tacit.protocols.crypten.plans import Activation, Attention, Norm, Plan
from tacit.protocols.crypten.shapes import Shapes
from tacit.sizes import Sizes
from test_engine import PROMPT, SPEC, Session, Toy, session
from test_engine import toy as toy  # the fixture

pytestmark = pytest.mark.skipif(not library.installed(), reason=f"CrypTen is not installed: {library.HOW}")
NEW = 3
LIMITS = SessionLimits(Sizes.of([len(PROMPT)], NEW), protocol="crypten")


def with_manifest(toy: Toy, **changes: Any) -> Toy:
    """The toy as a peer serves it: its ranges stand in the manifest."""
    ranges = plan(SPEC, toy.folded, None, "toy").ranges
    shape = {name: getattr(SPEC, name) for name in SPEC.__slots__ if name not in ("architecture",)}
    hashes = dict.fromkeys(("config_hash", "weights_hash"), "0" * 64)
    manifest = Manifest(
        name="toy",
        architecture="llama",
        **shape,
        **hashes,
        tokenizer_hash=None,
        bos=None,
        eos=(),
        ranges=ranges | changes,
    )
    served = replace(toy.served, manifest=manifest.to_bytes(), encodings=type(toy.served.encodings)())
    return Toy(served, toy.folded)


@contextmanager
def running(toy: Toy) -> Iterator[Session]:
    with session(with_manifest(toy), LIMITS) as found:
        yield found


def test_tokens_are_the_plaintext_models_and_costs_are_as_foreseen(toy: Toy) -> None:
    want, logits = toy.greedy(PROMPT, NEW)
    got, ids, said = list[int](), list(PROMPT), list[list[dict[str, Any]]]()
    with running(toy) as s:
        for step in range(NEW):
            y, answers = s.ask(step, ids)
            assert np.abs(y - logits[step]).max() < 0.05
            got.append(int(y.argmax()))
            ids = got[-1:]
            said.append(answers)
        accounts = s.end()
        s.finish()
    assert not s.errors
    assert got == want
    shapes, length = Shapes(SPEC, weights_of(with_manifest(toy).served).plans), 0
    caches: list[Any] = []
    with shapes.running():
        for step, answers in enumerate(said):
            caches = caches or shapes.new_cache()
            tokens = len(PROMPT) if step == 0 else 1
            shapes.begin(step)
            forward(shapes, SPEC, tokens, caches, Batch.one(tokens, length))
            length += tokens
            for role, answer in enumerate(answers):
                assert answer["rounds"] == shapes.total.rounds
                assert answer["online_bytes"] == shapes.total.online
                assert answer["offline_bytes"] == (shapes.total.offline0, shapes.total.offline1)[role]
    assert [account["rounds"] for account in accounts] == [sum(a[0]["rounds"] for a in said)] * 2
    assert s.tallies[0].transcript == s.tallies[1].transcript


def test_what_is_sent_fits_what_was_reserved(toy: Toy) -> None:
    served = with_manifest(toy).served
    with running(toy) as s:
        ids = list(PROMPT)
        for step in range(NEW):
            ids = [int(s.ask(step, ids)[0].argmax())]
        s.end()
        s.finish()
    openings = [size for kind, _, size in s.heard["0->1"] if kind == "open"]
    need = served.need(1, LIMITS.sizes, "crypten")
    assert max(openings) <= need.frames[0] < 10 * max(openings)
    assert need.unread[0] >= 2 * max(openings)
    assert need.frames[2] == 0  # peer 1 draws all its tuples
    assert served.need(0, LIMITS.sizes, "pair").total != need.total


@pytest.mark.parametrize("kind", ["silu", "gelu_tanh", "relu"])
@pytest.mark.parametrize(("tokens", "start"), [(1, 0), (1, 6), (1, 40), (7, 0), (19, 0), (40, 0)])
def test_bounds_hold_for_what_gates_send(kind: str, tokens: int, start: int) -> None:
    gated = kind == "silu"
    spec = Spec(
        "llama" if gated else "gpt2", 2, 4, 2 if gated else 4, 8, 32, 64, 40, 64, 1e-5, kind, 1e4 if gated else None
    )
    plans: dict[str, Plan] = {"norm": Norm(2, 8)}
    for i in range(spec.layers):
        plans |= {f"layers.{i}.norm1": Norm(2, 8), f"layers.{i}.norm2": Norm(2, 8)}
        plans |= {f"layers.{i}.attention": Attention(40.0, 9), f"layers.{i}.act": Activation(True)}
    shapes = Shapes(spec, plans)
    with shapes.running():
        forward(shapes, spec, tokens, shapes.filled(start), Batch.one(tokens, start))
    largest = elements(spec, tokens, start + tokens, tokens * (start + tokens))
    assert shapes.largest_opening <= OPENED * largest
    assert shapes.largest_answer <= ANSWER * largest
    assert shapes.total.offline0 <= dealt_bytes(spec, tokens, tokens * (start + tokens))
    assert shapes.answers <= TUPLES * spec.layers


def test_ranges_that_crypten_cannot_take_end_the_offer(toy: Toy) -> None:
    ranges = plan(SPEC, toy.folded, None, "toy").ranges
    served = with_manifest(toy, **{"layers.0.act": {**ranges["layers.0.act"], "gate": 600.0}}).served
    with pytest.raises(ModelError, match=r"layers\.0\.act"):
        served.need(0, Sizes.of([5], 3), "crypten")
    assert served.need(0, Sizes.of([5], 3)).total > 0


def test_without_crypten_a_seat_is_refused_with_what_to_install(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install"):
        with_manifest(toy).served.need(0, Sizes.of([5], 3), "crypten")


def test_a_prompt_of_another_size_ends_the_session(toy: Toy) -> None:
    with running(toy) as s:
        s.client[0].send("tokens", b"", step=0, batch=Batch.one(len(PROMPT)).to_bytes(), ahead=0)
        with pytest.raises(PeerError, match="token keys"):
            s.client[0].receive("logits", timeout=10)
        s.finish()
    assert isinstance(s.errors[0], PeerError)
