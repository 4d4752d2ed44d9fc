"""Results of a study that was never run, deterministic and with the shipped model's real numbers (docs/benchmarks.md).

A token of the shipped model takes 59 rounds (14 in each of 4 layers, 3 for the last norm), 62 kB between the peers, 2.2 MB
from the dealer, about 36 ms on one machine.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tacit.coordinator.study.records import (
    Answer,
    Case,
    Crossing,
    LineCheck,
    Prediction,
    Provenance,
    Results,
    Site,
    Transfer,
)
from tacit.network import Profile

NETWORKS = ("lan", "metro", "wan", "sigma-wan", "global")
LAYERS = 4
#  gate, rounds, online bytes, offline bytes, share of the computing
PLACES = (
    ("norm", 3, 1_900, 42_000, 0.18),
    ("attention", 8, 8_700, 240_000, 0.42),
    ("activation", 3, 4_600, 255_000, 0.28),
)


@dataclass(frozen=True)
class Costs:
    rounds: int
    online: int
    offline: int
    compute_ms: float


COSTS = {
    "pair": Costs(59, 62_000, 2_200_000, 22.0),
    "crypten": Costs(780, 910_000, 12_400_000, 160.0),
    "plain": Costs(0, 0, 0, 0.51),
}


def provenance() -> Provenance:
    return Provenance(
        made="2026-11-23T23:10:00Z",
        tacit="0.1.0",
        commit="9cdc0b2d31+",
        python="3.11.7",
        packages={"torch": "2.13.0", "numba": "0.68.1", "numpy": "2.4.1", "pyzmq": "27.1.0"},
        system="Linux 6.1",
        processor="Intel Xeon, 2.6 GHz",
        cores=2,
        memory_bytes=16 * 2**30,
    )


def token_ms(protocol: str, network: str, scale: float = 1.0) -> tuple[float, float]:
    """Computing and waiting of one token."""
    costs = COSTS[protocol]
    if protocol == "plain":
        return costs.compute_ms, 0.0
    line = Profile.parse(network)
    latency = (costs.rounds + 2) * (1e3 * line.rtt / 2 + 0.22)
    transfer = 8e3 * (costs.online + 0.4 * costs.offline) / line.bandwidth
    return costs.compute_ms * scale, (latency + transfer) * scale


def results(
    protocols: Sequence[str] = ("plain", "pair", "crypten"),
    networks: Sequence[str] = NETWORKS,
    models: Sequence[str] = ("stories",),
    lengths: Sequence[tuple[int, int]] = ((8, 16), (64, 16)),
    repetitions: int = 5,
    side: int = 24,
    seed: int = 4,
) -> Results:
    """Everything that a study can have."""
    dice = random.Random(seed)
    made = Results(provenance(), repetitions, 1)
    for model in models:
        for protocol in protocols:
            for network in networks:
                for prompt, new in lengths:
                    case = Case(protocol, network, model, prompt, new)
                    made.answers += [_answer(case, number, dice) for number in range(repetitions)]
                    if protocol != "plain":
                        made.predictions.append(_prediction(case, dice))
                        if protocol == "pair":
                            made.sites += _sites(case)
    pairs = [case for case in made.cases() if case.protocol == "pair" and case.prompt_tokens == lengths[0][0]]
    for case in [*pairs[:1], *pairs[2:3]]:
        made.transfers += _transfers(case)
    made.lines = _lines()
    private = [protocol for protocol in protocols if protocol != "plain"]
    made.crossings = [each for model in models for protocol in private for each in _crossings(protocol, model, side)]
    return made


def _answer(case: Case, number: int, dice: random.Random) -> Answer:
    compute, waiting = token_ms(case.protocol, case.network)
    costs = COSTS[case.protocol]

    def noisy(value: float) -> float:
        return value * (1 + 0.04 * abs(dice.gauss(0, 1)))

    prompt_waiting = waiting + (8e3 * 0.4 * costs.offline * case.prompt_tokens / Profile.parse(case.network).bandwidth)
    first = noisy(compute * (1 + case.prompt_tokens / 6) + prompt_waiting + 12.0 * bool(costs.rounds))
    itl = [noisy(compute + waiting) for _ in range(case.new_tokens - 1)]
    steps = case.new_tokens
    return Answer(
        case=case,
        repetition=number,
        started=1795475400.0 + number,
        setup_ms=12.0 * bool(costs.rounds),
        ttft_ms=first,
        e2e_ms=first + sum(itl),
        itl_ms=itl,
        tokens=case.new_tokens,
        rounds=[costs.rounds] * steps,
        online_bytes=[costs.online * case.prompt_tokens // 2, *[costs.online] * (steps - 1)],
        offline_bytes=[costs.offline * case.prompt_tokens // 2, *[costs.offline] * (steps - 1)],
        client_bytes=[13_000 * bool(costs.rounds)] * steps,
        compute_ms=[compute * case.prompt_tokens / 6, *[compute] * (steps - 1)],
        waiting_ms=[prompt_waiting, *[waiting] * (steps - 1)],
        offline_ms=[11.3 * bool(costs.rounds)] * steps,
    )


def _prediction(case: Case, dice: random.Random) -> Prediction:
    compute, waiting = token_ms(case.protocol, case.network)
    line = Profile.parse(case.network)
    off = 0.94 if case.network != "lan" else 0.86
    if (case.protocol, case.network) == ("crypten", "lan"):
        off = 0.71
    tpot = (compute + waiting) * (off + 0.02 * dice.random())
    dealt = 8e3 * 0.4 * COSTS[case.protocol].offline * case.prompt_tokens / line.bandwidth
    first = (compute * (1 + case.prompt_tokens / 6) + waiting + dealt + 12) * (off + 0.02 * dice.random())
    return Prediction(case, first, tpot, COSTS[case.protocol].rounds, compute, 0.9 * waiting, 0.1 * waiting)


def _sites(case: Case) -> list[Site]:
    compute, waiting = token_ms(case.protocol, case.network)
    rounds = COSTS[case.protocol].rounds
    found = []
    for phase, factor, wait in (("token", 1.0, 1.0), ("prompt", case.prompt_tokens / 6, 1.4)):
        for layer in range(LAYERS):
            for gate, each, online, offline, share in PLACES:
                found.append(
                    Site(
                        case,
                        phase,
                        f"layers.{layer}.{gate}",
                        gate,
                        layer,
                        each,
                        int(online * factor),
                        int(offline * factor),
                        factor * compute * share / LAYERS,
                        wait * waiting * each / rounds,
                        factor * 0.03 * each,
                    )
                )
            linear = compute * factor * 0.1 / LAYERS
            found.append(Site(case, phase, f"layers.{layer}.linear", "linear", layer, 0, 0, 0, linear, 0.0, 0.0))
        found.append(
            Site(case, phase, "norm", "norm", -1, 3, 1_900, 42_000, 0.02 * compute, wait * waiting * 3 / rounds, 0.09)
        )
        found.append(Site(case, phase, "logits", "reveal", -1, 0, 0, 0, 0.01 * compute, 0.0, 0.4))
        found.append(Site(case, phase, "embedding", "embed", -1, 0, 0, 0, 0.01 * compute, 0.0, 0.2))
    return found


def _transfers(case: Case, tokens: int = 3) -> list[Transfer]:
    """Openings both ways in each round, the dealer's stream ahead, keys from the client, logits back to it."""
    line = Profile.parse(case.network)
    delay = 1e3 * line.one_way + 0.15
    compute, _ = token_ms(case.protocol, case.network)
    rounds = COSTS["pair"].rounds
    found = []
    clock = 40.0

    def send(step: int, at: float, sender: str, receiver: str, size: int, site: str) -> float:
        read = at + delay + 8e3 * size / line.bandwidth
        found.append(Transfer(case, step, at, read, sender, receiver, size, site))
        return read

    for step in range(1, tokens + 1):
        begun = clock
        for part in range(4):
            for peer in ("compute 0", "compute 1"):
                send(step, begun - 30 + 12 * part, "dealer", peer, 275_000, "stream")
        arrived = [send(step, begun, "client", peer, 300, "keys") for peer in ("compute 0", "compute 1")]
        clock = max(arrived)
        for number in range(rounds):
            clock += compute / rounds
            size = 500 + 900 * (number % 3)
            ends = ("compute 0", "compute 1")
            reads = [send(step, clock, a, b, size, f"round {number}") for a, b in (ends, ends[::-1])]
            clock = max(reads)
        clock = max(send(step, clock, peer, "client", 6_000, "logits") for peer in ("compute 0", "compute 1")) + 0.4
    return found


def _lines() -> list[LineCheck]:
    found = []
    for network in ("wan", "metro"):
        line = Profile.parse(network)
        for what, size, trips, slow in (
            ("64 B one way", 64, 0.5, 1.0),
            ("64 B there and back", 64, 1, 1.0),
            ("64 KB, warm", 65_536, 1, 1.02),
            ("1 MB, cold", 2**20, 1, 2.6),
            ("1 MB, warm", 2**20, 1, 1.05),
            ("16 MB", 2**24, 0.5, 1.12),
        ):
            expected = 1e3 * line.rtt * trips + 8e3 * size / (0.94 * line.bandwidth)
            found.append(
                LineCheck(
                    network, what, size, expected, expected * 1.004 + 0.08, expected * slow + 0.2, "TUN forwarder"
                )
            )
    return found


def _crossings(protocol: str, model: str, side: int) -> list[Crossing]:
    found = []
    for across in range(side):
        for up in range(side):
            rtt, bandwidth = 0.1 * 3000 ** (across / (side - 1)), 5.0 * 2000 ** (up / (side - 1))
            costs = COSTS[protocol]
            latency = (costs.rounds + 2) * (rtt / 2 + 0.2)
            # CrypTen's own provider would sit beside a peer here: fewer bytes on slow lines, so that the map has two areas.
            moved = costs.online + (costs.offline if protocol == "pair" else 0.1 * costs.online)
            found.append(
                Crossing(protocol, model, rtt, bandwidth, costs.compute_ms + max(latency, 0) + 8e-3 * moved / bandwidth)
            )
    return found
