"""What is said of a case's answers, in vLLM's terms.

| metric | of one answer | samples of a case |
| --- | --- | --- |
| TTFT | from the request to the first token, the session's set-up and the whole prompt included | one an answer |
| TPOT | the mean of its ITLs: (E2E - TTFT) / (tokens - 1) | one an answer of two tokens or more |
| ITL | from one token to the next | one a token after the first, of all answers together |
| E2E | from the request to the last token; parting from the peers is not in it | one an answer |

Percentiles interpolate between the two nearest ranks: percentile p of n sorted samples is at place p / 100 (n - 1), counted
from 0 (what vLLM and numpy.percentile do by default). With few samples a high percentile is near the largest, so n stands
beside it. Warm-up answers never get this far: they are not kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from .records import Answer

METRICS = ("ttft", "tpot", "itl", "e2e")
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, slots=True)
class Summary:
    """Of n samples, in their unit."""

    n: int
    mean: float
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, samples: Iterable[float]) -> Summary | None:
        """None of no samples."""
        found = sorted(samples)
        if not found:
            return None
        return cls(len(found), fmean(found), *(percentile(found, p) for p in PERCENTILES))


def percentile(samples: Sequence[float], p: float) -> float:
    """Percentile `p` (0 to 100) of sorted samples, of which there is at least one."""
    place = p / 100 * (len(samples) - 1)
    below = math.floor(place)
    above = min(below + 1, len(samples) - 1)
    return samples[below] + (place - below) * (samples[above] - samples[below])


def tpot_ms(answer: Answer) -> float | None:
    """None where there was one token only."""
    return fmean(answer.itl_ms) if answer.itl_ms else None


def samples(answers: Iterable[Answer], metric: str) -> list[float]:
    """Milliseconds, in the order of the answers."""
    found = list(answers)
    if metric == "ttft":
        return [answer.ttft_ms for answer in found]
    if metric == "e2e":
        return [answer.e2e_ms for answer in found]
    if metric == "itl":
        return [itl for answer in found for itl in answer.itl_ms]
    if metric == "tpot":
        return [tpot for answer in found if (tpot := tpot_ms(answer)) is not None]
    raise ValueError(f"there is no metric {metric!r}")


def summaries(answers: Iterable[Answer]) -> dict[str, Summary]:
    """By metric; one that has no samples is left out."""
    found = list(answers)
    return {metric: summary for metric in METRICS if (summary := Summary.of(samples(found, metric))) is not None}


@dataclass(frozen=True, slots=True)
class PerToken:
    """Means over the steps of one phase: rounds, bytes, and milliseconds of the slower compute peer and of the dealer."""

    rounds: float
    online_bytes: float
    offline_bytes: float
    client_bytes: float
    compute_ms: float
    waiting_ms: float
    offline_ms: float


def per_step(answers: Iterable[Answer], phase: str) -> PerToken | None:
    """Of the prompts' steps ("prompt"), or of all later ones ("token"); None if there were none."""
    part = slice(0, 1) if phase == "prompt" else slice(1, None)
    found = list(answers)
    if not any(answer.rounds[part] for answer in found):
        return None
    return PerToken(
        *(fmean(value for answer in found for value in getattr(answer, name)[part]) for name in PerToken.__slots__)
    )
