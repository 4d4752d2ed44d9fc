"""Tools that a model may call: which form it writes calls in, reading them from an answer, and answers that must be calls.

| form | an answer that calls | templates that write it |
| --- | --- | --- |
| hermes | `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, text before it | Qwen, Hermes |
| mistral | `[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]` | Mistral |
| llama | `{"name": ..., "parameters": {...}}` and nothing else | Llama 3 |

Special tokens are left out of an answer's text, so a call may stand there without what marks it.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError
from .constraints import Grammar, json_rule
from .tokens import TextTokenizer, Tokenizer

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_BLANKS = re.compile(r"\s*")
_BETWEEN = re.compile(r"[\s;]*")


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a model writes calls."""

    name: str
    opening: str  # empty: none
    closing: str
    arguments: str  # the key they stand under
    listed: bool  # calls are the items of one list


HERMES = ToolFormat("hermes", "<tool_call>", "</tool_call>", "arguments", listed=False)
MISTRAL = ToolFormat("mistral", "[TOOL_CALLS]", "", "arguments", listed=True)
LLAMA = ToolFormat("llama", "<|python_tag|>", "", "parameters", listed=False)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model wants called, and the JSON object to call it with, as text."""

    name: str
    arguments: str
    id: str = field(default_factory=lambda: f"{secrets.randbits(36):09x}")  # Mistral's templates want nine characters

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a message's "tool_calls"."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


def tool_format(template: str) -> ToolFormat | None:
    """What a chat template makes of calls, by its source; None if it knows no tools."""
    if not re.search(r"\btools\b", template):
        return None
    for known in (HERMES, MISTRAL):
        if known.opening in template:
            return known
    return LLAMA if "python_tag" in template or '"parameters"' in template else None


def tool_names(tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of function definitions as OpenAI's API has them. Raises UsageError for what is none."""
    names = []
    for number, tool in enumerate(tools, 1):
        function = tool.get("function") if isinstance(tool, Mapping) and tool.get("type") == "function" else None
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(f"tool {number} is no function with a name of 1 to 64 letters, digits, '_', '.' and '-'")
        if name in names:
            raise UsageError(f"two tools are called {name}")
        names.append(name)
    return names


def parse_calls(text: str, form: ToolFormat, names: Collection[str]) -> tuple[str, tuple[ToolCall, ...]]:
    """An answer's text without calls, and its calls of functions called so. What is no call in order stays text."""
    if form is HERMES and HERMES.opening in text:
        return _marked(text, names)
    before, found, after = text.partition(form.opening)
    said, body = (before, after) if found else ("", text)
    calls = _bare(body, names)
    return (said.strip(), calls) if calls else (text, ())


def call_grammar(
    tokenizer: Tokenizer,
    form: ToolFormat,
    tools: Sequence[Mapping[str, Any]],
    *,
    only: str | None = None,
    several: bool = True,
) -> Grammar:
    """Answers that are calls, for tool_choice "required", or of the function `only`; `several`: more than one may follow.

    The arguments follow the function's schema. Raises UsageError for a name that is not among the tools, or a schema that cannot
    be held to.
    """
    names = tool_names(tools)
    if not names:
        raise UsageError("a tool is to be called, and none is given")
    if only is not None and only not in names:
        raise UsageError(f"no tool is called {only!r}")
    wanted = [tool["function"] for tool in tools if only in (None, tool["function"]["name"])]
    rules = [json_rule(_call_schema(function, form)) for function in wanted]
    opening, closing = (_literal(tokenizer, text) for text in (form.opening, form.closing))
    many = several and only is None
    if form.listed:
        further = '(", " call)*' if many else ""
        body = f'{opening} "[" call {further} "]"'
    elif form is HERMES:
        one = f'{opening} "\\n" call "\\n" {closing}'
        body = f'one ("\\n" one)*\none: {one}' if many else one
    else:
        body = "call"
    choice = " | ".join(f"call{number}" for number in range(len(rules)))
    lines = [f"start: {body}", f"call: {choice}", *(f"call{number}: {rule}" for number, rule in enumerate(rules))]
    return Grammar(tokenizer, "\n".join(lines))


def _call_schema(function: Mapping[str, Any], form: ToolFormat) -> dict[str, Any]:
    parameters = function.get("parameters") or {"type": "object", "properties": {}, "additionalProperties": False}
    if not isinstance(parameters, Mapping):
        raise UsageError(f"the parameters of tool {function['name']} are no JSON schema")
    # Definitions are looked up from the outermost schema.
    inner = {key: value for key, value in parameters.items() if key not in ("$defs", "definitions", "$schema")}
    outer = {key: parameters[key] for key in ("$defs", "definitions") if key in parameters}
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, form.arguments: {"type": "object", **inner}},
        "required": ["name", form.arguments],
        "additionalProperties": False,
        **outer,
    }


def _literal(tokenizer: Tokenizer, text: str) -> str:
    """Markup in a grammar: the special token, where it is one."""
    if isinstance(tokenizer, TextTokenizer) and tokenizer.added_tokens.get(text):
        return f"<[{tokenizer.token_id(text)}]>"
    return json.dumps(text) if text else ""


def _marked(text: str, names: Collection[str]) -> tuple[str, tuple[ToolCall, ...]]:
    """Calls between HERMES' marks; the last may lack its closing one."""
    said, calls, at = [], [], 0
    while (start := text.find(HERMES.opening, at)) >= 0:
        body = _skipped(_BLANKS, text, start + len(HERMES.opening))
        value, end = _value(text, body)
        call = _call(value, names)
        end = _skipped(_BLANKS, text, end)
        closed = text.startswith(HERMES.closing, end)
        if call is None or not (closed or end == len(text)):
            said.append(text[at:body])
            at = body
            continue
        said.append(text[at:start])
        calls.append(call)
        at = end + (len(HERMES.closing) if closed else 0)
    said.append(text[at:])
    return ("".join(said).strip(), tuple(calls)) if calls else (text, ())


def _bare(text: str, names: Collection[str]) -> tuple[ToolCall, ...]:
    """The calls that a text consists of, one after another or in a list; none if there is anything else in it."""
    calls: list[ToolCall] = []
    at = _skipped(_BETWEEN, text, 0)
    while at < len(text):
        value, end = _value(text, at)
        for one in value if isinstance(value, list) else [value]:
            call = _call(one, names)
            if call is None:
                return ()
            calls.append(call)
        at = _skipped(_BETWEEN, text, end)
    return tuple(calls)


def _value(text: str, at: int) -> tuple[object, int]:
    """The JSON value that begins here, and where it ends."""
    try:
        value, end = json.JSONDecoder().raw_decode(text, at)
    except (ValueError, RecursionError):
        return None, at
    return value, end


def _call(value: object, names: Collection[str]) -> ToolCall | None:
    if not isinstance(value, dict) or value.get("name") not in names:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):  # some models write the object as a text
        arguments, _ = _value(arguments, 0)
    if not isinstance(arguments, dict):
        return None
    return ToolCall(value["name"], json.dumps(arguments, ensure_ascii=False))


def _skipped(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()
