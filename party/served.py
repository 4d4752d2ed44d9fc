"""A model as a peer serves it: checkpoint read, folded, range-checked, quantised, once at start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..ends import LinkSettings
from ..errors import ConfigError
from ..manifest import Manifest
from ..models.checkpoint import load_checkpoint
from ..models.fold import fold
from ..models.ranges import calibrated
from ..protocols.base import Spec
from ..protocols.pair.scales import Scales, make_scales
from ..protocols.pair.weights import Weights, prepare
from ..sizes import Sizes
from .budget import Need
from .encodings import Encodings
from .footprint import need
from .links import SessionLimits


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Everything about a model that a session needs. `manifest_hash` also stands for the scales, which follow from it."""

    name: str
    spec: Spec
    scales: Scales
    weights: Weights
    manifest: bytes
    manifest_hash: str
    tokenizer: bytes | None
    summary: dict[str, Any]
    encodings: Encodings = field(default_factory=Encodings, compare=False, repr=False)

    def need(self, role: int, sizes: Sizes, protocol: str = "pair", padded: bool = False) -> Need:
        """What a session takes of a peer's memory in `role` (`footprint`). ConfigError or ModelError if it cannot be served."""
        limits, window = SessionLimits(sizes, protocol=protocol, padded=padded), LinkSettings().window
        if protocol == "crypten":
            from . import crypten_need

            if padded:
                raise ConfigError("hidden prompt lengths need protocol 'pair'")
            return crypten_need.need(self, role, limits, window)
        return need(self.spec, self.weights_for(padded).scales, role, limits, window)

    def weights_for(self, padded: bool) -> Weights:
        """With the plan that a session takes. ConfigError or ModelError where lengths cannot be hidden."""
        return self.encodings.get("pair, padded", self._padded) if padded else self.weights

    def _padded(self) -> Weights:
        if self.spec.rope_theta is None:
            raise ConfigError(f"{self.name} has learned positions; lengths are hidden for rotary ones alone")
        ranges = Manifest.from_bytes(self.manifest).ranges
        return self.weights.planned(make_scales(self.spec, ranges, hiding=True))


def load_model(path: str) -> ServedModel:
    """Read a folder, shipped name or cached hub name. ModelError if it cannot be served."""
    import torch

    torch.set_num_threads(1)  # a peer has a core; its sessions are its threads
    checkpoint = load_checkpoint(path)
    spec, folded = fold(checkpoint)
    ranges = calibrated(checkpoint, spec, folded)
    scales = make_scales(spec, ranges)
    manifest = checkpoint.manifest(ranges)
    return ServedModel(
        name=checkpoint.name,
        spec=spec,
        scales=scales,
        weights=prepare(spec, scales, folded),
        manifest=manifest.to_bytes(),
        manifest_hash=manifest.hash,
        tokenizer=checkpoint.tokenizer,
        summary={
            "architecture": spec.architecture,
            "layers": spec.layers,
            "vocab": spec.vocab,
            "context": spec.context,
            "bos": checkpoint.bos,
            "eos": list(checkpoint.eos),
        },
    )
