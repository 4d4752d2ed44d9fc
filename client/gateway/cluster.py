"""The models of a cluster, as the gateway offers them: for each that is asked, a private session that requests share."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ..api import Client
from ..batcher import IDLE, SEQUENCES
from ..templates import ChatTemplate
from ..tokens import TextTokenizer
from .offers import Card, Embedder, Served


class ClusterOffers:
    """Over a client, which has one thread at a time in here. Close it before the client."""

    embedder: Embedder | None = None

    def __init__(
        self, client: Client, only: str | None = None, *, sequences: int = SEQUENCES, idle: float = IDLE
    ) -> None:
        """`only`: the one model to serve; None: all that the cluster has. `sequences`, `idle`: as for `Client.batcher`."""
        self._client = client
        self._only = only
        self._sequences = sequences
        self._idle = idle
        self._lock = threading.Lock()
        self._served: dict[str, Served] = {}

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
                batcher = self._client.batcher(model=name, sequences=self._sequences, idle=self._idle)
                template = None
                if model.chat is not None and isinstance(model.tokenizer, TextTokenizer):
                    template = ChatTemplate(model.chat, model.tokenizer)
                self._served[name] = Served(model.facts, model.tokenizer, batcher, template)
            return self._served[name]

    def close(self) -> None:
        """End the sessions; answers in progress fail."""
        with self._lock:
            served = list(self._served.values())
            self._served.clear()
        for one in served:
            one.batcher.close()
            if one.template is not None:
                one.template.close()
