"""The bytes that say how to talk with a model: one spelling, bounded, nothing else in them."""

from __future__ import annotations

import json

import pytest
from tacit.chatfile import DEFAULT, LARGEST, TOOLS, ChatFile
from tacit.errors import ModelError

CHAT = ChatFile({DEFAULT: "{{ messages[0].content }} é"}, {"bos_token": "<s>"})


def test_bytes_come_back_as_they_were():
    assert ChatFile.from_bytes(CHAT.to_bytes()) == CHAT
    assert CHAT.to_bytes() == ChatFile({DEFAULT: "{{ messages[0].content }} é"}, {"bos_token": "<s>"}).to_bytes()


def test_a_template_for_tools_is_taken_only_with_tools():
    chat = ChatFile({DEFAULT: "plain", TOOLS: "with tools"}, {})
    assert (chat.template(False), chat.template(True)) == ("plain", "with tools")
    assert CHAT.template(True) == CHAT.templates[DEFAULT]


@pytest.mark.parametrize(
    ("templates", "tokens"),
    [
        ({}, {}),
        ({"other": "x"}, {}),
        ({DEFAULT: ""}, {}),
        ({DEFAULT: 3}, {}),
        ({DEFAULT: "x" * (1 << 19)}, {}),
        ({DEFAULT: "x", **{str(n): "y" for n in range(16)}}, {}),
        ({DEFAULT: "x"}, {"bos_token": None}),
        ({DEFAULT: "x"}, {"messages": "not a token"}),
        ("x", {}),
    ],
)
def test_nothing_else_is_one(templates, tokens):
    with pytest.raises(ModelError, match="chat template"):
        ChatFile(templates, tokens)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        CHAT.to_bytes() + b" ",
        json.dumps({"templates": {DEFAULT: "x"}, "tokens": {}, "more": 1}).encode(),
        b"x" * (LARGEST + 1),
        b"\xff",
    ],
)
def test_other_bytes_are_refused(data):
    with pytest.raises(ModelError, match="chat template"):
        ChatFile.from_bytes(data)


def test_half_a_character_is_an_error_of_the_model():
    with pytest.raises(ModelError, match="half a character"):
        ChatFile({DEFAULT: "\ud800"}, {}).to_bytes()
