"""Who answers in a study: the model in the clear on this machine, or a cluster; and what is measured of an answer.

The prompt is a fixed text in the model's own tokens, cut to length, and end-of-text is ignored, so that every answer has exactly
the tokens asked for. Under `pair` and `crypten` neither rounds nor bytes nor work depend on what the tokens are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ...client.api import Client
from ...client.generation import Generation
from ...client.launch import Cluster
from ...client.plain import PlainModel
from ...client.policy import Policy
from ...errors import UsageError
from ...network import Network
from .plan import ModelFact
from .records import Answer, Case

TEXT = (
    "Once upon a time there was a little girl who lived near the sea. Every morning she went down to the beach with her "
    "brother and looked for shells. One day they found a small green boat under the old bridge. "
)
SEEN_SECONDS = 0.1  # after which every party has seen another network
STEP_SECONDS = 600.0  # that one step may take: a long prompt's correlations over a slow line take minutes

Say = Callable[[str], None]


class Bench(Protocol):
    """Gives the answers of one protocol and model."""

    def set_network(self, network: Network | None) -> None:
        """From now on answers are carried over these lines; None leaves them as they are."""

    def answer(self, case: Case, repetition: int) -> Answer:
        """Ask, and measure. Raises what `Client.generate` and `Generation` raise."""

    def check(self) -> None:
        """Raises PeerLost naming a process of the study's own that has ended."""

    def close(self) -> None:
        """Let go of everything."""


class PlainBench:
    """The model in the clear, loaded once. No network is in it."""

    def __init__(self, model: ModelFact) -> None:
        self._model = PlainModel(model.given)

    def set_network(self, network: Network | None) -> None:
        pass

    def answer(self, case: Case, repetition: int) -> Answer:
        prompt = prompt_ids(self._model.tokenizer.encode, self._model.facts.vocab, case.prompt_tokens)
        self._model.generate(prompt, max_new_tokens=1).complete()  # else the cold caches of this process were measured
        generation = self._model.generate(prompt, max_new_tokens=case.new_tokens, ignore_eos=True)
        return measure(generation, case, repetition)

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass


class ClientBench:
    """A client of a cluster that runs already, whose network is left as it is."""

    def __init__(self, model: ModelFact, cluster: str | Path | Cluster, trace: Path | None = None) -> None:
        """`trace`: where this client leaves what its sessions do. Raises as `Client` does."""
        self._model = model.name
        # A resumed answer would be no clean measurement.
        self._client = Client(
            cluster, policy=Policy(max_resumes=0), keep_receipts=False, timeout=STEP_SECONDS, trace=trace
        )
        try:
            vocab = {str(one["name"]): int(one["vocab"]) for one in self._client.describe_models()}
        except BaseException:
            self._client.close()
            raise
        self._vocab = vocab.get(self._model, 0)

    def set_network(self, network: Network | None) -> None:
        if network is not None:
            raise UsageError("the network of a cluster that runs already is left as it is")

    def answer(self, case: Case, repetition: int) -> Answer:
        def encode(text: str) -> list[int]:
            return self._client.encode(text, model=self._model)

        prompt = prompt_ids(encode, self._vocab, case.prompt_tokens)
        generation = self._client.generate(
            prompt, model=self._model, max_new_tokens=case.new_tokens, ignore_eos=True, protocol=case.protocol
        )
        return measure(generation, case, repetition)

    def check(self) -> None:
        pass

    def close(self) -> None:
        self._client.close()


class ShapedBench:
    """A cluster started for the study, with shaped links, and its client."""

    def __init__(
        self, model: ModelFact, network: Network, *, trace: Path | None = None, say: Say = lambda what: None
    ) -> None:
        """`network`: of the links until `set_network`. `trace`: where every party leaves what its sessions do."""
        self._network = network
        self._cluster = Cluster(model=model.given, network=network, trace=trace).start(say)
        try:
            self._client = ClientBench(model, self._cluster)
        except BaseException:
            self._cluster.stop()
            raise

    def set_network(self, network: Network | None) -> None:
        if network is not None and network != self._network:
            self._cluster.set_network(network)
            self._network = network
            time.sleep(SEEN_SECONDS)

    def answer(self, case: Case, repetition: int) -> Answer:
        return self._client.answer(case, repetition)

    def check(self) -> None:
        self._cluster.check()

    def close(self) -> None:
        self._client.close()
        self._cluster.stop()


def prompt_ids(encode: Callable[[str], list[int]], vocab: int, count: int) -> list[int]:
    """`count` token ids of TEXT, again and again; of a model without a tokenizer the ids 0, 1, 2 ..."""
    text, found = TEXT, list[int]()
    try:
        while len(found) < count:
            found = encode(text)
            text += text
    except UsageError:
        return [token % vocab for token in range(count)]
    return found[:count]


def measure(generation: Generation, case: Case, repetition: int) -> Answer:
    """Run an answer to its end. Raises what `Generation` raises."""
    started = time.time()
    tokens = len(generation.complete().token_ids)
    milliseconds = [1e3 * seconds for seconds in generation.seconds]
    costs = generation.costs
    return Answer(
        case=case,
        repetition=repetition,
        started=started,
        setup_ms=1e3 * generation.setup_seconds,
        ttft_ms=milliseconds[0],
        e2e_ms=sum(milliseconds),
        itl_ms=milliseconds[1:],
        tokens=tokens,
        rounds=[cost.rounds for cost in costs],
        online_bytes=[cost.online_bytes for cost in costs],
        offline_bytes=[cost.offline_bytes for cost in costs],
        client_bytes=[cost.client_bytes for cost in costs],
        compute_ms=[1e-3 * cost.compute_us for cost in costs],
        waiting_ms=[1e-3 * cost.waiting_us for cost in costs],
        offline_ms=[1e-3 * cost.offline_us for cost in costs],
    )
