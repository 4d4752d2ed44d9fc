"""A model's calibrated ranges, kept in the user's cache: found once per weights, whoever asks first.

Peers of one machine start together; a lock lets one of them calibrate while the others wait for its result.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from ..errors import ConfigError
from ..protocols.base import Spec
from ..protocols.pair.scales import Ranges
from .checkpoint import Checkpoint
from .fold import Weights
from .scales import calibrate, sample_sequences

FORMAT = 3  # raise when calibration changes


def calibrated(checkpoint: Checkpoint, spec: Spec, folded: Weights) -> Ranges:
    """The ranges of these very weights. ConfigError if the cache cannot be written."""
    folder = Path(os.environ.get("TACIT_CACHE_DIR") or platformdirs.user_cache_dir("tacit")) / "ranges"
    length = f"-{spec.context}" if spec.encoder else ""  # of the longest text, which config.json does not say
    path = folder / f"{checkpoint.weights_hash[:32]}-{checkpoint.config_hash[:16]}{length}-{FORMAT}.json"
    found = _read(path)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            found = _read(path)
            if found is not None:
                return found
            samples = sample_sequences(spec, folded, checkpoint.bos, checkpoint.tokenizer)
            ranges = calibrate(spec, folded, samples)
            with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as file:
                json.dump(ranges, file)
            Path(file.name).replace(path)
    except OSError as error:
        raise ConfigError(
            f"the cache folder {folder} cannot be written: {error.strerror}; set TACIT_CACHE_DIR"
        ) from error
    return ranges


def _read(path: Path) -> Ranges | None:
    """What was kept, or None where nothing readable is."""
    with contextlib.suppress(OSError, ValueError):
        kept: Ranges = json.loads(path.read_text(encoding="utf-8"))
        return kept
    return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file; the kernel lets go of it whatever happens to us."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
