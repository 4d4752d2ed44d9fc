"""CrypTen's trusted third party, played by the dealer, who knows what will be asked for and deals ahead.

In CrypTen's protocol of this name (`TTP`) a party draws its shares of a tuple from a generator that it has in common with the
third party; only the last part of party 0's share, which depends on all the others, has to be sent. CrypTen asks for it tuple by
tuple, which costs party 0 a round trip each. Here the dealer runs the model on shapes, answers the requests that come up, and
sends the answers before they are asked for: the same tuples, no waiting.

| frame | between | fields | body |
| --- | --- | --- | --- |
| tuple | dealer -> party 0 | step, number | one tensor, 8 bytes an element |
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ...errors import PeerError
from ...tracing.recorder import Recorder
from ...transport import Link
from .communicator import Tensor


def answer_shape(name: str, *sizes: Any) -> torch.Size:
    """Shape of the third party's answer to one of CrypTen's requests: those of the gates that transformers need."""
    if name == "additive" and sizes[2] == "mul":
        return torch.Size(np.broadcast_shapes(*sizes[:2]))
    if name == "additive" and sizes[2] == "matmul":
        a, b = sizes[:2]
        return torch.Size((*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]))
    if name == "binary":
        return torch.Size(np.broadcast_shapes(*sizes))
    if name in ("square", "wraps", "B2A"):
        return torch.Size(sizes[0])
    raise ValueError(f"no gate used here makes the request {name!r}")


class Dealt:
    """A compute peer's side of the third party. `dealer` is None at every party but 0. `recorder`: where a session is traced."""

    def __init__(self, generator: torch.Generator, dealer: Link | None, recorder: Recorder | None = None) -> None:
        self.received = 0  # bytes, in this step
        self._generator, self._dealer, self._recorder = generator, dealer, recorder
        self._step, self._number = 0, 0

    def begin(self, step: int) -> None:
        self._step, self._number, self.received = step, 0, 0

    def get_generator(self, device: Any = None) -> torch.Generator:
        return self._generator

    def ttp_request(self, name: str, device: Any, *args: Any) -> Tensor:
        """Party 0's part of the next tuple. PeerError for one of another size, step or number."""
        if self._dealer is None:
            raise ValueError("only party 0 is told anything by the third party")
        shape = answer_shape(name, *args)
        message = self._dealer.receive("tuple", size=8 * shape.numel())
        if message.fields.get("step") != self._step or message.fields.get("number") != self._number:
            raise PeerError(self._dealer.remote, "its tuple is for another step or gate")
        self._number += 1
        self.received += message.body.nbytes
        if self._recorder is not None:
            self._recorder.consumed(message.body.nbytes)
        return torch.from_numpy(np.frombuffer(message.body, "<i8").copy()).view(shape)


class Dealing:
    """The third party itself: answers party 0's requests as they come up on shapes, with CrypTen's own code.

    `give(tensor)` takes each answer. With `generators` None nothing is drawn, and `give` gets shapes: for counting.
    """

    def __init__(self, generators: Sequence[torch.Generator] | None, give: Callable[[Tensor], None]) -> None:
        self._give = give
        self._server: Any = None
        if generators is not None:
            server = importlib.import_module("crypten.mpc.provider.ttp_provider").TTPServer
            self._server = object.__new__(server)  # its constructor would open sockets and serve for ever
            self._server.device = "cpu"
            self._server.generators = list(generators)

    def get_generator(self, device: Any = None) -> None:
        """On shapes nothing is drawn."""

    def ttp_request(self, name: str, device: Any, *args: Any) -> Tensor:
        on_shapes = torch.empty(answer_shape(name, *args), dtype=torch.int64, device=device)
        self._give(on_shapes if self._server is None else getattr(self._server, name)(*args))
        return on_shapes


class Sender:
    """Sends each answer to party 0, numbered within its step."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._step, self._number = 0, 0

    def begin(self, step: int) -> None:
        self._step, self._number = step, 0

    def __call__(self, answer: Tensor) -> None:
        self._link.send("tuple", answer.contiguous().numpy(), step=self._step, number=self._number)
        self._number += 1
