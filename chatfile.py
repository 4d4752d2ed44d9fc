"""What it takes to talk with a chat model, in canonical bytes: its chat templates and the special tokens they name.

Hugging Face folders keep this in `tokenizer_config.json` and `chat_template.jinja`; peers serve what templates need of it, and
its hash stands in the manifest. Canonical as there: JSON with sorted keys, no spaces, UTF-8. Nothing here renders a template.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .errors import ModelError

LARGEST = 2 << 20  # bytes; templates with tools and examples take up to 20 kB
DEFAULT = "default"
TOOLS = "tool_use"
TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_LARGEST_TEMPLATE = 256 << 10  # characters
_MOST_TEMPLATES = 16


@dataclass(frozen=True, slots=True)
class ChatFile:
    """`templates` by name, one of them the default; `tokens`: the text of special tokens by what they are for (TOKENS)."""

    templates: Mapping[str, str]
    tokens: Mapping[str, str]

    def __post_init__(self) -> None:
        """ModelError for anything but that."""
        _require(_are_texts(self.templates, 100, _LARGEST_TEMPLATE), "templates are not texts, or too long")
        _require(DEFAULT in self.templates, f"there is no template named {DEFAULT}")
        _require(len(self.templates) <= _MOST_TEMPLATES, f"{len(self.templates)} templates")
        _require(_are_texts(self.tokens, 20, 200) and set(self.tokens) <= set(TOKENS), "special tokens are not texts")

    def template(self, with_tools: bool) -> str:
        """The one for a conversation with tools or without."""
        return self.templates[TOOLS if with_tools and TOOLS in self.templates else DEFAULT]

    def to_bytes(self) -> bytes:
        """The canonical bytes. ModelError if they are too many."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        try:
            data = text.encode()
        except UnicodeEncodeError:
            raise ModelError("chat template: holds half a character, which no UTF-8 file can") from None
        _require(len(data) <= LARGEST, f"{len(data)} bytes, more than {LARGEST}")
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> ChatFile:
        """What these bytes are. ModelError if they are too many, or not what `to_bytes` writes."""
        _require(len(data) <= LARGEST, f"{len(data)} bytes, more than {LARGEST}")
        try:
            entries: Any = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"chat template: not JSON ({type(error).__name__})") from None
        _require(isinstance(entries, dict) and set(entries) == {one.name for one in fields(cls)}, "other fields")
        found = cls(**entries)
        _require(found.to_bytes() == data, "not in canonical form")
        return found


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ModelError(f"chat template: {what}")


def _are_texts(value: object, longest_name: int, longest_text: int) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str)
        and 0 < len(name) <= longest_name
        and isinstance(text, str)
        and 0 < len(text) <= longest_text
        for name, text in value.items()
    )
