"""Models and gates under CrypTen over our links: against float64, and rounds and bytes against what was said beforehand."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from crypten_parties import Parties
from numpy.typing import NDArray
from tacit.batch import Batch
from tacit.errors import ModelError, PeerError
from tacit.models.decoder import forward
from tacit.models.scales import plan
from tacit.protocols.base import Spec
from tacit.protocols.crypten import library
from tacit.protocols.crypten.peer import CryptenPeer, client_share
from tacit.protocols.crypten.plans import Norm, inverse_root, plans
from tacit.protocols.crypten.shapes import Shapes
from tacit.protocols.crypten.weights import FRAC, decoded, encoded
from tacit.protocols.pair.weights import prepare
from tacit.protocols.plain.plain import Plain

pytestmark = pytest.mark.skipif(not library.installed(), reason=f"CrypTen is not installed: {library.HOW}")
LLAMA = Spec("llama", 2, 4, 2, 4, 16, 24, 40, 24, 1e-5, "silu", 10000.0)
GPT2 = Spec("gpt2", 1, 2, 2, 8, 16, 32, 40, 24, 1e-5, "gelu_tanh", None)
STEPS = ([3, 1, 4, 1, 5], [9], [2])
ERROR = 0.05  # of a logit: CrypTen's exponential alone is wrong by up to 0.4 % of itself


def folded(spec: Spec) -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(6)  # weights are no secret

    def matrix(rows: int, columns: int, gain: float = 1.0) -> NDArray[np.float64]:
        return rng.normal(0, gain / np.sqrt(rows), (rows, columns))

    c = spec.width
    w = {"embed": rng.normal(0, 0.7, (spec.vocab, c)), "head.weight": matrix(c, spec.vocab, 3.0)}
    if spec.rope_theta is None:
        w["positions"] = rng.normal(0, 0.3, (spec.context, c))
    for i in range(spec.layers):
        shapes = {"qkv": (c, spec.qkv_width), "out": (spec.heads * spec.head_size, c), "down": (spec.hidden, c)}
        shapes |= {"gate_up": (c, 2 * spec.hidden)} if spec.gated else {"up": (c, spec.hidden)}
        for name, shape in shapes.items():
            w[f"layers.{i}.{name}.weight"] = matrix(*shape)
            if not spec.gated:
                w[f"layers.{i}.{name}.bias"] = rng.normal(0, 0.2, shape[1])
    return w


def one_hot_shares(spec: Spec, tokens: list[int]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    rows = np.zeros((len(tokens), spec.vocab), np.uint64)
    rows[np.arange(len(tokens)), tokens] = 1
    share = np.frombuffer(os.urandom(rows.nbytes), np.uint64).reshape(rows.shape)
    return share, rows - share


@pytest.mark.parametrize("spec", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_a_model_answers_as_in_the_clear_and_costs_what_its_shapes_say(spec: Spec) -> None:
    w = folded(spec)
    check = plan(spec, w, None, "toy")
    weights = encoded(prepare(spec, check.scales, w), check.ranges)
    shares = [one_hot_shares(spec, tokens) for tokens in STEPS]
    parties = Parties()

    def job(rank: int) -> Any:
        party = parties.party(rank)
        model = CryptenPeer(spec, weights.plans, weights)
        caches, at, out = model.new_cache(), 0, []
        with library.entered(party):
            for k, tokens in enumerate(STEPS):
                party.begin(k)
                party.third_party.begin(k)
                logits = forward(model, spec, shares[k][rank], caches, Batch.one(len(tokens), at))
                at += len(tokens)
                noise = np.arange(spec.vocab, dtype=np.uint64) << np.uint64(40)  # any that both have
                share = client_share(logits, rank, noise)
                out.append((share, party.counters, party.third_party.received))
        return out, party.transcript, sum(link.stats.bytes_sent for link in (parties.links[rank, 1 - rank],))

    def deal() -> list[Any]:
        model = parties.third_party(spec, dict(weights.plans))
        caches, at, out = [], 0, []
        with model.running():
            caches = model.new_cache()
            for k, tokens in enumerate(STEPS):
                model.begin(k)
                forward(model, spec, len(tokens), caches, Batch.one(len(tokens), at))
                at += len(tokens)
                out.append(model.total)
        return out

    first, second, declared = parties.run(job, deal)
    clear, at = Plain(spec, w), 0
    caches = clear.new_cache()
    for k, tokens in enumerate(STEPS):
        want = forward(clear, spec, tokens, caches, Batch.one(len(tokens), at))[-1]
        at += len(tokens)
        got = (first[0][k][0] + second[0][k][0]).view(np.int32) / 2.0**FRAC
        assert np.abs(got - want).max() < ERROR
        for out in (first, second):
            assert out[0][k][1].rounds == declared[k].rounds
            assert out[0][k][1].online_bytes == declared[k].online
        assert first[0][k][2] == declared[k].offline0
        assert second[0][k][2] == declared[k].offline1 == 0
    assert first[1] == second[1]  # of what was opened
    rounds, online = sum(c.rounds for c in declared), sum(c.online for c in declared)
    for _, _, sent in (first, second):
        assert online < sent < online + 60 * rounds  # frames' headers, and nothing else, beside the openings


def test_costs_of_a_step_do_not_depend_on_how_its_shapes_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    w = folded(GPT2)
    found = plans(GPT2, plan(GPT2, w, None, "toy").ranges)

    def cost(tokens: int, start: int) -> Any:
        shapes = Shapes(GPT2, found)
        with shapes.running():
            forward(shapes, GPT2, tokens, shapes.filled(start), Batch.one(tokens, start))
        return shapes.sites, shapes.largest_opening, shapes.largest_answer

    with_values = cost(3, 2)
    monkeypatch.setattr("tacit.protocols.crypten.shapes.SMALL", 0)
    assert cost(3, 2) == with_values


@pytest.mark.parametrize("size", [2, 3])
def test_gates_of_any_number_of_parties(size: int) -> None:
    x = np.random.default_rng(size).normal(size=(3, 8))
    parties = Parties(size)

    def gates(tensor: Any) -> Any:
        y = tensor.matmul(tensor.transpose(0, 1)).softmax(-1)
        return tensor.tanh(), y, tensor > 0.25

    def shared(rank: int) -> Any:
        """Party 0 knows x; the others' shares are zero."""
        whole = np.trunc(x * 2.0**FRAC).astype(np.int64)
        return torch.from_numpy(whole if rank == 0 else np.zeros_like(whole))

    def job(rank: int) -> list[NDArray[np.int64]]:
        with library.entered(parties.party(rank)):
            crypten = library.load()
            results = gates(crypten.mpc.MPCTensor.from_shares(shared(rank)))
            return [result.reveal().numpy() / result.encoder.scale for result in results]

    def deal() -> None:
        shapes = parties.third_party(GPT2, {})
        with shapes.running():
            gates(shapes._shape(*x.shape))

    *found, _ = parties.run(job, deal)
    scores = np.exp(x @ x.T - (x @ x.T).max(-1, keepdims=True))
    for tanh, softmax, larger in found:
        assert np.abs(tanh - np.tanh(x)).max() < 0.01
        assert np.abs(softmax - scores / scores.sum(-1, keepdims=True)).max() < 0.01
        assert np.array_equal(larger, x > 0.25)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [("step", 7, "another step or round"), ("round", 7, "another step or round"), ("body", b"12345678", "expected 24")],
)
def test_an_opening_that_does_not_fit_is_refused(field: str, value: Any, reason: str) -> None:
    parties = Parties()
    fields = {"step": 0, "round": 0, "body": bytes(24)} | {field: value}
    parties.links[1, 0].send("open", **fields)
    party = parties.party(0)
    with library.entered(party), pytest.raises(PeerError, match=reason) as caught:
        party.all_reduce(torch.zeros(3, dtype=torch.int64))
    assert caught.value.peer == "peer-1"


@pytest.mark.parametrize("fields", [{"step": 1, "number": 0}, {"step": 0, "number": 1}, {"body": bytes(16)}])
def test_a_tuple_that_was_not_asked_for_is_refused(fields: dict[str, Any]) -> None:
    parties = Parties()
    parties.links[2, 0].send("tuple", **({"step": 0, "number": 0, "body": bytes(24)} | fields))
    with pytest.raises(PeerError) as caught:
        parties.party(0).third_party.ttp_request("square", None, torch.Size([3]))
    assert caught.value.peer == "dealer"


def test_objects_are_not_taken_from_a_peer() -> None:
    party = Parties().party(0)
    for name in ("recv_obj", "broadcast_obj", "send_obj"):
        assert not hasattr(party, name)


def test_settings_and_parties_of_two_threads_are_apart() -> None:
    library.load()
    from crypten.config import cfg

    parties = Parties()
    first, second = parties.party(0), parties.party(1)
    with library.entered(first):
        with cfg.temp_override({"functions.exp_iterations": 11}):
            assert cfg.functions.exp_iterations == first.settings.functions.exp_iterations == 11
            assert second.settings.functions.exp_iterations == 8
        assert cfg.functions.exp_iterations == 8


def test_plans_keep_cryptens_functions_where_they_hold() -> None:
    ranges = plan(LLAMA, folded(LLAMA), None, "toy").ranges
    norm = plans(LLAMA, ranges)["layers.1.norm2"]
    assert isinstance(norm, Norm)
    for rms in np.geomspace(ranges["layers.1.norm2"]["rms_low"], ranges["layers.1.norm2"]["rms_high"]):
        scaled = (rms * 2.0**norm.shift) ** 2
        assert abs(inverse_root(scaled, norm.iterations) * math.sqrt(scaled) - 1) < 2e-3


@pytest.mark.parametrize(
    ("site", "change"),
    [
        ("layers.0.norm1", {"rms_low": 1e-4, "rms_high": 1e4}),
        ("layers.1.attention", {"scores": 2000.0}),
        ("layers.0.act", {"gate": 600.0}),
    ],
)
def test_ranges_that_cryptens_functions_cannot_take_are_refused(site: str, change: dict[str, float]) -> None:
    ranges = plan(LLAMA, folded(LLAMA), None, "toy").ranges
    with pytest.raises(ModelError, match=site):
        plans(LLAMA, {**ranges, site: {**ranges[site], **change}})


def test_weights_are_those_of_pair() -> None:
    w = folded(GPT2)
    check = plan(GPT2, w, None, "toy")
    weights = prepare(GPT2, check.scales, w)
    for site, matrix in weights.matrices.items():
        name = site if site == "embed" else f"{site}.weight"
        scale = check.scales.frac_x if site == "embed" else check.scales.weight
        assert np.abs(decoded(matrix, scale) - w[name]).max() < np.abs(w[name]).max() * 2.0**-14


def test_cryptens_generators_know_32_bits_of_their_seed() -> None:
    """Which is why this is no default: docs/crypten.md says so. If it fails, CrypTen's secrecy improved: say that."""
    drawn = [
        torch.randint(-(2**63), 2**63 - 1, (8,), generator=torch.Generator().manual_seed(s)) for s in (5, 5 + 2**32)
    ]
    assert torch.equal(*drawn)


def test_without_cryptens_a_message_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['crypten'] = None\n"
        "from tacit.errors import ConfigError\n"
        "from tacit.protocols.crypten import library\n"
        "assert not library.installed()\n"
        "try: library.load()\n"
        "except ConfigError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert library.HOW in said


def test_nothing_of_it_is_imported_by_a_peer_at_start() -> None:
    code = "import sys, tacit.party.process, tacit.party.engine; print('crypten' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert found.strip() == "False"
