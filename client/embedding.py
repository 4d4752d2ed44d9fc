"""Texts to vectors: what a private encoder gives of each text is divided by its length and by its norm here, at the client.

The compute peers see how many texts there are and how many tokens each has; texts and vectors are shared as prompts and logits
are. The client gets the sum of the model's last rows of a text, which tells it no more than the embedding does: the weights are
public, and the sum is what anybody who holds the text would compute.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..checks import MAX_SEQUENCES
from ..errors import UsageError
from ..receipts import Receipt
from ..sizes import STEP_TOKENS, Sizes
from .answer import ModelFacts
from .feeds import Feed
from .generation import Runner, StepCost
from .results import Resume, Usage
from .tokens import Tokenizer, checked_ids

STEP_PAIRS = 1 << 15  # pairs of tokens that see each other, of several texts in one step; a text alone may have more

DEFAULT_MODEL = "all-MiniLM-L6-v2"  # of a cluster that is started to embed

Text = str | Sequence[int]
Progress = Callable[[int, int], None]  # texts done, texts in all


@dataclass(frozen=True, slots=True)
class EmbeddingCosts:
    """Of all texts together; bytes as in `results.Traffic`."""

    seconds: float  # from the request to the last vector, set-up included
    setup_seconds: float
    offline_seconds: float  # the dealer's own work
    steps: int
    rounds: int
    online_bytes: int
    offline_bytes: int
    client_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings(Sequence[NDArray[np.float32]]):
    """One vector for each text, in order: iterate it, index it, or take `vectors`; ``numpy.asarray`` takes it as it is."""

    vectors: NDArray[np.float32]  # (B, C)
    tokens: tuple[int, ...]  # of each text, as embedded
    truncated: tuple[int, ...]  # places of texts that were cut
    model: str
    protocol: str
    usage: Usage
    costs: EmbeddingCosts
    layers: int
    peers: tuple[str, ...] = ()
    resumes: tuple[Resume, ...] = ()
    receipts: tuple[Receipt, ...] = ()

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, place: Any) -> Any:
        return self.vectors[place]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return iter(self.vectors)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.vectors, dtype=dtype, copy=copy)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of ``tacit embed --json``; it has "resumes" only if there were any."""
        found = {
            "embeddings": [[float(str(x)) for x in row] for row in self.vectors],
            "model": self.model,
            "protocol": self.protocol,
            "tokens": list(self.tokens),
            "truncated": list(self.truncated),
            "usage": asdict(self.usage),
            "costs": asdict(self.costs),
            "layers": self.layers,
        }
        if self.resumes:
            found["resumes"] = [asdict(resume) for resume in self.resumes]
        return found


def embed(
    model: ModelFacts,
    tokenizer: Tokenizer,
    texts: Text | Sequence[Text],
    start: Callable[[Sizes], Runner],
    *,
    truncate: bool = False,
    normalise: bool = True,
    progress: Progress = lambda done, total: None,
) -> Embeddings:
    """The embeddings of all texts, in one session and as few steps as sizes allow. `start(sizes)` opens the session.

    `truncate`: cut what is longer than the model takes. Without `normalise` vectors are plain means over the tokens.
    Raises UsageError before anything is sent; afterwards what the session raises.
    """
    if model.embedding is None:
        raise UsageError(f"{model.name} answers texts and embeds none: choose an encoder")
    ids, truncated = _all_ids(model, tokenizer, texts, truncate)
    lengths = [len(one) for one in ids]
    batches = packed(lengths)
    asked = time.perf_counter()
    runner = start(_sizes(lengths, batches))
    setup = time.perf_counter() - asked
    sums, cost, done, used = np.empty((len(ids), model.embedding)), StepCost(), 0, 0
    try:
        for batch in batches:
            feeds = [Feed(slot, slot, 0, tuple(ids[place])) for slot, place in enumerate(batch)]
            step = runner.step(feeds, 0, range(len(batch), used))
            used = len(batch)
            sums[batch] = step.logits
            cost = cost.plus(step.cost)
            done += len(batch)
            progress(done, len(ids))
        runner.finish()
    except BaseException:  # Ctrl-C too: the peers must not keep a session nobody reads
        runner.abort()
        raise
    return Embeddings(
        vectors=_vectors(sums, lengths, normalise),
        tokens=tuple(lengths),
        truncated=truncated,
        model=model.name,
        protocol=model.protocol,
        usage=Usage.of(sum(lengths), 0, runner.charge),
        costs=EmbeddingCosts(
            seconds=time.perf_counter() - asked,
            setup_seconds=setup,
            offline_seconds=1e-6 * cost.offline_us,
            steps=len(batches),
            rounds=cost.rounds,
            online_bytes=cost.online_bytes,
            offline_bytes=cost.offline_bytes,
            client_bytes=cost.client_bytes,
        ),
        layers=model.layers,
        peers=runner.peers,
        resumes=tuple(runner.resumes),
        receipts=tuple(runner.receipts),
    )


def packed(lengths: Sequence[int]) -> list[list[int]]:
    """Places of texts of these lengths, step by step: the longest first, each into the first step that has room for it."""
    steps: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # rows and pairs that are left
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        rows = lengths[place]
        pairs = rows * rows
        for number, (free_rows, free_pairs) in enumerate(rooms):
            if rows <= free_rows and pairs <= free_pairs and len(steps[number]) < MAX_SEQUENCES:
                break
        else:
            number = len(steps)
            steps.append([])
            rooms.append((STEP_TOKENS, STEP_PAIRS))
        steps[number].append(place)
        rooms[number] = rooms[number][0] - rows, rooms[number][1] - pairs
    return steps


def _sizes(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> Sizes:
    """Of a session for these steps; nothing is kept from one to the next."""
    rows = max(sum(lengths[place] for place in batch) for batch in batches)
    pairs = max(sum(lengths[place] ** 2 for place in batch) for batch in batches)
    return Sizes(max(map(len, batches)), rows, pairs, rows)


def _all_ids(
    model: ModelFacts, tokenizer: Tokenizer, texts: Text | Sequence[Text], truncate: bool
) -> tuple[list[list[int]], tuple[int, ...]]:
    """Token ids of every text, and which were cut."""
    ids, cut = [], []
    for place, text in enumerate(_several(texts)):
        what = f"text {place + 1}"
        found = checked_ids(tokenizer, text, what)
        if len(found) > model.context:
            if not truncate:
                raise UsageError(
                    f"{what} has {len(found)} tokens and {model.name} takes {model.context}: split it, or have it truncated"
                )
            cut.append(place)
            found = tokenizer.shortened(text, model.context) if isinstance(text, str) else found[: model.context]
        ids.append(found)
    return ids, tuple(cut)


def _several(texts: Text | Sequence[Text]) -> list[Text]:
    """A text alone is a list of one, be it a string or token ids."""
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, bytes | bytearray) or not isinstance(texts, Sequence):
        raise UsageError(f"texts to embed are a text or a sequence of texts, not {type(texts).__name__}")
    if not texts:
        raise UsageError("there is no text to embed")
    if all(isinstance(one, int) for one in texts):
        return [cast("Sequence[int]", texts)]
    return list(cast("Sequence[Text]", texts))


def _vectors(sums: NDArray[np.float64], lengths: Sequence[int], normalise: bool) -> NDArray[np.float32]:
    """(B, C): means, of length 1 if `normalise`."""
    means = sums / np.array(lengths)[:, None]
    if normalise:
        norms = np.linalg.norm(means, axis=1, keepdims=True)
        means = means / np.where(norms > 0, norms, 1.0)
    vectors: NDArray[np.float32] = means.astype(np.float32)
    return vectors
