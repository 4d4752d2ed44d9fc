"""Studies without a cluster: answers made up, and a bench that gives them at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tacit.client.answer import Answer as Asked
from tacit.client.answer import ModelFacts
from tacit.client.generation import Generation, Step, StepCost
from tacit.client.sampling import Sampling
from tacit.client.tokens import IdTokenizer
from tacit.coordinator.study.bench import measure
from tacit.coordinator.study.plan import ModelFact, Plan, parse_networks
from tacit.coordinator.study.records import Answer, Case, Provenance, Results

VOCAB = 8
PROVENANCE = Provenance(
    "2026-01-01T00:00:00+00:00", "0.1.0", "a" * 40, "3.11", {"numpy": "2"}, "Linux", "a CPU", 2, 1 << 34
)


def answer(case: Case, repetition: int = 0, *, ttft: float = 100.0, itl: float = 10.0) -> Answer:
    """Every step after the first alike."""
    n = case.new_tokens
    counts = [7] * n
    return Answer(
        case=case, repetition=repetition, started=1.0, setup_ms=5.0, ttft_ms=ttft, e2e_ms=ttft + (n - 1) * itl,
        itl_ms=[itl] * (n - 1), tokens=n, rounds=counts, online_bytes=counts, offline_bytes=counts, client_bytes=counts,
        compute_ms=[1.0] * n, waiting_ms=[2.0] * n, offline_ms=[0.5] * n,
    )  # fmt: skip


def case(network: str = "wan", protocol: str = "pair", prompt: int = 8, new: int = 4) -> Case:
    return Case(protocol, network, "toy", prompt, new)


def results(*answers: Answer, **provenance: Any) -> Results:
    from dataclasses import replace

    return Results(replace(PROVENANCE, **provenance), 3, 1, list(answers))


def plan(networks: Any = ("lan", "wan"), **changes: Any) -> Plan:
    settings: dict[str, Any] = {
        "protocols": ("pair",),
        "networks": parse_networks(networks),
        "models": (ModelFact("toy", "toy", 64),),
        "prompts": (3,),
        "new": (4,),
        "repetitions": 2,
        "warmup": 1,
    }
    return Plan(**{**settings, **changes})


class ToyRunner:
    """Token 1 again and again; 1 is the end-of-text token, which a study has to ignore."""

    peers = resumes = receipts = ()
    charge = None

    def step(self, feeds: Any, ahead: int, forget: Any = ()) -> Step:
        logits = np.zeros((1, VOCAB))
        logits[0, 1] = 1.0
        return Step(logits, StepCost(rounds=3, online_bytes=10, offline_bytes=20, compute_us=100, waiting_us=50))

    def finish(self) -> None:
        pass

    def abort(self) -> None:
        pass


class ToyBench:
    """Remembers what it was asked; `fault` is called before each answer, and may raise."""

    def __init__(self, fault: Callable[[Case], None] = lambda case: None) -> None:
        self.asked: list[Case] = []
        self.networks: list[str] = []
        self.closed = False
        self._fault = fault

    def set_network(self, network: Any) -> None:
        self.networks.append(network.text)

    def answer(self, one: Case, repetition: int) -> Answer:
        self._fault(one)
        self.asked.append(one)
        facts = ModelFacts("toy", one.protocol, "", VOCAB, 64, 1, None, (1,))
        asked = Asked(
            facts, IdTokenizer(VOCAB), list(range(one.prompt_tokens)), max_new_tokens=one.new_tokens,
            sampling=Sampling(), ignore_eos=True,
        )  # fmt: skip
        return measure(Generation(asked, lambda sizes: ToyRunner()), one, repetition)

    def check(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True
