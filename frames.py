"""The frame protocol of links, without any socket: what may follow what, and what a byte string must look like.

A frame is a msgpack header and a body of any length:

    header = [session (16 bytes), sequence, kind, {field: int | text | bytes}, length of the body]
    body   = `length` bytes, cut into parts of at most PART bytes; the first part (perhaps empty) goes with the header

| state    | the other side may send                                      | and then      |
| -------- | ------------------------------------------------------------ | ------------- |
| new      | hello: [VERSION, session, transcript hash, nonce], one part;  | open          |
|          | of a shaped link also which clock it goes by (`shaped.py`)    |               |
| open     | a frame with the next sequence number, this session, any kind | open          |
| open     | "bye": nothing more will come                                 | closed        |
| open     | "abort" {culprit, reason, error}: the session failed          | closed        |
| closed   | nothing                                                       |               |

"credit" {total} is a frame too: its sender has consumed `total` so far, see Ledger. Parts are small so that a heartbeat
is never stuck behind a body for long on a slow line, and so that a stranger cannot make a peer allocate much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from .errors import PeerError, PeerLost, TacitError
from .records import ERROR_TYPES, tidy

VERSION = 2
PART = 512 << 10
MAX_HEADER = 4096
MAX_BODY = 1 << 31
MAX_SEQUENCE = 1 << 63
NONCE_BYTES = 32

Field = int | str | bytes

BYE, ABORT, CREDIT = "bye", "abort", "credit"
RESERVED = frozenset((BYE, ABORT, CREDIT))


@dataclass(slots=True)  # not frozen: that would cost a microsecond for each message
class Message:
    """One received frame. `body` is a view of the received memory, for np.frombuffer; no copy is made of it."""

    kind: str
    fields: Mapping[str, Field]
    body: memoryview

    def integer(self, name: str, low: int, high: int, sender: str) -> int:
        """The field `name`, a whole number from low to high. Raises PeerError naming `sender`."""
        value = self.fields.get(name)
        if type(value) is not int or not low <= value <= high:
            raise PeerError(
                sender, f"sent {self.kind!r} with {name} = {tidy(repr(value), 60)}, expected {low} to {high}"
            )
        return value


class Head(NamedTuple):
    """A header that was found right: `length` body bytes belong to it."""

    kind: str
    fields: dict[str, Field]
    length: int


class FrameWriter:
    """Numbers and packs outgoing headers."""

    def __init__(self, session: bytes) -> None:
        self._session = session
        self._sequence = 0
        self._packer = msgpack.Packer()

    def head(self, kind: str, fields: dict[str, Any], length: int) -> bytes:
        header: bytes = self._packer.pack((self._session, self._sequence, kind, fields, length))
        if len(header) > MAX_HEADER or length > MAX_BODY:
            raise ValueError(f"a frame of {len(header)} header and {length} body bytes is too large")
        self._sequence += 1
        return header


class FrameReader:
    """Checks incoming headers one after the other. Whatever is not as it must be raises PeerError naming the sender."""

    def __init__(self, session: bytes, remote: str) -> None:
        self._session = session
        self._remote = remote
        self._sequence = 0
        self.closed = False

    def head(self, raw: bytes | memoryview) -> Head:
        """The header in `raw`."""
        if self.closed:
            raise self._wrong("sent a frame after its last one")
        if len(raw) > MAX_HEADER:
            raise self._wrong(f"sent a header of {len(raw)} bytes, at most {MAX_HEADER} are allowed")
        found = self._unpacked(raw)
        if type(found) is not list or len(found) != 5:
            raise self._wrong("sent a header that is not the five entries expected")
        session, sequence, kind, fields, length = found
        if session != self._session:
            raise self._wrong("sent a frame of another session")
        if type(sequence) is not int or sequence != self._sequence:
            raise self._wrong(f"sent frame number {tidy(repr(sequence), 30)}, expected {self._sequence}")
        if type(kind) is not str or type(fields) is not dict or type(length) is not int:
            raise self._wrong("sent a header whose kind, fields or length has the wrong type")
        if not 0 <= length <= MAX_BODY:
            raise self._wrong(f"announced a body of {length} bytes, at most {MAX_BODY} are allowed")
        for name, value in fields.items():
            if type(name) is not str or type(value) not in (int, str, bytes):
                raise self._wrong(f"sent {tidy(kind, 30)!r} with a field that is neither number, text nor bytes")
        self._sequence += 1
        if kind in RESERVED and length:
            raise self._wrong(f"sent {kind!r} with a body")
        if kind == BYE:
            self.closed = True
        return Head(kind, fields, length)

    def abort(self, head: Head) -> TacitError:
        """The error that an "abort" frame reports, naming the peer that caused it in the first place."""
        self.closed = True
        culprit = tidy(head.fields.get("culprit") or self._remote, 100)
        reason = tidy(head.fields.get("reason") or "no reason given")
        kind = ERROR_TYPES.get(str(head.fields.get("error")), PeerError)
        if not issubclass(kind, PeerError | PeerLost):
            kind = PeerError
        if culprit != self._remote:
            reason = f"{reason} (reported by {self._remote})"
        return kind(culprit, reason)

    def _unpacked(self, raw: bytes | memoryview) -> object:
        try:
            found: object = msgpack.unpackb(raw, raw=False, strict_map_key=True, max_ext_len=0)
        except (ValueError, msgpack.UnpackException, RecursionError):
            # extra bytes, truncation, bad UTF-8, ext types: all of them ValueErrors or UnpackExceptions
            raise self._wrong("sent a header that is not msgpack as agreed") from None
        return found

    def _wrong(self, reason: str) -> PeerError:
        return PeerError(self._remote, reason)


class Ledger:
    """Who may still send how much: flow control by credit, in units of bytes.

    The sender waits while `window` or more of what it sent has not been consumed; the receiver reports its total each
    time a sixteenth of a window was consumed. So at most a window and one frame lie unread, both sides never wait for each
    other (once everything is consumed less than a window is unreported), and a slow line shows that it moves.

    ZeroMQ's own high-water marks cannot do this: a receiver that stops reading the socket also stops seeing heartbeats,
    and loses the connection.
    """

    OVERHEAD = 16 << 10  # what a frame weighs besides its body, so that the number of small frames is bounded too

    def __init__(self, window: int) -> None:
        self._window = window
        self._sent = 0
        self._confirmed = 0
        self._consumed = 0
        self._reported = 0

    def spend(self, length: int) -> None:
        self._sent += length + self.OVERHEAD

    @property
    def must_wait(self) -> bool:
        return self._sent - self._confirmed >= self._window

    def confirm(self, total: object, remote: str) -> None:
        if type(total) is not int or not self._confirmed <= total <= self._sent:
            raise PeerError(remote, "confirmed more than it was sent, or less than before")
        self._confirmed = total

    def consume(self, length: int) -> int | None:
        """Note a consumed frame; the total to report now, if it is time to."""
        self._consumed += length + self.OVERHEAD
        if 16 * (self._consumed - self._reported) < self._window:
            return None
        self._reported = self._consumed
        return self._consumed


def hello(session: bytes, transcript: bytes, nonce: bytes, clock: str = "") -> bytes:
    """The first message on a link; its nonce is secret and seeds what the two sides draw in common. `clock`: of a shaped link."""
    packed: bytes = msgpack.packb([VERSION, session, transcript, nonce, *([clock] if clock else [])])
    return packed


def read_hello(
    raw: bytes, session: bytes, transcript: bytes, own_nonce: bytes, remote: str, own_clock: str = ""
) -> bytes:
    """The other side's nonce. Raises PeerError if its hello is malformed or names other parties or another model."""
    if len(raw) > MAX_HEADER:
        raise PeerError(remote, "sent an oversized hello")
    try:
        found = msgpack.unpackb(raw, raw=False, max_ext_len=0)
    except (ValueError, msgpack.UnpackException, RecursionError):
        raise PeerError(remote, "sent a hello that is not msgpack") from None
    if type(found) is not list or len(found) not in (4, 5) or found[0] != VERSION:
        raise PeerError(remote, "speaks another version of the link protocol")
    if found[1] != session:
        raise PeerError(remote, "said hello for another session")
    if found[2] != transcript:
        raise PeerError(remote, "disagrees about who takes part, in which role, or with which model")
    nonce = found[3]
    if type(nonce) is not bytes or len(nonce) != NONCE_BYTES or nonce == own_nonce:
        raise PeerError(remote, "sent a hello without a fresh nonce")
    if found[4:] != ([own_clock] if own_clock else []):
        raise PeerError(remote, _unlike(shapes=len(found) == 5, own_clock=own_clock))
    return nonce


def _unlike(*, shapes: bool, own_clock: str) -> str:
    """Why two ends do not go together of which at least one shapes the link."""
    if shapes and own_clock:
        return "is on another machine: only links on one machine can be made like a line with a profile"
    if shapes:
        return (
            "shapes this link, this end does not: its cluster was started with --network; "
            "name it by its cluster.json, beside which its network.json is"
        )
    return "does not shape this link, this end does: its cluster has to be started with --network"
