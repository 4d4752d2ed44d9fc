"""A model for tests of the client: real manifest and tokenizer, `committee.toy_logits` instead of weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tacit.manifest import Manifest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

VOCAB = 258
BOS, EOS = 256, 257
CONTEXT = 48


def byte_tokenizer() -> bytes:
    """Every byte a token, a start-of-text token in front."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: place for place, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return tokenizer.to_str().encode()


def manifest(name: str, tokenizer: bytes | None) -> bytes:
    return Manifest(
        name=name,
        architecture="llama",
        layers=2,
        heads=2,
        kv_heads=1,
        head_size=8,
        width=16,
        hidden=32,
        vocab=VOCAB,
        context=CONTEXT,
        eps=1e-5,
        activation="silu",
        rope_theta=1e4,
        config_hash="c" * 64,
        weights_hash="d" * 64,
        tokenizer_hash=None if tokenizer is None else hashlib.sha256(tokenizer).hexdigest(),
        bos=BOS,
        eos=(EOS,),
    ).to_bytes()


@dataclass(frozen=True)
class ToyModel:
    name: str
    manifest: bytes
    tokenizer: bytes | None
    chat: bytes | None = None

    @property
    def manifest_hash(self) -> str:
        return hashlib.sha256(self.manifest).hexdigest()

    @property
    def summary(self) -> dict:
        return {"architecture": "llama", "layers": 2, "vocab": VOCAB, "context": CONTEXT}


def text_model(name: str = "toy") -> ToyModel:
    tokenizer = byte_tokenizer()
    return ToyModel(name, manifest(name, tokenizer), tokenizer)


def id_model(name: str = "ids") -> ToyModel:
    return ToyModel(name, manifest(name, None), None)
