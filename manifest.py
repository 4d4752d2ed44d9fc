"""What a model is, in canonical bytes: peers sign its hash, the client checks what it is told against it.

Needs the standard library alone, since the client reads it. Canonical means: JSON with sorted keys, no spaces, UTF-8,
and exactly the keys below, so that one model has one hash. The file hashes are SHA-256 in hex.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .errors import ModelError

FORMAT = 1
LARGEST = 1 << 20  # bytes of a manifest; a 100-layer model with its ranges takes about 100 KB
_COUNTS = ("layers", "heads", "kv_heads", "head_size", "width", "hidden", "vocab", "context")
ENCODERS = ("bert",)
_HASHES = ("config_hash", "weights_hash")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One model as served: its shape (the fields of `Spec`), its files, its special tokens, its calibrated ranges."""

    name: str
    architecture: str
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    width: int
    hidden: int
    vocab: int
    context: int
    eps: float
    activation: str
    rope_theta: float | None
    config_hash: str
    weights_hash: str
    tokenizer_hash: str | None  # None: no tokenizer.json, prompts are token ids
    bos: int | None
    eos: tuple[int, ...]
    chat_hash: str | None = None  # of the `ChatFile`; None: no chat template
    ranges: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # site -> quantity -> magnitude
    format: int = FORMAT

    def __post_init__(self) -> None:
        """ModelError for a field of the wrong type or out of range."""
        for name in ("name", "architecture", "activation", *_HASHES):
            _require(isinstance(getattr(self, name), str) and 0 < len(getattr(self, name)) <= 200, name, self)
        for name in _COUNTS:
            _require(_is_int(getattr(self, name)) and 0 < getattr(self, name) < 1 << 31, name, self)
        _require(_is_int(self.format) and self.format == FORMAT, "format", self)
        _require(_is_number(self.eps) and self.eps >= 0, "eps", self)
        _require(self.rope_theta is None or (_is_number(self.rope_theta) and self.rope_theta > 0), "rope_theta", self)
        for name in _HASHES:
            _require(_is_hash(getattr(self, name)), name, self)
        _require(self.tokenizer_hash is None or _is_hash(self.tokenizer_hash), "tokenizer_hash", self)
        _require(self.chat_hash is None or _is_hash(self.chat_hash), "chat_hash", self)
        _require(self.bos is None or self._is_token(self.bos), "bos", self)
        _require(isinstance(self.eos, tuple) and all(map(self._is_token, self.eos)), "eos", self)
        _require(_are_ranges(self.ranges), "ranges", self)

    def _is_token(self, value: object) -> bool:
        return _is_int(value) and 0 <= value < self.vocab  # type: ignore[operator]

    @property
    def embedding(self) -> int | None:
        """Entries of the vector that an encoder gives of a text; None for a model that continues texts."""
        return self.width if self.architecture in ENCODERS else None

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical bytes, in hex."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """The manifest that these bytes are. ModelError if they are too long, not canonical, or a field is wrong."""
        if len(data) > LARGEST:
            raise ModelError(f"manifest of {len(data)} bytes, more than {LARGEST}")
        try:
            entries: Any = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"manifest is not JSON: {type(error).__name__}") from error
        names = {f.name for f in fields(cls)}
        if not isinstance(entries, dict) or set(entries) != names:
            different = sorted(names ^ set(entries)) if isinstance(entries, dict) else sorted(names)
            raise ModelError(f"manifest has missing or unknown fields: {', '.join(different)[:200]}")
        if isinstance(entries["eos"], list):
            entries["eos"] = tuple(entries["eos"])
        manifest = cls(**entries)
        if manifest.to_bytes() != data:
            raise ModelError(f"manifest of {manifest.name!r} is not in canonical form")
        return manifest


def _require(condition: bool, name: str, manifest: Manifest) -> None:
    if not condition:
        raise ModelError(f"manifest: {name} = {str(getattr(manifest, name))[:80]!r} is not allowed")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")


def _are_ranges(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(site, str)
        and isinstance(quantities, Mapping)
        and all(isinstance(name, str) and _is_number(magnitude) for name, magnitude in quantities.items())
        for site, quantities in value.items()
    )
