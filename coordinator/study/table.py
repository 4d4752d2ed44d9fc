"""A study as flat rows, for pandas and for results.csv. Times are milliseconds, sizes bytes, rates Mbit/s.

| rows of | one for each | holds beside the case |
| --- | --- | --- |
| answers | measured answer | ttft_ms, tpot_ms, e2e_ms, setup_ms; per token: rounds, bytes, compute, waiting, the dealer's time |
| steps | step of an answer | step (0: the prompt), step_ms, and what that step took |
| cases | case | n, and mean, p50, p90, p99 of every metric; per prompt and per token: rounds, bytes, compute, waiting |

results.csv holds the rows of the cases.
"""

from __future__ import annotations

import csv
import io
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...errors import ConfigError, UsageError
from ...network import Profile
from . import metrics
from .records import Answer, Case, Results, profile_of

FILE = "results.csv"

Row = dict[str, Any]


def rows(results: Results, of: str = "answers") -> list[Row]:
    """As above. Raises UsageError for another word. A number that does not exist is None."""
    if of == "answers":
        return [_answer(answer) for answer in results.answers]
    if of == "steps":
        return [row for answer in results.answers for row in _steps(answer)]
    if of == "cases":
        return [_summary(case, list(results.of(case))) for case in results.cases()]
    raise UsageError(f"there are no rows of {of!r}: choose answers, steps or cases")


def save_csv(results: Results, folder: Path) -> Path:
    """Write results.csv as a whole. Raises ConfigError; results.json stays what counts."""
    path = folder / FILE
    found = rows(results, "cases")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in found for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    try:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=FILE)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text.getvalue())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise ConfigError(f"{path}: the table cannot be written: {error.strerror}; results.json is whole") from None
    return path


def _case(case: Case) -> Row:
    profile = profile_of(case.network)
    return {
        "protocol": case.protocol,
        "network": case.network,
        "forwarded": case.forwarded,
        **_line(profile),
        "model": case.model,
        "prompt_tokens": case.prompt_tokens,
        "new_tokens": case.new_tokens,
    }


def _line(profile: Profile | None) -> Row:
    """Of the line that most pairs have; None where it is unlimited or not known."""
    if profile is None:
        return dict.fromkeys(("rtt_ms", "bandwidth_mbit", "jitter_ms", "loss"))
    return {
        "rtt_ms": 1e3 * profile.rtt,
        "bandwidth_mbit": None if math.isinf(profile.bandwidth) else profile.bandwidth / 1e6,
        "jitter_ms": 1e3 * profile.jitter,
        "loss": profile.loss,
    }


def _answer(answer: Answer) -> Row:
    return {
        **_case(answer.case),
        "repetition": answer.repetition,
        "started": answer.started,
        "ttft_ms": answer.ttft_ms,
        "tpot_ms": metrics.tpot_ms(answer),
        "e2e_ms": answer.e2e_ms,
        "setup_ms": answer.setup_ms,
        "tokens": answer.tokens,
        **_phase([answer], "token"),
    }


def _steps(answer: Answer) -> Iterator[Row]:
    for step, milliseconds in enumerate([answer.ttft_ms, *answer.itl_ms]):
        yield {
            **_case(answer.case),
            "repetition": answer.repetition,
            "step": step,
            "step_ms": milliseconds,
            **{name: getattr(answer, name)[step] for name in metrics.PerToken.__slots__},
        }


def _summary(case: Case, answers: list[Answer]) -> Row:
    row = {**_case(case), "answers": len(answers)}
    found = metrics.summaries(answers)
    for metric in metrics.METRICS:
        summary = found.get(metric)
        row[f"{metric}_n"] = summary.n if summary else 0
        for name in ("mean", "p50", "p90", "p99"):
            row[f"{metric}_{name}_ms"] = getattr(summary, name) if summary else None
    return {**row, **_phase(answers, "prompt"), **_phase(answers, "token")}


def _phase(answers: Iterable[Answer], phase: str) -> Row:
    found = metrics.per_step(answers, phase)
    names = metrics.PerToken.__slots__
    return {f"{name}_per_{phase}": getattr(found, name) if found else None for name in names}
