"""CrypTen's parties and their third party, each in a thread, over links in memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from tacit.protocols.base import Spec
from tacit.protocols.crypten import library
from tacit.protocols.crypten.communicator import LinkParty, seeded
from tacit.protocols.crypten.plans import Plan
from tacit.protocols.crypten.provider import Dealt, Sender
from tacit.protocols.crypten.shapes import Shapes
from tacit.transport import Circle, Ends, Link, LinkSettings, memory_pair


class Parties:
    """`size` parties and the third party behind them. Whatever one raises is raised by `run`."""

    def __init__(self, size: int = 2) -> None:
        self.size = size
        self.circles = [Circle() for _ in range(size + 1)]
        self.links: dict[tuple[int, int], Link] = {}
        names = [f"peer-{i}" for i in range(size)] + ["dealer"]
        session = os.urandom(16)
        for a in range(size + 1):
            for b in range(a + 1, size + 1):
                ends = Ends(session, ("a", "b", "c", "d"), a, b, "", "manifest")
                circles = (self.circles[a], self.circles[b])
                pair = memory_pair(ends, circles, LinkSettings(timeout=20), (names[a], names[b]))
                self.links[a, b], self.links[b, a] = pair
        opening = [threading.Thread(target=link.open) for link in self.links.values()]
        for thread in opening:
            thread.start()
        for thread in opening:
            thread.join()

    def party(self, rank: int) -> LinkParty:
        peers = {other: self.links[rank, other] for other in range(self.size) if other != rank}
        dealer = self.links[rank, self.size]
        generators = {
            "next": seeded(self.links[rank, (rank + 1) % self.size].seed(f"from {rank}".encode())),
            "prev": seeded(self.links[rank, (rank - 1) % self.size].seed(f"from {(rank - 1) % self.size}".encode())),
            "local": seeded(os.urandom(8)),
            "global": seeded(bytes(8)),
        }
        dealt = Dealt(seeded(dealer.seed(b"tuples")), dealer if rank == 0 else None)
        return LinkParty(rank, peers, dealt, generators, library.settings())

    def third_party(self, spec: Spec, plans: dict[str, Plan]) -> Shapes:
        ends = [self.links[self.size, rank] for rank in range(self.size)]
        generators = [seeded(link.seed(b"tuples")) for link in ends]
        return Shapes(spec, plans, generators, Sender(ends[0]), self.size)

    def run(self, job: Callable[[int], Any], deal: Callable[[], Any]) -> list[Any]:
        """job(rank) of every party, then what `deal` gave."""
        out: dict[int, Any] = {}
        errors: list[BaseException] = []

        def guarded(index: int, work: Callable[[], Any]) -> None:
            try:
                out[index] = work()
            except BaseException as error:  # noqa: BLE001  raised again below
                errors.append(error)
                self.circles[index].close()

        jobs: Sequence[Callable[[], Any]] = [*(lambda rank=rank: job(rank) for rank in range(self.size)), deal]
        threads = [threading.Thread(target=guarded, args=one) for one in enumerate(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        if errors:
            raise errors[0]
        return [out[index] for index in range(self.size + 1)]
