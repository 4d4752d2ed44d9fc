"""What is estimated: a model's architecture and fixed-point plan, from a folder, a shipped name, or a config.json alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ....errors import ModelError
from ....models.layout import Layout, read_layout
from ....models.locate import locate
from ....protocols.base import Spec
from ....protocols.pair.scales import COUNT, Scales, make_scales
from ....protocols.trace.typical import typical

_LARGEST_CONFIG = 10 << 20
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_ROTATIONS = ("rope_scaling", "rope_parameters")


@dataclass(frozen=True)
class Subject:
    """A model to be estimated. `notes`: what is assumed of it, and what the peers would refuse."""

    name: str
    spec: Spec
    scales: Scales
    parameters: int
    notes: tuple[str, ...] = ()


def read_subject(name_or_path: str | Path) -> Subject:
    """A folder or name with its own calibrated ranges; a config.json, or a folder without weights, with typical ones.

    ModelError for what cannot be read, or does not describe a model that can be planned.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return subject_of(_entries(path), path.parent.name or path.name, str(path))
    folder = locate(name_or_path)
    if not any((folder / name).is_file() for name in _WEIGHTS):
        return subject_of(_entries(folder / "config.json"), folder.name, str(folder / "config.json"))
    from ....models.checkpoint import load_checkpoint
    from ....models.fold import fold
    from ....models.ranges import calibrated

    checkpoint = load_checkpoint(name_or_path)
    spec, folded = fold(checkpoint)
    scales = make_scales(spec, calibrated(checkpoint, spec, folded))
    return Subject(checkpoint.name, spec, scales, _parameters(checkpoint.layout))


def subject_of(entries: Mapping[str, Any], name: str, source: str = "config.json") -> Subject:
    """From the entries of a config.json. What the runtime refuses but costs the same is noted, not refused."""
    notes = ["ranges: typical of trained models; the model's own, found from its weights, change keys by some per cent"]
    try:
        layout = read_layout(entries)
    except ModelError as error:
        without = {key: value for key, value in entries.items() if key not in _ROTATIONS}
        if len(without) == len(entries):
            raise ModelError(f"{source}: {error}") from None
        theta = next(
            (v["rope_theta"] for k in _ROTATIONS if isinstance(v := entries.get(k), dict) and "rope_theta" in v), None
        )
        try:
            layout = read_layout(without | ({"rope_theta": theta} if theta is not None else {}))
        except ModelError as inner:
            raise ModelError(f"{source}: {inner}") from None
        notes.append(f"peers would refuse this model ({error}); scaled rotations cost what unscaled ones do")
    spec = layout.spec
    most = (1 << COUNT) - 1
    if spec.context > most:
        notes.append(f"peers would refuse a context of {spec.context}; rows of up to {most} are assumed")
        spec = replace(spec, context=most)
    return Subject(name, spec, make_scales(spec, typical(spec)), _parameters(layout), tuple(notes))


def _parameters(layout: Layout) -> int:
    count = 0
    for shape in layout.shapes.values():
        size = 1
        for length in shape:
            size *= length
        count += size
    return count


def _entries(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise ModelError(f"{path}: {path.stat().st_size} bytes are no config.json")
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise ModelError(f"{path}: is no config.json: not JSON") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path}: is no config.json: not a JSON object")
    return found
