"""What can go wrong in a cluster across machines, how each ends, and how to make it happen in the lab.

Each strikes in the middle of an answer of a committee of three out of five peers (SWAPPED_PEER: at its beginning).

| fault               | what is done                                         | how the answer ends                            | within |
| ------------------- | ---------------------------------------------------- | ---------------------------------------------- | ------ |
| KILL                | SIGKILL to a peer of the committee                   | another committee goes on                      | 5 s    |
| STOP                | SIGSTOP to one                                       | another committee goes on                      | 6 s    |
| PARTITION           | the cable of one is cut                              | another committee goes on                      | 6 s    |
| SLOW_LINK           | the line of one carries 40 Mbit/s from now on        | undisturbed, at the line's pace                | 40 s   |
| CORRUPT_FRAME       | one flips a bit in the head of its next frame        | another committee goes on                      | 5 s    |
| REPLAYED_FRAME      | one sends its next frame twice                       | another committee goes on                      | 5 s    |
| STRANGER            | a valid identity that is no member, a member's public | all refused; undisturbed                      | 40 s   |
|                     | key without its secret, a plaintext dialler          |                                                |        |
| SWAPPED_PEER        | the coordinator seats a peer of its own making, then | IdentityError that names the seat or the peer; | 5 s    |
|                     | puts a made-up key into an honest peer's statement   | nothing is dialled                             |        |
| COORDINATOR_RESTART | SIGKILL to the coordinator, which is started again   | undisturbed, and the next one too              | 40 s   |

"Another committee goes on": the text is what an undisturbed answer gives, without a token lost or repeated, the client is
told once, and the peer that it is told of is the one that was struck; but a dealer that had sent all its tables before it
was struck is missed by nobody. The time is from the fault to the next token (where
undisturbed: to the end of the answer). On idle cores most take a second less than a third of it; the rest is for machines
that do other things.
"""

from __future__ import annotations

import random
import signal
import socket
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from lab import LabError
from network_cluster import NetworkCluster
from strangers import LetIn, be_strange

SLOW_KBIT = 40_000
PATIENCE = 60.0  # for any one event: beyond it the answer hangs


class Fault(Enum):
    KILL = "kill"
    STOP = "stop"
    PARTITION = "partition"
    SLOW_LINK = "slow link"
    CORRUPT_FRAME = "corrupt frame"
    REPLAYED_FRAME = "replayed frame"
    STRANGER = "stranger"
    SWAPPED_PEER = "swapped peer"
    COORDINATOR_RESTART = "coordinator restart"


LIMITS = {  # seconds
    Fault.KILL: 5.0,
    Fault.STOP: 6.0,
    Fault.PARTITION: 6.0,
    Fault.SLOW_LINK: 40.0,
    Fault.CORRUPT_FRAME: 5.0,
    Fault.REPLAYED_FRAME: 5.0,
    Fault.STRANGER: 40.0,
    Fault.SWAPPED_PEER: 5.0,
    Fault.COORDINATOR_RESTART: 40.0,
}
COSTS_A_COMMITTEE = {Fault.KILL, Fault.STOP, Fault.PARTITION, Fault.CORRUPT_FRAME, Fault.REPLAYED_FRAME}


class WrongOutcome(Exception):
    """A fault did not end as documented."""


@dataclass(frozen=True)
class Question:
    """A prompt and the greedy tokens that an undisturbed answer to it has."""

    prompt: str
    token_ids: tuple[int, ...]


@dataclass
class Trial:
    """One answer and what befell it. Times in seconds."""

    fault: Fault
    victim: str  # a node, or empty
    role: str
    struck_after: int  # tokens
    seconds: float = 0.0  # as limited, see the module's table
    reason: str = ""  # what the client was told
    events: list[dict[str, Any]] = field(default_factory=list, repr=False)


class Trials:
    """Lets faults happen to a cluster, and judges how they end. `killable`: peers that may be killed."""

    def __init__(self, cluster: NetworkCluster, chance: random.Random, killable: tuple[str, ...]) -> None:
        self.cluster = cluster
        self._chance = chance
        self._killable = killable

    def undergo(self, fault: Fault, question: Question) -> Trial:
        """One answer with one fault; the cluster is whole again afterwards. Raises WrongOutcome."""
        try:
            trial = self._swapped(question) if fault is Fault.SWAPPED_PEER else self._struck(fault, question)
            # Peers that a cheating coordinator seated wait 10 s for a client that will not come.
            self.cluster.await_whole(idle=fault is not Fault.SWAPPED_PEER)
            if fault in (Fault.SWAPPED_PEER, Fault.COORDINATOR_RESTART):
                self.undisturbed(question)
        except (LabError, LetIn, TimeoutError) as error:
            raise WrongOutcome(f"{fault.value}: {error}") from error
        return trial

    # Struck in the middle --------------------------------------------------------------------------------------------

    def _struck(self, fault: Fault, question: Question) -> Trial:
        cluster, asker = self.cluster, self.cluster.asker
        after = self._chance.randint(3, len(question.token_ids) // 2)
        cluster.ask(question.prompt, len(question.token_ids))
        events = [asker.event(PATIENCE)]
        while events[-1]["event"] == "seated" or events[-1].get("count", after) < after:
            events.append(asker.event(PATIENCE))
        if events[-1]["event"] != "token":
            raise WrongOutcome(f"{fault.value}: before anything was done: {events[-1]}")
        seats = [shown.split()[0] for shown in events[0]["peers"]]
        victim, role = self._victim(fault, seats)
        trial = Trial(fault, victim, role, events[-1]["count"], events=events)
        with ExitStack() as undo:
            struck = time.monotonic()
            self._strike(fault, victim, undo)
            while events[-1]["event"] not in ("done", "error"):
                events.append(asker.event(PATIENCE))
        self._judge(trial, question, struck)
        return trial

    def _victim(self, fault: Fault, seats: list[str]) -> tuple[str, str]:
        if fault in (Fault.STRANGER, Fault.COORDINATOR_RESTART):
            return "", ""
        roles = list(zip(seats, ("compute 0", "compute 1", "dealer"), strict=True))
        if fault is Fault.KILL:  # five peers, three of them killable, three seated: there is always one
            roles = [one for one in roles if one[0] in self._killable]
        if fault in (Fault.CORRUPT_FRAME, Fault.REPLAYED_FRAME):
            roles = [one for one in roles if one[1] != "dealer"]  # it may have sent its last frame by now
        return self._chance.choice(roles)

    def _strike(self, fault: Fault, victim: str, undo: ExitStack) -> None:
        lab, servers = self.cluster.lab, self.cluster.servers
        node = lab.nodes.get(victim)
        if fault is Fault.STRANGER:
            be_strange(self.cluster)
        elif fault is Fault.COORDINATOR_RESTART:
            servers[self.cluster.hub.name].kill()
            self.cluster.start(self.cluster.hub.name).event(PATIENCE)
        elif node is None:
            raise ValueError(f"{fault} needs a victim")
        elif fault is Fault.KILL:
            servers[victim].kill()
            undo.callback(lambda: self.cluster.start(victim).event(PATIENCE))
        elif fault is Fault.STOP:
            servers[victim].signal(signal.SIGSTOP)
            undo.callback(servers[victim].signal, signal.SIGCONT)
        elif fault is Fault.PARTITION:
            lab.cut(node)
            undo.callback(lab.mend, node)
        elif fault is Fault.SLOW_LINK:
            lab.slow(node, SLOW_KBIT)
            undo.callback(lab.quick, node)
        else:
            order = "corrupt" if fault is Fault.CORRUPT_FRAME else "replay"
            servers[victim].say(order)
            if servers[victim].event(PATIENCE)["did"] != order:
                raise WrongOutcome(f"{victim} did something else than {order}")

    def _judge(self, trial: Trial, question: Question, struck: float) -> None:
        last = trial.events[-1]
        what = f"{trial.fault.value} ({trial.victim} {trial.role} after {trial.struck_after} tokens)"
        if last["event"] == "error":
            raise WrongOutcome(f"{what}: {last['type']}: {last['message']}")
        if tuple(last["token_ids"]) != question.token_ids:
            raise WrongOutcome(f"{what}: wrong tokens: {last['token_ids']}, expected {question.token_ids}")
        counts = [event["count"] for event in trial.events if event["event"] == "token"]
        if counts != sorted(set(counts)):
            raise WrongOutcome(f"{what}: tokens told twice or backwards: {counts}")
        resumes = [event for event in trial.events if event["event"] == "resume"]
        if trial.role == "dealer" and not resumes:
            trial.seconds = last["at"] - struck  # it had sent all that the answer needed
        elif trial.fault in COSTS_A_COMMITTEE:
            if len(resumes) != 1 or not resumes[0]["lost"].startswith(trial.victim):
                raise WrongOutcome(f"{what}: resumed {resumes}")
            at = trial.events.index(resumes[0])
            trial.reason = resumes[0]["reason"]
            trial.seconds = trial.events[at + 1]["at"] - struck
        elif resumes:
            raise WrongOutcome(f"{what}: resumed, though nothing was to be noticed: {resumes}")
        else:
            trial.seconds = last["at"] - struck
        if trial.seconds > LIMITS[trial.fault]:
            raise WrongOutcome(
                f"{what}: took {trial.seconds:.1f} s, at most {LIMITS[trial.fault]:.0f} s are documented"
            )

    # A coordinator that cheats ---------------------------------------------------------------------------------------

    def _swapped(self, question: Question) -> Trial:
        """Twice: a stranger in a seat, and an honest peer's seat with a made-up key."""
        cluster, asker = self.cluster, self.cluster.asker
        trial = Trial(Fault.SWAPPED_PEER, cluster.hub.name, "", 0)
        with closing(cluster.hub.call(lambda: _trap(cluster.hub.address))) as trap:
            endpoint = f"tcp://{cluster.hub.address}:{trap.getsockname()[1]}"
            for order in ("swap", "forge"):
                cheat = cluster.servers[cluster.hub.name]
                cheat.say(f"{order} {endpoint}")
                began = time.monotonic()
                cluster.ask(question.prompt, len(question.token_ids))
                found = asker.event(PATIENCE)
                trial.events.append(found)
                trial.seconds = max(trial.seconds, found["at"] - began)
                trial.reason = str(found.get("message"))
                did = cheat.event(PATIENCE)
                named = did["peer"][:8] in trial.reason
                if found["event"] != "error" or found["type"] != "IdentityError" or found["token_ids"] or not named:
                    raise WrongOutcome(f"{order}: {found}, of peer {did['peer']}")
            if _somebody_came(trap):
                raise WrongOutcome("the client dialled a peer that it does not know")
        if trial.seconds > LIMITS[Fault.SWAPPED_PEER]:
            raise WrongOutcome(f"{trial.fault.value}: took {trial.seconds:.1f} s")
        return trial

    def undisturbed(self, question: Question) -> None:
        """An answer that nothing happens to. Raises WrongOutcome."""
        self.cluster.ask(question.prompt, len(question.token_ids))
        event: dict[str, Any] = {"event": ""}
        while event["event"] not in ("done", "error"):
            event = self.cluster.asker.event(PATIENCE)
        if tuple(event.get("token_ids", ())) != question.token_ids or event["event"] == "error" or event["resumes"]:
            raise WrongOutcome(f"with nothing done to it: {event}")


def _trap(address: str) -> socket.socket:
    found = socket.create_server((address, 0))
    found.setblocking(False)
    return found


def _somebody_came(trap: socket.socket) -> bool:
    try:
        trap.accept()[0].close()
    except BlockingIOError:
        return False
    return True
