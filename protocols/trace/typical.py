"""Ranges of the size that trained models have, for planning a model whose weights are not at hand."""

from __future__ import annotations

from ..base import Spec
from ..pair.scales import CALIBRATED, Ranges


def typical(spec: Spec) -> Ranges:
    """For `make_scales`: every site of the model, with magnitudes seen in trained models of 10^6 to 10^9 parameters."""
    ranges: dict[str, dict[str, float]] = {"head": {"output": 100.0}}
    norm = {"input": 60.0, "rms_low": 0.5, "rms_high": 4.0}
    weighted = min(60.0, 2.0**12 * CALIBRATED / spec.context)  # it grows with the row, and has to fit the longest one
    for i in range(spec.layers):
        ranges[f"layers.{i}.norm1"] = ranges[f"layers.{i}.norm2"] = norm
        scores = {"scores": 30.0, "row_max_low": -4.0, "weighted": weighted, "exp_sum": 300.0}
        ranges[f"layers.{i}.attention"] = {"raw": 12.0, "q": 3.0, "k": 12.0, "v": 3.0, **scores}
        ranges[f"layers.{i}.act"] = {"input": 7.0, "gate": 7.0, "up": 7.0, "output": 30.0}
        if spec.encoder:
            ranges[f"layers.{i}.skip1"] = ranges[f"layers.{i}.skip2"] = {"output": 20.0}
    ranges["norm"] = norm
    if spec.encoder:
        ranges["head"] = {"output": 8.0}
    return ranges
