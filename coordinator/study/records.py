"""What a study holds, and its file results.json: the measurements, the predictions beside them, and where they were made.

Times are milliseconds, sizes bytes, of one answer or one step; "step" 0 is the prompt, each later one a token.
Terms are vLLM's: TTFT from the request to the first token, ITL between two tokens, TPOT the mean ITL of an answer, E2E from
the request to the last token.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ...errors import ConfigError, UsageError
from ...network import Profile

FORMAT = "tacit-study/1"
FILE = "results.json"
AS_IS = "as it is"  # the network of a cluster that was there before, if it says nothing of it

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the matrix. `network`: as `Network.text`, or AS_IS; `plain` is measured under every network, though none
    applies to it. `forwarded`: carried by the kernel's stack, not by shaped links."""

    protocol: str
    network: str
    model: str
    prompt_tokens: int
    new_tokens: int
    forwarded: bool = False

    @property
    def key(self) -> str:
        """Tells cases apart in files and on the command line."""
        words = (self.protocol, self.network, self.model, f"{self.prompt_tokens}+{self.new_tokens}")
        return " ".join((*words, "kernel") if self.forwarded else words)


def profile_of(network: str) -> Profile | None:
    """The line that most pairs have, of a case's network; None if that is not known."""
    try:
        return Profile.parse(network.partition(";")[0])
    except UsageError:
        return None


@dataclass(frozen=True, slots=True)
class Answer:
    """One measured answer. The lists have one entry for each step."""

    case: Case
    repetition: int
    started: float  # seconds since the epoch
    setup_ms: float  # until the session was open; a part of ttft_ms
    ttft_ms: float
    e2e_ms: float
    itl_ms: list[float]  # one fewer than tokens
    tokens: int
    rounds: list[int]
    online_bytes: list[int]  # between the compute peers, both directions
    offline_bytes: list[int]  # from the dealer to both peers
    client_bytes: list[int]  # between client and peers
    compute_ms: list[float]  # of the slower compute peer
    waiting_ms: list[float]  # of that peer, on its links
    offline_ms: list[float]  # of the dealer


@dataclass(frozen=True, slots=True)
class Site:
    """What a place of the model takes, per step: means over the measured answers, of the slower compute peer."""

    case: Case
    phase: str  # "prompt" or "token"
    site: str  # as the model names it: layers.0.attention
    gate: str  # norm, linear, attention, activation, reveal, embed
    layer: int  # -1 outside of the layers
    rounds: int
    online_bytes: int
    offline_bytes: int
    compute_ms: float
    waiting_ms: float
    serialising_ms: float  # packing, sending and unpacking


@dataclass(frozen=True, slots=True)
class Transfer:
    """One message of one step, on the clock that all peers share; 0 is when the client asked."""

    case: Case
    step: int
    sent_ms: float
    read_ms: float  # when its receiver had it in hand
    sender: str  # client, compute 0, compute 1, dealer
    receiver: str
    bytes: int
    site: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model of costs says of a case, before anything runs (`estimate`)."""

    case: Case
    ttft_ms: float
    tpot_ms: float
    rounds: int  # of one token
    compute_ms: float  # of one token, of which:
    latency_ms: float
    transfer_ms: float


@dataclass(frozen=True, slots=True)
class LineCheck:
    """The same transfer over a shaped link and over the kernel's stack with the same profile."""

    network: str
    what: str  # "64 B one way", "16 MB", ...
    bytes: int
    expected_ms: float  # from the profile alone
    shaped_ms: float
    kernel_ms: float
    how: str  # "netem" or "TUN forwarder"


@dataclass(frozen=True, slots=True)
class Crossing:
    """A point of the crossover map: what a protocol is predicted to take for a token on that line."""

    protocol: str
    model: str
    rtt_ms: float
    bandwidth_mbit: float
    tpot_ms: float


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where and with what a study was made; nothing about who."""

    made: str  # ISO 8601, UTC
    tacit: str
    commit: str  # "" outside of a checkout; ends with "+" if there were changes
    python: str
    packages: dict[str, str]
    system: str
    processor: str
    cores: int
    memory_bytes: int


@dataclass
class Results:
    """Everything. `missing`: why a case has no answers, by its key."""

    provenance: Provenance
    repetitions: int
    warmup: int
    answers: list[Answer] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    lines: list[LineCheck] = field(default_factory=list)
    crossings: list[Crossing] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def rows(self, of: str = "answers") -> list[dict[str, Any]]:
        """Flat dicts for pandas.DataFrame: a row for each of "answers", "steps" or "cases". Raises UsageError."""
        from .table import rows

        return rows(self, of)

    def cases(self) -> list[Case]:
        """In the order in which they were measured."""
        return list(dict.fromkeys(answer.case for answer in self.answers))

    def of(self, case: Case) -> Iterator[Answer]:
        return (answer for answer in self.answers if answer.case == case)

    def save(self, folder: Path) -> Path:
        """Write results.json, replacing an older one as a whole. Raises ConfigError; what was there stays then."""
        path = folder / FILE
        body = json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":"))
        try:
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=FILE)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(body)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise ConfigError(
                f"{path}: the results cannot be written: {error.strerror}; what was there is kept"
            ) from None
        return path

    @classmethod
    def load(cls, path: Path) -> Results:
        """From results.json or the folder it is in. Raises ConfigError naming the file and what is wrong."""
        file = path / FILE if path.is_dir() else path
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ConfigError(f"{file}: is no study's results: {error}") from None
        if not isinstance(found, dict) or found.pop("format", None) != FORMAT:
            raise ConfigError(f"{file}: is no study's results of this version ({FORMAT})")
        try:
            return _read(cls, found)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{file}: is no study's results: {error}") from None


def _read(kind: type[T], found: object) -> T:
    """A dataclass of this file from JSON, every field of the type it is declared with. Raises ValueError."""
    if not isinstance(found, Mapping):
        raise ValueError(f"a {kind.__name__} is missing")
    hints = get_type_hints(kind)
    names = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    if found.keys() != names:
        wrong = ", ".join(sorted(found.keys() ^ names))
        raise ValueError(f"a {kind.__name__} has other fields than it should: {wrong}")
    return kind(**{name: _value(hints[name], found[name], f"{kind.__name__}.{name}") for name in names})


def _value(hint: Any, found: object, where: str) -> Any:
    origin = get_origin(hint)
    if origin is list and isinstance(found, list):
        (of,) = get_args(hint)
        return [_value(of, one, where) for one in found]
    if origin is dict and isinstance(found, dict):
        _, of = get_args(hint)
        return {str(key): _value(of, one, where) for key, one in found.items()}
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        return _read(hint, found)
    if hint is float and isinstance(found, int | float) and not isinstance(found, bool):
        return float(found)
    if isinstance(hint, type) and type(found) is hint:
        return found
    raise ValueError(f"{where} is not as it should be")
