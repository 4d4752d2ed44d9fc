"""`--protocol plain`: the same model in the clear on this machine, to compare with. Needs the [peer] extra."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..quotes import Charge
from ..receipts import Receipt
from . import tokens
from .answer import Answer, ModelFacts
from .constraints import wanted_form
from .embedding import Embeddings, Text, embed
from .extras import need_peer_extra
from .feeds import Feed, batch_of
from .generation import Generation, Step, StepCost
from .results import Resume
from .sampling import Sampling

DEFAULT_MODEL = "stories"


class PlainRunner:
    """A `Runner` that computes the logits itself, in float64."""

    peers: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    resumes: tuple[Resume, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    charge: Charge | None = None

    def __init__(self, spec: Any, weights: Any) -> None:
        from ..protocols.plain import Plain

        self._spec = spec
        self._protocol = Plain(spec, weights)
        self._caches = self._protocol.new_cache()

    def step(self, feeds: Sequence[Feed], ahead: int, forget: Sequence[int] = ()) -> Step:
        from ..models.decoder import forward

        started = time.perf_counter()
        tokens = [token for feed in feeds for token in feed.tokens]
        logits = forward(self._protocol, self._spec, tokens, self._caches, batch_of(feeds, forget))
        return Step(logits, StepCost(compute_us=int(1e6 * (time.perf_counter() - started))))

    def finish(self) -> None:
        """Nobody to part from."""

    def abort(self) -> None:
        """Nobody to part from."""


class PlainModel:
    """A model in the clear on this machine, loaded once."""

    def __init__(self, model: str | None = None) -> None:
        """A folder or a name, None for the shipped one. Raises ConfigError without the [peer] extra, ModelError."""
        need_peer_extra("running a model here")
        from ..models.checkpoint import load_checkpoint
        from ..models.fold import fold

        checkpoint = load_checkpoint(model or DEFAULT_MODEL)
        self._spec, self._weights = fold(checkpoint)
        self.facts = ModelFacts(
            name=checkpoint.name,
            protocol="plain",
            manifest_hash="",
            vocab=self._spec.vocab,
            context=self._spec.context,
            layers=self._spec.layers,
            bos=checkpoint.bos,
            eos=checkpoint.eos,
            embedding=self._spec.width if self._spec.encoder else None,
            rotary=self._spec.rope_theta is not None,
        )
        self.tokenizer = tokens.load(checkpoint.tokenizer, self._spec.vocab, checkpoint.bos)

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        ignore_eos: bool = False,
        logit_bias: Mapping[int, float] | None = None,
        json_schema: Mapping[str, Any] | None = None,
        **sampling: Any,
    ) -> Generation:
        """An answer, streaming like `Client.generate`. Raises UsageError for what cannot be done."""
        form = wanted_form(self.tokenizer, schema=json_schema)
        answer = Answer(
            self.facts,
            self.tokenizer,
            prompt,
            max_new_tokens=max_new_tokens,
            sampling=Sampling(**sampling),
            stop=stop,
            ignore_eos=ignore_eos,
            bias=logit_bias,
            constraint=None if form is None else form(),
        )
        return Generation(answer, lambda sizes: PlainRunner(self._spec, self._weights))

    def embed(self, texts: Text | Sequence[Text], **settings: Any) -> Embeddings:
        """Vectors, as `Client.embed` gives them. Raises UsageError for what cannot be done."""
        return embed(
            self.facts, self.tokenizer, texts, lambda sizes: PlainRunner(self._spec, self._weights), **settings
        )


def generate(model: str | None, prompt: str | Sequence[int], **settings: Any) -> Generation:
    """An answer of a model that is loaded for it; settings and errors as for `PlainModel`."""
    return PlainModel(model).generate(prompt, **settings)
