"""How much memory a session can take in each role: the model run on shapes alone, over the largest step that its
announced sizes allow (`Largest`): as many rows, as many pairs and as long a sequence as there may be, all at once.

| part | compute peer | dealer |
| --- | --- | --- |
| kept rows | opened and masked keys and values of every layer, at the capacity they grow to | their masks |
| token keys | the prompt's: as they came, joined, and as they are used | - |
| the largest gate | GATE values of 8 bytes an element, and a portion of tree keys | as many, fewer |
| unread | from the dealer a link's window and a message; two openings; the prompt's keys | plans |
| unsent | an opening | what ZeroMQ queues, to each compute peer |

GATE and HEAP were measured; all else
follows from the code that allocates. `tests/party/test_budget.py` holds the sum against engines and against processes.
Weights and tables are not in it: they are there once, whatever the sessions. The numbers are for the compiled kernels; the
portable ones (CPUs without AES instructions) take more in a tree's evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..kernels.dpf.keygen import one_hot_depth, one_hot_key_bytes
from ..kernels.dpf.trees import small_depth
from ..models.decoder import forward
from ..protocols.base import Batch, Part, Spec
from ..protocols.pair.attention import MaskCache, attention_cost
from ..protocols.pair.cost import Cost
from ..protocols.pair.deal import Shapes
from ..protocols.pair.norm import norm_cost
from ..protocols.pair.party import MESSAGE
from ..protocols.pair.peer import EMBED_ROWS
from ..protocols.pair.scales import Scales
from ..protocols.pair.secret import Shape
from ..protocols.pair.softmax import count_bits
from ..protocols.pair.spline import PORTION, gated_cost, table_cost
from ..protocols.pair.tables import Table
from ..protocols.pair.weights import SPLIT
from ..sizes import Sizes
from ..wire import CLIENT, DEALER
from ..zmqlink import UNSENT
from .budget import Need
from .links import AHEAD_STEPS, SessionLimits

WORD = 8
GATE = {"norm": 20, "act": 18, "qkv": 12, "pairs": 17}  # words alive an element at the peak of a gate, measured
DEALT = {"norm": 10, "act": 8, "qkv": 4, "pairs": 4}  # the same at the dealer
PORTIONS = 4  # copies of a portion's keys at the dealer: made, payload, and joined for either peer
TREE = 16 * 224  # bytes of a kernel's scratch for each node alive at once
DIGITS = 16  # bytes of digits for a word that enters a public product
CHUNK = 64  # rows that enter it at a time
START_ROWS = 16  # capacity of an empty cache
FIXED = 4 << 20  # threads, sockets, Python objects
HEAP = 1.15  # what the C library's heap loses between blocks


class Footprint(Shapes):
    """Goes through a step like the tracer; keeps the peak of what a gate has alive, and the largest messages."""

    def __init__(self, spec: Spec, scales: Scales) -> None:
        super().__init__(spec, scales)
        self.peer = 0  # bytes
        self.dealer = 0
        self.opened = 0  # bytes online of a site: no opening of it is larger
        self.message = 0  # bytes of correlations in one message
        self.cost = Cost()

    def _gate(self, cost: Cost, peer_words: int, dealer_words: int, keys: int = 0, width: int = 0) -> None:
        """`keys`: bytes of the largest portion of tree keys; `width`: nodes of a tree alive at once."""
        values = cost.offline1 - cost.offline0  # keys are what both peers get
        message = MESSAGE + max(keys, values)
        self.peer = max(self.peer, WORD * peer_words + 2 * message + TREE * width)
        self.dealer = max(self.dealer, WORD * dealer_words + MESSAGE + max(PORTIONS * keys, 2 * values))
        self.opened = max(self.opened, cost.online)
        self.message = max(self.message, message)
        self.cost += cost

    def embed(self, tokens: int, batch: Batch) -> Shape:
        rows, vocab = min(tokens, EMBED_ROWS), self.spec.vocab
        whole = rows * (2 << one_hot_depth(vocab))
        copied = rows * vocab if 2 << one_hot_depth(vocab) != vocab else 0
        block = min(vocab, SPLIT)
        sliced = rows * block if vocab > SPLIT else 0
        held = WORD * (whole + copied + sliced + 3 * tokens * self.spec.width) + DIGITS * rows * block
        self.peer = max(self.peer, held)
        return super().embed(tokens, batch)

    def linear(self, x: Shape, site: str) -> Shape:
        y = super().linear(x, site)
        held = WORD * (self._stream(x.shape[0]) + x.size + 3 * y.size) + DIGITS * min(x.shape[0], CHUNK) * x.shape[1]
        self.peer = max(self.peer, held)
        return y

    def scale(self, x: Shape, site: str) -> Shape:
        y = super().scale(x, site)
        self.peer = max(self.peer, WORD * (self._stream(x.shape[0]) + 4 * x.size))
        return y

    def rms_norm(self, x: Shape, site: str) -> Shape:
        plan = self.scales.norm(site)
        rows = x.shape[0]
        self._gate(
            norm_cost(rows, plan),
            GATE["norm"] * x.size + self._stream(rows),
            DEALT["norm"] * x.size,
            _keys(plan.table, rows),
            plan.table.cover.width,
        )
        return super().rms_norm(x, site)

    def attention(self, qkv: Shape, site: str, cache: MaskCache, batch: Batch) -> Shape:
        plan = self.scales.attention(site)
        rows = qkv.shape[0]
        pairs, dense = plan.heads * batch.pairs(plan.causal), plan.heads * batch.dense
        windows = plan.heads * rows << plan.tree_bits
        c = count_bits(batch.longest)
        keys = max(
            _portion(pairs, 16 * small_depth(plan.tree_bits) + 16),
            _portion(plan.heads * rows * plan.thresholds, 16 * small_depth(c) + 16),
            _keys(plan.exp, pairs),
            _keys(plan.reciprocal, plan.heads * rows),
        )
        own = GATE["qkv"] * qkv.size + self._stream(rows)
        self._gate(
            attention_cost(plan, batch),
            own + (GATE["pairs"] - 4) * pairs + 2 * dense + windows,
            DEALT["qkv"] * qkv.size + DEALT["pairs"] * pairs + dense + plan.heads * rows * plan.thresholds,
            keys,
            max(plan.exp.cover.width, plan.reciprocal.cover.width),
        )
        return super().attention(qkv, site, cache, batch)

    def activation(self, x: Shape, site: str) -> Shape:
        table = self.scales.activation(site).table
        self._gate(
            table_cost(x.size, table),
            GATE["act"] * x.size + self._stream(x.shape[0]),
            DEALT["act"] * x.size,
            _keys(table, x.size),
            table.cover.width,
        )
        return super().activation(x, site)

    def gated(self, gate_up: Shape, site: str) -> Shape:
        plan = self.scales.activation(site)
        count = gate_up.size // 2
        self._gate(
            gated_cost(count, plan.table, plan.bits_up),
            (GATE["act"] + 2) * count + self._stream(gate_up.shape[0]),
            DEALT["act"] * count,
            _keys(plan.table, count, 3),
            plan.table.cover.width,
        )
        return super().gated(gate_up, site)

    def _stream(self, rows: int) -> int:
        """The residual stream and what will be added to it."""
        return 2 * rows * self.spec.width


@dataclass(frozen=True, slots=True)
class Largest(Batch):
    """No step of a session of these sizes has more of anything. What has rows and pairs alone is made of this."""

    sizes: Sizes | None = None
    context: int = 0
    causal: bool = True

    @classmethod
    def of(cls, sizes: Sizes, context: int, causal: bool = True) -> Largest:
        """One row of each sequence stands for all of its rows where only the number of sequences counts."""
        return cls(tuple(Part(slot, slot, 0, 1) for slot in range(sizes.sequences)), (), sizes, context, causal)

    @property
    def _sizes(self) -> Sizes:
        if self.sizes is None:
            raise ValueError("made without sizes")
        return self.sizes

    @property
    def rows(self) -> int:
        return self._sizes.step_tokens

    @property
    def longest(self) -> int:
        return min(self._sizes.kept_tokens, self.context)

    def pairs(self, causal: bool = True) -> int:
        return self._sizes.step_pairs

    @property
    def dense(self) -> int:
        if not self.causal:
            return self._sizes.step_pairs
        # A row sees at least half of what a causal mask leaves to its sequence's last row, on average.
        return min(2 * self._sizes.step_pairs, self.rows * self.longest)


def need(spec: Spec, scales: Scales, role: int, limits: SessionLimits, window: int) -> Need:
    """What a session of these limits needs in `role`, its links having this `window`."""
    sizes = limits.sizes
    step = largest_step(spec, scales, sizes)
    message, opened = step.message, step.opened
    dealt = (1 + AHEAD_STEPS) * step.cost.offline1
    own = int(HEAP * (engine_bytes(spec, role, sizes, step) + limits.padded * 3 * WORD * sizes.step_pairs))
    if role == DEALER:
        return Need(FIXED + own + 2 * min(dealt, UNSENT + message), {0: 0, 1: 0}, {0: 0, 1: 0})
    keys = sizes.step_tokens * one_hot_key_bytes(spec.vocab) + limits.padded * 4 * sizes.step_pairs
    frames = {CLIENT: keys, DEALER: message, 1 - role: opened}
    unread = {CLIENT: keys, DEALER: min(dealt, window) + message, 1 - role: 2 * opened}
    return Need(FIXED + own + min(opened, UNSENT) + sum(unread.values()), frames, unread)


def largest_step(spec: Spec, scales: Scales, sizes: Sizes) -> Footprint:
    """Nothing that a session of these sizes may ask for takes more at once."""
    found, batch = Footprint(spec, scales), Largest.of(sizes, spec.context, spec.causal)
    forward(found, spec, batch.rows, found.new_cache(), batch)
    return found


def engine_bytes(spec: Spec, role: int, sizes: Sizes, step: Footprint) -> int:
    """What the engine itself holds at its peak, without queues and what the heap loses."""
    rows = _capacity(sizes) * spec.kv_heads * spec.head_size * WORD  # one array of one layer
    layers = spec.layers if spec.causal else 1  # an encoder keeps none beyond its layer
    if role == DEALER:
        return step.dealer + (2 * layers + 1) * rows
    return step.peer + (4 * layers + 1) * rows + 2 * sizes.step_tokens * one_hot_key_bytes(spec.vocab)


def _capacity(sizes: Sizes) -> int:
    """Rows that the sequences of one layer have room for (`products.Rows`: it doubles)."""
    if sizes.sequences > 1:
        return START_ROWS * sizes.sequences + 2 * sizes.kept_tokens
    first = min(sizes.step_tokens, sizes.kept_tokens)
    rows = max(first, 2 * START_ROWS) if first > START_ROWS else START_ROWS
    while rows < sizes.kept_tokens:
        rows *= 2
    return rows


def _keys(table: Table, count: int, factors: int = 1) -> int:
    return _portion(count, table.cover.key_bytes(factors))


def _portion(count: int, key: int) -> int:
    """Bytes of the largest portion of `count` keys of `key` bytes."""
    return min(count, PORTION) * key
