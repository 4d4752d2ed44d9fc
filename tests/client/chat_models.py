"""Tokenizers and templates for tests of chat: a byte-level BPE with ChatML's markup, and one that falls back to bytes."""

from __future__ import annotations

from tacit.chatfile import ChatFile
from tacit.client.answer import ModelFacts
from tacit.client.tokens import TextTokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "[TOOL_CALLS]", "<think>", "</think>"]

CHATML = """{{- bos_token }}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' and '</think>' in message.content %}
        {{- message.content.split('</think>')[-1] | trim }}
    {%- else %}
        {{- message.content | trim }}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

CHAT = ChatFile({"default": CHATML}, {"bos_token": "<s>", "eos_token": "<|im_end|>"})


def byte_level() -> TextTokenizer:
    """Every byte a token, a few merges, markup; <think> and </think> are added but not special."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("i", "m"), ("im", "_"), ("<", "|"), ("t", "h"), ("th", "e"), ("Ġ", "the"), ("{", '"'), ('"', ":")]
    vocab = {letter: place for place, letter in enumerate([*letters, *("".join(pair) for pair in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.add_special_tokens(SPECIAL[:-2])
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in SPECIAL[-2:]])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    start = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", start)])
    return TextTokenizer(tokenizer.to_str().encode(), tokenizer.get_vocab_size(), start)


def byte_fallback() -> TextTokenizer:
    """As SentencePiece writes them: a blank is put before the text, special tokens are in the vocabulary."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    for number in range(256):
        vocab[f"<0x{number:02X}>"] = len(vocab)
    for letter in '▁abcdefghijklmnopqrstuvwxyz{}[]":,.0123456789-+<>/|_':
        vocab[letter] = len(vocab)
    merges = [("▁", "{"), ("{", '"'), ("t", "r"), ("tr", "u"), ("tru", "e")]
    for pair in merges:
        vocab["".join(pair)] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return TextTokenizer(tokenizer.to_str().encode(), tokenizer.get_vocab_size(), 1)


def facts(tokenizer: TextTokenizer, context: int = 4096) -> ModelFacts:
    ends = [tokenizer.token_id(text) for text in ("</s>", "<|im_end|>")]
    eos = tuple(end for end in ends if end is not None)
    return ModelFacts("chatty", "pair", "0" * 64, tokenizer.vocab, context, 2, tokenizer.token_id("<s>"), eos)
