"""Gateways for tests: the real application, server and batcher over the shipped model in the clear, in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from tacit.chatfile import ChatFile
from tacit.client.answer import ModelFacts
from tacit.client.batcher import Batcher
from tacit.client.feeds import Feed
from tacit.client.gateway.app import make_app
from tacit.client.gateway.asking import Limits
from tacit.client.gateway.guard import Rules
from tacit.client.gateway.offers import Card, Embedded, Embedder, Served
from tacit.client.gateway.replies import Paid
from tacit.client.generation import Step
from tacit.client.plain import PlainRunner
from tacit.client.templates import ChatTemplate
from tacit.client.tokens import IdTokenizer, load
from tacit.errors import UsageError
from tacit.httpserver import HttpServer, listen
from tacit.models.checkpoint import load_checkpoint
from tacit.models.fold import fold
from tacit.sizes import Sizes

WITH_TOOLS = """{{ bos_token }}{% for tool in tools or [] %}{{ tool | tojson }}
{% endfor %}{% for message in messages %}{{ message.role }}: {{ message.content or "" }}
{% for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>
{% endfor %}{% endfor %}"""


class Shipped:
    """The model that comes with Tacit, loaded once."""

    def __init__(self) -> None:
        checkpoint = load_checkpoint("stories")
        self.spec, self.weights = fold(checkpoint)
        self.facts = ModelFacts(
            name="stories",
            protocol="plain",
            manifest_hash="ab" * 32,
            vocab=self.spec.vocab,
            context=self.spec.context,
            layers=self.spec.layers,
            bos=checkpoint.bos,
            eos=checkpoint.eos,
        )
        self.tokenizer = load(checkpoint.tokenizer, self.spec.vocab, checkpoint.bos)
        self.template = ChatTemplate(ChatFile.from_bytes(checkpoint.chat), self.tokenizer)
        self.with_tools = ChatTemplate(ChatFile({"default": WITH_TOOLS}, {"bos_token": "<s>"}), self.tokenizer)

    def close(self) -> None:
        self.template.close()
        self.with_tools.close()

    def start(self, sizes: Sizes) -> PlainRunner:
        return PlainRunner(self.spec, self.weights)


class Watched:
    """A runner whose steps a test holds up, lets fail, and counts; `ended`: whether somebody parted from it."""

    def __init__(self, runner: PlainRunner, before_step: Callable[[int], None]) -> None:
        self._runner = runner
        self._before_step = before_step
        self.steps = 0
        self.ended = threading.Event()
        self.peers, self.operators = ("alpha", "beta", "gamma"), ("Alice", "Bob", "Carol")
        self.resumes = self.receipts = ()
        self.charge = None

    def step(self, feeds: Sequence[Feed], ahead: int, forget: Sequence[int] = ()) -> Step:
        self.steps += 1
        self._before_step(self.steps)
        return self._runner.step(feeds, ahead, forget)

    def finish(self) -> None:
        self.ended.set()

    def abort(self) -> None:
        self.ended.set()


def embed(texts: Sequence[str], model: str) -> Embedded:
    """A vector of length 1 for each text, by its letters."""
    if model != "letters":
        raise UsageError(f"{model} is no embedding model")
    counts = np.array([[1 + text.count(letter) for letter in "etaoin"] for text in texts], float)
    vectors = counts / np.linalg.norm(counts, axis=1, keepdims=True)
    return Embedded(vectors.tolist(), sum(map(len, texts)), Paid(cost=0.25, currency="EUR", operators=["Alice"]))


class Offered:
    """`Offers`: "stories"; "padded", the same with hidden lengths of prompts; "ids", without tokenizer and template; "tools",
    with a template that knows tools; and "letters" if there is an embedder."""

    def __init__(
        self,
        shipped: Shipped,
        start: Callable[[Sizes], object] | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self.embedder = embedder
        self.batcher = Batcher(shipped.facts, start or shipped.start, idle=5)
        self._cards = [
            Card("stories", shipped.facts.context),
            Card("ids", 512),
            Card("tools", 512),
            Card("padded", 512),
        ]
        self._cards += [Card("letters", None)] if embedder else []
        self._served = {
            "padded": Served(shipped.facts, shipped.tokenizer, self.batcher, shipped.template, padded=True),
            "tools": Served(shipped.facts, shipped.tokenizer, self.batcher, shipped.with_tools),
            "stories": Served(shipped.facts, shipped.tokenizer, self.batcher, shipped.template),
            "ids": Served(shipped.facts, IdTokenizer(shipped.facts.vocab), self.batcher),
        }

    def cards(self) -> Sequence[Card]:
        return self._cards

    def get(self, name: str) -> Served | None:
        return self._served.get(name)


@contextmanager
def gateway(offers: Offered, rules: Rules | None = None, limits: Limits | None = None) -> Iterator[str]:
    """Its address, without /v1."""
    listener = listen("127.0.0.1", 0)
    server = HttpServer(make_app(offers, rules or Rules(), limits), listener, grace=3, limit_concurrency=None)
    server.await_start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        offers.batcher.close()
        server.close()
        listener.close()
