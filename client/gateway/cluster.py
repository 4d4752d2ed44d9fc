"""The models of a cluster, as the gateway offers them: for each that is asked, a private session that requests share."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from ..api import Client
from ..batcher import IDLE, SEQUENCES
from ..tokens import TextTokenizer
from .offers import Card, Embedded, Embedder, Served
from .replies import Paid


class ClusterOffers:
    """Over a client. Close it before the client."""

    def __init__(
        self,
        client: Client,
        only: str | None = None,
        *,
        sequences: int = SEQUENCES,
        idle: float = IDLE,
        pad_prompt: bool = False,
    ) -> None:
        """`only`: the one model to serve; None: all that the cluster has. The others as for `Client.batcher`."""
        self._client = client
        self._only = only
        self._settings: dict[str, Any] = {"sequences": sequences, "idle": idle, "pad_prompt": pad_prompt}
        self._padded = pad_prompt
        self._lock = threading.Lock()
        self._served: dict[str, Served] = {}

    @property
    def embedder(self) -> Embedder | None:
        """Whether the model that is asked can embed is found out when it is."""
        return self._embed

    def cards(self) -> Sequence[Card]:
        with self._lock:
            found = self._client.describe_models()
        cards = [
            Card(str(one["name"]), one["context"] if isinstance(one.get("context"), int) else None) for one in found
        ]
        return [card for card in cards if self._only in (None, card.name)]

    def get(self, name: str) -> Served | None:
        if name not in self._served and all(card.name != name for card in self.cards()):
            return None
        with self._lock:
            if name not in self._served:
                model = self._client.model(name)
                batcher = self._client.batcher(model=name, **self._settings)
                speaks = model.chat is not None and isinstance(model.tokenizer, TextTokenizer)
                template = self._client.template(model=name) if speaks else None
                self._served[name] = Served(model.facts, model.tokenizer, batcher, template, self._padded)
            return self._served[name]

    def close(self) -> None:
        """End the sessions; answers in progress fail."""
        with self._lock:
            served = list(self._served.values())
            self._served.clear()
        for one in served:
            one.batcher.close()

    def _embed(self, texts: Sequence[str], name: str) -> Embedded:
        found = self._client.embed(list(texts), model=name)  # takes as long as the peers do: nobody else waits for that
        usage, operators = found.usage, list(dict.fromkeys(found.operators))
        cost = None if usage.cost is None else float(usage.cost)
        paid = Paid(cost=cost, currency=usage.currency, operators=operators)
        return Embedded(found.vectors.tolist(), usage.prompt_tokens, paid)
