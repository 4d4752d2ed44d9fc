"""TOML files of the user, read strictly: every key is asked for by name and checked, and what nobody asked for is an error.

An error names the file, the line where it can be told (for keys written as `key = …` below their table's header), the
table, the key and what is allowed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .records import Check, tidy

MAX_FILE = 1 << 20

_MISSING = object()


class Source:
    """A file and its lines."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._lines = text.splitlines()

    def line(self, header: str, number: int, key: str) -> int | None:
        """The line (from 1) of `key` below the `number`-th (from 0) `header`, else of that header, None if not found.

        Header "": before the first table.
        """
        at = self._header_line([header], number) if header else 0
        if at is None:
            return None
        name = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]")
        for below, line in enumerate(self._lines[at:], at + 1):
            if line.lstrip().startswith("["):
                break
            if name.match(line):
                return below
        path = f"{header.strip('[]')}.{key}" if header else key
        return self._header_line([f"[{path}]", f"[[{path}]]"], 0) or at or None

    def _header_line(self, headers: Collection[str], number: int) -> int | None:
        wanted = [header.replace(" ", "") for header in headers]
        for at, line in enumerate(self._lines, 1):
            if line.split("#")[0].strip().replace(" ", "").replace('"', "") in wanted:
                if number == 0:
                    return at
                number -= 1
        return None


class Table:
    """One table: take its keys, then `end` it."""

    def __init__(self, source: Source, header: str, found: dict[str, Any], number: int = 0, path: str = "") -> None:
        """`header`: "[name]", "[[name]]" (then `number` counts them from 0) or "" for the file itself."""
        self.source = source
        self._header = header
        self._found = found
        self._number = number
        self._path = path
        self._asked: set[str] = set()

    @classmethod
    def read(cls, path: Path, what: str) -> Table:
        """The file's outermost table. `what`: what the file is called. Raises ConfigError: unreadable, or no TOML."""
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_FILE + 1)
        except OSError as error:
            raise ConfigError(f"{path}: cannot read the {what}: {error.strerror}") from None
        if len(raw) > MAX_FILE:
            raise ConfigError(f"{path}: is larger than a {what} may be ({MAX_FILE} bytes)")
        try:
            text = raw.decode("utf-8")
            return cls(Source(path, text), "", tomllib.loads(text))
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: is no {what}: not UTF-8 text") from None
        except RecursionError:
            raise ConfigError(f"{path}: is no {what}: nested too deeply") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: is not TOML: {tidy(error, 200)}") from None

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def __iter__(self) -> Iterator[str]:
        """The keys that the file has here; asking for them all is up to the caller."""
        return iter(self._found)

    def take(self, key: str, check: Check, default: Any = _MISSING) -> Any:
        """The checked value, or the default where there is none. Raises ConfigError: missing, or not as it has to be."""
        self._asked.add(key)
        value = self._found.get(key, _MISSING)
        if value is _MISSING:
            if default is _MISSING:
                raise self.fault(key, "is missing")
            return default
        try:
            return check(value)
        except ValueError as error:
            raise self.fault(key, str(error)) from None

    def table(self, key: str) -> Table:
        """A table below this one; an empty one if the file has none."""
        self._asked.add(key)
        found = self._found.get(key, {})
        if not isinstance(found, dict):
            raise self.fault(key, "is not a table")
        path = f"{self._path}.{key}" if self._path else key
        return Table(self.source, f"[{path}]", found, path=path)

    def tables(self, key: str) -> Iterator[Table]:
        """The tables of an array, `[[key]]`."""
        self._asked.add(key)
        found = self._found.get(key, [])
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise self.fault(key, f"is not an array of tables: write [[{key}]] above each")
        for number, one in enumerate(found):
            yield Table(self.source, f"[[{key}]]", one, number)

    def end(self, but: Collection[str] = ()) -> None:
        """Raises ConfigError for a key that nobody asked for (`but` are left out of what is offered instead)."""
        for key in self._found:
            if key not in self._asked:
                allowed = ", ".join(sorted(self._asked - set(but)))
                raise self.fault(tidy(key, 60), f"is not known here; allowed: {allowed}")

    def fault(self, key: str, words: str) -> ConfigError:
        """An error about a key of this table (or about the table itself, key "")."""
        line = self.source.line(self._header, self._number, key)
        where = f"{self.source.path}, line {line}" if line else str(self.source.path)
        table = f"{self._header} {self._number + 1}" if self._header.startswith("[[") else self._header
        return ConfigError(f"{where}: {' '.join(part for part in (table, key) if part)} {words}")
