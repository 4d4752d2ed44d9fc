"""One child process of the launcher: started under a lifeline, awaited until it is ready, stopped tidily."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ..errors import ConfigError, NetworkError, TacitError
from ..records import error_from_json, tidy

# A party has a core to itself at best: more threads only get in the way of the other parties on this machine.
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}


class Child:
    """A server module running as a child. `name` is how messages call it; stderr goes to `log`."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], log: Path, within: Sequence[str] = ()) -> None:
        """`within` comes before its command, and becomes it. Raises ConfigError if no process can be started."""
        self.name = name
        self.log = log
        self._module, self._arguments, self._within = module, tuple(arguments), tuple(within)
        command = [*within, sys.executable, "-P", "-m", "tacit.client.lifeline", module, *arguments]
        try:
            with log.open("ab") as stderr:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    env={**os.environ, **_ONE_THREAD},
                    start_new_session=True,  # Ctrl-C is for the launcher, which then stops its children in order
                )
        except OSError as error:
            raise ConfigError(f"{name} could not be started: {error.strerror}") from None
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        reader = threading.Thread(target=_read, args=(self._process.stdout, self._lines), daemon=True)
        reader.start()

    def again(self) -> Child:
        """Another process like this one, which has ended. Raises ConfigError if it cannot be started."""
        return Child(self.name, self._module, self._arguments, self.log, self._within)

    @property
    def pid(self) -> int:
        return self._process.pid

    def await_ready(self, timeout: float) -> Mapping[str, Any]:
        """What it says about itself once it is ready. Raises its own start-up error, or NetworkError."""
        try:
            line = self._lines.get(timeout=max(0.0, timeout))
        except queue.Empty:
            raise NetworkError(f"{self.name} was not ready in time{self._last_words()}") from None
        if line is None:
            self._process.wait()
            raise NetworkError(f"{self.name} {self._ending()} before it was ready{self._last_words()}")
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if isinstance(said, dict) and isinstance(said.get("ready"), dict):
            return dict(said["ready"])
        if isinstance(said, dict) and isinstance(said.get("error"), dict):
            raise _prefixed(self.name, error_from_json(said["error"], self.name))
        raise NetworkError(
            f"{self.name} said {tidy(line.decode(errors='replace').rstrip(), 80)!r} instead of being ready"
        )

    def ended(self) -> str | None:
        """How it ended, in words; None while it runs."""
        return None if self._process.poll() is None else self._ending()

    def terminate(self) -> None:
        """Ask it to end; `reap` waits for that."""
        if self._process.poll() is None:
            self._process.terminate()

    def reap(self, timeout: float) -> None:
        """Wait until it is gone, by force after `timeout` seconds."""
        try:
            self._process.wait(max(0.0, timeout))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _ending(self) -> str:
        code = self._process.returncode
        if code is not None and code < 0:
            return f"was killed ({signal.Signals(-code).name})"
        return f"ended with exit status {code}"

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return f": {tidy(lines[-1].strip(), 300)}" if lines else ""


def _read(stream: IO[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    """Until the child closes its stdout: its lines, then None. Reading on keeps it from blocking on a full pipe."""
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def _prefixed(name: str, error: TacitError) -> TacitError:
    """The child's error with its name in front, where the message can take one."""
    return type(error)(f"{name}: {error}") if len(error.args) == 1 and not hasattr(error, "peer") else error


def run_to_end(code: str, timeout: float) -> None:
    """Run a little Python program of ours in a child. Raises NetworkError with its last words if it fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **_ONE_THREAD},
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NetworkError(f"preparing the kernels took longer than {timeout:g} s") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise NetworkError(f"preparing the kernels failed: {tidy(lines[-1], 300)}")
