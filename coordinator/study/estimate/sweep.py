"""What an answer is predicted to take over round trips and bandwidths, as the results of a study that measured nothing."""

from __future__ import annotations

from collections.abc import Callable

from ....errors import TacitError
from ....network import NAMED, Network, Profile
from ..provenance import provenance
from ..records import Case, Results
from .predict import ESTIMATED, crossings, predict, predict_sites
from .rates import Rates
from .subject import Subject
from .timeline import Placement

RTTS = (1e-3, 3e-3, 10e-3, 30e-3, 100e-3, 300e-3)
BANDWIDTHS = (10e6, 100e6, 1e9)
MAP_RTTS = (0.1e-3, 0.3e-3, *RTTS)
MAP_BANDWIDTHS = (10e6, 30e6, 100e6, 300e6, 1e9, 3e9, 10e9)


def sweep(
    subject: Subject,
    protocol: str,
    prompt: int,
    new: int,
    *,
    rates: Rates,
    where: Placement,
    say: Callable[[str], None] = lambda what: None,
) -> Results:
    """Predictions on the named networks and on a grid of lines, places of the model on the named ones, and the map; beside
    `protocol` of every other that a network applies to and that can be predicted for this model.

    Raises as `predict` does, for `protocol`.
    """
    found = Results(provenance(), repetitions=0, warmup=0)
    grid = [Profile(rtt=rtt, bandwidth=bandwidth) for bandwidth in BANDWIDTHS for rtt in RTTS]
    for one in dict.fromkeys((protocol, *ESTIMATED)):
        if one == "plain" and one != protocol:
            continue
        say(one)
        try:
            for line in dict.fromkeys((*NAMED.values(), *grid)):
                case = Case(one, line.text, subject.name, prompt, new)
                found.predictions.append(
                    predict(case, subject=subject, network=Network(line), rates=rates, where=where)
                )
            found.crossings += crossings(
                subject, [one], MAP_RTTS, MAP_BANDWIDTHS, prompt=prompt, rates=rates, where=where
            )
        except TacitError:
            if one == protocol:
                raise
            continue
        for name, line in NAMED.items():
            case = Case(one, name, subject.name, prompt, new)
            found.sites += predict_sites(case, subject=subject, network=Network(line), rates=rates, where=where)
    return found
