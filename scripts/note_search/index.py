"""The index: one SQLite file in the folder that it is of, for its owner's eyes only.

It holds names, sizes and hashes of files, places of passages, and their vectors; no text, and nothing of any query. A vector says
much about its text to whoever has the model, so the file is as private as the notes.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tacit.errors import ConfigError, UsageError

from note_search.passages import Passage  # type: ignore[import-not-found]  # beside this file

NAME = ".private-search.sqlite"
_FORMAT = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS model (format INTEGER, name TEXT, width INTEGER);
CREATE TABLE IF NOT EXISTS files (id INTEGER PRIMARY KEY, path TEXT UNIQUE, sha256 TEXT);
CREATE TABLE IF NOT EXISTS passages (
    file INTEGER REFERENCES files(id) ON DELETE CASCADE, start INTEGER, stop INTEGER, line INTEGER, vector BLOB
);
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that is near a query: its file, below the folder, and that file's hash when it was indexed."""

    path: str
    sha256: str
    passage: Passage
    cosine: float


class Index:
    """Of one folder. Close it, or use it in a `with`."""

    def __init__(self, folder: Path, *, create: bool) -> None:
        """ConfigError if it cannot be opened or is damaged; UsageError if there is none and none is to be made."""
        self._path = folder / NAME
        if not create and not self._path.exists():
            raise UsageError(f"{folder} has no index yet: run scripts/private_search index {folder}")
        try:
            # Made with its mode, before a byte of it is written.
            os.close(os.open(self._path, os.O_RDWR | (os.O_CREAT if create else 0) | os.O_NOFOLLOW, 0o600))
            self._path.chmod(0o600)
        except OSError as error:
            raise ConfigError(f"{self._path}: cannot be opened ({error.strerror})") from None
        self._db = sqlite3.connect(self._path)
        with self._mapped():
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.executescript(_TABLES)

    @property
    def model(self) -> tuple[str, int] | None:
        """Name and width of the model that made the vectors; None while there are none."""
        with self._mapped():
            row = self._db.execute("SELECT format, name, width FROM model").fetchone()
        if row is None:
            return None
        if row[0] != _FORMAT:
            raise ConfigError(f"{self._path}: was made by another version; delete it and index again")
        return str(row[1]), int(row[2])

    def made_by(self, name: str, width: int) -> None:
        """From now on all vectors are this model's. UsageError if those that are there are another's."""
        if self.model is None:
            with self._mapped(), self._db:
                self._db.execute("INSERT INTO model VALUES (?, ?, ?)", (_FORMAT, name, width))
        elif self.model != (name, width):
            raise UsageError(f"the index was made with {self.model[0]}, not {name}: delete {self._path} to begin anew")

    def hashes(self) -> dict[str, str]:
        """Of the files that are indexed, by path."""
        with self._mapped():
            return dict(self._db.execute("SELECT path, sha256 FROM files"))

    def put(self, path: str, sha256: str, passages: Sequence[Passage], vectors: NDArray[np.float32]) -> None:
        """A file's passages, in place of those that it had."""
        with self._mapped(), self._db:
            self._db.execute("DELETE FROM files WHERE path = ?", (path,))
            file = self._db.execute("INSERT INTO files (path, sha256) VALUES (?, ?)", (path, sha256)).lastrowid
            self._db.executemany(
                "INSERT INTO passages VALUES (?, ?, ?, ?, ?)",
                [
                    (file, one.start, one.end, one.line, vector.astype("<f4").tobytes())
                    for one, vector in zip(passages, vectors, strict=True)
                ],
            )

    def drop(self, path: str) -> None:
        """Forget a file."""
        with self._mapped(), self._db:
            self._db.execute("DELETE FROM files WHERE path = ?", (path,))

    def count(self) -> int:
        """Passages."""
        with self._mapped():
            return int(self._db.execute("SELECT count(*) FROM passages").fetchone()[0])

    def nearest(self, query: NDArray[np.float32], most: int) -> list[Hit]:
        """The passages whose vectors have the largest cosine to a query's, of length 1, best first."""
        with self._mapped():
            rows = self._db.execute(
                "SELECT path, sha256, start, stop, line, vector FROM passages JOIN files ON files.id = file"
            ).fetchall()
        if not rows:
            return []
        vectors = np.frombuffer(b"".join(row[5] for row in rows), "<f4").reshape(len(rows), -1)
        cosines = vectors @ query
        best = np.argsort(-cosines, kind="stable")[:most]
        return [Hit(rows[i][0], rows[i][1], Passage(*rows[i][2:5]), float(cosines[i])) for i in best.tolist()]

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise ConfigError(f"{self._path}: {error}") from None
