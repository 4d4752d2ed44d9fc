"""Who answers in a study: the model in the clear on this machine, or a cluster; and what is measured of an answer.

The prompt is a fixed text in the model's own tokens, cut to length, and end-of-text is ignored, so that every answer has exactly
the tokens asked for. Under `pair` neither rounds nor bytes nor work depend on what the tokens are.
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

    def ask(self, case: Case) -> Generation:
        """An answer that has not begun. Raises what `Client.generate` raises."""

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

    def ask(self, case: Case) -> Generation:
        prompt = prompt_ids(self._model.tokenizer.encode, self._model.facts.vocab, case.prompt_tokens)
        return self._model.generate(prompt, max_new_tokens=case.new_tokens, ignore_eos=True)

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass


class ClusterBench:
    """A cluster of this machine that serves one model, started for the study; or, by `there`, one that runs already."""

    def __init__(
        self,
        model: ModelFact,
        *,
        network: Network | None = None,
        there: str | None = None,
        trace: Path | None = None,
        say: Say = lambda what: None,
    ) -> None:
        """`network`: of the links until `set_network`. `trace`: where every party leaves what its sessions do."""
        self._model = model
        self._network = network
        self._cluster: Cluster | None = None
        if there is None:
            self._cluster = Cluster(model=model.given, network=network, trace=trace).start(say)
        try:
            # A resumed answer would be no clean measurement.
            self._client = Client(
                self._cluster or there, policy=Policy(max_resumes=0), keep_receipts=False, timeout=STEP_SECONDS
            )
            vocab = {str(one["name"]): int(one["vocab"]) for one in self._client.describe_models()}
            self._vocab = vocab.get(model.name, 0)
        except BaseException:
            self._stop()
            raise

    def set_network(self, network: Network | None) -> None:
        if network is None or network == self._network:
            return
        if self._cluster is None:
            raise UsageError("the network of a cluster that runs already is left as it is")
        self._cluster.set_network(network)
        self._network = network
        time.sleep(SEEN_SECONDS)

    def ask(self, case: Case) -> Generation:
        def encode(text: str) -> list[int]:
            return self._client.encode(text, model=self._model.name)

        prompt = prompt_ids(encode, self._vocab, case.prompt_tokens)
        return self._client.generate(prompt, model=self._model.name, max_new_tokens=case.new_tokens, ignore_eos=True)

    def check(self) -> None:
        if self._cluster is not None:
            self._cluster.check()

    def close(self) -> None:
        self._client.close()
        self._stop()

    def _stop(self) -> None:
        if self._cluster is not None:
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
