"""Hugging Face folders: config.json, safetensors weights (one file or shards), tokenizer.json, chat templates. Nothing is
executed.

Headers, types and shapes are checked against the configuration before any weight is read; what does not fit is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from ..chatfile import ChatFile
from ..errors import ModelError
from ..manifest import Manifest
from .chat import load_chat
from .layout import Layout, read_layout
from .locate import locate, model_name
from .sentences import as_sentences

_DTYPES = ("F32", "F16", "BF16")
_LARGEST_JSON = 64 << 20  # a tokenizer.json of a large vocabulary has 20 MB
_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model as its folder holds it. `tensors` are float32, by the names of `layout.shapes`."""

    name: str
    layout: Layout
    tensors: Mapping[str, NDArray[np.float32]]
    tokenizer: bytes | None
    chat: bytes | None  # a `ChatFile`
    config_hash: str
    weights_hash: str
    bos: int | None
    eos: tuple[int, ...]

    def manifest(self, ranges: Mapping[str, Mapping[str, float]] | None = None) -> Manifest:
        """What peers sign about this model, with the ranges that its calibration found."""
        s = self.layout.spec
        return Manifest(
            name=self.name,
            architecture=s.architecture,
            layers=s.layers,
            heads=s.heads,
            kv_heads=s.kv_heads,
            head_size=s.head_size,
            width=s.width,
            hidden=s.hidden,
            vocab=s.vocab,
            context=s.context,
            eps=s.eps,
            activation=s.activation,
            rope_theta=s.rope_theta,
            config_hash=self.config_hash,
            weights_hash=self.weights_hash,
            tokenizer_hash=None if self.tokenizer is None else hashlib.sha256(self.tokenizer).hexdigest(),
            chat_hash=None if self.chat is None else hashlib.sha256(self.chat).hexdigest(),
            bos=self.bos,
            eos=self.eos,
            ranges=ranges or {},
        )


def load_checkpoint(name_or_path: str | Path) -> Checkpoint:
    """Load a folder, a shipped model ("stories") or a hub model from the local cache ("openai-community/gpt2").

    ModelError, naming the file, key or tensor: nothing there, damaged, unsupported, or not what config.json says.
    """
    folder = locate(name_or_path)
    config_bytes = _read(folder / "config.json")
    config = _parse(config_bytes, folder / "config.json")
    try:
        layout = read_layout(config)
    except ModelError as error:  # of several models a cluster serves, which one
        raise ModelError(f"{folder}/{error}") from None
    if layout.spec.encoder:
        layout = as_sentences(folder, layout, lambda path: _json(_read(path), path))
    tensors, weights_hash = _load_weights(folder, layout)
    bos, eos = _special_tokens(folder, config, layout.spec.vocab)
    tokenizer, vocabulary = _load_tokenizer(folder / "tokenizer.json", layout.spec.vocab)
    chat = None if tokenizer is None else load_chat(folder)
    return Checkpoint(
        name=model_name(name_or_path, folder),
        layout=layout,
        tensors=tensors,
        tokenizer=tokenizer,
        chat=chat,
        config_hash=hashlib.sha256(config_bytes).hexdigest(),
        weights_hash=weights_hash,
        bos=bos,
        eos=_with_turns_end(eos, chat, vocabulary),
    )


def _with_turns_end(eos: tuple[int, ...], chat: bytes | None, vocabulary: Mapping[str, int]) -> tuple[int, ...]:
    """A chat model ends its turns with what the tokenizer calls end of text, whether or not the configuration says so too."""
    end = None if chat is None else vocabulary.get(ChatFile.from_bytes(chat).tokens.get("eos_token", ""))
    return eos if end is None or end in eos else (*eos, end)


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _LARGEST_JSON:
            raise ModelError(f"{path}: {size} bytes, more than {_LARGEST_JSON}")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


def _json(data: bytes, path: Path) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: damaged, not JSON ({type(error).__name__})") from error


def _parse(data: bytes, path: Path) -> dict[str, Any]:
    value = _json(data, path)
    if not isinstance(value, dict):
        raise ModelError(f"{path}: should hold a JSON object, not {type(value).__name__}")
    return value


def _special_tokens(folder: Path, config: Mapping[str, Any], vocab: int) -> tuple[int | None, tuple[int, ...]]:
    """bos and eos ids; generation_config.json, where there is one, goes before config.json."""
    path = folder / "generation_config.json"
    entries = {**config, **(_parse(_read(path), path) if path.exists() else {})}
    bos, eos = entries.get("bos_token_id"), entries.get("eos_token_id")
    several = eos if isinstance(eos, list) else [] if eos is None else [eos]
    for key, value in [("bos_token_id", bos)] * (bos is not None) + [("eos_token_id", v) for v in several]:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < vocab:
            raise ModelError(f"{folder}: {key} = {value!r} is no token of a vocabulary of {vocab}")
    return bos, tuple(several)


def _load_tokenizer(path: Path, vocab: int) -> tuple[bytes | None, dict[str, int]]:
    """tokenizer.json and its tokens, if there is one, checked to speak of this model's tokens only."""
    if not path.exists():
        return None, {}
    data = _read(path)
    try:
        tokens: dict[str, int] = Tokenizer.from_str(data.decode()).get_vocab(with_added_tokens=True)
    except Exception as error:  # the library raises bare Exceptions
        raise ModelError(f"{path}: not a tokenizer ({str(error)[:200]})") from error
    last = max(tokens.values(), default=-1)
    if last >= vocab:
        raise ModelError(f"{path}: wrong tokenizer, has token {last}, but the model's vocabulary ends at {vocab - 1}")
    if 2 * (last + 1) < vocab:  # vocabularies are padded by a few rows, not to twice their size
        raise ModelError(f"{path}: wrong tokenizer, ends at token {last}, but the model's vocabulary at {vocab - 1}")
    return data, tokens


def _load_weights(folder: Path, layout: Layout) -> tuple[dict[str, NDArray[np.float32]], str]:
    """Every tensor of the layout, and the hash of the files: of the one file, or of "name hash" lines of the shards."""
    files = _weight_files(folder)
    tensors: dict[str, NDArray[np.float32]] = {}
    for path in files:
        for name, tensor in _load_file(path, layout).items():
            if name in tensors:
                raise ModelError(f"{path}: tensor {name} is in two files")
            tensors[name] = tensor
    missing = [name for name in layout.shapes if name not in tensors]
    if missing:
        raise ModelError(f"{folder}: tensor {missing[0]} is missing from the weights ({len(missing)} in all)")
    hashes = [_hash_file(path) for path in files]
    if len(files) == 1:
        return tensors, hashes[0]
    lines = "".join(f"{path.name} {digest}\n" for path, digest in zip(files, hashes, strict=True))
    return tensors, hashlib.sha256(lines.encode()).hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise ModelError(f"{folder}: has no model.safetensors (other formats can run code and are not read)")
    mapping = _parse(_read(index), index).get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        raise ModelError(f"{index}: damaged, has no weight_map")
    names = sorted({name if isinstance(name, str) else repr(name) for name in mapping.values()})
    for name in names:
        if not _SHARD.fullmatch(name):
            raise ModelError(f"{index}: shard {name!r} is not the name of a safetensors file in the same folder")
        if not (folder / name).is_file():
            raise ModelError(f"{index}: shard {name} is missing")
    return [folder / name for name in names]


def _load_file(path: Path, layout: Layout) -> dict[str, NDArray[np.float32]]:
    try:
        with safe_open(path, "pt") as file:
            names = _wanted(path, file.keys(), layout)
            for stored, name in names.items():
                part = file.get_slice(stored)
                _check_tensor(path, name, part.get_dtype(), tuple(part.get_shape()), layout.shapes[name])
            return {name: _as_float32(path, name, file.get_tensor(stored)) for stored, name in names.items()}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: damaged or not a safetensors file ({error})") from error


def _wanted(path: Path, stored: list[str], layout: Layout) -> dict[str, str]:
    """Stored name -> layout name. A tensor that nobody asked for would be a part of the model left out: refused."""
    wanted: dict[str, str] = {}
    for full in stored:
        name = full.removeprefix(layout.prefix)
        if name in layout.shapes:
            wanted[full] = name
        elif not (layout.ignored.fullmatch(name) or (layout.tied and name == "lm_head.weight")):
            raise ModelError(f"{path}: tensor {full} has no place in this architecture as config.json describes it")
    return wanted


def _check_tensor(path: Path, name: str, dtype: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if dtype not in _DTYPES:
        raise ModelError(f"{path}: tensor {name} has type {dtype}, only {', '.join(_DTYPES)} are supported")
    if shape != expected:
        raise ModelError(f"{path}: tensor {name} has shape {shape}, config.json calls for {expected}")


def _as_float32(path: Path, name: str, tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.to(torch.float32).numpy()
    if not np.isfinite(array).all():
        raise ModelError(f"{path}: tensor {name} has values that are not finite")
    return array


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
