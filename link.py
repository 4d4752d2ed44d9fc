"""A link: the ordered, private, strict channel between two of a session's parties, and how its failure spreads.

`Link` is the protocol (frames, flow control, failure) over four small operations that a transport supplies; see
`zmqlink.ZmqLink` for real sockets and `memlink.MemoryLink` for tests. One thread at a time uses a link.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from . import frames
from .ends import Ends, LinkSettings, LinkStats
from .errors import NetworkError, PeerError, PeerLost, TacitError
from .frames import Field, FrameReader, FrameWriter, Head, Ledger, Message
from .records import tidy
from .shaping import WRAPPING

if TYPE_CHECKING:
    from .tracing.recorder import Recorder

PARTS_OF_A_FRAME = 2  # a header and a body

Buffer = Any  # whatever exports C-contiguous memory: bytes, bytearray, memoryview, numpy array


class Circle:
    """The links of one session at one party: when one fails, whoever waits on another one wakes up and learns why."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self._lock = threading.Lock()
        self._failure: TacitError | None = None

    @property
    def failure(self) -> TacitError | None:
        return self._failure

    def fail(self, error: TacitError) -> None:
        """End the session: remember the first error, and tell every other party at once where that is possible."""
        with self._lock:
            if self._failure is not None:
                return
            self._failure = error
        for link in self.links:
            link.tell(error)

    def look(self, waiting: Link) -> None:
        """See whether anybody is gone on the links beside `waiting`; a failure is then in `failure`."""
        for link in self.links:
            if link is not waiting and self._failure is None:
                link.look()

    def close(self) -> None:
        """Close every link; a session that failed says why as it goes."""
        for link in self.links:
            link.close()


def again(error: TacitError) -> TacitError:
    """The same error, fresh, to be raised in another thread."""
    if isinstance(error, PeerError | PeerLost):
        return type(error)(error.peer, error.reason)
    return type(error)(str(error))


class Link(ABC):
    """One end of a link. `remote` names the other end in every error."""

    def __init__(self, ends: Ends, circle: Circle, settings: LinkSettings) -> None:
        self.ends = ends
        self.remote = ends.remote_name
        self.stats = LinkStats()
        self.recorder: Recorder | None = None  # who wants to know what goes over this link, and when
        self._settings = settings
        self._circle = circle
        self._lock = threading.RLock()
        self._reader = FrameReader(ends.session, ends.remote_name)
        self._writer = FrameWriter(ends.session)
        self._ledger = Ledger(settings.window)
        self._stash: deque[Message] = deque()  # frames that arrived while this side was sending or looking
        self._nonce = os.urandom(frames.NONCE_BYTES)
        self._remote_nonce: bytes | None = None
        self._told = False
        self._closed = False
        circle.links.append(self)

    # What a transport supplies ---------------------------------------------------------------------------------------

    @abstractmethod
    def _put(self, part: Buffer, more: bool) -> bool:
        """Send one part, waiting a tick at most; False if it could not be sent yet."""

    @abstractmethod
    def _take(self, wait: bool) -> tuple[memoryview, bool] | None:
        """The next part and whether more belong to it, waiting a tick at most; None if there is none."""

    @abstractmethod
    def _gone(self) -> str | None:
        """Why the other side cannot be reached any more, None while it can."""

    def _reachable(self) -> bool:
        """Whether it makes sense to send the other side what it does not wait for, such as credit."""
        return self._gone() is None

    @abstractmethod
    def _close(self) -> None:
        """Let go of the transport; what was sent may still travel."""

    @property
    def clock(self) -> str:
        """Of a shaped link: which clock both ends must share (`shaped.py`); else nothing."""
        return ""

    def _arrived(self) -> int | None:
        """Bytes that came in so far, with all that carries them; None where that cannot be told."""
        return None

    def cut(self) -> None:  # noqa: B027  a transport without connections has none to end
        """Take nothing more off the line, from any thread; whoever uses the link finds the other side gone."""

    def unread(self) -> int | None:
        """Bytes that the other side sent and that were not handed to this one, by a lower estimate; None if unknown.

        Any thread may ask. It sees what lies in queues that credit should bound, when the other side does not keep to it.
        """
        arrived = self._arrived()
        if arrived is None:
            return None
        seen = self.stats
        carried = seen.bytes_received + PARTS_OF_A_FRAME * WRAPPING * seen.messages_received
        carried += WRAPPING * (seen.bytes_received // frames.PART)
        return arrived - carried + sum(message.body.nbytes for message in tuple(self._stash))

    # Opening ---------------------------------------------------------------------------------------------------------

    def open(self, timeout: float | None = None) -> None:
        """Wait for the other side and exchange hellos. Raises PeerLost, PeerError, IdentityError or NetworkError."""
        limit = self._settings.opening_timeout if timeout is None else timeout
        deadline = time.monotonic() + limit
        transcript = self.ends.transcript()
        with self._lock:
            mine = frames.hello(self.ends.session, transcript, self._nonce, self.clock)
            self._attempt(lambda: self._put(mine, False) or None, deadline, limit, "did not connect")
            part, more = self._attempt(lambda: self._take(True), deadline, limit, "did not say hello")
            try:
                if more:
                    raise PeerError(self.remote, "sent a hello of several parts")
                self._remote_nonce = frames.read_hello(
                    bytes(part), self.ends.session, transcript, self._nonce, self.remote, self.clock
                )
            except PeerError as error:
                self._fail(error)

    def seed(self, info: bytes) -> bytes:
        """32 bytes that both ends of this link, and nobody else, know: HKDF-SHA256 over the nonces of both ends.

        Bound to the session, both roles and identities, and the model; different for every `info`.
        """
        if self._remote_nonce is None:
            raise NetworkError(f"{self.remote}: the link is not open yet")
        nonces = (self._nonce, self._remote_nonce)
        if self.ends.own_role > self.ends.remote_role:
            nonces = nonces[::-1]
        context = b"tacit seed/1" + self.ends.transcript() + info
        return HKDF(SHA256(), 32, salt=None, info=context).derive(nonces[0] + nonces[1])

    # Sending ---------------------------------------------------------------------------------------------------------

    def send(self, kind: str, body: Buffer = b"", **fields: Field) -> None:
        """Send one frame; `body` is any C-contiguous buffer (a numpy array as it is) and is free again on return.

        Waits while the other side has too much unread. Raises PeerLost, PeerError or NetworkError.
        """
        view = memoryview(body)
        if view.nbytes == 0:
            view = memoryview(b"")
        elif view.ndim != 1 or view.format != "B":
            view = view.cast("B")
        with self._lock:
            if self._circle.failure is not None:
                self._fail(self._circle.failure)
            if self._ledger.must_wait:
                self._await_credit()
            self._ledger.spend(view.nbytes)
            self._write(kind, view, fields)
            self.stats.sends += 1

    def _write(self, kind: str, view: memoryview, fields: dict[str, Field]) -> None:
        size = view.nbytes
        since = 0 if self.recorder is None else time.monotonic_ns()
        header = self._writer.head(kind, fields, size)
        if not self._put(header, True):
            self._resume(header, True)
        if size <= frames.PART:
            if not self._put(view, False):
                self._resume(view, False)
        else:
            for start in range(0, size, frames.PART):
                part = view[start : start + frames.PART]
                if not self._put(part, False):
                    self._resume(part, False)
        if self.recorder is not None:
            number = self.stats.messages_sent
            self.recorder.sent(kind, since, self.ends.remote_role, number, len(header) + size)
        self.stats.messages_sent += 1
        self.stats.bytes_sent += len(header) + size

    def _resume(self, part: Buffer, more: bool) -> None:
        limit = self._settings.timeout
        self._attempt(
            lambda: self._put(part, more) or None, time.monotonic() + limit, limit, "took nothing off the line"
        )

    def _await_credit(self) -> None:
        started = time.monotonic_ns()
        deadline = time.monotonic() + self._settings.timeout
        try:
            while self._ledger.must_wait:
                found = self._fetch(None, None, deadline, self._settings.timeout, "did not read what it was sent", True)
                if found is not None:
                    self._stash.append(found)
                else:  # credit, if not for enough yet: it reads on
                    deadline = time.monotonic() + self._settings.timeout
        finally:
            now = time.monotonic_ns()
            self.stats.stalled_seconds += 1e-9 * (now - started)
            if self.recorder is not None:
                self.recorder.span("waiting", started, self.ends.remote_role, now)

    # Receiving -------------------------------------------------------------------------------------------------------

    def receive(self, kind: str | tuple[str, ...], *, size: int | None = None, timeout: float | None = None) -> Message:
        """The next frame, which must be of `kind` (or one of them) and, if given, have a body of `size` bytes.

        Raises PeerError for any other frame, PeerLost when this peer or another one of the session is gone,
        NetworkError after `timeout` seconds. An error on any link ends the session on all of them.
        """
        limit = self._settings.timeout if timeout is None else timeout
        with self._lock:
            if self._stash:
                message = self._stash.popleft()
                self._expect(kind, size, message.kind, message.body.nbytes)
            else:
                started = time.monotonic_ns()
                if self._reader.closed:
                    self._fail(PeerLost(self.remote, f"left the session, {kind!r} was still due"))
                try:
                    found = self._fetch(kind, size, 1e-9 * started + limit, limit, f"sent no {kind!r}", False)
                finally:  # what was waited for in vain counts, too
                    now = time.monotonic_ns()
                    self.stats.waiting_seconds += 1e-9 * (now - started)
                    if self.recorder is not None:
                        self.recorder.span("waiting", started, self.ends.remote_role, now)
                if found is None:
                    self._fail(PeerError(self.remote, "sent nothing"))
                message = found
            total = self._ledger.consume(message.body.nbytes)
            if total is not None and self._reachable():
                self._write(frames.CREDIT, memoryview(b""), {"total": total})
            return message

    def _fetch(
        self,
        kind: str | tuple[str, ...] | None,
        size: int | None,
        deadline: float,
        limit: float,
        silence: str,
        once: bool,
    ) -> Message | None:
        """The next frame that is not about the link itself; with `once`, None after any frame about the link."""
        while True:
            taken = self._take(True)
            if taken is None:
                if self._circle.failure is not None:
                    self._fail(self._circle.failure)
                taken = self._attempt(lambda: self._take(True), deadline, limit, silence)
            try:
                message = self._read(taken, kind, size)
            except PeerError as error:
                self._fail(error)
            if message is not None or once:
                return message

    def _read(
        self, taken: tuple[memoryview, bool], kind: str | tuple[str, ...] | None, size: int | None
    ) -> Message | None:
        """Turn a header part and the body parts that follow into a message; None if it was about the link itself."""
        raw, more = taken
        since = 0 if self.recorder is None else time.monotonic_ns()
        head = self._reader.head(raw)
        if head.length > self._settings.max_body:
            raise PeerError(self.remote, f"announced a body of {head.length} bytes, over the limit of this session")
        if not more:
            raise PeerError(self.remote, "sent a header without a body")
        if head.kind not in frames.RESERVED and kind is not None:
            self._expect(kind, size, head.kind, head.length)
        body = self._body(head)
        if self.recorder is not None:
            number = self.stats.messages_received
            self.recorder.read(head.kind, since, self.ends.remote_role, number, len(raw) + head.length)
        self.stats.messages_received += 1
        self.stats.bytes_received += len(raw) + head.length
        if head.kind == frames.CREDIT:
            self._ledger.confirm(head.fields.get("total"), self.remote)
            return None
        if head.kind == frames.ABORT:
            self._told = True  # it knows already
            self._fail(self._reader.abort(head))
        if head.kind == frames.BYE:
            if kind is None:
                return None
            self._fail(PeerLost(self.remote, f"left the session, {kind!r} was still due"))
        return Message(head.kind, head.fields, body)

    def _body(self, head: Head) -> memoryview:
        first = self._part(head, more=False)
        if head.length <= frames.PART:
            if first.nbytes != head.length:
                raise PeerError(self.remote, f"sent {first.nbytes} body bytes, announced {head.length}")
            return first
        parts, missing, part = [], head.length, first
        while True:
            if part.nbytes != min(frames.PART, missing):
                raise PeerError(self.remote, f"sent a part of {part.nbytes} bytes, not as announced")
            parts.append(part)
            missing -= part.nbytes
            if not missing:
                return memoryview(b"".join(parts))  # memory for what came, never for what was only announced
            part = self._part(head, more=False)

    def _part(self, head: Head, more: bool) -> memoryview:
        taken = self._take(True)
        if taken is None:
            limit = self._settings.timeout
            taken = self._attempt(
                lambda: self._take(True), time.monotonic() + limit, limit, f"stopped in the middle of {head.kind!r}"
            )
        if taken[1] is not more:
            raise PeerError(self.remote, f"sent {tidy(head.kind, 30)!r} in more parts than agreed")
        return taken[0]

    def _expect(self, kind: str | tuple[str, ...], size: int | None, got: str, length: int) -> None:
        if got != kind and (isinstance(kind, str) or got not in kind):
            self._fail(PeerError(self.remote, f"sent {tidy(got, 30)!r}, expected {kind!r}"))
        if size is not None and length != size:
            self._fail(PeerError(self.remote, f"sent {got!r} with a body of {length} bytes, expected {size}"))

    # Failing ---------------------------------------------------------------------------------------------------------

    def abort(self, error: TacitError) -> None:
        """End the session with `error` here, and at the other parties with the culprit it names."""
        self._circle.fail(error)

    def tell(self, error: TacitError) -> None:
        """Send the abort once, without waiting; not while another thread is using this link (that one tells)."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._told or self._closed or self._remote_nonce is None or self._gone() is not None:
                return
            self._told = True
            named = error.peer if isinstance(error, PeerError | PeerLost) else ""
            reason = error.reason if isinstance(error, PeerError | PeerLost) else str(error)
            header = self._writer.head(
                frames.ABORT,
                {"culprit": named[:100], "reason": reason[:500], "error": type(error).__name__},
                0,
            )
            self._record_last(frames.ABORT, len(header))
            if self._put(header, True):
                self._put(b"", False)
        finally:
            self._lock.release()

    def _record_last(self, kind: str, size: int) -> None:
        if self.recorder is not None:
            self.recorder.last_word(kind, self.ends.remote_role, self.stats.messages_sent, size)

    def look(self) -> None:
        """Find out whether the other side is gone without goodbye; fails the circle if so. Never waits."""
        if not self._lock.acquire(blocking=False):
            return  # its own thread is waiting on it and looks by itself
        try:
            if self._closed or self._reader.closed:
                return
            reason = self._gone()
            if reason is not None:
                self._last_words(reason)
        finally:
            self._lock.release()

    def _last_words(self, reason: str) -> None:
        """The other side is gone: read what it sent before. Without a goodbye or an abort among it, it is lost."""
        try:
            while self._remote_nonce is not None and (taken := self._take(False)) is not None:
                message = self._read(taken, None, None)
                if message is not None:
                    self._stash.append(message)
        except TacitError as error:
            self._circle.fail(error)
        if not self._reader.closed:
            self._circle.fail(PeerLost(self.remote, reason))

    def close(self) -> None:
        """Say goodbye (or, after a failure, why) and let go. Never waits, never raises; closing twice is fine."""
        with self._lock:
            if self._closed:
                return
            failure = self._circle.failure
            if failure is not None:
                self.tell(failure)
            elif self._remote_nonce is not None and self._gone() is None:
                header = self._writer.head(frames.BYE, {}, 0)
                self._record_last(frames.BYE, len(header))
                if self._put(header, True):
                    self._put(b"", False)
            self._closed = True
            self._close()

    def _attempt(self, action: Callable[[], Any], deadline: float, limit: float, silence: str) -> Any:
        """Repeat `action` until it gives something, looking after the whole session between two tries."""
        while True:
            found = action()
            if found is not None:
                return found
            reason = self._gone()  # asked before the last try: what came before the end is still delivered
            if reason is not None:
                found = action()
                if found is not None:
                    return found
                self._last_words(reason)
            self._circle.look(self)
            if self._circle.failure is not None:
                self._fail(self._circle.failure)
            if reason is not None:  # it said goodbye
                self._fail(PeerLost(self.remote, "left the session while more was due"))
            if time.monotonic() > deadline:
                self._fail(NetworkError(f"{self.remote}: {silence} within {limit:g} s"))

    def _fail(self, error: TacitError) -> NoReturn:
        self._circle.fail(error)
        self.tell(error)
        raise again(self._circle.failure or error)
