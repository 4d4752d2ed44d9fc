"""An answer's conversation with the two compute peers: keys of the tokens out, shares of the logits in.

| step | to each compute peer | from each compute peer |
| --- | --- | --- |
| 0 | "tokens": a DPF key for every token of the prompts | "logits": V shares of 32 bits for each sequence, and what they cost; |
| | | of an encoder C |
| k | "tokens": a key for each token just chosen, or for what else is new | "logits" |
| last | "end" | "account", then "receipt": signed |

Which sequence a token belongs to is said in the clear (`batch.py`). A key alone says nothing of its token, a share nothing of
the logits; the sizes tell how many tokens there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import NetworkError, PeerError
from ..kernels.dpf.keygen import many_one_hot_keys, tree_keys
from ..quotes import Charge, Price
from ..receipts import Receipt
from ..signed import Signed
from ..tracing.recorder import DONE, Recorder
from ..transport import Circle, Link
from .feeds import Feed, batch_of
from .generation import Step, StepCost
from .padding import hidden_pairs, shares_of
from .receipts import Auditor, Seen
from .results import Resume

_BITS = 32
_MAX_SCALE = 30
_COUNTER = 1 << 48


@dataclass(frozen=True, slots=True, repr=False)
class _Share:
    """One peer's answer to a step."""

    words: NDArray[np.uint32]  # (B, V)
    scale: int
    cost: StepCost


class PrivateSession:
    """A `Runner` over two open links, in role order. One thread."""

    resumes: tuple[Resume, ...] = ()  # see resume.py: this one ends with its peers

    def __init__(
        self,
        circle: Circle,
        links: tuple[Link, Link],
        *,
        session: bytes,
        peers: tuple[str, ...],
        vocab: int,
        layers: int,
        timeout: float,
        revealed: int | None = None,
        auditor: Auditor | None = None,
        price: Price | None = None,
        recorder: Recorder | None = None,
        padded: bool = False,
    ) -> None:
        """`session` is the id of 16 bytes that links and statements carry, `peers` names them in role order.

        `timeout` is for each step, in seconds. `revealed`: columns of what the peers give; None: `vocab`. With an `auditor`, the
        peers owe receipts at the end. `price`: what the peers quoted together. `recorder`: of what this client does, closed with
        the session. `padded`: with every step go shares of which tokens count (`padding`).
        """
        self.peers = peers
        self._circle = circle
        self._links = links
        self._vocab = vocab
        self._revealed = vocab if revealed is None else revealed
        self._layers = layers
        self._timeout = timeout
        self._tree_keys = tree_keys(session)
        self._step = 0
        self._tokens = 0
        self._price = price
        self._recorder = recorder
        self._padded = padded
        self._auditor = auditor
        self._costs: tuple[list[StepCost], list[StepCost]] = ([], [])
        self.receipts: tuple[Receipt, ...] = ()

    def step(self, feeds: Sequence[Feed], ahead: int, forget: Sequence[int] = ()) -> Step:
        """Logits after the last token of each feed, or an encoder's sum over its rows.

        Raises PeerLost, PeerError or NetworkError, which end the session everywhere.
        """
        before = self._client_bytes()
        if self._recorder is not None:
            self._recorder.begin(self._step, "keys")
        tokens = [token for feed in feeds for token in feed.tokens]
        both = many_one_hot_keys(tokens, self._vocab, self._tree_keys)
        batch = batch_of(feeds, forget).to_bytes()
        hidden = shares_of(hidden_pairs(feeds)) if self._padded else (b"", b"")
        for link, keys, pads in zip(self._links, both, hidden, strict=True):
            link.send("tokens", keys + pads, step=self._step, batch=batch, ahead=ahead)
        if self._recorder is not None:
            self._recorder.enter("answer")
        first, second = (self._receive(link, len(feeds)) for link in self._links)
        if self._recorder is not None:
            self._recorder.enter("logits")
        if first.scale != second.scale:
            raise self._wrong(self._links[1], "gave its logits another scale than its partner")
        self._tokens += len(tokens)
        self._step += 1
        for costs, share in zip(self._costs, (first, second), strict=True):
            costs.append(share.cost)
        # Shares add up in the ring of 32 bits; the sum is a signed fixed-point number.
        logits = np.ldexp((first.words + second.words).view(np.int32).astype(np.float64), -first.scale)
        if self._recorder is not None:
            self._recorder.end()
        return Step(logits, _together(first.cost, second.cost, self._client_bytes() - before))

    def alive(self) -> bool:
        """Whether nobody has ended the session, as far as can be told without waiting."""
        for link in self._links:
            link.look()
        return self._circle.failure is None

    @property
    def charge(self) -> Charge | None:
        """For the tokens so far; None if nobody quoted anything."""
        return Charge(self._price, self._tokens) if self._price else None

    def finish(self) -> None:
        """Say "end", take the peers' final account and their receipts, close.

        Raises PeerLost or NetworkError (a peer left without them), PeerError or IdentityError (they are not in order).
        """
        for link in self._links:
            link.send("end")
        for link in self._links:
            link.receive("account", timeout=self._timeout)
        if self._auditor is None:
            self._close(DONE)
            return
        first, second = (self._receipt(link) for link in self._links)
        self._close(DONE)
        rounds = [sum(cost.rounds for cost in costs) for costs in self._costs]
        online = [sum(cost.online_bytes for cost in costs) for costs in self._costs]
        offline = [sum(cost.offline_bytes for cost in costs) for costs in self._costs]
        seen = Seen(self._tokens, self._step, rounds[0], (online[0], online[1]), (offline[0], offline[1]))
        self.receipts = self._auditor.settle((first, second), seen)

    def _receipt(self, link: Link) -> Signed:
        message = link.receive("receipt", timeout=self._timeout)
        return Signed.from_bytes(bytes(message.body), link.remote)

    def abort(self) -> None:
        early = NetworkError("the client ended the session early")
        self._circle.fail(early)
        self._close(type(self._circle.failure or early).__name__)

    def _close(self, ended: str) -> None:
        self._circle.close()
        if self._recorder is not None:
            self._recorder.close(ended)

    def _receive(self, link: Link, sequences: int) -> _Share:
        message = link.receive("logits", size=4 * self._revealed * sequences, timeout=self._timeout)

        def field(name: str, low: int, high: int) -> int:
            try:
                return message.integer(name, low, high, link.remote)
            except PeerError as error:
                link.abort(error)
                raise

        field("step", self._step, self._step)
        field("rows", sequences, sequences)
        field("bits", _BITS, _BITS)
        field("count", self._revealed, self._revealed)
        field("layers", self._layers, self._layers)
        scale = field("scale", 0, _MAX_SCALE)
        cost = StepCost(
            rounds=field("rounds", 0, _COUNTER),
            online_bytes=field("online_bytes", 0, _COUNTER),
            offline_bytes=field("offline_bytes", 0, _COUNTER),
            offline_us=field("dealer_us", 0, _COUNTER),
            compute_us=field("compute_us", 0, _COUNTER),
            waiting_us=field("wait_us", 0, _COUNTER),
        )
        return _Share(np.frombuffer(message.body, "<u4").reshape(sequences, self._revealed), scale, cost)

    def _wrong(self, link: Link, reason: str) -> PeerError:
        error = PeerError(link.remote, reason)
        link.abort(error)
        return error

    def _client_bytes(self) -> int:
        return sum(link.stats.bytes_sent + link.stats.bytes_received for link in self._links)


def _together(first: StepCost, second: StepCost, client_bytes: int) -> StepCost:
    """Both peers' cost of a step: they play the same rounds, and each counts the bytes on its own side."""
    slower = max(first, second, key=lambda cost: cost.compute_us)
    return StepCost(
        rounds=max(first.rounds, second.rounds),
        online_bytes=first.online_bytes + second.online_bytes,
        offline_bytes=first.offline_bytes + second.offline_bytes,
        client_bytes=client_bytes,
        offline_us=max(first.offline_us, second.offline_us),
        compute_us=slower.compute_us,
        waiting_us=slower.waiting_us,
    )
