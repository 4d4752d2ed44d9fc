"""The chat template of a Hugging Face folder: where it may be written, made one thing for peers to serve.

| file | what is in it |
| --- | --- |
| tokenizer_config.json | `chat_template`: a template, or a list of {"name", "template"}; special tokens as text |
| chat_template.jinja | the default template, and then goes before the one above |
| additional_chat_templates/NAME.jinja | further ones |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..chatfile import DEFAULT, LARGEST, TOKENS, ChatFile
from ..errors import ModelError


def load_chat(folder: Path) -> bytes | None:
    """The folder's templates and their tokens (`ChatFile`), None if it has none. ModelError naming what is wrong."""
    path = folder / "tokenizer_config.json"
    config = _config(path)
    templates = _configured(config.get("chat_template"), path)
    single = folder / "chat_template.jinja"
    if single.is_file():
        templates[DEFAULT] = _read(single)
    for other in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        templates[other.stem] = _read(other)
    if not templates:
        return None
    if DEFAULT not in templates:
        raise ModelError(f"{folder}: of its chat templates none is named {DEFAULT}")
    try:
        return ChatFile(templates, _tokens(config, path)).to_bytes()
    except ModelError as error:  # of several models a cluster serves, which one
        raise ModelError(f"{folder}: {error}") from None


def _configured(value: object, path: Path) -> dict[str, str]:
    if value is None:
        return {}
    entries = [{"name": DEFAULT, "template": value}] if isinstance(value, str) else value
    if not isinstance(entries, list):
        raise ModelError(f"{path}: chat_template is neither a text nor a list")
    found = {}
    for entry in entries:
        name, template = (entry.get(key) for key in ("name", "template")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(template, str):
            raise ModelError(f"{path}: an entry of chat_template has no name or no template")
        found[name] = template
    return found


def _tokens(config: Mapping[str, Any], path: Path) -> dict[str, str]:
    """A token is its text, or an object with the text as "content"."""
    found = {}
    for name in TOKENS:
        token = config.get(name)
        if isinstance(token, dict):
            token = token.get("content")
        if token is not None and not isinstance(token, str):
            raise ModelError(f"{path}: {name} is no text")
        if token:
            found[name] = token
    return found


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: damaged, not JSON ({type(error).__name__})") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: should hold a JSON object, not {type(config).__name__}")
    return config


def _read(path: Path) -> str:
    try:
        size = path.stat().st_size
        # tokenizer_config.json lists every added token, of which some models have thousands.
        if size > 8 * LARGEST:
            raise ModelError(f"{path}: {size} bytes, more than {8 * LARGEST}")
        return path.read_bytes().decode()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: damaged, not UTF-8") from error
