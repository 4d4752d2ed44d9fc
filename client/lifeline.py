"""Runs a module as a child of the launcher, for no longer than the launcher lives.

``python -P -m tacit.client.lifeline MODULE ARGS…``: standard input is the lifeline, a pipe whose other end only the
launcher holds. When it closes, however the launcher died, this process gets SIGTERM, and is gone two seconds later.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

_GRACE = 2.0


def _watch(lifeline: int) -> None:
    while os.read(lifeline, 64):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os._exit(1)


def main() -> None:
    lifeline = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    threading.Thread(target=_watch, args=(lifeline,), daemon=True, name="lifeline").start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
