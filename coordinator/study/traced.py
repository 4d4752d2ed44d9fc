"""Where the time of a step goes, and what is sent when: a few answers on a cluster of their own whose parties all record.

They are apart from the measured ones, because recording takes a little time itself. An answer of two or three tokens is enough: its
first step is the prompt, and each later one a token.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...errors import ConfigError, TacitError
from ...network import Network
from ...tracing import chrome
from ...tracing.files import SessionTrace, read_folder
from .bench import ShapedBench
from .plan import ModelFact, Plan
from .records import Case, Site, Transfer
from .trace_files import sites, transfers

FILE = "trace.json"
STEPS = (1, 2)  # whose messages are kept
_PATIENCE = 2.0  # seconds for the parties to write their last lines


@dataclass
class Traced:
    """What was found, by case; `chosen`: the answer whose token is kept for a trace viewer."""

    sites: list[Site] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    chosen: SessionTrace | None = None
    missing: dict[Case, str] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write trace.json: one token with all parties on one clock, for chrome://tracing or Perfetto. Raises ConfigError."""
        if self.chosen is not None:
            chrome.write(folder / FILE, [self.chosen], STEPS[:1])


def trace_cases(
    model: ModelFact,
    plan: Plan,
    cases: Sequence[Case],
    say: Callable[[Case], None] = lambda case: None,
    tokens: int = 3,
) -> Traced:
    """An answer of at most `tokens` tokens of each of these cases of one model, none of which may be `plain`. A case
    that fails is in `missing`.

    The token for a viewer is of the case whose line has the median delay.
    """
    found = Traced()
    if not cases:
        return found
    viewed = sorted(cases, key=plan.delay)[len(cases) // 2]
    with tempfile.TemporaryDirectory(prefix="tacit-traces-") as name:
        folder = Path(name)
        bench = ShapedBench(model, plan.networks[cases[0].network] or Network.parse([]), trace=folder)
        try:
            quickest = min(cases, key=plan.delay)
            with suppress(TacitError):  # if it cannot answer, the first case says so
                _answer(bench, plan, quickest, folder, tokens)  # warms up
            for case in cases:
                say(case)
                try:
                    trace = _answer(bench, plan, case, folder, tokens)
                except TacitError as error:
                    found.missing[case] = str(error)
                    continue
                found.sites += sites(case, [trace])
                found.transfers += transfers(case, trace, STEPS)
                if case == viewed:
                    found.chosen = trace
        finally:
            bench.close()
    return found


def _answer(bench: ShapedBench, plan: Plan, case: Case, folder: Path, tokens: int) -> SessionTrace:
    bench.set_network(plan.networks[case.network])
    bench.answer(replace(case, new_tokens=min(case.new_tokens, tokens)), 0)
    traces = read_folder(folder, patience=_PATIENCE)
    for path in folder.glob("*.jsonl"):
        path.unlink(missing_ok=True)
    if not traces:
        raise ConfigError(f"the parties left no trace in {folder}")
    return traces[-1]
