"""What a sentence-transformers folder says beside config.json: how long a text may be, and what is made of its rows.

Embeddings here are means over a text's rows, normalised. What a folder asks for beyond that would give other embeddings: refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .layout import Layout

Read = Callable[[Path], Any]
_STEPS = ("Transformer", "Pooling", "Normalize")  # sentence_transformers.models
_POOLING = "1_Pooling/config.json"


def as_sentences(folder: Path, layout: Layout, read: Read) -> Layout:
    """An encoder's layout with the folder's own longest text as its context, if it has one. `read` gives a file's JSON value.

    ModelError for another pooling, for layers behind it, and for a longest text that the model has no positions for.
    """
    modules, pooling, lengths = (
        read(folder / name) if (folder / name).exists() else None
        for name in ("modules.json", _POOLING, "sentence_bert_config.json")
    )
    if modules is not None:
        kinds = [str(one.get("type")).rpartition(".")[2] for one in _list(folder / "modules.json", modules)]
        if kinds[:2] != list(_STEPS[:2]) or kinds[2:] not in ([], [_STEPS[2]]):
            raise ModelError(
                f"{folder}/modules.json: {' + '.join(kinds)[:80]} is not supported (only {' + '.join(_STEPS)})"
            )
    for mode, value in _object(folder / _POOLING, pooling).items():
        if mode.startswith("pooling_mode_") and value is not (mode == "pooling_mode_mean_tokens"):
            raise ModelError(f"{folder}/{_POOLING}: {mode} = {value!r} is not supported (only the mean over tokens)")
    file = folder / "sentence_bert_config.json"
    longest = _object(file, lengths).get("max_seq_length")
    if longest is None:
        return layout
    most = layout.spec.context
    if not isinstance(longest, int) or isinstance(longest, bool) or not 1 <= longest <= most:
        raise ModelError(f"{file}: max_seq_length = {longest!r} should be a whole number from 1 to {most}")
    return replace(layout, spec=replace(layout.spec, context=longest))


def _list(path: Path, value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ModelError(f"{path}: damaged, not a list of objects")
    return value


def _object(path: Path, value: Any) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise ModelError(f"{path}: damaged, not a JSON object")
    return value or {}
