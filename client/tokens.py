"""Between text and token ids: tokenizers, text that grows by whole characters, and stop strings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from tokenizers import Tokenizer as _HuggingFace

from ..errors import ModelError, UsageError

T = TypeVar("T")

_REPLACEMENT = "\ufffd"


class Tokenizer(Protocol):
    """Text to ids and back for one model."""

    vocab: int

    def encode(self, text: str) -> list[int]: ...

    def shortened(self, text: str, most: int) -> list[int]:
        """The same of the text's beginning: at most so many tokens, marks of begin and end among them."""

    def decode(self, token_ids: Sequence[int]) -> str: ...


class TextTokenizer:
    """A Hugging Face ``tokenizer.json``; its own post-processor adds the start-of-text token."""

    def __init__(self, definition: bytes, vocab: int, bos: int | None) -> None:
        """Raises ModelError for bytes that are no tokenizer, or one with more tokens than the model has."""
        try:
            self._tokenizer = _HuggingFace.from_buffer(definition)
        except Exception as error:  # the Rust library raises nothing narrower
            raise ModelError(f"tokenizer.json cannot be read ({error}); check the model's folder") from error
        largest = max(self._tokenizer.get_vocab().values(), default=-1)
        if largest >= vocab:
            raise ModelError(
                f"tokenizer.json goes up to token {largest} and the model has {vocab} tokens: "
                "they do not belong together"
            )
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._bos = bos
        self.vocab = vocab
        self.definition = definition
        self._shared: dict[Callable[[TextTokenizer], Any], Any] = {}
        self._renamed: tuple[dict[str, str], _HuggingFace, dict[int, int]] | None = None

    def shared(self, kind: Callable[[TextTokenizer], T]) -> T:
        """What is made of this tokenizer by `kind`: once, since that may take a second for a large vocabulary."""
        if kind not in self._shared:
            self._shared[kind] = kind(self)
        found: T = self._shared[kind]
        return found

    @property
    def added_tokens(self) -> dict[str, bool]:
        """The text of the tokens that are looked for before any other, and which of them are special."""
        return {token.content: token.special for token in self._tokenizer.get_added_tokens_decoder().values()}

    def token_id(self, text: str) -> int | None:
        """Of a token by its exact text."""
        found: int | None = self._tokenizer.token_to_id(text)
        return found

    def encode_markup(self, text: str) -> list[int]:
        """A text that says itself where special tokens are: no start-of-text token is put before it."""
        return _ids(self._tokenizer, text, add_special_tokens=False)

    def encode_renamed(self, text: str, names: Mapping[str, str]) -> list[int]:
        """The same, but that added tokens are recognised by these names and no more by their own text, which is text here.

        Raises UsageError where the vocabulary has no other way to write such a text than the token."""
        if self._renamed is None or self._renamed[0] != names:
            self._renamed = (dict(names), *self._with_names(names))
        _, tokenizer, ids = self._renamed
        found = _ids(tokenizer, text, add_special_tokens=False)
        special = {number for token in names if (number := self.token_id(token)) is not None}
        if any(number not in ids and number in special for number in found):
            raise UsageError("a message holds the text of a special token, which this model cannot read as text")
        return [ids.get(number, number) for number in found]

    def _with_names(self, names: Mapping[str, str]) -> tuple[_HuggingFace, dict[int, int]]:
        """A tokenizer in which some added tokens are called otherwise, and what its ids of added tokens are here."""
        definition = json.loads(self.definition)
        texts = {}
        for token in definition["added_tokens"]:
            text = token["content"]
            if text in names:
                token.update(content=names[text], normalized=False, single_word=False)
            texts[token["content"]] = text
        tokenizer = _HuggingFace.from_str(json.dumps(definition))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        ids = {}
        for number, token in tokenizer.get_added_tokens_decoder().items():
            if (own := self.token_id(texts[token.content])) is not None:
                ids[number] = own
        return tokenizer, ids

    def encode(self, text: str) -> list[int]:
        token_ids = _ids(self._tokenizer, text)
        # An empty prompt is fine where a start-of-text token gives the model something to start from.
        return token_ids if token_ids or self._bos is None else [self._bos]

    def shortened(self, text: str, most: int) -> list[int]:
        self._tokenizer.enable_truncation(most)
        try:
            return self.encode(text)
        finally:
            self._tokenizer.no_truncation()

    def decode(self, token_ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(token_ids), skip_special_tokens=True)
        return text


def _ids(tokenizer: _HuggingFace, text: str, add_special_tokens: bool = True) -> list[int]:
    try:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
    except TypeError:  # lone surrogates: how Python passes on bytes of arguments and files that are not UTF-8
        raise UsageError("the prompt is not text: some of its bytes are not UTF-8") from None
    return ids


class IdTokenizer:
    """For a model without tokenizer.json: its text is token ids in decimal, separated by spaces or commas."""

    def __init__(self, vocab: int) -> None:
        self.vocab = vocab

    def encode(self, text: str) -> list[int]:
        try:
            return [int(word) for word in text.replace(",", " ").split()]
        except ValueError:
            raise UsageError(
                "this model has no tokenizer: give the prompt as token ids, numbers separated by spaces"
            ) from None

    def shortened(self, text: str, most: int) -> list[int]:
        return self.encode(text)[:most]

    def decode(self, token_ids: Sequence[int]) -> str:
        return " ".join(map(str, token_ids))


class Detokenizer:
    """Turns tokens into text as they come, whole characters only, with the spaces the full text has.

    A token alone does not know its leading space (many tokenizers drop one at the start of a text) nor whether its
    bytes end a character, so each step decodes a short window that starts a token group earlier and prints what it
    added. Same idea as in Hugging Face's text-generation-inference; the window starts inside the prompt, so that the
    first token keeps its space.
    """

    _CONTEXT = 8  # at most so many tokens of the prompt are decoded along: a character has up to four bytes

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int] = ()) -> None:
        self._decode = tokenizer.decode
        self._ids = self._seam(prompt)
        self._start = 0  # of the window
        self._printed = len(self._ids)  # tokens whose text is out

    def add(self, token_id: int) -> str:
        """The text that this token completes; empty while a character is unfinished."""
        self._ids.append(token_id)
        before = self._decode(self._ids[self._start : self._printed])
        after = self._decode(self._ids[self._start :])
        if after.endswith(_REPLACEMENT) or len(after) <= len(before):
            return ""
        self._advance()
        return after[len(before) :]

    def flush(self) -> str:
        """What is left at the end of the answer, unfinished characters as U+FFFD."""
        if self._printed == len(self._ids):
            return ""
        before = self._decode(self._ids[self._start : self._printed])
        after = self._decode(self._ids[self._start :])
        # Byte-fallback decoders turn a whole run into U+FFFD once one byte is missing: then the rest speaks for itself.
        text = after[len(before) :] if after.startswith(before) else self._decode(self._ids[self._printed :])
        self._advance()
        return text

    def _seam(self, prompt: Sequence[int]) -> list[int]:
        """The shortest end of the prompt that has text and whole characters; nothing if it ends inside a character."""
        for count in range(1, min(len(prompt), self._CONTEXT) + 1):
            end = list(prompt[-count:])
            text = self._decode(end)
            if text and _REPLACEMENT not in text:
                return end
        # No text yet (a blank, or special tokens alone): what follows must not lose its blank as if it came first.
        end = list(prompt[-self._CONTEXT :])
        return [] if self._decode(end) else end

    def _advance(self) -> None:
        self._start, self._printed = self._printed, len(self._ids)
        # Forget what no window reaches any more: decoding stays as cheap for the thousandth token as for the first.
        del self._ids[: self._start]
        self._printed -= self._start
        self._start = 0


class StopScanner:
    """Ends an answer before the first of some stop strings, and holds back text that may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        if any(not stop for stop in stops):
            raise UsageError("a stop string is empty; leave it out")
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def add(self, text: str) -> str:
        """The part of the text so far that can be shown. Sets `stopped` when a stop string is complete."""
        text = self._held + text
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        hold = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - hold :]
        return text[: len(text) - hold]

    def flush(self) -> str:
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


def load(definition: bytes | None, vocab: int, bos: int | None) -> Tokenizer:
    """The model's tokenizer, or plain ids if it has none."""
    return IdTokenizer(vocab) if definition is None else TextTokenizer(definition, vocab, bos)


def checked_ids(tokenizer: Tokenizer, text: str | Sequence[int], what: str) -> list[int]:
    """Token ids of `what` ("the prompt"), at least one. Raises UsageError."""
    if isinstance(text, bytes | bytearray) or not isinstance(text, Sequence):
        raise UsageError(f"{what} should be text or a sequence of token ids, not {type(text).__name__}")
    ids = tokenizer.encode(text) if isinstance(text, str) else list(text)
    if not ids:
        raise UsageError(f"{what} is empty and this model has no start-of-text token to begin with")
    for place, token_id in enumerate(ids, 1):
        if isinstance(token_id, bool) or not isinstance(token_id, int) or not 0 <= token_id < tokenizer.vocab:
            # The place, not the value: a prompt's content does not belong in an error.
            raise UsageError(f"item {place} of {what} is no token id of this model (0 to {tokenizer.vocab - 1})")
    return ids


def prompt_ids(tokenizer: Tokenizer, prompt: str | Sequence[int], context: int) -> list[int]:
    """Token ids of a prompt, checked before anything is sent. Raises UsageError."""
    ids = checked_ids(tokenizer, prompt, "the prompt")
    if len(ids) > context:
        raise UsageError(f"the prompt has {len(ids)} tokens and the model's context is {context}: shorten the prompt")
    return ids
