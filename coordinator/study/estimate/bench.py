"""Micro measurements of the kernels and of the gates around them, in one process and on one thread, nothing on a line.

A gate's own time is what its Python and numpy take: its trees are replaced by ones that return at once, its links by ones that
answer at once with random bytes, as uniform as what a real peer opens. The trees are measured alone, on the tables of plans for
models of several shapes. Shapes and ranges are made up here; no model's weights are read.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ....kernels.dpf.cover import Cover
from ....kernels.dpf.hashing import U64
from ....kernels.dpf.keygen import one_hot_depth, one_hot_keys, tree_keys
from ....kernels.dpf.trees import U8, Trees, make_trees, one_of_eight, small_depth
from ....kernels.prg import Prg
from ....kernels.ring import PublicMatrix, bmm, bmm_nt, matmul
from ....link import Link
from ....protocols.base import Batch, Spec
from ....protocols.pair.attention import (
    KeysValues,
    KeysValuesMasks,
    attention,
    deal_attention,
    new_cache,
    new_mask_cache,
    turns,
)
from ....protocols.pair.norm import deal_norm, rms_norm
from ....protocols.pair.party import Dealer, Party
from ....protocols.pair.reveal import client_share
from ....protocols.pair.scales import AttentionPlan, Scales, make_scales
from ....protocols.pair.secret import Secret
from ....protocols.pair.spline import apply_table, deal_gated, deal_table, gated
from ....protocols.trace.typical import typical
from ....transport import Message
from .amounts import Amounts
from .trees import evaluated, generated, payloads, small_evaluated
from .work import activation_work, attention_work, elements, gated_work, norm_work, product_work

LEAST = 0.012  # seconds that a measurement takes at least
TIMES = 5  # and repetitions
COLD = 48 << 20  # bytes of weights taken in turn: a model's are not in the core's cache when their turn comes
SHAPES = (
    Spec("llama", 1, 6, 3, 32, 192, 512, 1024, 512, 1e-5, "silu", 10000.0),
    Spec("llama", 1, 8, 2, 64, 512, 1536, 4096, 4096, 1e-5, "silu", 10000.0),
    Spec("gpt2", 1, 6, 6, 64, 384, 1536, 4096, 1024, 1e-5, "gelu_tanh", None),
)
Measured = tuple[Amounts, float]
U16 = npt.NDArray[np.uint16]


def timed(action: Callable[[], object]) -> float:
    """Seconds of one call: the lower quartile, since what disturbs a call only makes it longer."""
    action()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < TIMES or time.perf_counter() - began < LEAST:
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return float(np.quantile(times, 0.25))


class _Answering:
    """A link to a peer that opens random bytes, of the size and round that it was sent."""

    remote = "nobody"

    def __init__(self) -> None:
        self._last: dict[str, Any] = {}

    def send(self, kind: str, body: Any = b"", **fields: Any) -> None:
        self._last = fields

    def receive(self, kind: str, *, size: int = 0) -> Message:
        return Message(kind, self._last, memoryview(_random(size)))


class _Fed(Party):
    """A compute peer whose dealer never keeps it waiting."""

    def _bytes(self, size: int) -> memoryview:
        return memoryview(_random(size))


_STOCK = [b""]


def _random(size: int) -> bytes | memoryview:
    """Bytes to be read, the same ones again and again: making them must not be measured."""
    if len(_STOCK[0]) < size:
        _STOCK[0] = secrets.token_bytes(max(size, 1 << 22))
    return memoryview(_STOCK[0])[:size]


class _NoTrees(Trees):
    """Trees that cost nothing."""

    def generate(
        self,
        alpha: U64,
        depth: int,
        roots0: U64,
        roots1: U64,
        beta: U64,
        words: npt.NDArray[np.int64],
        lane16: bool = False,
    ) -> tuple[U64, U64]:
        return np.empty((len(alpha), depth, 2), np.uint64), np.empty_like(beta)

    def cover(self, table: Cover, x: U64, roots: U64, cw: U64, pcw: U64, party: int, second: U8 | None = None) -> U64:
        return np.empty((len(x), 1 if second is None else 2), np.uint64)

    def histogram(
        self, out: U16, x: U64, rows: npt.NDArray[np.int64], roots: U64, cw: U64, pcw: U64, party: int
    ) -> None:
        return None

    def points(self, x: U64, roots: U64, cw: U64, pcw: U64, party: int, bits: int) -> U16:
        return np.empty(len(x), np.uint16)

    def one_hot(self, roots: U64, cw: U64, pcw: U64, party: int) -> U64:
        return np.empty((len(roots), 2 << cw.shape[1]), np.uint64)


def fed(role: int, trees: Trees, link: Link | None = None) -> Party:
    """A compute peer with everything dealt at hand, that opens over `link` or to nobody."""
    return _Fed(role, link or cast(Link, _Answering()), cast(Link, _Answering()), secrets.token_bytes(32), trees)


def peer(trees: Trees) -> Party:
    """Compute peer 1, which takes more of what is dealt off the line than peer 0."""
    return fed(1, trees)


def a_dealer(trees: Trees) -> Dealer:
    links = (cast(Link, _Answering()), cast(Link, _Answering()))
    return Dealer(links, (secrets.token_bytes(32), secrets.token_bytes(32)), trees)


def words(*shape: int) -> U64:
    """Uniform words."""
    return np.random.default_rng().integers(0, 1 << 64, shape, np.uint64, endpoint=False)


def measured_trees(plans: list[Scales]) -> Iterator[Measured]:
    """The tree kernels of both sides, on a few tables of every kind."""
    trees = make_trees(tree_keys(secrets.token_bytes(16)))
    for spec, scales in zip(SHAPES, plans, strict=True):
        act, soft = scales.activation("layers.0.act"), scales.attention("layers.0.attention")
        tables = (
            (act.table, 3 if spec.gated else 1, (1, 40, 1024)),
            (soft.exp, 1, (24, 1024)),
            (soft.reciprocal, 1, (1, 6, 64)),
        )
        for table, factors, counts in (*tables, (scales.norm("norm").table, 1, (1, 16, 48))):
            cover = table.cover
            for count in counts:
                yield from _one_table(trees, cover, factors, count)
        for bits in (soft.tree_bits, 7, 10):
            yield from _small(trees, bits)
    for vocab in (1024, 20000):
        depth = one_hot_depth(vocab)
        key = words(2, 2), words(2, depth, 2), words(2, 2), 1
        yield {"one_hot": 1, "one_hot.leaf": 2 << depth}, timed(lambda k=key: trees.one_hot(*k))  # type: ignore[misc]


def _one_table(trees: Trees, cover: Cover, factors: int, count: int) -> Iterator[Measured]:
    x, roots = words(count) >> np.uint64(64 - cover.n), words(count, 2)
    cw, pcw = words(count, cover.depth, 2), words(count, cover.payload_words(factors))
    for array in (cw, pcw):
        array.flags.writeable = False  # as from the wire
    second = (words(count) & np.uint64(1)).astype(np.uint8) if factors == 3 else None
    yield evaluated(cover, count, factors), timed(lambda: trees.cover(cover, x, roots, cw, pcw, 1, second))
    r, secret = x, words(count, factors)
    beta = cover.payload(r, secret)
    alpha, ws = r >> np.uint64(cover.n - cover.depth), cover.words(factors)
    yield (
        generated(count, cover.depth, cover.payload_words(factors)),
        timed(lambda: trees.generate(alpha, cover.depth, roots, roots, beta, ws)),
    )
    yield payloads(cover, count, factors), timed(lambda: cover.payload(r, secret))


def _small(trees: Trees, bits: int) -> Iterator[Measured]:
    depth = small_depth(bits)
    for count in (8, 1000):
        x, roots = words(count) >> np.uint64(64 - bits), words(count, 2)
        cw, pcw = words(count, depth, 2), words(count, 2)
        for array in (cw, pcw):
            array.flags.writeable = False
        rows, out = np.arange(count) // 8, np.zeros((count, 1 << bits), np.uint16)
        yield (
            small_evaluated("histogram", count, depth),
            timed(lambda a=(out, x, rows, roots, cw, pcw, 1): trees.histogram(*a)),  # type: ignore[misc]
        )
        yield (
            small_evaluated("points", count, depth),
            timed(lambda a=(x, roots, cw, pcw, 1, bits): trees.points(*a)),  # type: ignore[misc]
        )
        ws = np.zeros(depth + 1, np.int64)
        ws[depth] = 2
        alpha, beta = x >> np.uint64(3), one_of_eight(x)
        yield (
            generated(count, depth, 2),
            timed(lambda a=(alpha, depth, roots, roots, beta, ws, True): trees.generate(*a)),  # type: ignore[misc]
        )


def measured_products() -> Iterator[Measured]:
    """Products by public weights, and of two secrets."""
    for inner, columns in ((192, 320), (768, 1024), (2048, 2816)):
        weights = np.random.default_rng().integers(-32000, 32000, (inner, columns), np.int16)
        matrices = cycle([PublicMatrix(weights) for _ in range(max(1, COLD // weights.nbytes))])
        for rows in (1, 4, 8, 32, 64):
            x = words(rows, inner)
            yield product_work(rows, inner, columns), timed(lambda x=x, m=matrices: matmul(x, next(m)))  # type: ignore[misc]
    for batch, rows, span, size in (
        (4, 1, 64, 32),
        (8, 2, 300, 64),
        (4, 8, 64, 32),
        (8, 40, 300, 64),
        (2, 128, 128, 64),
    ):
        q, k, e = words(batch, rows, size), words(batch, span, size), words(batch, rows, span)
        count = batch * rows * span * size
        scores = {"dot.product": count} if rows < 4 else {"bmm.product": count, "turned": batch * span * size}
        yield scores, timed(lambda q=q, k=k: bmm_nt(q, k))  # type: ignore[misc]
        yield {"bmm.product": count}, timed(lambda e=e, k=k: bmm(e, k))  # type: ignore[misc]


def measured_gates(plans: list[Scales]) -> Iterator[Measured]:
    """Everything of the gates but the trees: both halves, at several shapes and lengths."""
    none = _NoTrees(tree_keys(secrets.token_bytes(16)))
    for spec, scales in zip(SHAPES, plans, strict=True):
        for rows in (1, 8, 48):
            yield from _norm(none, spec, scales, rows)
            yield from _mlp(none, spec, scales, rows)
        plan = scales.attention("layers.0.attention")
        for rows, start in ((1, 12), (1, 100), (1, 500), (8, 0), (32, 0), (64, 0), (112, 0)):
            yield from _attention(none, spec, plan, rows, start)


def _without_trees(amounts: Amounts) -> Amounts:
    """What stays when trees cost nothing."""
    gone = ("cover.", "histogram.", "points.", "generate.", "one_hot.")
    return {name: amount for name, amount in amounts.items() if not name.startswith(gone)}


def _measure(
    peers: Amounts, take: Callable[[], object], dealers: Amounts, deal: Callable[[], object]
) -> Iterator[Measured]:
    yield _without_trees(peers), timed(take)
    yield _without_trees(dealers), timed(deal)


def _norm(trees: Trees, spec: Spec, scales: Scales, rows: int) -> Iterator[Measured]:
    plan = scales.norm("norm")
    steps, step = peer(trees), iter(range(1, 1 << 30))
    dealer = a_dealer(trees)
    x = Secret(words(rows, spec.width), scales.frac_x, 64)
    _, peers, dealers = norm_work(plan, rows)

    def take() -> None:
        steps.begin(next(step))
        rms_norm(steps, x, plan)

    def deal() -> None:
        dealer.begin(next(step))
        deal_norm(dealer, rows, plan)

    yield from _measure(peers, take, dealers, deal)
    y = Secret(words(rows, spec.width), scales.frac_x + 8, 64)
    yield elements("add", x.share.size), timed(lambda: x.plus(y.drop(x.frac, 0)))


def _mlp(trees: Trees, spec: Spec, scales: Scales, rows: int) -> Iterator[Measured]:
    plan = scales.activation("layers.0.act")
    steps, dealer, step = peer(trees), a_dealer(trees), iter(range(1, 1 << 30))
    frac, count = scales.norm("layers.0.norm2").frac_out + scales.weight, rows * spec.hidden
    share = words(rows, 2 * spec.hidden if spec.gated else spec.hidden)
    _, peers, dealers = gated_work(plan, count) if spec.gated else activation_work(plan, count)

    def take() -> None:
        steps.begin(next(step))
        if not spec.gated:
            x = Secret(share, frac, 64).drop(plan.table.frac_in, 1)
            apply_table(steps, x, plan.table).drop(plan.frac_out, 1)
            return
        half = spec.hidden
        g, u = (
            Secret(np.ascontiguousarray(part), frac, 64).drop(to, 1)
            for part, to in ((share[:, :half], plan.table.frac_in), (share[:, half:], plan.frac_up or 0))
        )
        gated(steps, g, u, plan.table, plan.bits_up)

    def deal() -> None:
        dealer.begin(next(step))
        if spec.gated:
            deal_gated(dealer, plan.table, plan.bits_up, count)
        else:
            deal_table(dealer, plan.table, count)

    yield from _measure(peers, take, dealers, deal)


def _attention(trees: Trees, spec: Spec, plan: AttentionPlan, rows: int, start: int) -> Iterator[Measured]:
    steps, dealer, step = peer(trees), a_dealer(trees), iter(range(1, 1 << 30))
    frac = 44
    share = words(rows, spec.qkv_width)
    batch = Batch.one(rows, start)  # each run goes on from `start` anew
    turn = turns(spec.rope_theta, spec.head_size, batch.positions, plan.frac_turn) if spec.rope_theta else None
    kept, masks = KeysValues.empty(plan), KeysValuesMasks.empty(plan)
    for one in (kept.keys.opened, kept.keys.m, kept.values.opened, kept.values.m, masks.keys, masks.values):
        one.append(words(start + rows, plan.kv_heads, plan.head_size))
    cache, mask_cache = new_cache(plan), new_mask_cache(plan)
    cache.put(0, kept)
    mask_cache.put(0, masks)
    _, peers, dealers = attention_work(plan, batch)

    def take() -> None:
        steps.begin(next(step))
        attention(steps, Secret(share, frac, 64), plan, cache, batch, turn)

    def deal() -> None:
        dealer.begin(next(step))
        deal_attention(dealer, plan, mask_cache, batch)

    yield from _measure(peers, take, dealers, deal)


def measured_steps() -> Iterator[Measured]:
    """What a step costs beside its gates: the reveal at the peers, the keys and the logits at the client."""
    steps, number = peer(_NoTrees(tree_keys(secrets.token_bytes(16)))), iter(range(1, 1 << 30))
    for vocab in (1024, 30000):
        logits = Secret(words(1, vocab), 44, 64)
        between = Prg(secrets.token_bytes(32))

        def reveal(logits: Secret = logits, between: Prg = between) -> None:
            step = next(number)
            steps.begin(step)
            client_share(logits, 1, between, step)

        yield {"step": 1, "step.logit": vocab}, timed(reveal)
        keys = tree_keys(secrets.token_bytes(16))
        yield (
            {"client.key": 1, "client.level": one_hot_depth(vocab)},
            timed(lambda v=vocab, k=keys: one_hot_keys(1, v, k)),  # type: ignore[misc]
        )
        shares = words(2, vocab).astype(np.uint32)

        def joined(shares: npt.NDArray[np.uint32] = shares) -> int:
            return int(np.argmax(np.ldexp((shares[0] + shares[1]).view(np.int32).astype(np.float64), -16)))

        yield {"client.step": 1, "client.logit": vocab}, timed(joined)


def plans() -> list[Scales]:
    """One for each of SHAPES, with the ranges that models without weights are given."""
    return [make_scales(spec, typical(spec)) for spec in SHAPES]
