"""What the model of costs says of a study's cases, and of the lines between and beyond them: to be shown beside what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...errors import TacitError
from .estimate import calibrated, crossings, predict, read_subject
from .plan import Plan
from .records import Case, Crossing, Prediction

RTTS = (0.1e-3, 0.3e-3, 1e-3, 3e-3, 10e-3, 30e-3, 100e-3, 300e-3)  # of the crossover map
BANDWIDTHS = (10e6, 30e6, 100e6, 300e6, 1e9, 3e9, 10e9)


def predict_cases(
    plan: Plan, cases: Sequence[Case], say: Callable[[str], None]
) -> tuple[list[Prediction], list[Crossing]]:
    """Of these cases, and the crossover map of their models and protocols; measures this machine's rates if nobody has yet.

    What cannot be predicted is left out, and said. Raises NetworkError or ConfigError if the rates cannot be measured.
    """
    rates = calibrated(lambda what: say(f"measuring this machine's rates once: {what}"))
    predictions: list[Prediction] = []
    found: list[Crossing] = []
    for model in plan.models:
        own = [case for case in cases if case.model == model.name]
        refused: dict[str, str] = {}
        subject = read_subject(model.given)
        for case in own:
            network = plan.networks[case.network]
            if network is None or case.protocol in refused:
                continue
            try:
                predictions.append(predict(case, subject=subject, network=network, rates=rates))
            except TacitError as error:
                refused[case.protocol] = str(error)
        for protocol in dict.fromkeys(case.protocol for case in own):
            if protocol not in refused:
                found += crossings(subject, [protocol], RTTS, BANDWIDTHS, rates=rates)
        for protocol, reason in refused.items():
            say(f"{protocol} on {model.name} is not predicted: {reason}")
    return predictions, found
