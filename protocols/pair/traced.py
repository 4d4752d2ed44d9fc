"""The two ends of a correlation, recorded: rounds, bytes, and the time that packing and unpacking take, by site.

Made in the place of `Party` and `Dealer` where a session is traced; where it is not, those two know nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...kernels.dpf.trees import Trees
from ...tracing.recorder import Recorder, clock
from ...transport import Link
from .party import U8, Dealer, Party
from .secret import U64


class TracedParty(Party):
    """A compute peer's side."""

    def __init__(self, recorder: Recorder, role: int, peer: Link, dealer: Link, k_dealer: bytes, trees: Trees) -> None:
        super().__init__(role, peer, dealer, k_dealer, trees)
        self._recorder = recorder

    def exchange(self, values: Sequence[tuple[U64, int]]) -> list[U64]:
        before = self.counters.online_bytes
        found = super().exchange(values)
        self._recorder.round(self.counters.online_bytes - before)
        return found

    def take(self, count: int, bits: int) -> U64:
        if self.role == 0 or bits <= 0:  # drawn, not received
            return super().take(count, bits)
        since = clock()
        found = super().take(count, bits)
        self._recorder.span("unpacking", since)
        return found

    def _bytes(self, size: int) -> memoryview:
        self._recorder.consumed(size)
        return super()._bytes(size)

    def _packed(self, values: Sequence[tuple[U64, int]]) -> tuple[list[U8], U8]:
        since = clock()
        found = super()._packed(values)
        self._recorder.span("packing", since)
        return found

    def _opened(self, values: Sequence[tuple[U64, int]], packed: list[U8], body: memoryview) -> list[U64]:
        since = clock()
        found = super()._opened(values, packed, body)
        self._recorder.span("unpacking", since)
        return found


class TracedDealer(Dealer):
    """The dealer's side."""

    def __init__(self, recorder: Recorder, peers: tuple[Link, Link], k: tuple[bytes, bytes], trees: Trees) -> None:
        super().__init__(peers, k, trees)
        self._recorder = recorder

    def _packed(self, values: U64, bits: int) -> U8:
        since = clock()
        found = super()._packed(values, bits)
        self._recorder.span("packing", since)
        return found

    def _joined(self, items: list[U8]) -> U8:
        since = clock()
        found = super()._joined(items)
        self._recorder.span("packing", since)
        return found
