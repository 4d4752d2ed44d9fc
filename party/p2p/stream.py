"""One stream carries one question and one answer: what both ends send.

| who      | what                                                                              |
| -------- | --------------------------------------------------------------------------------- |
| asker    | multistream-select: its greeting, the protocol; length (4 bytes) and question     |
| answerer | greeting, the protocol again (or "na"); status, length (4 bytes), answer or error |

Everything the asker has to say leaves at once; what the answerer says before its answer waits for it, unless that takes
a while.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.utils import encode_delim

from ...errors import NetworkError, PeerError, TacitError
from ...records import error_from_json, error_to_json, parse_json
from ..mesh import MAX_MESSAGE
from .host import MAX_QUESTION

MULTISTREAM = "/multistream/1.0.0"
NOT_SERVED = "na"
MAX_CHOICES = 4  # protocols that a stream may ask for before it is ended
OK, ERROR = 0, 1
ARRIVE_SECONDS = 5.0  # for a question to arrive
WRITE_SECONDS = 30.0  # for an answer to be taken
LIFE_SECONDS = 0.02
PIECE = 1 << 20


class Unheard(Exception):
    """The stream ended before the peer said a word: it may be asked again on another connection."""


@dataclass(slots=True)
class Progress:
    """How far a question got. `sent`: all of it left. `heard`: the peer has said something."""

    sent: bool = False
    heard: bool = False


class Incoming:
    """The bytes of a stream, fetched as they come: yamux sends a window update for every read, however small."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.reply = b""  # of the negotiation, not yet sent
        self._buffer = bytearray()

    @property
    def waiting(self) -> int:
        return len(self._buffer)

    async def exactly(self, size: int) -> bytes:
        """Raises ValueError if the stream ends before."""
        while len(self._buffer) < size:
            piece = await self.stream.read(PIECE)
            if not piece:
                raise ValueError("the stream ended")
            self._buffer += piece
        found = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return found

    async def flush(self, more: bytes = b"") -> None:
        """Send what is left of the negotiation, and `more`."""
        reply, self.reply = self.reply + more, b""
        if reply:
            await self.stream.write(reply)

    async def line(self) -> str:
        """One message of multistream-select: length (one byte suffices for ours), text, newline."""
        (size,) = await self.exactly(1)
        if not 0 < size < 128:
            raise ValueError("not multistream-select")
        return (await self.exactly(size)).rstrip(b"\n").decode("ascii", "replace")


# Asking --------------------------------------------------------------------------------------------------------------


async def exchange(connection: Any, progress: Progress, name: str, protocol: str, question: bytes) -> bytes:
    """The answer of the peer that messages call `name`. Raises its TacitError, NetworkError, or Unheard."""
    stream: Any = None
    try:
        stream = await connection.new_stream()
        opening = encode_delim(MULTISTREAM.encode()) + encode_delim(protocol.encode())
        await stream.write(opening + struct.pack(">I", len(question)) + question)
        progress.sent = True
        words = Incoming(stream)
        greeting = await words.line()
        progress.heard = True
        chosen = await words.line()
        if greeting != MULTISTREAM or chosen not in (protocol, NOT_SERVED):
            raise PeerError(name, "does not speak this mesh's protocol")
        if chosen == NOT_SERVED:
            raise PeerError(name, f"does not serve {protocol.rpartition('/')[2]!r}")
        status, size = struct.unpack(">BI", await words.exactly(5))
        if status not in (OK, ERROR) or size > (MAX_MESSAGE if status == OK else MAX_QUESTION):
            raise PeerError(name, "sent an answer that is not as agreed")
        answer = await words.exactly(size)
        await stream.close()
    except (BaseLibp2pError, ValueError, OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
        await drop(stream)
        if not progress.heard:
            raise Unheard(reason(error)) from None
        raise NetworkError(f"{name}: went away while asked: {reason(error)}") from None
    except BaseException:
        await drop(stream)
        raise
    if status == OK:
        return answer
    try:
        reported = error_from_json(parse_json(answer), name)
    except ValueError:
        reported = PeerError(name, "reported an error in a form not understood")
    raise reported


# Answering -----------------------------------------------------------------------------------------------------------


async def negotiate(words: Incoming, served: Container[Any]) -> str:
    """The protocol that the asker wants, one of `served`. Raises ValueError, TooSlowError."""
    with trio.fail_after(ARRIVE_SECONDS):
        if await words.line() != MULTISTREAM:
            raise ValueError("not multistream-select")
        words.reply = encode_delim(MULTISTREAM.encode())
        for _ in range(MAX_CHOICES):
            if not words.waiting:
                await words.flush()
            wanted = await words.line()
            if wanted in served:
                words.reply += encode_delim(wanted.encode())
                return wanted
            words.reply += encode_delim(NOT_SERVED.encode())
            await words.flush()
    raise ValueError("asked for nothing that is served")


async def read_question(words: Incoming) -> bytes:
    """Raises ValueError for one that is too long, TooSlowError."""
    with trio.fail_after(ARRIVE_SECONDS):
        (size,) = struct.unpack(">I", await words.exactly(4))
        if size > MAX_QUESTION:
            raise ValueError(f"a question of {size} bytes")
        return await words.exactly(size)


async def send_answer(words: Incoming, answer: bytes | TacitError) -> None:
    status, body = OK, answer
    if isinstance(body, TacitError):
        status, body = ERROR, json.dumps(error_to_json(body)).encode("ascii")
    with trio.fail_after(WRITE_SECONDS):
        await words.flush(struct.pack(">BI", status, len(body)) + body)
        await words.stream.close()


async def show_life(words: Incoming) -> None:
    """An answer that takes a while is announced, so that the asker knows a slow handler from a dead host."""
    await trio.sleep(LIFE_SECONDS)
    with trio.CancelScope(shield=True, deadline=trio.current_time() + ARRIVE_SECONDS), suppress(Exception):
        await words.flush()  # never half of it: that would break the connection


async def drop(stream: Any) -> None:
    """Reset a stream, even while being cancelled."""
    if stream is not None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 0.2), suppress(Exception):
            await stream.reset()


def reason(error: BaseException) -> str:
    """The first line of a foreign error, for a message."""
    return str(error).partition("\n")[0][:200] or type(error).__name__
