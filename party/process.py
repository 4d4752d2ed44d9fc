"""What server processes (peer, coordinator) have in common: logs, signals, hardening, what is said when ready."""

from __future__ import annotations

import json
import logging
import os
import resource
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn, Self

import zmq

from ..errors import TacitError
from ..records import error_to_json

log = logging.getLogger("tacit")


def start_logging(level: str) -> None:
    """Logs of this process go to standard error."""
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def harden() -> None:
    """No core dumps: they would hold shares and keys."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def announce(facts: dict[str, Any]) -> None:
    """Tell whoever started this process that it is ready."""
    print(json.dumps({"ready": facts}), flush=True)


def tell(lines: Sequence[str]) -> None:
    """Say something to the person who started this process, on standard error."""
    if lines:
        print(*lines, sep="\n", file=sys.stderr, flush=True)


@contextmanager
def await_signal() -> Iterator[Callable[[float | None], bool]]:
    """Gives wait(seconds): True once SIGTERM or SIGINT came. Whichever thread the kernel gave the signal to, it wakes."""
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    before_fd = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    try:
        yield lambda seconds: bool(select.select([readable], [], [], seconds)[0])
    finally:
        signal.set_wakeup_fd(before_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(readable)
        os.close(writable)


def leave(status: int) -> NoReturn:
    """End the process once everything is tidied up, without the second that torch and numba take to be torn down."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def end_context(context: zmq.Context[zmq.Socket[bytes]], seconds: float = 0.5) -> None:
    """Let last words leave, but do not wait for a thread that still computes and holds its sockets."""
    thread = threading.Thread(target=context.term, daemon=True)
    thread.start()
    thread.join(seconds)


class ReportFailure:
    """Turns a TacitError into the one JSON line that a launcher reads; `status` is the exit status to return."""

    status = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        if not isinstance(error, TacitError):
            return False
        print(json.dumps({"error": error_to_json(error)}), flush=True)
        log.error("%s: %s", type(error).__name__, error)
        self.status = 1
        return True
