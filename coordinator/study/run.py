"""Running a plan: answer after answer, each kept as soon as it is there.

| what happens | what comes of it |
| --- | --- |
| an answer fails | its case is left out from there on, with the reason; the others go on |
| the cluster lost a process | another is started for the next answer |
| Ctrl-C | what was measured is kept; `resume` goes on from there |
| the folder takes no more (full disk) | the study ends; what was measured is kept, at worst in the system's temporary folder |
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ...errors import ConfigError, TacitError
from . import table
from .bench import Bench, ClientBench, PlainBench, ShapedBench
from .plan import ModelFact, Plan
from .provenance import provenance
from .records import FILE, Answer, Case, Provenance, Results
from .report import PAGE, write_report
from .timing import TimeLeft
from .traced import FILE as TRACE_FILE
from .traced import trace_cases

INTERRUPTED = "interrupted before it was measured"
NO_TIME = "there was no time left for it"
FILES = (FILE, table.FILE, PAGE, TRACE_FILE)
_SHORT = 0.02  # of the time: what takes less is repeated in any case
_SHARE = 20  # of the time at most one in so many goes into writing


log = logging.getLogger("tacit.study")


class Watcher:
    """Is told how a study goes on; this one does nothing about it."""

    def say(self, what: str) -> None:
        """In a few words."""

    def begins(self, answers: int, there: int) -> None:
        """`answers` are to be measured, of which `there` were before."""

    def measuring(self, case: Case, repetition: int, left: float | None) -> None:
        """Repetition -1 is a warm-up. `left`: seconds for this answer and all later ones, None if not known yet."""

    def measured(self, answer: Answer) -> None:
        """It is kept now."""

    def failed(self, case: Case, reason: str) -> None:
        """It is left out."""

    def warn(self, what: str) -> None:
        """Something else that was to be there will not be."""
        log.warning("%s", what)


class Study:
    """One run of a plan into a folder."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        *,
        there: str | None = None,
        resume: bool = False,
        within: float | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        """`there`: a cluster that runs already, else one is started for each model. `resume`: go on with what the folder
        holds. `within`: seconds after which no further repetition is begun, except the first of a case and those that take
        next to nothing.

        Raises ConfigError if the folder cannot be written, or holds another study.
        """
        self._plan = plan
        self._folder = folder
        self._there = there
        self._within = within
        self._watcher = watcher or Watcher()
        self._left = TimeLeft()
        self._kept = self._keeping = 0.0
        self.results = _begin(plan, folder, resume)
        self._done = {(answer.case, answer.repetition) for answer in self.results.answers}
        for answer in self.results.answers:
            self._left.learn(answer)

    def run(self) -> Results:
        """Measure what is not there yet. Raises KeyboardInterrupt when interrupted, with all that was measured kept."""
        began = time.monotonic()
        self._watcher.begins(self._plan.answers, self._plan.answers - len(self._todo()))
        self._keep()
        try:
            for model in self._plan.models:
                self._run_model(model, began)
        except KeyboardInterrupt:
            self._leave_out(self._plan.cases(), INTERRUPTED)
            self._keep()
            raise
        self._leave_out(self._plan.cases(), NO_TIME)
        self._keep()
        return self.results

    def trace(self) -> None:
        """Record where the time goes, in one more answer of every case that has none recorded; trace.json among it.

        Raises KeyboardInterrupt when interrupted: then the recordings of that model are lost, and nothing else.
        """
        if self._there is not None:
            return
        recorded = {site.case for site in self.results.sites}
        measured = {case for case, _ in self._done}
        for model in self._plan.models:
            cases = [
                case
                for case in self._plan.cases(model)
                if case.protocol != "plain" and not case.forwarded and case in measured - recorded
            ]
            found = trace_cases(
                model,
                self._plan,
                cases,
                lambda case: self._watcher.say(f"recording {case.key}"),
                tokens=3 if self._within is None else 2,
            )
            self.results.sites += found.sites
            self.results.transfers += found.transfers
            for case, reason in found.missing.items():
                self._watcher.warn(f"{case.key} was not recorded: {reason}")
            self._keep()
            found.save(self._folder)

    def predict(self) -> None:
        """What the model of costs says of every case of the plan that was measured; anew, since rates may have changed.

        Where that fails, the watcher hears why.
        """
        from .predicted import predict_cases

        if self._there is not None:
            return
        measured = {case for case, _ in self._done}
        cases = [case for case in self._plan.cases() if case in measured]
        try:
            found = predict_cases(self._plan, cases, self._watcher.say)
        except TacitError as error:
            self._watcher.warn(f"nothing is predicted: {error}")
            return
        predictions, crossings = found
        maps = {(one.protocol, one.model) for one in crossings}
        kept = [one for one in self.results.predictions if one.case not in set(cases)]
        self.results.predictions = [*kept, *predictions]
        self.results.crossings = [
            *(one for one in self.results.crossings if (one.protocol, one.model) not in maps),
            *crossings,
        ]
        self._keep()

    def check_lines(self, repeat: int = 3) -> None:
        """Single transfers over shaped links and over the kernel's stack, for every line that was not checked yet.

        Where the machine does not let us, the watcher hears why.
        """
        from .forwarded import check_lines, why_not

        checked = {line.network for line in self.results.lines}
        networks = [one for one in self._plan.networks.values() if one and one.default.text not in checked]
        if self._within is not None:  # one will do, of the median delay
            ordered = sorted(networks, key=lambda one: one.default.rtt)
            networks = ordered[len(ordered) // 2 :][:1]
        if not networks or self._there is not None or "pair" not in self._plan.protocols:
            return
        if reason := why_not():
            self._watcher.warn(f"shaped links are not checked against the kernel's stack: {reason}")
            return
        try:
            self.results.lines += check_lines(networks, repeat, self._watcher.say)
        except TacitError as error:
            self._watcher.warn(f"the check against the kernel's stack failed: {error}")
        self._keep()

    def _run_model(self, model: ModelFact, began: float) -> None:
        if not (todo := self._todo(model)):
            return
        benches = _Benches(model, self._plan, self._there, self._watcher.say)
        try:
            self._warm_up(benches, todo, began)
            for case, repetition in self._plan.order(model):
                if (case, repetition) in self._done or case.key in self.results.missing:
                    continue
                if repetition and not self._in_time(case, began):
                    continue
                self._watcher.measuring(case, repetition, self._time_left(began))
                if (answer := self._ask(benches, case, repetition)) is not None:
                    self.results.answers.append(answer)
                    self._done.add((case, repetition))
                    self._left.learn(answer)
                    self._keep_now_and_then()
                    self._watcher.measured(answer)
        finally:
            benches.close()

    def _todo(self, model: ModelFact | None = None) -> list[tuple[Case, int]]:
        models = self._plan.models if model is None else (model,)
        return [
            (case, repetition)
            for one in models
            for case, repetition in self._plan.order(one)
            if (case, repetition) not in self._done and case.key not in self.results.missing
        ]

    def _warm_up(self, benches: _Benches, todo: list[tuple[Case, int]], began: float) -> None:
        """Answers that are thrown away: for every protocol and length still to come, on the line with the least delay."""
        quickest: dict[tuple[str, bool, int, int], Case] = {}
        for case, _ in todo:
            kind = (case.protocol, case.forwarded, case.prompt_tokens, case.new_tokens)
            quickest[kind] = min(quickest.get(kind, case), case, key=self._plan.delay)
        for case in quickest.values():
            for _ in range(self._plan.warmup):
                if case.key in self.results.missing:
                    break
                self._watcher.measuring(case, -1, self._time_left(began))
                if (answer := self._ask(benches, case, -1)) is not None:
                    self._left.learn(answer, warmup=True)

    def _time_left(self, began: float) -> float | None:
        """Seconds for all that is still to be measured; None if not known."""
        todo = self._todo()
        left = self._left.total(case for case, _ in todo)
        if left is None or self._within is None:
            return left
        must = self._left.total(case for case, repetition in todo if repetition == 0) or 0.0
        return min(left, max(must, self._within - (time.monotonic() - began)))

    def _in_time(self, case: Case, began: float) -> bool:
        if self._within is None:
            return True
        seconds = self._left.of(case) or 0.0
        return seconds <= _SHORT * self._within or time.monotonic() - began + seconds <= self._within

    def _ask(self, benches: _Benches, case: Case, repetition: int) -> Answer | None:
        """None if it failed: then the case is left out."""
        try:
            return benches.of(case).answer(case, repetition)
        except TacitError as error:
            reason = " ".join(str(error).split())
            self.results.missing[case.key] = reason
            self._watcher.failed(case, reason)
            benches.look()
            return None

    def _leave_out(self, cases: list[Case], reason: str) -> None:
        """Say why cases without any answer have none."""
        measured = {case for case, _ in self._done}
        for case in cases:
            if case not in measured:
                self.results.missing.setdefault(case.key, reason)

    def _keep(self) -> None:
        began = time.monotonic()
        keep(self.results, self._folder)
        self._kept = time.monotonic()
        self._keeping = self._kept - began

    def _keep_now_and_then(self) -> None:
        """After every answer, as long as writing them all anew takes next to no time."""
        if time.monotonic() - self._kept >= _SHARE * self._keeping:
            self._keep()


class _Benches:
    """Of one model: made when first needed. All protocols with peers share a cluster."""

    def __init__(self, model: ModelFact, plan: Plan, there: str | None, say: Callable[[str], None]) -> None:
        self._model, self._networks, self._there, self._say = model, plan.networks, there, say
        self._made: dict[str, Bench] = {}

    def of(self, case: Case) -> Bench:
        kind = "plain" if case.protocol == "plain" else "forwarded" if case.forwarded else "shaped"
        found = self._made.get(kind)
        if found is None:
            found = self._made[kind] = self._make(case)
        found.set_network(self._networks[case.network])
        return found

    def _make(self, case: Case) -> Bench:
        """For this case first."""
        if case.protocol == "plain":
            return PlainBench(self._model)
        network = self._networks[case.network]
        if self._there is not None or network is None:
            return ClientBench(self._model, self._there or "")
        if case.forwarded:
            from .forwarded import ForwardedBench

            return ForwardedBench(self._model, network, say=self._say)
        return ShapedBench(self._model, network, say=self._say)

    def look(self) -> None:
        """Let go of what lost a process, so that the next answer has another."""
        for kind, bench in list(self._made.items()):
            try:
                bench.check()
            except TacitError as error:
                self._say(f"{error}; starting another cluster")
                del self._made[kind]
                bench.close()

    def close(self) -> None:
        for bench in self._made.values():
            bench.close()
        self._made.clear()


def keep(results: Results, folder: Path) -> None:
    """Save results.json. Raises ConfigError saying where else they are kept, if the folder takes no more."""
    try:
        results.save(folder)
    except ConfigError as error:
        if not results.answers:
            raise
        path = _elsewhere(results)
        if path is None:
            raise ConfigError(f"{error}: all but the last answer; make room and go on with --resume") from None
        raise ConfigError(
            f"{error}; all {len(results.answers)} answers are in {path}: make room, move that file to {folder / FILE} "
            "and go on with --resume"
        ) from None


def _elsewhere(results: Results) -> Path | None:
    """The results in the system's temporary folder; None if that is full too."""
    with suppress(OSError, ConfigError):
        return results.save(Path(tempfile.mkdtemp(prefix="tacit-study-")))
    return None


def finish(results: Results, folder: Path) -> None:
    """Write what is made from results.json: results.csv and report.html. Raises ConfigError; results.json is there already."""
    table.save_csv(results, folder)
    write_report(results, folder)


def _begin(plan: Plan, folder: Path, resume: bool) -> Results:
    """What the folder holds if `resume`, else nothing yet; the folder is there then."""
    here = provenance()
    there = (folder / FILE).exists()
    if there and not resume:
        raise ConfigError(f"{folder} holds a study already: go on with it (--resume), or choose another folder (--out)")
    if not there:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be made: {error.strerror}; choose another folder (--out)") from None
        return Results(here, plan.repetitions, plan.warmup)
    found = Results.load(folder)
    if differs := _differences(found.provenance, here):
        raise ConfigError(
            f"{folder} was measured with other conditions than now ({'; '.join(differs)}): one study cannot hold both. "
            "Start another (--out), and compare the two (tacit study compare)"
        )
    found.repetitions, found.warmup = max(found.repetitions, plan.repetitions), plan.warmup
    found.missing = {}
    return found


def _differences(one: Provenance, other: Provenance) -> list[str]:
    """Of what figures depend on most."""
    return [
        f"{name}: {getattr(one, name) or 'none'}, now {getattr(other, name) or 'none'}"
        for name in ("commit", "tacit", "processor", "cores")
        if getattr(one, name) != getattr(other, name)
    ]
