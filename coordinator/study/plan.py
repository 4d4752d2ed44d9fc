"""What a study is to measure: the matrix of cases, checked as a whole before anything is started.

Order: one model after another, because a cluster is started for each; of a model one repetition after another, each over all
networks, protocols and lengths, so that a machine that changes its pace in the meantime does so for all cases alike, and a
study that is cut short has something of each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...errors import ModelError, UsageError
from ...network import Network
from ...records import tidy
from .records import Case

PROTOCOLS = ("pair", "plain", "crypten")
MOST_ANSWERS = 20_000


@dataclass(frozen=True, slots=True)
class ModelFact:
    """A model by the name that peers serve it under; `given` is how it was asked for, a name or a folder."""

    name: str
    given: str
    context: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked matrix. `networks` by their text; AS_IS stands for None, the line that a cluster has. `forwarded`: measure
    `pair` over the kernel's stack too."""

    protocols: tuple[str, ...]
    networks: Mapping[str, Network | None]
    models: tuple[ModelFact, ...]
    prompts: tuple[int, ...]
    new: tuple[int, ...]
    repetitions: int
    warmup: int
    forwarded: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError for what cannot be measured."""
        for what, found in (
            ("protocol", self.protocols),
            ("network", self.networks),
            ("model", self.models),
            ("prompt length", self.prompts),
            ("answer length", self.new),
        ):
            if not found:
                raise UsageError(f"a study needs at least one {what}")
        for protocol in self.protocols:
            if protocol not in PROTOCOLS:
                raise UsageError(f"there is no protocol {tidy(protocol, 40)!r} to study: choose {', '.join(PROTOCOLS)}")
        if self.repetitions < 1 or self.warmup < 0:
            raise UsageError("a study repeats every answer at least once, after zero or more to warm up")
        for what, lengths in (("prompt", self.prompts), ("answer", self.new)):
            for length in lengths:
                if length < 1:
                    raise UsageError(f"{what}s of {length} tokens: a length is at least 1")
        longest = max(self.prompts) + max(self.new) - 1  # the last token is never fed back
        for model in self.models:
            if longest > model.context:
                raise UsageError(
                    f"{model.name} has a context of {model.context} tokens, and a prompt of {max(self.prompts)} with an "
                    f"answer of {max(self.new)} needs {longest}"
                )
        names = [model.name for model in self.models]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"two models are called {name}: a study tells models apart by name")
        if self.answers > MOST_ANSWERS:
            raise UsageError(f"{self.answers} answers are too many for one study: at most {MOST_ANSWERS}")

    @property
    def answers(self) -> int:
        """How many there are to be measured, warm-up not counted."""
        return self.repetitions * len(self.cases())

    def cases(self, model: ModelFact | None = None) -> list[Case]:
        """All, or those of a model, in the order in which they are measured."""
        return [
            Case(protocol, network, one.name, prompt, new, forwarded)
            for one in (self.models if model is None else (model,))
            for network in self.networks
            for protocol in self.protocols
            for forwarded in ((False, True) if self.forwarded and protocol == "pair" else (False,))
            for prompt in self.prompts
            for new in self.new
        ]

    def delay(self, case: Case) -> float:
        """The longest round trip of its lines, in seconds; 0 if it is not known."""
        network = self.networks[case.network]
        return 0.0 if network is None else max(one.rtt for one in (network.default, *network.pairs.values()))

    def order(self, model: ModelFact) -> Iterator[tuple[Case, int]]:
        """The answers of a model: a case and the number of its repetition, from 0."""
        for repetition in range(self.repetitions):
            for case in self.cases(model):
                yield case, repetition


def parse_networks(texts: Sequence[str]) -> dict[str, Network | None]:
    """By their text. Each is a profile for all pairs, or several parts as in "wan; client:peer-0=global". Raises UsageError."""
    found = [Network.parse([part.strip() for part in text.split(";")]) for text in texts]
    return {network.text: network for network in found}


def parse_lengths(texts: Sequence[str], what: str) -> tuple[int, ...]:
    """Of options such as "8,64", without doubles. Raises UsageError."""
    found = []
    for word in (word.strip() for text in texts for word in text.split(",")):
        if not (word.isascii() and word.isdigit()) or len(word) > 7:
            raise UsageError(f"{what} {tidy(word, 40)!r}: lengths are whole numbers of tokens, as in 8,64")
        found.append(int(word))
    return tuple(dict.fromkeys(found))


def read_models(given: Sequence[str]) -> tuple[ModelFact, ...]:
    """What the folders say, without their weights. Raises ModelError."""
    from ...models.layout import read_layout
    from ...models.locate import locate, model_name

    found = []
    for one in dict.fromkeys(given):
        folder = locate(one)
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            if not isinstance(config, dict):
                raise ValueError("it is no JSON object")
            spec = read_layout(config).spec
        except (OSError, ValueError, ModelError) as error:
            raise ModelError(f"{folder / 'config.json'}: {error}") from None
        found.append(ModelFact(model_name(one, folder), one, spec.context))
    return tuple(found)
