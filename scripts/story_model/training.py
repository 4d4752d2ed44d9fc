"""AdamW with a cosine schedule."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from .grammar import stories
from .net import Llama
from .tokenizer import EOS

_IGNORED = -100
_ROWS = 32  # stories in a step, about 4,000 tokens
_LONG_EVERY = 16  # one step in so many has rows of the whole context, so that far positions are trained too
_LONG_ROWS = 8
_POOL = _ROWS * 128  # stories drawn at once
_SORTED = _ROWS * 4  # stories sorted by length together, so that a batch is little padding


@dataclass(frozen=True)
class Outcome:
    steps: int
    tokens: int
    minutes: float  # processor time per thread: the clock's time, had the machine been free
    clock_minutes: float
    loss: float
    validation_loss: float
    ended_by: str  # "steps", so that anyone can repeat it, or "minutes", which depend on the machine


Progress = Callable[[float, int, float], None]  # fraction done, step, loss


def _encoded(tokenizer: Tokenizer, seed: int) -> Iterator[list[int]]:
    """Endless stories as tokens, from <s> to </s>."""
    source = stories(seed)
    while True:
        for encoding in tokenizer.encode_batch(list(itertools.islice(source, _POOL))):
            yield [*encoding.ids, EOS]


def short_batches(tokenizer: Tokenizer, seed: int) -> Iterator[Tensor]:
    """Endless batches (B, T) of one story a row, padded with </s>; the batches of one group come in random order."""
    told, order = _encoded(tokenizer, seed), random.Random(seed)
    while True:
        group = sorted(itertools.islice(told, _SORTED), key=len)
        starts = list(range(0, _SORTED, _ROWS))
        order.shuffle(starts)
        for start in starts:
            batch = group[start : start + _ROWS]
            longest = max(map(len, batch))
            yield torch.tensor([row + [EOS] * (longest - len(row)) for row in batch])


def long_batches(tokenizer: Tokenizer, seed: int, length: int) -> Iterator[Tensor]:
    """Endless batches (B, length + 1) of stories laid end to end, the last one of a row cut off."""
    told = _encoded(tokenizer, seed)
    while True:
        batch = []
        for _ in range(_LONG_ROWS):
            row: list[int] = []
            while len(row) <= length:
                row += next(told)
            batch.append(row[: length + 1])
        yield torch.tensor(batch)


def loss_of(model: Llama, batch: Tensor) -> Tensor:
    """Mean cross-entropy, in nats, of what follows inside a story; what follows </s> is nobody's guess."""
    given, wanted = batch[:, :-1], batch[:, 1:]
    wanted = wanted.masked_fill(given == EOS, _IGNORED)
    return functional.cross_entropy(model(given).flatten(0, 1), wanted.flatten(), ignore_index=_IGNORED)


@torch.no_grad()
def validate(model: Llama, tokenizer: Tokenizer, seed: int, batches: int = 16) -> float:
    """Mean loss on stories of another seed."""
    held_out = itertools.islice(short_batches(tokenizer, seed), batches)
    losses = [float(loss_of(model, batch)) for batch in held_out]
    return sum(losses) / len(losses)


def _work_minutes() -> float:
    return time.process_time() / 60 / torch.get_num_threads()


def train(
    model: Llama,
    tokenizer: Tokenizer,
    *,
    seed: int,
    steps: int,
    minutes: float = math.inf,
    rate: float = 3e-3,
    decay: float = 0.1,
    progress: Progress | None = None,
) -> Outcome:
    """Train in place for `steps`, or for as many as fit in `minutes`: the schedule ends with whichever ends first.

    `minutes` are of processor time per thread, so that a busy machine takes longer but trains as well.

    When `minutes` does not bind, the same seed and steps give the same model on the same kind of machine.
    """
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
    warm = max(1, min(200, steps // 10))
    short = short_batches(tokenizer, seed)
    long = long_batches(tokenizer, seed + 1_000_001, model.shape.context)
    began, worked, seen, smooth, done = time.monotonic(), _work_minutes(), 0, math.nan, 0.0
    for step in itertools.count(1):
        batch = next(short) if step % _LONG_EVERY else next(long)
        scale = step / warm if step < warm else 0.02 + 0.49 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate * scale
        loss = loss_of(model, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen += batch.numel()
        value = float(loss.detach())
        smooth = value if math.isnan(smooth) else 0.98 * smooth + 0.02 * value
        done = max(step / steps, (_work_minutes() - worked) / minutes)
        if progress is not None:
            progress(min(done, 1.0), step, smooth)
        if done >= 1.0:
            break
    taken, clock = _work_minutes() - worked, (time.monotonic() - began) / 60
    held_out = validate(model, tokenizer, seed + 1_000_003)
    return Outcome(step, seen, taken, clock, smooth, held_out, "steps" if step == steps else "minutes")
