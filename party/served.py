"""A model as a peer serves it: checkpoint read, folded, range-checked, quantised, once at start."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from ..errors import ConfigError
from ..models.checkpoint import Checkpoint, load_checkpoint
from ..models.fold import Weights as Folded
from ..models.fold import fold
from ..models.scales import calibrate, sample_sequences
from ..protocols.base import Spec
from ..protocols.pair.scales import Ranges, Scales, make_scales
from ..protocols.pair.weights import Weights, prepare
from .memory import keep_freed_memory

RANGES_FORMAT = 1  # raise when calibration changes


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


def load_model(path: str) -> ServedModel:
    """Read a folder, shipped name or cached hub name. ModelError if it cannot be served."""
    import torch

    torch.set_num_threads(1)  # a peer has a core; its sessions are its threads
    keep_freed_memory()
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


def calibrated(checkpoint: Checkpoint, spec: Spec, folded: Folded) -> Ranges:
    """The model's ranges, from the user's cache when these very weights were calibrated before."""
    folder = Path(os.environ.get("TACIT_CACHE_DIR") or platformdirs.user_cache_dir("tacit")) / "ranges"
    path = folder / f"{checkpoint.weights_hash[:32]}-{checkpoint.config_hash[:16]}-{RANGES_FORMAT}.json"
    with contextlib.suppress(OSError, ValueError):
        found: Ranges = json.loads(path.read_text(encoding="utf-8"))
        return found
    ranges = calibrate(spec, folded, sample_sequences(spec, folded, checkpoint.bos))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as file:
            json.dump(ranges, file)
        Path(file.name).replace(path)
    except OSError as error:
        raise ConfigError(
            f"the cache folder {folder} cannot be written: {error.strerror}; set TACIT_CACHE_DIR"
        ) from error
    return ranges
