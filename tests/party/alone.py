"""A real engine alone in one thread, its links played by stand-ins that send what the protocol would: right sizes, no sense.

What an engine does depends on sizes only, so its memory is the same as in a session. `deal` first: what the dealer sent
decides what a compute peer is given.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from tacit.batch import Batch
from tacit.frames import Message
from tacit.kernels.dpf.keygen import one_hot_key_bytes
from tacit.party.engine import serve_compute, serve_dealer
from tacit.party.links import ComputeLinks, DealerLinks, SessionLimits
from tacit.party.served import ServedModel
from tacit.transport import Circle, LinkStats

SESSION = bytes(range(16))


class Stand:
    """What an engine uses of a link."""

    def __init__(self, remote: str) -> None:
        self.remote = remote
        self.stats = LinkStats()
        self.sizes: dict[str, list[int]] = {}

    def seed(self, info: bytes) -> bytes:
        return bytes(32)

    def send(self, kind: str, body: Any = b"", **fields: Any) -> None:
        self.sizes.setdefault(kind, []).append(memoryview(body).nbytes)


def steps(limits: SessionLimits) -> list[Batch]:
    """Of one sequence that fills the session: a prompt in one step, then a token at a time."""
    found = [Batch.one(limits.sizes.step_tokens)]
    while found[-1].longest < limits.sizes.kept_tokens:
        found.append(found[-1].next)
    return found


class Planning(Stand):
    """A compute peer, to the dealer: asks for all steps, one after the other."""

    def __init__(self, model: ServedModel, limits: SessionLimits) -> None:
        super().__init__("peer")
        self._plans = [
            Message(
                "plan",
                {"deal": k, "batch": batch.to_bytes(), "digest": model.weights.digest},
                memoryview(b""),
            )
            for k, batch in enumerate(steps(limits))
        ]

    def receive(self, kind: Any, **options: Any) -> Message:
        return self._plans.pop(0) if self._plans else Message("end", {}, memoryview(b""))


class Partner(Stand):
    """The other compute peer: opens zeros."""

    def send(self, kind: str, body: Any = b"", **fields: Any) -> None:
        super().send(kind, body, **fields)
        self._fields = fields

    def receive(self, kind: str, size: int | None = None, **options: Any) -> Message:
        return Message(kind, self._fields, memoryview(bytes(size or 0)))


class Dealing(Stand):
    """The dealer: correlations of zeros, cut as the real one cut them."""

    def __init__(self, steps: list[list[int]]) -> None:
        super().__init__("dealer")
        self._steps, self._step, self._number = steps, 0, 0

    def receive(self, kind: str, **options: Any) -> Message:
        if kind == "dealt":
            self._step, self._number = self._step + 1, 0
            return Message(kind, {"deal": self._step - 1, "microseconds": 0}, memoryview(b""))
        size = self._steps[self._step][self._number]
        self._number += 1
        return Message(kind, {"step": self._step, "number": self._number - 1}, memoryview(bytes(size)))


class Asking(Stand):
    """The client: as many steps as it may take, then "end"."""

    def __init__(self, model: ServedModel, role: int, limits: SessionLimits) -> None:
        super().__init__("client")
        self._size, self._role, self._step = one_hot_key_bytes(model.spec.vocab), role, 0
        self._steps = steps(limits)

    def receive(self, kind: Any, **options: Any) -> Message:
        if self._step == len(self._steps):
            return Message("end", {}, memoryview(b""))
        batch = self._steps[self._step]
        keys = np.zeros((batch.rows, self._size // 8), np.uint64)
        keys[:, 0] = self._role
        self._step += 1
        fields: dict[str, Any] = {
            "step": self._step - 1,
            "batch": batch.to_bytes(),
            "ahead": len(self._steps) - self._step,
        }
        return Message("tokens", fields, memoryview(keys.view(np.uint8).reshape(-1)))


def deal(model: ServedModel, limits: SessionLimits) -> tuple[list[list[int]], list[list[int]]]:
    """Run the dealer; sizes of the messages it sent to each peer, step by step."""
    peers = (Planning(model, limits), Planning(model, limits))
    found: tuple[list[list[int]], list[list[int]]] = ([], [])
    for peer, steps in zip(peers, found, strict=True):
        peer.send = _by_step(steps)  # type: ignore[method-assign]
    serve_dealer(model, DealerLinks(SESSION, 2, *peers, Circle()), limits)  # type: ignore[arg-type]
    return found


def _by_step(steps: list[list[int]]) -> Any:
    def send(kind: str, body: Any = b"", **fields: Any) -> None:
        if kind == "correlations":
            while len(steps) <= fields["step"]:
                steps.append([])
            steps[fields["step"]].append(memoryview(body).nbytes)

    return send


def compute(model: ServedModel, role: int, limits: SessionLimits, dealt: list[list[int]]) -> SimpleNamespace:
    """Run a compute peer; the stand-ins, with what it sent them."""
    peer, dealer, client = Partner("peer"), Dealing(dealt), Asking(model, role, limits)
    serve_compute(role, model, ComputeLinks(SESSION, role, peer, dealer, client, Circle()), limits)  # type: ignore[arg-type]
    return SimpleNamespace(peer=peer, dealer=dealer, client=client)
