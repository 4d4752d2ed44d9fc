"""How much longer work takes in a session than alone: cores and caches that three peers share, memory that is touched for the
first time, threads that slept. One factor for all of it, fitted to real answers without any line of a model that is there for
this alone (`own_model`), so that what is predicted for another model comes from nothing that was measured with it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ....network import Network, Profile
from .rates import Rates
from .session import Setting, times
from .subject import Subject
from .timeline import Placement

if TYPE_CHECKING:
    from ....client.api import Client

FACTOR = "session.work"
PROMPTS, NEW = (8, 64), 8
ANSWERS = 6  # of each length; the first warms up
STEPS = 12  # of the search
LEAST, MOST = 0.5, 8.0
_APART = ("session", "way")  # waited for rather than worked on

Measured = Sequence[tuple[int, float, float]]  # tokens of the prompt, seconds to the first token, seconds a token


def measured_answers(client: Client) -> Measured:
    """Medians, from a cluster of this machine whose links are as they are."""
    found = []
    for prompt in PROMPTS:
        first, later = [], []
        for _ in range(ANSWERS):
            generation = client.generate(list(range(3, 3 + prompt)), max_new_tokens=NEW, ignore_eos=True)
            generation.complete()
            first.append(generation.seconds[0] - generation.setup_seconds)
            later.append(statistics.mean(generation.seconds[1:]))
        found.append((prompt, statistics.median(first[1:]), statistics.median(later[1:])))
    return found


def in_session(rates: Mapping[str, float], cores: int, subject: Subject, measured: Measured) -> dict[str, float]:
    """The rates of work, all longer by the one FACTOR with which predictions of `subject` are right for `measured` on
    geometric mean."""
    low, high = LEAST, MOST
    for _ in range(STEPS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _error(_scaled(rates, middle), cores, subject, measured) < 0 else (low, middle)
    factor = math.sqrt(low * high)
    return _scaled(rates, factor) | {FACTOR: factor}


def _scaled(rates: Mapping[str, float], factor: float) -> dict[str, float]:
    found = {
        name: value if name in _APART or name.startswith("plain.") else factor * value for name, value in rates.items()
    }
    found["round"] = rates["round"] + (factor - 1) * rates["round.cpu"]  # the rest of a round is waited for
    return found


def _error(rates: Mapping[str, float], cores: int, subject: Subject, measured: Measured) -> float:
    """Mean logarithm of predicted over measured."""
    kept = Rates(rates={**rates, "session": 0.0}, key="", made="", machine="", cores=cores)
    setting = replace(Setting(Network(Profile()), kept), where=Placement(cores))
    errors = []
    for prompt, first, later in measured:
        found = times(subject, prompt, NEW, setting)
        errors += [math.log(found[0] / first), math.log(statistics.mean(found[1:]) / later)]
    return statistics.mean(errors)
