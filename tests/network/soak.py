"""Many answers, each with a random fault: no wrong token, no hang, no leaked process, nothing that grows.

    scripts/soak --runs 60 --seed 7

The faults come in shuffled rounds of all of them; prompts, lengths, victims and moments are drawn too, all from the seed
that is printed, so a run can be repeated (as far as a cluster of processes can).

What must not grow is what a process has in use between two answers: memory that malloc has given out, objects of Python,
threads, descriptors. What leaks never comes back, so the smallest value of the last third of a process's life is compared with
the smallest of the first, once it is warm; what is still on its way out at one look is gone at the next. The bounds (GROWTH) are
below what would be there if every third session of a peer were left behind: each holds threads, a dozen descriptors and some
MiB of heap (MID_SESSION in the output). Threads may rise by a few, which pools
start when so many are first needed at once. Private memory rises with the largest sessions a peer ever had at one time, of which a
part comes back when it is idle (party/memory.py): 14 MiB were seen, sessions left behind would be 13 MiB each.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from faults import Fault, Question, Trial, Trials, WrongOutcome
from forms import RosterForm, best_form
from lab import Holdings, Lab, own_namespaces, why_not
from network_cluster import PEERS, NetworkCluster
from tacit.party.node import IDLE_SECONDS

CASES = Path(__file__).resolve().parents[2] / "models" / "stories" / "expected.json"
KILLABLE = PEERS[:3]
CALM = 8  # undisturbed answers at the end
WARM = 4  # looks until a process has most likely sat in every role
ENOUGH = 12  # looks at a process before it is judged
GROWTH = {"heap": 4.0, "private": 64.0, "blocks": 10_000, "threads": 6, "files": 12}  # MiB for heap and private

FORMS = {"heap": ".1f", "private": ".1f", "blocks": ".0f", "threads": ".0f", "files": ".0f"}


@dataclass
class Process:
    """A process over time: what it held after each answer."""

    name: str
    held: list[Holdings] = field(default_factory=list)

    def growth(self, what: str) -> float:
        values = [getattr(one, what) for one in self.held[WARM:]]
        third = len(values) // 3
        return float(min(values[-third:]) - min(values[:third]))


@dataclass
class Soak:
    """What a run of faults found."""

    trials: list[Trial] = field(default_factory=list)
    processes: dict[int, Process] = field(default_factory=dict)
    mid_session: float = 0.0  # MiB of heap that a peer had in use more in an answer than before it, at most

    def judged(self) -> list[Process]:
        return [one for one in self.processes.values() if len(one.held) >= ENOUGH]

    def grown(self) -> list[str]:
        """What grew beyond the bounds, in words."""
        return [
            f"{one.name}: {what} grew by {one.growth(what):g} over {len(one.held)} answers (bound: {bound:g})"
            for one in self.judged()
            for what, bound in GROWTH.items()
            if one.growth(what) > bound
        ]

    def look(self, cluster: NetworkCluster) -> None:
        time.sleep(IDLE_SECONDS + 0.5)
        for (name, pid), holdings in cluster.holdings().items():
            self.processes.setdefault(pid, Process(name)).held.append(holdings)


def questions(chance: random.Random, shortest: int, longest: int) -> Iterator[Question]:
    """The shipped model's own prompts, with the greedy tokens that float64 arithmetic in the clear gives."""
    cases = json.loads(CASES.read_text(encoding="utf-8"))["cases"]
    while True:
        case = chance.choice(cases)
        yield Question(case["prompt"], tuple(case["greedy_new_ids"][: chance.randint(shortest, longest)]))


def faults(chance: random.Random) -> Iterator[Fault]:
    while True:
        yield from chance.sample(list(Fault), len(Fault))


def soak(cluster: NetworkCluster, seed: int, runs: int, say: Callable[[str], None]) -> Soak:
    """`runs` answers with a fault each, then some without. Raises WrongOutcome, with the number of the run."""
    chance = random.Random(seed)
    asked, drawn = questions(chance, 16, 48), faults(chance)
    trials, found = Trials(cluster, chance, KILLABLE), Soak()
    for number in range(1, runs + 1):
        fault = next(drawn)
        began = time.monotonic()
        try:
            trial = trials.undergo(fault, next(asked))
        except WrongOutcome as error:
            raise WrongOutcome(f"run {number} of seed {seed}: {error}\n{cluster.logs()}") from error
        found.trials.append(trial)
        found.look(cluster)
        where = f"{trial.victim} {trial.role}".strip()
        say(f"{number:3} {fault.value:20} {where:18} {trial.seconds:5.2f} s  (all {time.monotonic() - began:5.1f} s)")
    cluster.await_whole()
    for _ in range(CALM):
        trials.undisturbed(next(asked))
        cluster.await_whole()
        found.look(cluster)
    found.mid_session = _mid_session(cluster, next(questions(chance, 90, 90)))
    return found


def _mid_session(cluster: NetworkCluster, question: Question) -> float:
    before = {name: held.heap for (name, _), held in cluster.holdings().items()}
    cluster.ask(question.prompt, len(question.token_ids))
    most, event = 0.0, ""
    while event not in ("done", "error"):
        event = cluster.asker.event(60)["event"]
        if event == "token":
            held = {name: held.heap for (name, _), held in cluster.holdings(asker=False).items()}
            most = max(most, *(held[name] - before[name] for name in PEERS))
    return most


def report(found: Soak) -> str:
    """Two tables in Markdown: times by fault, growth by process."""
    lines = ["| fault | answers | median | longest |", "| --- | --- | --- | --- |"]
    for fault in Fault:
        seconds = [trial.seconds for trial in found.trials if trial.fault is fault]
        if seconds:
            row = f"{len(seconds)} | {statistics.median(seconds):.2f} s | {max(seconds):.2f} s"
            lines.append(f"| {fault.value} | {row} |")
    lines += [
        "",
        "| process | answers | heap, MiB | grew | private | objects | threads | descriptors | resident, MiB |",
    ]
    lines += ["| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for one in found.judged():
        grew = " | ".join(f"{one.growth(what):+{form}}" for what, form in FORMS.items())
        first, last = one.held[0], one.held[-1]
        lines.append(
            f"| {one.name} | {len(one.held)} | {last.heap:.1f} | {grew} | {first.resident:.0f} to {last.resident:.0f} |"
        )
    return "\n".join([*lines, "", f"MID_SESSION: {found.mid_session:.0f} MiB"])


def main() -> int:
    options = argparse.ArgumentParser(prog="scripts/soak", description="Answers with a random fault each.")
    options.add_argument("--runs", type=int, default=50)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options.add_argument("--roster", action="store_true", help="over a cluster.json, not over libp2p")
    options.add_argument("--save", type=Path, help="every look at every process, as JSON")
    asked = options.parse_args()
    if reason := why_not():
        print(f"cannot: {reason}", file=sys.stderr)
        return 2
    print(f"--runs {asked.runs} --seed {asked.seed}{' --roster' * asked.roster}", flush=True)
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder)) as lab:
        form = RosterForm if asked.roster else best_form()
        found = soak(NetworkCluster(lab, form), asked.seed, asked.runs, lambda line: print(line, flush=True))
    if asked.save is not None:
        looks = {f"{one.name} {pid}": [asdict(held) for held in one.held] for pid, one in found.processes.items()}
        asked.save.write_text(json.dumps(looks), encoding="utf-8")
    print(report(found))
    wrong = [*found.grown(), *(f"leaked: {command}" for command in lab.leaked), *own_namespaces()]
    print("\n".join(wrong) or "no wrong token, no hang, no leaked process, no growth")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
