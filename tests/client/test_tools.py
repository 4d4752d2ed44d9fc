"""Tool calls: read from answers in the usual forms, and answers that must be calls always are."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
import pytest
from chat_models import byte_fallback, byte_level, facts
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.client.answer import Answer
from tacit.client.sampling import Sampling
from tacit.client.tools import HERMES, LLAMA, MISTRAL, ToolFormat, call_grammar, parse_calls, tool_format, tool_names
from tacit.errors import UsageError

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "unit": {"$ref": "#/$defs/unit"}},
    "required": ["city", "unit"],
    "additionalProperties": False,
    "$defs": {"unit": {"enum": ["C", "F"]}},
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "now"}},
]
NAMES = tool_names(TOOLS)
FORMS = [HERMES, MISTRAL, LLAMA]
TOKENIZERS = {"byte-level": byte_level(), "byte-fallback": byte_fallback()}
CALL = '{"name": "weather", "arguments": {"city": "Rome </tool_call> [x]", "unit": "C"}}'
ARGUMENTS = {"city": "Rome </tool_call> [x]", "unit": "C"}


def found(text: str, form: ToolFormat) -> tuple[str, list[tuple[str, dict]]]:
    said, calls = parse_calls(text, form, NAMES)
    return said, [(call.name, json.loads(call.arguments)) for call in calls]


def test_templates_tell_how_calls_are_written():
    assert tool_format("{% if tools %}<tool_call>") is HERMES
    assert tool_format("{% if tools %}[TOOL_CALLS]") is MISTRAL
    assert tool_format("{% if tools %}<|python_tag|>") is LLAMA
    assert tool_format("{% if tools %}") is None
    assert tool_format("<tool_call>") is None


@pytest.mark.parametrize(
    ("text", "said", "count"),
    [
        (f"<tool_call>\n{CALL}\n</tool_call>", "", 1),
        (f"Let me see. <tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>", "Let me see.", 2),
        (f"<tool_call>{CALL}", "", 1),  # the end of text came for the closing mark
        (CALL, "", 1),
        (f"{CALL}\n{CALL}", "", 2),
    ],
)
def test_hermes(text, said, count):
    assert found(text, HERMES) == (said, [("weather", ARGUMENTS)] * count)


@pytest.mark.parametrize("text", [f"[TOOL_CALLS] [{CALL}]", f"[{CALL}]", f"[TOOL_CALLS]{CALL}"])
def test_mistral(text):
    assert found(text, MISTRAL) == ("", [("weather", ARGUMENTS)])


def test_llama():
    call = CALL.replace("arguments", "parameters")
    for text in (call, f"<|python_tag|>{call}", f" {call} "):
        assert found(text, LLAMA) == ("", [("weather", ARGUMENTS)])
    assert found(f"{call}; {call}", LLAMA) == ("", [("weather", ARGUMENTS)] * 2)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "It is warm.",
        '{"name": "launch", "arguments": {}}',  # nobody offered that
        '{"name": "now", "arguments": [1]}',
        '{"name": "now", "arguments": {',
        "[" * 5000,
        f"{CALL} and more",
        "<tool_call>now()</tool_call>",
        "[TOOL_CALLS] none",
        "[]",
        "7",
    ],
)
def test_what_is_no_call_stays_text(form, text):
    assert parse_calls(text, form, NAMES) == (text, ())


def test_a_broken_call_beside_a_good_one_stays_text():
    said, calls = found(f"<tool_call>{{oops</tool_call><tool_call>{CALL}</tool_call>", HERMES)
    assert len(calls) == 1
    assert said == "<tool_call>{oops</tool_call>"


@settings(max_examples=200, deadline=None)
@given(st.text(), st.sampled_from(FORMS))
def test_no_text_breaks_the_reader(text, form):
    said, calls = parse_calls(text, form, NAMES)
    assert said == text or calls


def test_calls_are_written_back_as_they_came():
    _, (call,) = parse_calls(CALL, HERMES, NAMES)
    assert call.to_dict()["function"] == {"name": "weather", "arguments": json.dumps(ARGUMENTS)}
    assert len(call.id) == 9


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("only", [None, "now", "weather"])
def test_answers_that_must_be_calls_are(kind, form, only):
    tokenizer = TOKENIZERS[kind]
    grammar = call_grammar(tokenizer, form, TOOLS, only=only)
    ended = 0
    for seed in range(8):
        noise = np.random.default_rng(seed)
        answer = Answer(
            facts(tokenizer), tokenizer, [5], max_new_tokens=500, sampling=Sampling(temperature=1.0, seed=seed),
            constraint=grammar(),
        )  # fmt: skip
        while not answer.done:
            answer.take(noise.normal(size=tokenizer.vocab) * 3)
        if answer.finish_reason != "stop":
            continue
        ended += 1
        said, calls = found(answer.text, form)
        assert said == ""
        assert calls
        for name, arguments in calls:
            assert only in (None, name)
            jsonschema.validate(arguments, WEATHER if name == "weather" else {"maxProperties": 0})
        assert form is not LLAMA or len(calls) == 1
    assert ended >= 4


def test_one_call_where_several_are_not_wanted():
    tokenizer = TOKENIZERS["byte-level"]
    for form in FORMS:
        noise, sampling = np.random.default_rng(1), Sampling(temperature=1.0, seed=1)
        grammar = call_grammar(tokenizer, form, TOOLS[1:], several=False)
        answer = Answer(facts(tokenizer), tokenizer, [5], max_new_tokens=400, sampling=sampling, constraint=grammar())
        while not answer.done:
            answer.take(noise.normal(size=tokenizer.vocab))
        assert found(answer.text, form) == ("", [("now", {})])


@pytest.mark.parametrize(
    "tools",
    [
        [{"type": "web_search"}],
        [{"type": "function", "function": {}}],
        [{"type": "function", "function": {"name": "a b"}}],
        [TOOLS[1], TOOLS[1]],
        ["now"],
    ],
)
def test_tools_that_are_none(tools):
    with pytest.raises(UsageError, match="tool"):
        tool_names(tools)


def test_calls_that_cannot_be_asked_for():
    tokenizer = TOKENIZERS["byte-level"]
    with pytest.raises(UsageError, match="none is given"):
        call_grammar(tokenizer, HERMES, [])
    with pytest.raises(UsageError, match="'later'"):
        call_grammar(tokenizer, HERMES, TOOLS, only="later")
    bad = [{"type": "function", "function": {"name": "f", "parameters": {"not": {}}}}]
    with pytest.raises(UsageError, match="not"):
        call_grammar(tokenizer, HERMES, bad)
