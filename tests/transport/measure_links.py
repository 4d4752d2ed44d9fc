"""How quick a link is between two processes of this machine: `python -P tests/transport/measure_links.py`.

Prints medians: an exchange (both sides send, then receive) of 64 bytes and of 1 MiB, 1 MiB one way with a short answer,
and a stream of 8 MiB bodies.
"""

from __future__ import annotations

import multiprocessing as mp
import statistics
import time
from collections.abc import Callable

import numpy as np
from tacit.party.zap import Doorkeeper
from tacit.transport import Circle, CurveKeys, Ends, Link, LinkSettings, ZmqLink, new_context

SESSION = bytes(16)
PARTIES = ("a", "b", "dealer", "client")
MIB = 1 << 20
STREAM = 40


def exchange(link: Link, size: int) -> None:
    link.send("open", np.ones(size // 8, np.uint64), gate=3)
    link.receive("open", size=size)


def there_and_back(link: Link) -> None:
    link.send("bulk", np.ones(MIB // 8, np.uint64))
    link.receive("ack")


def other_side(inbox: mp.Queue[tuple[str, str]], outbox: mp.Queue[str]) -> None:
    keys, context, circle = CurveKeys.fresh(), new_context(), Circle()
    outbox.put(keys.public)
    endpoint, server_key = inbox.get()
    ends = Ends(SESSION, PARTIES, 1, 0, "a", "")
    link = ZmqLink.dial(context, endpoint, server_key, keys, ends, circle, LinkSettings())
    link.open()
    for size, count in ((64, 3000), (MIB, 300)):
        for _ in range(count):
            exchange(link, size)
    for _ in range(300):
        link.receive("bulk")
        link.send("ack")
    body = np.ones(MIB, np.uint64)
    for _ in range(STREAM):
        link.send("stream", body)
    link.receive("done")
    circle.close()
    context.term()


def median(action: Callable[[], None], count: int) -> float:
    """Microseconds."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return 1e6 * statistics.median(times)


def main() -> None:
    to, back = mp.Queue(), mp.Queue()  # type: ignore[var-annotated]
    process = mp.Process(target=other_side, args=(to, back))
    process.start()
    keys, context, circle = CurveKeys.fresh(), new_context(), Circle()
    with Doorkeeper(context) as doorkeeper:
        doorkeeper.admit("measure", back.get())
        ends = Ends(SESSION, PARTIES, 0, 1, "b", "")
        link = ZmqLink.bind(context, "127.0.0.1", "measure", keys, ends, circle, LinkSettings())
        to.put((link.endpoint, keys.public))
        link.open()
        print(f"64 B exchange      {median(lambda: exchange(link, 64), 3000):8.0f} us")
        print(f"1 MiB exchange     {median(lambda: exchange(link, MIB), 300):8.0f} us")
        print(f"1 MiB one way, ack {median(lambda: there_and_back(link), 300):8.0f} us")
        started = time.perf_counter()
        for _ in range(STREAM):
            link.receive("stream", size=8 * MIB)
        print(f"8 MiB stream       {STREAM * 8 * MIB / 1e6 / (time.perf_counter() - started):8.0f} MB/s")
        link.send("done")
        process.join()
        circle.close()
    context.term()


if __name__ == "__main__":
    main()
