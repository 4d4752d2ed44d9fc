"""The models of a cluster as the client needs them: facts from the manifest, and the tokenizer and chat templates that
belong to it.

All come through the untrusted coordinator. The manifest's hash stands in the peers' signed statements (`verify`), the hashes
of tokenizer and templates in the manifest, so a swapped one is found before anything private is sent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ..chatfile import ChatFile
from ..errors import PeerError, TacitError, UsageError
from ..manifest import ENCODERS, Manifest
from . import tokens
from .answer import ModelFacts
from .directory import Directory
from .verify import check_hash

PROTOCOL = "pair"  # unless another one is asked for


@dataclass(frozen=True, slots=True)
class Model:
    facts: ModelFacts
    tokenizer: tokens.Tokenizer
    chat: ChatFile | None = None


class Catalogue:
    """What a coordinator offers; each model is fetched once."""

    def __init__(self, directory: Directory, source: str) -> None:
        """`source` names the coordinator in messages."""
        self._directory = directory
        self._source = source
        self._models: dict[str, Model] = {}

    def names(self) -> list[str]:
        return [str(model["name"]) for model in self._directory.models()]

    def get(self, name: str | None, embeds: bool = False) -> Model:
        """The model of this name; without one the only one there is, or the only one that does what is wanted (`embeds` texts,
        or continues them). Raises UsageError for a name not served."""
        if name is None or name not in self._models:
            served = {str(model["name"]): model.get("architecture") in ENCODERS for model in self._directory.models()}
            fit = [one for one, encoder in served.items() if encoder == embeds]
            name = fit[0] if name is None and len(fit) == 1 else _chosen(name, list(served))
        if name not in self._models:
            self._models[name] = self._fetch(name)
        return self._models[name]

    def _fetch(self, name: str) -> Model:
        raw = self._directory.manifest(name)
        try:
            manifest = Manifest.from_bytes(raw)
        except TacitError as error:
            raise PeerError(self._source, f"sent a manifest of {name} that is damaged: {error}") from None
        if manifest.name != name:
            raise PeerError(self._source, f"sent the manifest of another model for {name}")
        definition = None
        if manifest.tokenizer_hash is not None:
            definition = self._directory.tokenizer(name)
            check_hash(definition, manifest.tokenizer_hash, f"tokenizer of {name}", self._source)
        chat = None
        if manifest.chat_hash is not None:
            written = self._directory.chat(name)
            check_hash(written, manifest.chat_hash, f"chat template of {name}", self._source)
            chat = ChatFile.from_bytes(written)
        facts = ModelFacts(
            name=name,
            protocol=PROTOCOL,
            manifest_hash=hashlib.sha256(raw).hexdigest(),
            vocab=manifest.vocab,
            context=manifest.context,
            layers=manifest.layers,
            bos=manifest.bos,
            eos=manifest.eos,
            embedding=manifest.embedding,
            rotary=manifest.rope_theta is not None,
        )
        return Model(facts, tokens.load(definition, facts.vocab, facts.bos), chat)


def _chosen(name: str | None, served: list[str]) -> str:
    if not served:
        raise UsageError("this cluster serves no model at the moment: its peers are not connected")
    if name is None:
        if len(served) > 1:
            raise UsageError(f"this cluster serves several models, choose one: {', '.join(served)}")
        return served[0]
    if name not in served:
        raise UsageError(f"this cluster does not serve {name!r}; it serves: {', '.join(served)}")
    return name
