"""The other end of measured transfers, as a process: `python -P -m tacit.coordinator.lines.far`.

It says {"key": its CURVE key}; for every line {"endpoint", "key", "profile"} that it reads it dials a link, shaped unless the
profile is null, and answers what comes until "end":

    take   -> taken {at: when it had all of it, in nanoseconds of CLOCK_MONOTONIC}
    echo   -> echoed, the same body
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from ...ends import Ends, LinkSettings
from ...errors import NetworkError
from ...link import Circle, Link
from ...network import Profile
from ...shaping import ShapedLine
from ...zmqlink import CurveKeys, ZmqLink, new_context

ENDS = Ends(bytes(16), ("near", "far", "", ""), 0, 1, "far", "")
SETTINGS = LinkSettings(timeout=120.0, opening_timeout=30.0)  # 16 MB at 1 Mbit/s and more


def shaped(profile: str | None) -> ShapedLine | None:
    """What makes an end of a link behave like that line; None: it is what it is."""
    if profile is None:
        return None
    parsed = Profile.parse(profile)
    return ShapedLine(lambda: parsed, np.random.default_rng())


def serve(link: Link) -> None:
    while True:
        message = link.receive(("take", "echo", "end"))
        if message.kind == "take":
            link.send("taken", at=time.monotonic_ns())
        elif message.kind == "echo":
            link.send("echoed", message.body)
        else:
            return


def main() -> None:
    keys, context = CurveKeys.fresh(), new_context()
    print(json.dumps({"key": keys.public}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        circle, ends = Circle(), ENDS.mirrored("near")
        shape = shaped(asked["profile"])
        link = ZmqLink.dial(context, asked["endpoint"], asked["key"], keys, ends, circle, SETTINGS, line=shape)
        try:
            link.open()
            serve(link)
        except NetworkError:  # the other end finds the same, and says so
            return
        finally:
            circle.close()
    context.term()


if __name__ == "__main__":
    main()
