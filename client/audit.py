"""What pinned peers say of themselves when asked with a fresh nonce, and what is wrong with it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from .. import __version__
from ..attest import Attestation, Question, read_answer
from ..errors import TacitError
from ..members import Member, Pinned
from ..signed import Signed

MAX_SKEW = 30.0  # seconds; records that carry a time are refused when they are too far off
AT_ONCE = 4

Ask = Callable[[str, Question], Signed]
"""(peer id, question) -> what came back, from wherever. Raises TacitError."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One peer: its attestation, if it gave one that is its own, and everything that is wrong, in words."""

    member: Member
    attestation: Attestation | None = None
    skew: float = 0.0  # seconds that its clock is ahead of ours, at least
    problems: tuple[str, ...] = ()
    forged: bool = False  # an answer came that is not this peer's, or not to this question

    def with_problem(self, problem: str) -> Heard:
        return replace(self, problems=(*self.problems, problem))


def audit(pinned: Pinned, ask: Ask, software: str, clock: Callable[[], float] = time.time) -> list[Heard]:
    """Ask every pinned peer, and compare what they say with the pins, with each other and with this installation."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        heard = list(pool.map(lambda member: hear(member, ask, clock), pinned.members))
    return _compared_models(_compared_software([_checked(one) for one in heard], software))


def hear(member: Member, ask: Ask, clock: Callable[[], float] = time.time) -> Heard:
    """One peer's answer to a fresh question."""
    question = Question.fresh()
    asked = clock()
    try:
        signed = ask(member.peer_id, question)
    except TacitError as error:
        return Heard(member, problems=(f"no answer: {error}",))
    answered = clock()
    try:
        found = read_answer(signed, question, member)
    except TacitError as error:
        return Heard(member, problems=(str(error),), forged=True)
    return Heard(member, found, skew=_skew(found.made, asked, answered))


def _skew(made: int, asked: float, answered: float) -> float:
    """How far `made`, whole seconds, lies outside of the time in which it must have been made."""
    return made - answered if made > answered else min(0.0, made + 1 - asked)


def _checked(one: Heard) -> Heard:
    said = one.attestation
    if said is None:
        return one
    if said.operator != one.member.operator:
        one = one.with_problem(f"says that {said.operator!r} runs it, pinned is {one.member.operator!r}")
    if said.version != __version__:
        one = one.with_problem(f"runs version {said.version}, this installation is {__version__}")
    if abs(one.skew) > MAX_SKEW:
        way = "ahead" if one.skew > 0 else "behind"
        one = one.with_problem(f"its clock is {abs(one.skew):.0f} s {way} of this machine's: set both by NTP")
    return one


def by_software(heard: Iterable[Heard]) -> dict[str, list[Heard]]:
    """Who runs the same, the largest group first."""
    groups: dict[str, list[Heard]] = defaultdict(list)
    for one in heard:
        if one.attestation is not None:
            groups[one.attestation.software].append(one)
    return dict(sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])))


def _compared_software(heard: Sequence[Heard], software: str) -> list[Heard]:
    """Whoever stands alone beside others that agree; where all differ, say in their Python, nobody is at fault."""
    holders = {digest: len(group) + (digest == software) for digest, group in by_software(heard).items()}
    if all(count == 1 for count in holders.values()):
        return list(heard)
    alone = {digest for digest, count in holders.items() if count == 1}
    problem = "runs software that neither another peer nor this installation has"
    return [
        one.with_problem(problem) if one.attestation is not None and one.attestation.software in alone else one
        for one in heard
    ]


def _compared_models(heard: Sequence[Heard]) -> list[Heard]:
    """Whoever holds another model of the same name than most do; all of them, where it cannot be told who is right."""
    holders: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for one in heard:
        for model in one.attestation.models if one.attestation is not None else ():
            holders[model.name][model.manifest_hash] += 1
    usual = {}
    for name, counts in holders.items():
        most = max(counts.values())
        usual[name] = {digest for digest, count in counts.items() if count == most}
    found = []
    for one in heard:
        for model in one.attestation.models if one.attestation is not None else ():
            if usual[model.name] != {model.manifest_hash}:
                one = one.with_problem(f"holds another {model.name} than others (manifest {model.manifest_hash[:12]}…)")
        found.append(one)
    return found


def worst(heard: Iterable[Heard]) -> str:
    """The first thing that is wrong, with the peer's name; "" if nothing is."""
    bad = [one for one in heard if one.problems]
    if not bad:
        return ""
    words = f"{bad[0].member.display}: {bad[0].problems[0].removeprefix(f'{bad[0].member.display}: ')}"
    return words if len(bad) == 1 else f"{words} (and {len(bad) - 1} more)"
