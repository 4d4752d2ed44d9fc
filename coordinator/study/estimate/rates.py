"""What this machine's kernels take: measured once (`tacit calibrate`), kept beside the kernels' cache, found again by its key.

    <cache>/rates/<key>.json     {"format", "key", "made", "machine", "rates": {name: seconds}, "misfit": {group: median error}}

The key stands for the processor and for everything that a rate depends on: versions of Python, numba, numpy and torch, and the
sources of kernels, protocols and links. <cache> is TACIT_CACHE_DIR or the user's cache directory.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import platformdirs

from ....errors import ConfigError

FORMAT = "tacit-rates/1"
_ROOT = Path(__file__).resolve().parents[3]
_FOLDERS = ("kernels", "protocols/pair")
_FILES = (
    "link.py",
    "zmqlink.py",
    "frames.py",
    *(
        f"coordinator/study/estimate/{name}.py"
        for name in ("bench", "calibrate", "in_session", "own_model", "plaintext", "trees", "wire", "work")
    ),
)


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds by name of rate (`amounts`), and how they were come by."""

    rates: Mapping[str, float]
    key: str
    made: str  # ISO 8601, UTC
    machine: str  # the processor, as the system names it
    cores: int
    misfit: Mapping[str, float] = field(default_factory=dict)  # group of rates -> median relative error of its fit

    def save(self) -> Path:
        """Keep them for this machine. ConfigError if the cache cannot be written."""
        path = rates_path(self.key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
                json.dump({"format": FORMAT, **asdict(self)}, file, indent=1)
            Path(file.name).replace(path)
        except OSError as error:
            raise ConfigError(
                f"{path}: the rates cannot be written: {error.strerror}; set TACIT_CACHE_DIR to a folder that can be"
            ) from None
        return path


def rates_path(key: str) -> Path:
    """Where the rates of a key are kept."""
    return Path(os.environ.get("TACIT_CACHE_DIR") or platformdirs.user_cache_dir("tacit")) / "rates" / f"{key}.json"


def load_rates() -> Rates:
    """This machine's. ConfigError where there are none, or the file is damaged; both say how to make them."""
    key = machine_key()
    path = rates_path(key)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        others = sorted(path.parent.glob("*.json")) if path.parent.is_dir() else []
        why = "those there are of another machine or version" if others else "there are none yet"
        raise ConfigError(f"no kernel rates for this machine and version ({why}): run tacit calibrate") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; run tacit calibrate --force") from None
    except ValueError:
        raise ConfigError(f"{path}: damaged, not JSON; run tacit calibrate --force") from None
    return _checked(found, key, path)


def _checked(found: object, key: str, path: Path) -> Rates:
    damaged = ConfigError(f"{path}: damaged, no rates of this version; run tacit calibrate --force")
    if not isinstance(found, dict) or found.pop("format", None) != FORMAT:
        raise damaged
    try:
        rates = Rates(**found)
        for group in (rates.rates, rates.misfit):
            if not all(isinstance(name, str) and math.isfinite(value) and value >= 0 for name, value in group.items()):
                raise damaged
        if not rates.rates or type(rates.cores) is not int or rates.cores < 1:
            raise damaged
    except (TypeError, AttributeError):
        raise damaged from None
    if rates.key != key:
        raise ConfigError(f"{path}: holds the rates of another machine; run tacit calibrate --force")
    return rates


def machine_key() -> str:
    """What a rate depends on, as 32 hex digits."""
    digest = hashlib.sha256(f"{platform.machine()} {processor()} {os.cpu_count()} {platform.python_version()}".encode())
    for name in ("numba", "llvmlite", "numpy", "torch", "pyzmq", "tacit"):
        try:
            digest.update(f"{name} {version(name)}".encode())
        except PackageNotFoundError:
            digest.update(f"no {name}".encode())
    files = [path for folder in _FOLDERS for path in (_ROOT / folder).rglob("*.py")]
    for path in sorted([*files, *(_ROOT / name for name in _FILES)]):
        digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:32]


def processor() -> str:
    """The processor as the system names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
