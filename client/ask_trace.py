"""`tacit ask --trace FILE.json`: what an answer spends its time on, at every party that left a trace, as one file for a viewer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError
from ..tracing.chrome import write
from ..tracing.files import CLIENT, read_session, sessions
from ..tracing.whereabouts import told_folder

PATIENCE = 2.0  # seconds, for the peers' last lines
VIEWER = "https://ui.perfetto.dev"


@contextmanager
def traced(file: Path | None, roster: Path | None, say: Callable[[str], None]) -> Iterator[Path | None]:
    """A folder for the traces of one answer, of this client and of a cluster that it starts; at the end all of it goes to `file`.

    `roster`: the cluster.json of the cluster that is asked, beside which it says where its peers leave traces; None where it has
    none, or is started for this answer. `say` hears what is in the file and what is not. An answer that fails has a trace, too.
    Without a `file` there is no folder. Raises ConfigError for a file that cannot be written: before anything is asked if that
    shows by then, else after the answer.
    """
    if file is None:
        yield None
        return
    file = file.expanduser().absolute()
    peers = _checked(file, roster)
    try:
        kept = tempfile.TemporaryDirectory(prefix="tacit-trace-", ignore_cleanup_errors=True)
    except OSError as error:
        raise ConfigError(f"{tempfile.gettempdir()}: a trace cannot be kept there: {error.strerror}") from None
    with kept as made:
        folder = Path(made)
        try:
            yield folder
        except BaseException:
            try:
                _save(file, folder, peers, say)
            except ConfigError as error:  # the answer's own error comes first
                say(str(error))
            raise
        _save(file, folder, peers, say)


def _checked(file: Path, roster: Path | None) -> Path | None:
    """Where the peers leave their traces. Raises ConfigError if `file` cannot be written as things are."""
    if file.is_dir():
        raise ConfigError(f"--trace {file}: is a folder; name a file in it, such as {file / 'trace.json'}")
    try:
        with tempfile.TemporaryFile(dir=file.parent) as trial:
            trial.write(b"\n")
    except OSError as error:
        raise ConfigError(f"--trace {file}: cannot be written: {error.strerror}; nothing was asked") from None
    return None if roster is None else told_folder(roster)


def _save(file: Path, folder: Path, peers: Path | None, say: Callable[[str], None]) -> None:
    places = [folder] if peers is None else [folder, peers]
    found = [read_session(places, session, PATIENCE if peers else 0.0) for session in sessions(folder)]
    if not found:
        say(f"{file}: not written, there was no session to trace")
        return
    write(file, found)
    if all(set(trace.parties) <= {CLIENT} for trace in found):
        say(
            f"{file}: this client's part alone; the peers' are there where the cluster runs on this machine and was started "
            "with `tacit up --trace FOLDER`"
        )
        return
    missing = [note for trace in found for note in trace.notes]
    parties = max(len(trace.parties) for trace in found)
    say("; ".join([f"{file}: {parties} parties on one clock, for {VIEWER}", *missing]))
