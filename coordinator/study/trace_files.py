"""From traces to what a study holds: where the time of a step goes by place of the model, and what was sent when.

with Cluster(model=…, trace=folder) as cluster, Client(cluster) as client: …   # every party leaves its part
traces = read_folder(folder, patience=2)                                       # a SessionTrace for each answer
results.sites += sites(case, traces)
results.transfers += transfers(case, traces[-1])
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ...tracing.files import NOWHERE, SERIALISING, WAITING, PartyTrace, SessionTrace, self_times
from ...tracing.recorder import ROLES
from .records import Case, Site, Transfer

PROMPT, TOKEN = "prompt", "token"
OUTSIDE = -1  # of the layers
_GATES = {"norm": "norm", "norm1": "norm", "norm2": "norm", "attention": "attention", "act": "activation"}
_GATES |= {"embed": "embed", "reveal": "reveal"}
_COMPUTE_PEERS = (0, 1)


@dataclass(slots=True)
class _Place:
    """A site of one step at one compute peer: nanoseconds by phase, and counts."""

    compute: int = 0
    waiting: int = 0
    serialising: int = 0
    rounds: int = 0
    online: int = 0
    offline: int = 0


def gate_of(site: str) -> str:
    """norm, linear, attention, activation, reveal or embed."""
    return _GATES.get(site.rpartition(".")[2], "linear")


def layer_of(site: str) -> int:
    """The layer's number, OUTSIDE for what is in none."""
    parts = site.split(".")
    return int(parts[1]) if parts[0] == "layers" and len(parts) > 2 and parts[1].isdecimal() else OUTSIDE


def sites(case: Case, traces: Sequence[SessionTrace]) -> list[Site]:
    """A row for every phase and site, in the model's order: means over the steps of that phase in all these answers.

    Times are those of the compute peer that computed longer in that phase of that answer; the sum over the sites is a step,
    from the client's message in hand to the last byte of the answer sent. Bytes are payload as both compute peers count
    them: online in both directions, offline to both. An answer that lacks a compute peer's trace is left out.
    """
    rows: list[Site] = []
    whole = [trace for trace in traces if all(role in trace.parties for role in _COMPUTE_PEERS)]
    peers = [[_places(trace.parties[role]) for role in _COMPUTE_PEERS] for trace in whole]
    for phase in (PROMPT, TOKEN):
        found: dict[str, list[tuple[_Place, _Place]]] = defaultdict(list)  # the slower peer's, and both together
        for both in peers:
            steps = sorted(step for step in both[0].keys() & both[1].keys() if (step == 0) == (phase == PROMPT))
            slower = max(both, key=lambda one: sum(place.compute for step in steps for place in one[step].values()))
            for step in steps:
                for site in both[0][step]:
                    if site in both[1][step]:
                        found[site].append((slower[step][site], _both(both[0][step][site], both[1][step][site])))
        rows += [_row(case, phase, site, places) for site, places in found.items()]
    return rows


def _places(party: PartyTrace) -> dict[int, dict[str, _Place]]:
    """By step and site, in order; of whole steps alone: a session may break off in the middle of one."""
    whole = {one.step for one in party.spans if one.name == "step"}
    timeline = [one for one in party.timeline() if one.step in whole and one.site]
    found: dict[int, dict[str, _Place]] = defaultdict(lambda: defaultdict(_Place))
    for one in timeline:
        found[one.step][one.site].rounds += one.rounds
        found[one.step][one.site].online += one.online
        found[one.step][one.site].offline += one.offline
    for one, rest in self_times(timeline):
        place = found[one.step][one.site]
        if one.phase == WAITING:
            place.waiting += rest
        elif one.phase == SERIALISING:
            place.serialising += rest
        else:
            place.compute += rest
    return found


def _both(first: _Place, second: _Place) -> _Place:
    return _Place(
        rounds=max(first.rounds, second.rounds),
        online=first.online + second.online,
        offline=first.offline + second.offline,
    )


def _row(case: Case, phase: str, site: str, places: Sequence[tuple[_Place, _Place]]) -> Site:
    count = len(places)
    return Site(
        case=case,
        phase=phase,
        site=site,
        gate=gate_of(site),
        layer=layer_of(site),
        rounds=round(sum(both.rounds for _, both in places) / count),
        online_bytes=round(sum(both.online for _, both in places) / count),
        offline_bytes=round(sum(both.offline for _, both in places) / count),
        compute_ms=1e-6 * sum(one.compute for one, _ in places) / count,
        waiting_ms=1e-6 * sum(one.waiting for one, _ in places) / count,
        serialising_ms=1e-6 * sum(one.serialising for one, _ in places) / count,
    )


def transfers(case: Case, trace: SessionTrace, steps: Collection[int] | None = None) -> list[Transfer]:
    """Every message of these steps (None: all) that was recorded at both ends, as sent; 0 is when the client asked.

    A message belongs to the step its sender was at: the dealer's are of the step that they are for, which the compute
    peers may come to much later.
    """
    origin = trace.origin
    return [
        Transfer(
            case=case,
            step=one.sent.step,
            sent_ms=1e-6 * (one.sent.start - origin),
            read_ms=1e-6 * (one.read.end - origin),
            sender=ROLES[one.sender],
            receiver=ROLES[one.receiver],
            bytes=one.sent.bytes,
            site=one.sent.site,
        )
        for one in trace.flights()
        if one.sent.step != NOWHERE and (steps is None or one.sent.step in steps)
    ]
