"""The estimate of a session's memory against what engines and peers really take; sizes, and the account of them.

TACIT_ALL=1: more models and lengths, and whole peers (their resident memory, queues and sockets with it).
"""

from __future__ import annotations

import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tacit
from alone import compute, deal
from tacit.errors import ConfigError
from tacit.models.scales import plan
from tacit.party import budget
from tacit.party.budget import Account, Weighed, parse_size, size
from tacit.party.footprint import engine_bytes, largest_step
from tacit.party.links import SessionLimits
from tacit.party.served import ServedModel
from tacit.protocols.base import Spec
from tacit.protocols.pair.weights import prepare
from tacit.sizes import Sizes

ALL = bool(os.environ.get("TACIT_ALL"))
SMALL = {
    "gpt2": Spec("gpt2", 2, 8, 8, 16, 128, 512, 900, 512, 1e-5, "gelu_tanh", None),
    "llama": Spec("llama", 2, 8, 2, 16, 128, 256, 900, 512, 1e-5, "silu", 1e4),
}
LARGE = {
    "wide gpt2": Spec("gpt2", 2, 8, 8, 32, 256, 1024, 5000, 512, 1e-5, "gelu_tanh", None),
    "wide llama": Spec("llama", 2, 16, 4, 32, 512, 1024, 20000, 512, 1e-5, "silu", 1e4),
}
LENGTHS = (16, 120, 200) if not ALL else (8, 64, 200, 300)


def served(spec: Spec) -> ServedModel:
    rng = np.random.default_rng(6)  # weights are no secret
    c, up = spec.width, "gate_up" if spec.gated else "up"
    shapes = {"embed": (spec.vocab, c, 0.7 * spec.vocab**0.5), "head.weight": (c, spec.vocab, 3.0)}
    for i in range(spec.layers):
        shapes |= {
            f"layers.{i}.qkv.weight": (c, spec.qkv_width, 0.7),
            f"layers.{i}.out.weight": (spec.heads * spec.head_size, c, 1.0),
            f"layers.{i}.{up}.weight": (c, (2 if spec.gated else 1) * spec.hidden, 1.0),
            f"layers.{i}.down.weight": (spec.hidden, c, 1.0),
        }
    w = {name: rng.normal(0, gain / rows**0.5, (rows, columns)) for name, (rows, columns, gain) in shapes.items()}
    if spec.rope_theta is None:
        w["positions"] = rng.normal(0, 0.3, (spec.context, c))
        for name in [name for name in w if name.endswith(".weight")]:
            w[name.replace("weight", "bias")] = np.zeros(w[name].shape[1])
    found = plan(spec, w, None, "toy")
    return ServedModel("toy", spec, found.scales, prepare(spec, found.scales, w), b"", "00" * 32, None, {})


def limits_of(tokens: int, new: int) -> SessionLimits:
    return SessionLimits(Sizes.of([tokens], new))


def peak(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        action()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", [*SMALL, *(LARGE if ALL else ())])
def test_an_engine_takes_no_more_than_estimated_and_no_less_than_half(name: str) -> None:
    model = served({**SMALL, **LARGE}[name])
    assert isinstance(model, Weighed)
    deal(model, limits_of(2, 1))  # kernels are loaded
    for tokens in LENGTHS:
        limits = limits_of(tokens, 3)
        step = largest_step(model.spec, model.scales, limits.sizes)
        dealt: list[list[list[int]]] = []
        taken = {2: peak(lambda limits=limits, dealt=dealt: dealt.extend(deal(model, limits)))}
        for role in (0, 1):
            taken[role] = peak(lambda role=role, limits=limits, dealt=dealt: compute(model, role, limits, dealt[role]))
        for role, really in taken.items():
            estimate = engine_bytes(model.spec, role, limits.sizes, step)
            assert really <= estimate <= 2.1 * really + (1 << 20), (
                f"{tokens} tokens, role {role}: {estimate / really:.2f}"
            )


def test_no_message_is_larger_than_its_link_takes() -> None:
    model = served(SMALL["llama"])
    for tokens in LENGTHS:
        limits = limits_of(tokens, 3)
        dealt = deal(model, limits)
        for role in (0, 1):
            need = model.need(role, limits.sizes)
            said = compute(model, role, limits, dealt[role])
            assert max(map(max, dealt[role])) <= need.frames[2]
            assert max(said.peer.sizes["open"]) <= need.frames[1 - role] <= 4 * max(said.peer.sizes["open"])
            assert max(said.dealer.sizes["plan"]) <= model.need(2, limits.sizes).frames[role]
            assert need.unread[2] >= min(64 << 20, sum(map(sum, dealt[role])))


def test_a_longer_session_needs_more_in_every_role() -> None:
    model = served(SMALL["llama"])
    for role in (0, 1, 2):
        needs = [
            model.need(role, Sizes.of([tokens], new)).total
            for tokens, new in ((8, 1), (8, 200), (100, 200), (300, 200))
        ]
        assert needs == sorted(needs)
        assert len(set(needs)) == 4


def resident(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc")
@pytest.mark.parametrize("tokens", [8, 100, 300, 440] if ALL else [100])
def test_a_peer_takes_no_more_than_estimated(tokens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resident memory of real peers, in whichever role; queues may stay empty, so that only "no more" is certain."""
    from tacit.party.served import load_model

    monkeypatch.setenv("TACIT_STATE", str(tmp_path))
    monkeypatch.delenv("TACIT_CLUSTER", raising=False)
    new = 4
    with tacit.Cluster(model="stories") as cluster, tacit.Client(cluster) as client:
        client.complete([1, 2], max_new_tokens=2)  # kernels are loaded, threads are there
        pids = {one.name: one.pid for one in cluster.processes}
        before = {name: resident(pid, "VmRSS") for name, pid in pids.items()}
        client.complete([5] * tokens, max_new_tokens=new)
        roles = list(client.status()["sessions"]["recent"][0]["roles"].values())
        model = load_model("stories")
        for role, display in enumerate(roles):
            name = display.split()[0]
            grown = resident(pids[name], "VmHWM") - before[name]
            estimate = model.need(role, Sizes.of([tokens], new)).total
            print(f"{tokens} + {new} tokens as role {role}: grew {size(grown)}, estimate {size(estimate)}")
            assert grown <= estimate


def test_sizes_are_read_and_written() -> None:
    read = {"2GB": 2 * 10**9, "512MiB": 512 << 20, "1.5 GB": 15 * 10**8, "4096": 4096, "7 kB": 7000}
    assert {text: parse_size(text, "--max-memory") for text in read} == read
    for text in ("", "-1GB", "2 gigs", "0", "1e9", "GB"):
        with pytest.raises(ConfigError, match="--max-memory"):
            parse_size(text, "--max-memory")
    assert [size(n) for n in (812, 74_200, 14_100_000, 1_900_000_000)] == ["812 B", "74 kB", "14 MB", "1.9 GB"]


def test_an_account_gives_out_no_more_than_it_has() -> None:
    account = Account(1000, 600)
    assert account.reserve("a", 600) is None
    assert "400 B of the 1 kB it may use are free" in str(account.reserve("b", 401))
    assert "--max-session-memory" in str(account.reserve("c", 601))
    assert account.reserve("d", 400) is None
    account.release("a")
    account.release("a")
    assert account.free == 600
    with pytest.raises(ConfigError):
        Account(0)


def test_an_account_serves_many_threads() -> None:
    account, taken, lock = Account(50), [], threading.Lock()

    def take(number: int) -> None:
        if account.reserve(str(number), 1) is None:
            with lock:
                taken.append(number)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 50
    assert account.free == 0


def test_the_default_is_half_of_what_is_free_and_heeds_a_control_group(tmp_path: Path, monkeypatch) -> None:
    free = budget.available()
    assert free is None or free > 1 << 20
    monkeypatch.setattr(budget, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(str(64 << 20))
    (tmp_path / "memory.current").write_text(str(24 << 20))
    if free is not None:
        assert budget.default_allowance() == 20 << 20
        assert budget.default_allowance(4) == 5 << 20
    (tmp_path / "memory.max").write_text("max")
    assert budget.available() is None or abs(budget.available() - (free or 0)) < 2 << 30
