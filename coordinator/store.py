"""What outlives a coordinator: one SQLite file, written as things happen, readable by its owner alone.

| table | holds | kept |
| --- | --- | --- |
| claimed | SHA-256 of every session id that was seated, so that none is seated twice | DAYS, at most CLAIMS |
| seated | the latest sessions for the status: shortened id, model, peers, price | ROWS |
| counts | sessions opened, requests refused | |
| failures | when and why a peer failed, as this coordinator saw itself | ROWS |
| reports | how often clients asked for sessions without a peer: their word, which counts for nothing here | peers |
| peers | the last status of each peer | DAYS |

One process at a time has the file. A transaction that was committed outlives the process; a machine that loses power may
lose the last ones. Without a path everything is kept in memory.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, TacitError
from ..wire import PeerStatus

DAYS = 7
CLAIMS = 1_000_000
ROWS = 1000
_PRUNE_EVERY = 500  # claims
_APPLICATION = 0x54634B31
_VERSION = 1
_SCHEMA = """
CREATE TABLE claimed (session BLOB PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX claimed_at ON claimed (at);
CREATE TABLE seated (
    number INTEGER PRIMARY KEY, session TEXT NOT NULL, model TEXT NOT NULL,
    first TEXT NOT NULL, second TEXT NOT NULL, dealer TEXT NOT NULL, price TEXT NOT NULL, at REAL NOT NULL
);
CREATE TABLE counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE failures (number INTEGER PRIMARY KEY, peer_id TEXT NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX failures_peer ON failures (peer_id);
CREATE TABLE reports (peer_id TEXT PRIMARY KEY, count INTEGER NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE peers (peer_id TEXT PRIMARY KEY, status BLOB NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
"""
_COUNT = "INSERT INTO counts VALUES (?, 1) ON CONFLICT DO UPDATE SET value = value + 1"


@dataclass(frozen=True, slots=True)
class Seating:
    """A session that was set up, for the status: no content, no keys."""

    session: str  # shortened
    model: str
    peers: tuple[str, str, str]  # as messages show them, in role order
    price: str
    opened: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class History:
    """What is remembered of a peer's failures. Times in seconds since the epoch."""

    failures: int = 0
    failed: float | None = None
    reason: str = ""
    reports: int = 0  # by clients


class Store:
    """For several threads. Every method raises ConfigError if the file can no longer be read or written."""

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        """Raises ConfigError for a file that is damaged, another program's, or another coordinator's just now."""
        self._path = path or ":memory:"
        self._clock = clock
        self._lock = threading.Lock()
        self._claims = 0
        with self._mapped():
            self._connection = _connected(path)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise
        self._prune()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # Sessions --------------------------------------------------------------------------------------------------------

    def claim(self, session: str) -> bool:
        """Take a session id; False if it was taken before."""
        self._claims += 1
        if self._claims % _PRUNE_EVERY == 0:
            self._prune()
        with self._writing() as write:
            row = (_digest(session), self._clock())
            return write.execute("INSERT OR IGNORE INTO claimed VALUES (?, ?)", row).rowcount == 1

    def release(self, session: str) -> None:
        """Nobody sat down for this id."""
        with self._writing() as write:
            write.execute("DELETE FROM claimed WHERE session = ?", (_digest(session),))

    def seated(self, seating: Seating) -> None:
        """Count a session that was opened."""
        with self._writing() as write:
            row = (seating.session, seating.model, *seating.peers, seating.price, seating.opened)
            write.execute("INSERT INTO seated VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row)
            write.execute(_COUNT, ("opened",))

    def refused(self) -> None:
        """Count a request that nobody was found for."""
        with self._writing() as write:
            write.execute(_COUNT, ("refused",))

    def count(self, name: str) -> int:
        """Of `opened` or `refused`."""
        found = self._rows("SELECT value FROM counts WHERE name = ?", name)
        return int(found[0][0]) if found else 0

    def recent(self, most: int) -> list[Seating]:
        """The latest sessions, newest first."""
        query = "SELECT session, model, first, second, dealer, price, at FROM seated ORDER BY number DESC LIMIT ?"
        return [
            Seating(session, model, (first, second, dealer), price, at)
            for session, model, first, second, dealer, price, at in self._rows(query, most)
        ]

    # Peers -----------------------------------------------------------------------------------------------------------

    def failed(self, peer_id: str, reason: str) -> None:
        """This coordinator saw a peer fail."""
        with self._writing() as write:
            write.execute("INSERT INTO failures VALUES (NULL, ?, ?, ?)", (peer_id, reason[:500], self._clock()))

    def reported(self, peer_ids: Collection[str]) -> None:
        """A client wants to do without these members."""
        if not peer_ids:
            return
        query = "INSERT INTO reports VALUES (?, 1, ?) ON CONFLICT DO UPDATE SET count = count + 1, at = excluded.at"
        with self._writing() as write:
            write.executemany(query, [(peer_id, self._clock()) for peer_id in peer_ids])

    def history(self) -> dict[str, History]:
        """By peer id; peers that nothing is held against are not in it."""
        failures = {
            peer_id: (count, at, reason)
            for peer_id, count, at, reason, _ in self._rows(
                "SELECT peer_id, COUNT(*), at, reason, MAX(number) FROM failures GROUP BY peer_id"  # of the latest
            )
        }
        reports = dict(self._rows("SELECT peer_id, count FROM reports"))
        return {
            peer_id: History(*failures.get(peer_id, (0, None, "")), reports=int(reports.get(peer_id, 0)))
            for peer_id in failures.keys() | reports.keys()
        }

    def saw(self, status: PeerStatus) -> None:
        """Remember a peer's latest status."""
        with self._writing() as write:
            row = (status.peer_id, status.to_bytes(), self._clock())
            write.execute("INSERT OR REPLACE INTO peers VALUES (?, ?, ?)", row)

    def last_seen(self, peer_id: str) -> tuple[PeerStatus, float] | None:
        """A peer's latest status that is remembered, and when it came; None also for one that another version wrote."""
        for raw, at in self._rows("SELECT status, at FROM peers WHERE peer_id = ?", peer_id):
            try:
                return PeerStatus.from_bytes(raw, "store"), float(at)
            except TacitError:
                break
        return None

    # The file --------------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("BEGIN EXCLUSIVE")
        (application,), (version,) = (
            execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
        )
        (tables,) = execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if tables and application != _APPLICATION:
            raise ConfigError(f"{self._path}: belongs to another program; name another file with --state")
        if tables and version != _VERSION:
            raise ConfigError(
                f"{self._path}: has form {version}, this version of Tacit knows form {_VERSION}; "
                "name another file with --state, or run the version that wrote it"
            )
        execute("COMMIT")
        if not tables:
            self._connection.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION}; COMMIT"
            )
        elif execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("damaged")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")

    def _prune(self) -> None:
        oldest = self._clock() - DAYS * 86400
        with self._writing() as write:
            write.execute("DELETE FROM claimed WHERE at < ?", (oldest,))
            write.execute(
                "DELETE FROM claimed WHERE at < (SELECT at FROM claimed ORDER BY at DESC LIMIT 1 OFFSET ?)", (CLAIMS,)
            )
            write.execute("DELETE FROM peers WHERE at < ?", (oldest,))
            for table in ("seated", "failures"):
                write.execute(f"DELETE FROM {table} WHERE number <= (SELECT MAX(number) FROM {table}) - ?", (ROWS,))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it or nothing."""
        with self._lock, self._mapped():
            self._connection.execute("BEGIN")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _rows(self, query: str, *values: object) -> list[tuple]:  # type: ignore[type-arg]
        with self._lock, self._mapped():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            reason = str(error)
            if "locked" in reason:
                reason = "another coordinator uses it; stop that one, or name another file with --state"
            raise ConfigError(f"{self._path}: the coordinator's state cannot be kept: {reason}") from None
        except sqlite3.ProgrammingError:
            raise ConfigError(f"{self._path}: the coordinator's state is closed") from None
        except sqlite3.Error:
            raise ConfigError(
                f"{self._path}: is damaged, or not a coordinator's state; move it away to begin anew, "
                "or name another file with --state"
            ) from None


def _connected(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))  # what SQLite adds gets the same mode
        except OSError as error:
            raise ConfigError(f"{path}: the coordinator's state cannot be kept: {error.strerror}") from None
    return sqlite3.connect(path or ":memory:", timeout=1.0, isolation_level=None, check_same_thread=False)


def _digest(session: str) -> bytes:
    return hashlib.sha256(session.encode("ascii")).digest()
