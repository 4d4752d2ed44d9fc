"""Answers of a given form: JSON, JSON of a schema, a regular expression, a grammar.

The client samples, so the form costs the peers nothing and they learn nothing of it: tokens that cannot come next are left out
of the choice, here. What is fed stays a token a step; stretches that the form leaves no choice in are not fed at once, since
that would show. The grammars and the search through the vocabulary are llguidance's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, UsageError
from ..records import tidy
from .extras import need_chat_extra
from .tokens import TextTokenizer, Tokenizer

LARGEST = 256 << 10  # characters of a schema or grammar

# Blanks between the parts of JSON are bounded: a model that is unsure could go on with them until its tokens run out.
# One, or a line break and what indents the next line.
_JSON_FORM = {"whitespace_pattern": r"\r?\n[ \t]{0,32}| ?", "lenient": False}


_EXACT = 1 << 53
_QUOTED = re.compile(r"\s*(\d+ \||\^)")
_ENDS = re.compile(r"</s>|eos|eot|end", re.IGNORECASE)


class Constraint(Protocol):
    """The form of one answer on its way."""

    @property
    def may_end(self) -> bool:
        """What there is so far is complete."""

    @property
    def must_end(self) -> bool:
        """It is complete, and nothing may follow."""

    def allowed(self) -> NDArray[np.bool_]:
        """The tokens of the vocabulary that may come next (V,); no end-of-text token."""

    def advance(self, token_id: int) -> None:
        """This token came."""


class Grammar:
    """A form for answers of one model. Call it for the `Constraint` of an answer: each needs its own."""

    def __init__(self, tokenizer: Tokenizer, text: str) -> None:
        """`text`: a grammar as llguidance takes it. Raises UsageError saying what is wrong with it; ConfigError without
        llguidance."""
        if len(text) > LARGEST:
            raise UsageError(f"the form of the answer is described in {len(text)} characters, more than {LARGEST}")
        if not isinstance(tokenizer, TextTokenizer):
            raise UsageError("a model without tokenizer.json cannot be held to a form: its answers are token ids")
        need_chat_extra("an answer of a given form", "llguidance")
        self._vocabulary = tokenizer.shared(_Vocabulary)
        self._text = text
        if why := self._vocabulary.complaint(text):
            raise UsageError(f"the form of the answer cannot be used: {tidy(why, 300)}")

    def __call__(self) -> Constraint:
        return _Matched(self._vocabulary, self._text)


def json_object(tokenizer: Tokenizer) -> Grammar:
    """Any JSON object."""
    return json_schema(tokenizer, {"type": "object"})


def json_schema(tokenizer: Tokenizer, schema: Mapping[str, Any]) -> Grammar:
    """JSON that a schema describes. A schema that uses what cannot be held to is refused, never followed in part."""
    return Grammar(tokenizer, f"start: {json_rule(schema)}")


def regex(tokenizer: Tokenizer, pattern: str) -> Grammar:
    """A text that a regular expression matches as a whole; without look-around and back references."""
    need_chat_extra("an answer of a given form", "llguidance")
    from llguidance import LLMatcher

    return Grammar(tokenizer, LLMatcher.grammar_from_regex(pattern))


def grammar(tokenizer: Tokenizer, text: str) -> Grammar:
    """A text of a context-free grammar in Lark's notation, whose first rule is `start`."""
    return Grammar(tokenizer, text)


def from_response_format(tokenizer: Tokenizer, wanted: Mapping[str, Any] | None) -> Grammar | None:
    """As OpenAI's API says it: {"type": "text"}, {"type": "json_object"}, or {"type": "json_schema", "json_schema":
    {"schema": ...}}. None for text."""
    kind = None if wanted is None else wanted.get("type")
    if wanted is None or kind == "text":
        return None
    if kind == "json_object":
        return json_object(tokenizer)
    inner = wanted.get("json_schema")
    if kind != "json_schema" or not isinstance(inner, Mapping):
        raise UsageError("response_format has a type other than text, json_object and json_schema, or no json_schema")
    schema = inner.get("schema")
    if not isinstance(schema, Mapping):
        raise UsageError("response_format: json_schema has no schema")
    return json_schema(tokenizer, schema)


def wanted_form(
    tokenizer: Tokenizer,
    response_format: Mapping[str, Any] | None = None,
    schema: Mapping[str, Any] | None = None,
    lark: str | None = None,
) -> Grammar | None:
    """The one of these that is given; None if none is. Raises UsageError for several."""
    if sum(one is not None for one in (response_format, schema, lark)) > 1:
        raise UsageError("give one of response_format, json_schema and grammar: an answer has one form")
    if schema is not None:
        return json_schema(tokenizer, schema)
    return grammar(tokenizer, lark) if lark is not None else from_response_format(tokenizer, response_format)


def json_rule(schema: Mapping[str, Any]) -> str:
    """A schema as a part of a grammar. Raises UsageError for one that JSON cannot hold."""
    if not isinstance(schema, Mapping):
        raise UsageError("a JSON schema is an object")
    try:
        _check_numbers(schema)
        return "%json " + json.dumps({**schema, "x-guidance": _JSON_FORM}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the JSON schema is none ({type(error).__name__})") from None


def _check_numbers(value: object) -> None:
    """Larger integers would be rounded on their way into a grammar."""
    if isinstance(value, int) and abs(value) > _EXACT:
        raise UsageError("the JSON schema holds an integer beyond 2^53, which answers cannot be held to exactly")
    if isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            _check_numbers(item)


class _Vocabulary:
    """A model's tokens as llguidance sees them.

    It wants to know a token that ends a text. Which ones do is the answer's to say, so it is told any special token, and what
    it says of that one is not heeded."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self.size = tokenizer.vocab

    @cached_property
    def end(self) -> int:
        special = [text for text, is_special in self._tokenizer.added_tokens.items() if is_special]
        likely = [text for text in special if _ENDS.search(text)]
        ids = [number for text in likely + special if (number := self._tokenizer.token_id(text)) is not None]
        if not ids:
            raise ModelError("answers of this model cannot be held to a form: its tokenizer has no special token")
        return ids[0]

    @cached_property
    def tokens(self) -> Any:
        from llguidance import LLTokenizer

        try:
            return LLTokenizer(self._tokenizer.definition.decode(), n_vocab=self.size, eos_token=self.end)
        except ValueError as error:
            raise ModelError(
                f"answers of this model cannot be held to a form, its tokenizer is of another kind ({tidy(str(error), 200)})"
            ) from None

    def complaint(self, text: str) -> str:
        """What is wrong with a grammar; nothing if it can be used."""
        from llguidance import LLMatcher

        wrong, messages = LLMatcher.validate_grammar_with_warnings(text, self.tokens)
        if not wrong:
            return ""
        # Its place in our own line of grammar says nothing to whoever wrote a schema, and need not show all of it.
        words = re.sub(r"^at \d+\(\d+\):\s*", "", messages[0].strip())
        return " ".join(line.strip() for line in words.splitlines() if not _QUOTED.match(line)) or "it is none"


class _Matched:
    """A `Constraint` by llguidance."""

    def __init__(self, vocabulary: _Vocabulary, text: str) -> None:
        from llguidance import LLMatcher

        self._matcher = LLMatcher(vocabulary.tokens, text, log_level=0)
        self._size, self._end = vocabulary.size, vocabulary.end
        self._check()

    @property
    def may_end(self) -> bool:
        return bool(self._matcher.is_accepting())

    @property
    def must_end(self) -> bool:
        return bool(self._matcher.is_accepting() and self._matcher.is_stopped())

    def allowed(self) -> NDArray[np.bool_]:
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        found = np.unpackbits(bits, count=self._size, bitorder="little").astype(np.bool_)
        found[self._end] = False
        return found

    def advance(self, token_id: int) -> None:
        self._matcher.consume_token(token_id)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise UsageError(f"the form of the answer is too complex: {tidy(self._matcher.get_error(), 200)}")
