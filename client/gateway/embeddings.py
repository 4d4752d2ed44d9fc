"""/v1/embeddings: vectors of texts, by a model that is made for it."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from .offers import Offers
from .problems import Problem, no_model
from .replies import Embedding as Shown
from .replies import EmbeddingsReply, EmbeddingUsage
from .requests import EmbeddingsRequest


def embed(offers: Offers, request: EmbeddingsRequest) -> EmbeddingsReply:
    """Takes as long as the peers do. Raises Problem, or as the embedder does."""
    if offers.embedder is None:
        raise Problem(400, "no embedding model is served", param="model", code="no_embedding_model")
    if all(card.name != request.model for card in offers.cards()):
        raise no_model()
    texts = [request.input] if isinstance(request.input, str) else request.input
    found = offers.embedder(texts, request.model)
    return EmbeddingsReply(
        data=[Shown(index=index, embedding=_form(one, request)) for index, one in enumerate(found.vectors)],
        model=request.model,
        usage=EmbeddingUsage(prompt_tokens=found.tokens, total_tokens=found.tokens, **found.paid.model_dump()),
    )


def _form(vector: Sequence[float], request: EmbeddingsRequest) -> list[float] | str:
    if request.encoding_format == "base64":
        return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
    return [float(number) for number in vector]
