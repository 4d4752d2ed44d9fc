"""A party of CrypTen whose messages travel over our links.

CrypTen's gates call collectives on a communicator. Here a collective is one round of frames between the compute peers:

| frame | between | fields | body |
| --- | --- | --- | --- |
| open | every two parties, both ways | step, round | the tensors of the round, 8 bytes an element, one after the other |

Every party knows the shapes of a round, so a frame of another size is refused before it is looked at. Objects are not taken
from anybody: CrypTen would unpickle them, and no gate used here sends any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from struct import pack as pack_header
from typing import Any

import numpy as np
import torch

from ...errors import PeerError
from ...tracing.recorder import Recorder
from ...transport import Link
from ..pair.party import Counters

SEED_BYTES = 8
Tensor = torch.Tensor


class Party:
    """What CrypTen calls a communicator, with the rest of a party's state (`library`). One thread.

    `third_party` answers CrypTen's provider: see `provider.py`. `generators` by CrypTen's purposes, `settings` as from `library.settings`.
    """

    def __init__(self, rank: int, size: int, third_party: Any, generators: Mapping[str, Any], settings: Any) -> None:
        self.rank = rank
        self.size = size
        self.third_party = third_party
        self.generators = generators
        self.settings = settings
        self.counters = Counters()
        self.largest = 0  # bytes of an opening

    # What CrypTen's gates call ---------------------------------------------------------------------------------------

    def get_rank(self) -> int:
        return self.rank

    def get_world_size(self) -> int:
        return self.size

    def all_reduce(self, value: Any, op: Any = None, batched: bool = False) -> Any:
        """Every party's tensors added up (or XORed), known to all. One round."""
        found = self._gathered(value if batched else [value])
        join = torch.bitwise_xor if op == torch.distributed.ReduceOp.BXOR else torch.add
        out = []
        for parts in zip(*found, strict=True):
            total = parts[0]
            for part in parts[1:]:
                total = join(total, part)
            out.append(total)
        return out if batched else out[0]

    def reduce(self, value: Any, dst: int, op: Any = None, batched: bool = False) -> Any:
        """As `all_reduce`, for one party's eyes by CrypTen's contract."""
        found = self.all_reduce(value, op, batched)
        return found if self.rank == dst else None

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Every party's tensor, in order. One round."""
        return [parts[0] for parts in self._gathered([tensor])]

    def gather(self, tensor: Tensor, dst: int) -> list[Tensor] | list[None]:
        """As `all_gather`, for one party's eyes by CrypTen's contract."""
        found = self.all_gather(tensor)
        return found if self.rank == dst else [None]

    def _gathered(self, tensors: Sequence[Tensor]) -> list[list[Tensor]]:
        """What each party holds in place of `tensors`, by rank; one round."""
        mine = sum(8 * tensor.numel() for tensor in tensors)
        found = self._exchanged(tensors, mine)
        self.counters.rounds += 1
        self.counters.online_bytes += mine * (self.size - 1)
        self.largest = max(self.largest, mine)
        return found

    def _exchanged(self, tensors: Sequence[Tensor], size: int) -> list[list[Tensor]]:
        raise NotImplementedError

    def begin(self, step: int) -> None:
        """Start a step: rounds and bytes are counted anew."""
        self.counters = Counters()


class LinkParty(Party):
    """A compute peer: `links` to the other parties by rank. PeerError for an opening of another size, step or round."""

    def __init__(
        self,
        rank: int,
        links: Mapping[int, Link],
        third_party: Any,
        generators: Mapping[str, Any],
        settings: Any,
        recorder: Recorder | None = None,
    ) -> None:
        """`recorder`: where a session is traced."""
        super().__init__(rank, len(links) + 1, third_party, generators, settings)
        self._links = dict(sorted(links.items()))
        self._recorder = recorder
        self._step = 0
        self._transcripts = [sha256() for _ in range(self.size)]

    @property
    def transcript(self) -> bytes:
        """What was opened so far, as `pair`'s parties hash it: all parties have the same."""
        return sha256(b"".join(one.digest() for one in self._transcripts)).digest()

    def begin(self, step: int) -> None:
        super().begin(step)
        self._step = step

    def _exchanged(self, tensors: Sequence[Tensor], size: int) -> list[list[Tensor]]:
        arrays = [tensor.detach().contiguous().numpy().reshape(-1) for tensor in tensors]
        mine = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        round_ = self.counters.rounds
        for link in self._links.values():
            link.send("open", mine, step=self._step, round=round_)
        head = pack_header("<QQQ", self._step, round_, size)
        bodies: dict[int, memoryview] = {self.rank: memoryview(mine.data).cast("B") if size else memoryview(b"")}
        for rank, link in self._links.items():
            message = link.receive("open", size=size)
            if message.fields.get("step") != self._step or message.fields.get("round") != round_:
                raise PeerError(link.remote, "opened values of another step or round")
            bodies[rank] = message.body
        if self._recorder is not None:
            self._recorder.round(size * len(self._links))
        for rank, transcript in enumerate(self._transcripts):
            transcript.update(head)
            transcript.update(bodies[rank])
        return [list(tensors) if rank == self.rank else _cut(bodies[rank], tensors) for rank in range(self.size)]


def _cut(body: memoryview, like: Sequence[Tensor]) -> list[Tensor]:
    """The tensors of a round out of another party's frame; the memory is ours alone."""
    words = torch.from_numpy(np.frombuffer(body, "<i8").copy())
    out, at = [], 0
    for tensor in like:
        out.append(words[at : at + tensor.numel()].view(tensor.shape))
        at += tensor.numel()
    return out


class ShapeParty(Party):
    """Party 0 on tensors that have a shape and no values (torch's device `meta`): counts what the gates would send."""

    def __init__(self, third_party: Any, settings: Any, size: int = 2) -> None:
        super().__init__(0, size, third_party, dict.fromkeys(("prev", "next", "local", "global")), settings)

    def _exchanged(self, tensors: Sequence[Tensor], size: int) -> list[list[Tensor]]:
        return [list(tensors)] * self.size


def seeded(seed: bytes) -> torch.Generator:
    """CrypTen's kind of generator. Its state follows from 32 bits of the seed, whatever it is given: see docs/crypten.md."""
    return torch.Generator().manual_seed(int.from_bytes(seed[:SEED_BYTES], "little"))
