"""Which software this installation is, as one hash that two machines can compare.

SHA-256 over, line by line and sorted:

| line                               | of                                                                            |
| ---------------------------------- | ----------------------------------------------------------------------------- |
| `file <relative path> <SHA-256>`   | every .py file of the package and its subpackages, every file of a shipped model |
| `version <distribution> <version>` | Python, and everything that pyproject.toml asks for; `-` where it is not installed |

It says what lies on the disk. Whoever runs other code can still name any hash: comparing hashes finds the peer that forgot
to upgrade, not the one that lies.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

from .errors import ConfigError

DEPENDENCIES = (
    "cryptography", "cupy-cuda13x", "fastapi", "httpx2", "jinja2", "libp2p", "msgpack", "numba", "numpy", "platformdirs",
    "prometheus-client", "pydantic", "pyzmq", "rich", "safetensors", "tokenizers", "torch", "typer", "uvicorn",
)  # fmt: skip


@cache
def software_digest() -> str:
    """Of this installation, 64 hex digits; worked out when first asked for (some 20 ms). Raises ConfigError."""
    return digest_of(Path(__file__).parent, versions())


def digest_of(root: Path, versions: dict[str, str]) -> str:
    """Of a package at `root` that runs with these versions. Raises ConfigError naming a file that cannot be read."""
    lines = [f"version {name} {version}" for name, version in versions.items()]
    for path in files(root):
        try:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
        lines.append(f"file {path.relative_to(root).as_posix()} {content}")
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8")).hexdigest()


def files(root: Path) -> Iterator[Path]:
    """The files that count. What a working copy has beside the package (tests, scripts, documents) does not."""
    yield from root.glob("*.py")
    for folder in root.iterdir():
        if (folder / "__init__.py").is_file():
            yield from files(folder)
        elif root.name == "models" and (folder / "config.json").is_file():
            yield from (path for path in folder.iterdir() if path.is_file())


def versions() -> dict[str, str]:
    """What this installation runs with."""
    found = {"python": platform.python_version()}
    for name in DEPENDENCIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "-"
    return found
