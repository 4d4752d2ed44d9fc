"""Keeps what people write apart from what a chat template writes: "<|im_end|>" typed into a message stays text.

A template joins markup and messages into one text, in which nobody can tell any more who wrote a special token. So before
it is rendered, the first character of every special token in a message is replaced by a stand-in, a character for private use
that nothing else holds. The template works on the message as usual, and afterwards the stand-ins tell which markup is a
message's own: that is encoded as the text it is.

Markup are the tokenizer's special tokens; in what does not come from the model (all but the assistant's messages) also the
further tokens in brackets, such as <tool_call> or <think>, and those that the template itself writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from ..errors import ModelError, UsageError
from .tokens import TextTokenizer

_PRIVATE_USE = 0xF0000
_BRACKETED = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
_STRUCTURE = ("role", "type")  # words of a fixed vocabulary, which templates compare


class Guard:
    """The stand-ins of one rendering."""

    def __init__(self, special: Iterable[str], written: Iterable[str], everything: object) -> None:
        """`special` and `written`: markup, by whether it is only the template's or may be the model's too. `everything`: what
        the template is given, and its source: no stand-in occurs in there."""
        self._special, self._all = sorted(set(special)), sorted({*special, *written})
        free = _free(everything)
        self._quotes = (next(free), next(free))
        self._free = free
        self._stand_ins: dict[str, str] = {}

    def guarded(self, value: Any, by_model: bool = False) -> Any:
        """The same with stand-ins: a text, or all texts in a JSON value."""
        tokens = self._special if by_model else self._all
        if isinstance(value, str):
            return self._guarded(value, tokens)
        if isinstance(value, Mapping):
            return {
                self._inside(str(key), tokens): self._inside(item, tokens)
                if key in _STRUCTURE and isinstance(item, str)
                else self.guarded(item, by_model)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.guarded(item, by_model) for item in value]
        return value

    def plain(self, rendered: str) -> str:
        """The text for people, without stand-ins."""
        return rendered.translate({ord(standing): first for first, standing in self._stand_ins.items()})

    def encode(self, rendered: str, tokenizer: TextTokenizer) -> list[int]:
        """Token ids of a rendered text: the template's markup as special tokens, a message's own as text."""
        if not any(standing in rendered for standing in self._stand_ins.values()):
            return tokenizer.encode_markup(rendered)
        opening, closing = self._quotes
        names = {token: f"{opening}{number}{closing}" for number, token in enumerate(self._all)}
        found = _any_of(self._all).sub(lambda match: names[match[0]], rendered)
        return tokenizer.encode_renamed(self.plain(found), names)

    def _guarded(self, text: str, tokens: Sequence[str]) -> str:
        return self._marked(text, {*_starts(text, tokens), *_edges(text, tokens)})

    def _inside(self, key: str, tokens: Sequence[str]) -> str:
        """A word that templates look up or compare: only whole tokens count."""
        return self._marked(key, set(_starts(key, tokens)))

    def _marked(self, text: str, places: Collection[int]) -> str:
        if not places:
            return text
        return "".join(self._stand_in(one) if at in places else one for at, one in enumerate(text))

    def _stand_in(self, one: str) -> str:
        if one not in self._stand_ins:
            self._stand_ins[one] = next(self._free)
        return self._stand_ins[one]


def _starts(text: str, tokens: Sequence[str]) -> Iterator[int]:
    """Where a token begins, inside others too."""
    every = tuple(tokens)
    firsts = re.escape("".join({token[0] for token in tokens}))
    yield from (found.start() for found in re.finditer(f"[{firsts}]", text) if text.startswith(every, found.start()))


def _edges(text: str, tokens: Sequence[str]) -> Iterator[int]:
    """Where a part of a token stands at an edge of the text, so that what is put beside it could complete the token.

    Templates strip messages, so blanks at the ends do not count."""
    stripped = text.strip()
    if not stripped:
        return
    first = text.index(stripped[0])
    last = first + len(stripped)
    longest = max(map(len, tokens), default=0)
    for at in range(max(first, last - longest + 1), last):
        if any(token.startswith(text[at:last]) for token in tokens):
            yield at
    head = text[first : first + longest]
    if any(token.endswith(head[:length]) for token in tokens for length in range(1, len(head) + 1)) or any(
        stripped in token for token in tokens
    ):
        yield first


def _any_of(tokens: Sequence[str]) -> re.Pattern[str]:
    """The longest of several tokens that begin at one place."""
    return re.compile("(?:" + "|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)) + ")")


def _free(everything: object) -> Iterator[str]:
    try:
        taken = set(json.dumps(everything, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError):
        raise UsageError("messages and tools must be made of what JSON can hold") from None
    return (chr(code) for code in count(_PRIVATE_USE) if chr(code) not in taken)


def markup_of(tokenizer: TextTokenizer, sources: Iterable[str], named: Iterable[str]) -> tuple[list[str], list[str]]:
    """Special tokens, and further ones that are markup too: in brackets, or written by templates. `named`: tokens that the
    model's files call special. Raises ModelError for a tokenizer with an empty special token."""
    added = tokenizer.added_tokens
    special = {text for text, is_special in added.items() if is_special}
    special |= {text for text in named if tokenizer.token_id(text) is not None}
    if "" in special:
        raise ModelError("tokenizer.json has an empty special token")
    sources = tuple(sources)
    written = {
        text
        for text in added
        if text.strip() and (_BRACKETED.fullmatch(text) or any(text in source for source in sources))
    }
    return sorted(special), sorted(written - special)
