"""Whether the compiled kernels are in numba's cache already, so that a start need not look again.

The mark lies beside the state of clusters and names everything that a compiled kernel depends on.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .state import state_path

_ROOT = Path(__file__).resolve().parent.parent


def is_warm() -> bool:
    """Whether `set_warm` was called for this very installation on this machine, and its cache was not cleared since."""
    cached = any(_ROOT.rglob("__pycache__/*.nbi"))
    try:
        return cached and (state_path() / "warm").read_text(encoding="ascii") == _fingerprint()
    except OSError:
        return False


def set_warm() -> None:
    path = state_path() / "warm"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_fingerprint(), encoding="ascii")


def _fingerprint() -> str:
    found = hashlib.sha256(f"{sys.version} {platform.node()} {platform.machine()} {_ROOT}".encode())
    for name in ("numba", "llvmlite", "numpy"):
        try:
            found.update(f"{name} {version(name)}".encode())
        except PackageNotFoundError:
            found.update(f"no {name}".encode())
    for path in sorted((*(_ROOT / "kernels").rglob("*.py"), *(_ROOT / "protocols").rglob("*.py"))):
        stat = path.stat()
        found.update(f"{path} {stat.st_size} {stat.st_mtime_ns}".encode())
    return found.hexdigest()
