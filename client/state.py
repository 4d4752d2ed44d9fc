"""Where clusters of this user on this machine leave word of themselves, so that `tacit ask` finds one.

    <state>/<cluster id>/            0700, one per running `tacit up`
        lock                         held (flock) by the launcher as long as it lives: no stale word after kill -9
        running.json                 {"pid", "started", "url", "roster"}, written when everything is ready
        cluster.json, *.identity     roster and secret identities, thrown away with the folder
        peer-0.log ...               what the processes said on stderr

<state> is TACIT_STATE, or the user's state directory. A cluster elsewhere is named by TACIT_CLUSTER, its cluster.json.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import platformdirs

from ..errors import ConfigError


@dataclass(frozen=True, slots=True)
class Running:
    """A cluster that is up."""

    pid: int
    started: float  # seconds since the epoch
    url: str
    roster: str  # path of its cluster.json

    @classmethod
    def read(cls, path: Path) -> Running | None:
        """None if the file is not there or not what a launcher writes."""
        try:
            found = cls(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return found if isinstance(found.started, int | float) and isinstance(found.roster, str) else None


def state_path() -> Path:
    """<state>, which may not exist yet."""
    chosen = os.environ.get("TACIT_STATE")
    return Path(chosen) if chosen else platformdirs.user_state_path("tacit")


class ClusterFolder:
    """A fresh private folder for one cluster; gone, with its secrets, when closed."""

    def __init__(self) -> None:
        """Raises ConfigError if the state directory cannot be written."""
        self.path = state_path() / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700)
            self._lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"cannot write {self.path} ({error.strerror}): set TACIT_STATE to a directory that can be written"
            ) from None

    def announce(self, url: str, roster: Path) -> None:
        """From now on `find` finds this cluster."""
        word = Running(os.getpid(), time.time(), url, str(roster))
        draft = self.path / "running.draft"
        draft.write_text(json.dumps(asdict(word)), encoding="utf-8")
        draft.replace(self.path / "running.json")  # whole or not at all

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def __enter__(self) -> ClusterFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def running() -> list[Running]:
    """Clusters that are up, newest first. What a killed launcher left behind is removed."""
    found = [word for folder in _folders() if (word := _word(folder)) is not None]
    return sorted(found, key=lambda word: word.started, reverse=True)


def _folders() -> Iterator[Path]:
    try:
        yield from [entry for entry in state_path().iterdir() if (entry / "lock").is_file()]
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"cannot read {state_path()} ({error.strerror}): check TACIT_STATE") from None


def _word(folder: Path) -> Running | None:
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None  # closed just now
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Running.read(folder / "running.json")
    else:
        if time.time() - folder.stat().st_mtime > 5:  # younger ones may be between making the file and locking it
            shutil.rmtree(folder, ignore_errors=True)
        return None
    finally:
        os.close(lock)
