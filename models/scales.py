"""The range check: what a model's activations reach on sample prompts, and whether fixed point can hold them.

`calibrate` runs the model in the clear over token sequences that look like use, and records per site the magnitudes that
`tacit.protocols.pair.scales` turns into fraction bits and ring widths. `check` does it for a folder or a shipped name and
says, gate by gate, what was seen, what fits, and the bits of margin left. A model with less than two bits is refused when
the plan is made. Ranges are part of the manifest, so all parties of a session use the same plan.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..protocols.base import Batch, Spec
from ..protocols.pair.scales import CALIBRATED, COARSE, Ranges, Scales, make_scales
from ..protocols.plain.plain import Plain
from .checkpoint import load_checkpoint
from .decoder import forward
from .fold import fold
from .texts import text_sequences

SEQUENCES = 4


class RangeRecorder:
    """An observer of `Plain` that keeps maxima and minima per site."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self.ranges: dict[str, dict[str, float]] = {}

    def _most(self, site: str, quantity: str, value: float) -> None:
        seen = self.ranges.setdefault(site, {})
        seen[quantity] = max(seen.get(quantity, 0.0), value)

    def _least(self, site: str, quantity: str, value: float) -> None:
        seen = self.ranges.setdefault(site, {})
        seen[quantity] = min(seen.get(quantity, math.inf), value)

    def embeddings(self, table: npt.NDArray[np.float64], positions: npt.NDArray[np.float64] | None) -> None:
        """Bound the first norm's input by every row of the vocabulary, sampled or not, and by every position."""
        peak, rms = np.abs(table).max(), np.sqrt((table * table).mean(1)).max()
        if positions is not None:
            peak, rms = peak + np.abs(positions).max(), rms + np.sqrt((positions * positions).mean(1)).max()
        self._most("layers.0.norm1", "input", float(peak))
        self._most("layers.0.norm1", "rms_high", float(rms))

    def __call__(self, site: str, quantity: str, values: npt.NDArray[np.float64]) -> None:
        """Record one observation."""
        if quantity == "mean_square":
            rms = np.sqrt(values + self._spec.eps)
            self._most(site, "rms_high", float(rms.max()))
            self._least(site, "rms_low", float(rms.min()))
        elif quantity == "scores":
            self._most(site, "scores", float(np.abs(values).max()))
            pairs = values.size // self._spec.heads
            if self._spec.causal:
                rows = int((math.isqrt(8 * pairs + 1) - 1) // 2)  # P = T (T + 1) / 2
                starts = np.cumsum(np.arange(rows))
            else:
                rows = math.isqrt(pairs)  # P = T^2
                starts = rows * np.arange(rows)
            top = np.maximum.reduceat(values.reshape(self._spec.heads, -1), starts, axis=1)
            self._least(site, "row_max_low", float(top.min()))
        elif site.endswith("attention") and quantity in ("qk_raw", "v", "weighted"):
            self._most(site, "raw" if quantity == "qk_raw" else quantity, float(np.abs(values).max()))
        elif site.endswith("act") and quantity in ("input", "gate", "up", "output"):
            self._most(site, quantity, float(np.abs(values).max()))
        elif site.endswith(("norm", "norm1", "norm2")) and quantity == "input":
            self._most(site, "input", float(np.abs(values).max()))
        elif site == "head" or site.endswith(("skip1", "skip2")):
            self._most(site, "output", float(np.abs(values).max()))


def calibrate(
    spec: Spec, folded: Mapping[str, npt.NDArray[np.float64]], sequences: Sequence[Sequence[int]]
) -> dict[str, dict[str, float]]:
    """Ranges over token sequences.

    Values are rounded up to an eighth of a power of two so that float64 differences between machines do not change a plan.
    """
    recorder = RangeRecorder(spec)
    recorder.embeddings(folded["embed"], folded.get("positions"))
    for tokens in sequences:
        ids = list(tokens)[: spec.context]
        model = Plain(spec, folded, recorder)
        forward(model, spec, ids, model.new_cache(), Batch.one(len(ids)))
    return {
        site: {name: _rounded(value, up=name != "row_max_low" and name != "rms_low") for name, value in seen.items()}
        for site, seen in recorder.ranges.items()
    }


def _rounded(value: float, up: bool) -> float:
    """To an eighth of a power of two, away from zero if `up`, towards minus infinity otherwise."""
    if value == 0:
        return 0.0
    step = 2.0 ** (math.floor(math.log2(abs(value))) - 3)
    return (math.ceil if up else math.floor)(value / step) * step


def sample_sequences(
    spec: Spec,
    folded: Mapping[str, npt.NDArray[np.float64]],
    bos: int | None,
    tokenizer: bytes | None = None,
) -> list[list[int]]:
    """Token sequences to calibrate on: the model's own text from fixed random starts, and random tokens; for an encoder, which
    says nothing of its own, texts in its tokenizer's words.

    Drawn from SHA-256 of fixed strings, so every machine calibrates on the same tokens.
    """
    length = min(CALIBRATED, spec.context)
    if spec.encoder:
        return text_sequences(tokenizer, spec.context, [_drawn(i, length, spec.vocab) for i in range(SEQUENCES)])
    out = []
    for i in range(SEQUENCES):
        drawn = _drawn(i, length, spec.vocab)
        head = [bos] if bos is not None and i < SEQUENCES - 2 else []  # half of them without: a user may leave it out
        if i % 2 == 0:
            out.append((head + drawn)[:length])
            continue
        model = Plain(spec, folded)
        caches = model.new_cache()
        ids = (head + drawn[:2])[: max(1, length // 2)]
        logits = forward(model, spec, ids, caches, Batch.one(len(ids)))
        while len(ids) < length:
            ids.append(int(np.argmax(logits[-1])))
            logits = forward(model, spec, ids[-1:], caches, Batch.one(1, len(ids) - 1))
        out.append(ids)
    return out


def _drawn(number: int, length: int, vocab: int) -> list[int]:
    """Random tokens, the same everywhere."""
    blocks = [f"tacit range check {number} {j}".encode() for j in range(length // 8 + 1)]
    stream = b"".join(hashlib.sha256(block).digest() for block in blocks)
    return [int(x) % vocab for x in np.frombuffer(stream, "<u4")][:length]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the check: what a quantity reached, what fits, and the bits between them."""

    site: str
    quantity: str
    largest: float
    bound: float

    @property
    def margin_bits(self) -> float:
        """log2(bound / largest)."""
        return math.log2(self.bound / max(self.largest, 2.0**-40))


def rows(spec: Spec, ranges: Ranges, scales: Scales) -> list[Row]:
    """Every bounded quantity of the plan."""
    out = []
    for i in range(spec.layers):
        for j in (1, 2):
            out += _norm_rows(f"layers.{i}.norm{j}", ranges, scales)
        site = f"layers.{i}.attention"
        plan, seen = scales.attention(site), ranges[site]
        if plan.rope:
            out.append(Row(site, "q, k before rotation", seen["raw"], 2.0 ** (plan.bits_raw - 2 - plan.frac_raw)))
        out.append(Row(site, "v", seen["v"], 2.0 ** (plan.bits_v - 2 - 13)))
        out.append(Row(site, "scores", seen["scores"], 2.0 ** (plan.bits_s - 2 - 12)))
        out.append(Row(site, "sum of exp times v", seen["weighted"], 2.0 ** (plan.bits_o - 2 - plan.frac_o)))
        site = f"layers.{i}.act"
        act, seen = scales.activation(site), ranges[site]
        c = act.table.cover
        edge = 2.0 ** (c.n - 1 - act.table.frac_in) - (COARSE if spec.activation != "relu" else 0.0)
        out.append(Row(site, "gate" if spec.gated else "input", seen["gate" if spec.gated else "input"], edge))
        if act.frac_up is not None:
            out.append(Row(site, "up", seen["up"], 2.0 ** (act.bits_up - 2 - act.frac_up)))
    out += _norm_rows("norm", ranges, scales)
    if spec.encoder:
        for site in (f"layers.{i}.skip{j}" for i in range(spec.layers) for j in (1, 2)):
            skip = scales.scaling(site)
            out.append(Row(site, "row kept", ranges[site]["output"], 2.0 ** (62 - skip.frac_in - skip.frac)))
        largest = ranges["head"]["output"] * spec.context
        out.append(Row("head", f"sum of {spec.context} rows", largest, 2.0 ** (32 - 1 - scales.frac_revealed)))
        return out
    out.append(Row("head", "logits", ranges["head"]["output"], 2.0 ** (32 - 1 - 16)))
    return out


def _norm_rows(site: str, ranges: Ranges, scales: Scales) -> list[Row]:
    plan = scales.norm(site)
    return [
        Row(site, "residual", ranges[site]["input"], 2.0 ** (plan.bits_x - 2 - plan.frac_x)),
        Row(site, "rms", ranges[site]["rms_high"], ranges[site]["rms_high"] * 8),
    ]


@dataclass(frozen=True, slots=True)
class Check:
    """The range check of one model."""

    name: str
    spec: Spec
    ranges: Ranges
    scales: Scales
    rows: list[Row]

    @property
    def margin_bits(self) -> float:
        """The smallest margin."""
        return min(row.margin_bits for row in self.rows)


def plan(
    spec: Spec,
    folded: Mapping[str, npt.NDArray[np.float64]],
    bos: int | None,
    name: str,
    tokenizer: bytes | None = None,
) -> Check:
    """Calibrate, plan, and tabulate. ModelError if the model does not fit."""
    ranges = calibrate(spec, folded, sample_sequences(spec, folded, bos, tokenizer))
    scales = make_scales(spec, ranges)
    return Check(name, spec, ranges, scales, rows(spec, ranges, scales))


def check(name_or_path: str) -> Check:
    """The range check of a folder, shipped name or cached hub name. ModelError if it cannot be read or does not fit."""
    checkpoint = load_checkpoint(name_or_path)
    spec, folded = fold(checkpoint)
    return plan(spec, folded, checkpoint.bos, checkpoint.name, checkpoint.tokenizer)
