"""The process that is the lines: it holds a TUN device at both ends of each, and carries packets with the line's profile.

`python -P -m tacit.coordinator.lines.forwarder`, one JSON object a line:

| it reads                                                                | it answers                                     |
| ----------------------------------------------------------------------- | ---------------------------------------------- |
| first {"pairs": [{"ends": [[namespace, device], …], "profile": text}]}  | {"ready": true}, or {"error": why}             |
| {"set": number of the pair, "profile": text}                            | {"set": number}, in force from the next packet |
| {"tell": true}                                                          | {"tell": [what each direction has counted]}    |

It ends with its standard input, and the devices with it. It asks to run before other processes (SCHED_FIFO), as a line
does not wait for a core; where it may not, and where it is late in spite of that, its counts say so.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from ...errors import ConfigError, TacitError
from ...network import Profile
from . import carrier
from .counts import Counts
from .pool import descriptors, slots
from .shape import queue_bytes
from .tun import open_tun

PACKETS = 1 << 16  # in all lines and queues together
_PR_SET_TIMERSLACK = 29


class Lines:
    """The state of all lines; `fds` are the devices, 2 i and 2 i + 1 those of pair i."""

    def __init__(self, fds: list[int], profiles: Iterable[Profile], control: int) -> None:
        count = len(fds)
        self._lines = np.zeros((count, carrier.COLUMNS), np.int64)
        self._lines[:, [carrier.HEAD, carrier.TAIL]] = -1
        self._losses = np.zeros(count)
        self._seeds = np.frombuffer(os.urandom(8 * count), np.uint64).copy()
        self._fds = descriptors([*fds, control])
        self._slots = slots(PACKETS)
        for number, profile in enumerate(profiles):
            self.set(number, profile)

    def set(self, pair: int, profile: Profile) -> None:
        """Packets that are on the line already arrive as they would have."""
        for d in (2 * pair, 2 * pair + 1):
            fill(self._lines[d], profile)
            self._losses[d] = profile.loss

    def carry(self) -> None:
        """Until there is something to read on `control`. Raises ConfigError if a device is gone."""
        if not carrier.carry(self._lines, self._losses, self._seeds, self._fds, self._slots):
            raise ConfigError("a device of the lines is gone")

    def counts(self) -> list[Counts]:
        return [
            Counts(
                carried=int(row[carrier.CARRIED]),
                lost=int(row[carrier.LOST]),
                dropped=int(row[carrier.DROPPED]),
                overrun=int(row[carrier.OVERRUN]),
                refused=int(row[carrier.REFUSED]),
                late=int(row[carrier.LATE]),
                latest_ms=row[carrier.LATEST] / 1e6,
            )
            for row in self._lines
        ]


def fill(line: np.ndarray[Any, np.dtype[np.int64]], profile: Profile) -> None:
    """Give a line, a row of `carrier`, its profile."""
    unlimited = profile.bandwidth == math.inf
    line[carrier.PS_PER_BYTE] = 0 if unlimited else round(8e12 / profile.bandwidth)
    line[carrier.QUEUE] = 0 if unlimited else round(8e9 * queue_bytes(profile) / profile.bandwidth)
    line[carrier.DELAY] = round(1e9 * profile.one_way)
    line[carrier.JITTER] = round(1e9 * profile.jitter)


def main() -> int:
    try:
        plan = json.loads(sys.stdin.readline() or "{}")
        pairs = [(pair["ends"], Profile.parse(pair["profile"])) for pair in plan.get("pairs", [])]
        fds = [open_tun(*end) for ends, _ in pairs for end in ends]
        lines = Lines(fds, (profile for _, profile in pairs), sys.stdin.fileno())
        _compile()
    except TacitError as error:
        return _fail(error)
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)  # wakes to the microsecond, not to 50 of them
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    _say({"ready": True})
    while True:
        try:
            lines.carry()
        except TacitError as error:
            return _fail(error)
        line = os.read(sys.stdin.fileno(), 1 << 16)  # a command is one write of the owner, who waits for the answer
        if not line:
            return 0
        asked = json.loads(line)
        if "set" in asked:
            lines.set(asked["set"], Profile.parse(asked["profile"]))
            _say({"set": asked["set"]})
        else:
            _say({"tell": [asdict(one) for one in lines.counts()]})


def _compile() -> None:
    """Before anything hurries: with no lines, and a descriptor that can always be read."""
    with open(os.devnull, "rb") as nothing:
        Lines([], [], nothing.fileno()).carry()


def _fail(error: TacitError) -> int:
    _say({"error": str(error)})
    return 1


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    sys.exit(main())
