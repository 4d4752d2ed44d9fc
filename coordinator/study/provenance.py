"""Where a study is made: machine, system, versions. No host, user or folder name: a study can be shown to anybody."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from ... import __version__
from .records import Provenance

PACKAGES = ("numpy", "torch", "numba", "pyzmq", "msgpack", "cryptography", "libp2p", "crypten")
_ROOT = Path(__file__).resolve().parents[2]


def provenance() -> Provenance:
    """Of this process, now."""
    return Provenance(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        tacit=__version__,
        commit=commit(_ROOT),
        python=platform.python_version(),
        packages={name: version for name in PACKAGES if (version := _version(name))},
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )


def commit(folder: Path) -> str:
    """Of the checkout that `folder` is the root of, ending with "+" if it has changes; "" if it is none."""
    if not (folder / ".git").exists():  # an installed package may lie inside of somebody else's repository
        return ""
    found = _git(folder, "rev-parse", "HEAD").strip()
    return found and found + ("+" if _git(folder, "status", "--porcelain").strip() else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "--no-optional-locks", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):  # no git here, or it distrusts this folder
        return ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
