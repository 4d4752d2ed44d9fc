"""Predicting a session on any line, from shapes and from what this machine's kernels were measured to take.

    read_subject(name, folder or config.json)            what is estimated
    calibrated(), calibrate(), load_rates()              this machine's rates
    estimate(subject, prompt, new, network)              everything, for people
    predict(case), predict_sites(case)                   a study's records
    crossings(subject, protocols, rtts, bandwidths)      its crossover map

`work` counts, `bench` and `wire` measure, `timeline` puts both on a clock.
"""

from .calibrate import STAGES, calibrate, calibrated
from .predict import Estimate, Split, crossings, estimate, predict, predict_sites
from .rates import Rates, load_rates
from .subject import Subject, read_subject, subject_of
from .timeline import Placement

__all__ = [
    "STAGES",
    "Estimate",
    "Placement",
    "Rates",
    "Split",
    "Subject",
    "calibrate",
    "calibrated",
    "crossings",
    "estimate",
    "load_rates",
    "predict",
    "predict_sites",
    "read_subject",
    "subject_of",
]
