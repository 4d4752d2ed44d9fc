"""The story model's own tokenizer: byte-level BPE, so that any text encodes and decoding gives it back exactly."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

UNKNOWN, BOS, EOS = 0, 1, 2
SPECIAL = ("<unk>", "<s>", "</s>")


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A BPE of `vocabulary` entries learned from `texts`; encoding puts <s> in front."""
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[UNKNOWN]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[BOS]} $A",
        pair=f"{SPECIAL[BOS]} $A {SPECIAL[BOS]} $B:1",
        special_tokens=[(SPECIAL[BOS], BOS)],
    )
    return tokenizer
