"""Requests that cannot be met: which status, which words, and never a word of what was asked."""

from __future__ import annotations

import json
import logging

import httpx2
import openai
import pytest
from in_the_clear import Offered, gateway

CANARY = "Zebedee-juggled-nine-lemons"
CHAT = {"model": "stories", "messages": [{"role": "user", "content": CANARY}]}
TEXT = {"model": "stories", "prompt": CANARY}
RESPONSES = {"model": "stories", "input": CANARY}
IMAGE = {"type": "image_url", "image_url": {"url": f"http://192.0.2.1/{CANARY}.png"}}


def post(address, path, body):
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return httpx2.post(
        f"{address}/v1/{path}", content=content, headers={"Content-Type": "application/json"}, timeout=20
    )


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "words"),
    [
        ("completions", TEXT | {"model": "gpt-4o"}, 404, "model", "not served here"),
        ("completions", TEXT | {"prompt": f"{CANARY} " * 300}, 400, "prompt", "context length is 512"),
        (
            "chat/completions",
            CHAT | {"messages": [{"role": "user", "content": CANARY * 99}]},
            400,
            "messages",
            "context",
        ),
        ("responses", RESPONSES | {"input": CANARY * 99}, 400, "input", "context"),
        ("completions", TEXT | {"echo": True}, 400, "echo", "echo is not supported"),
        ("completions", TEXT | {"suffix": CANARY}, 400, "suffix", "suffix is not supported"),
        ("completions", TEXT | {"best_of": 4}, 400, "best_of", "best_of is not supported"),
        ("completions", TEXT | {"frequency_penalty": 0.5}, 400, "frequency_penalty", "make it 0"),
        ("completions", TEXT | {"colour": CANARY}, 400, "colour", "colour is not a parameter"),
        ("completions", TEXT | {"temperature": 3}, 400, "temperature", "less than or equal to 2"),
        ("completions", TEXT | {"temperature": "0"}, 400, "temperature", "valid number"),
        ("completions", TEXT | {"max_tokens": 0}, 400, "max_tokens", "greater than or equal to 1"),
        ("completions", TEXT | {"n": 9}, 400, None, "at most 8"),
        ("completions", TEXT | {"stop": ["", CANARY]}, 400, "stop[0]", "at least 1 character"),
        ("completions", TEXT | {"stream_options": {"include_usage": True}}, 400, "stream_options", "stream: true"),
        ("completions", TEXT | {"return_progress": True}, 400, "return_progress", "stream: true"),
        ("completions", {"model": "stories"}, 400, "prompt", "prompt is missing"),
        ("completions", {"model": "stories", "prompt": [5000]}, 400, None, "item 1 of the prompt"),
        ("completions", {"model": "stories", "prompt": []}, 400, "prompt", "at least 1"),
        ("completions", {"model": "ids", "prompt": CANARY}, 400, None, "token ids"),
        ("chat/completions", CHAT | {"model": "ids"}, 400, "model", "no chat template"),
        ("chat/completions", CHAT | {"store": True}, 400, "store", "nothing is kept"),
        ("chat/completions", CHAT | {"top_logprobs": 2}, 400, "top_logprobs", "logprobs: true"),
        ("chat/completions", CHAT | {"audio": {"voice": CANARY}}, 400, "audio", "audio is not"),
        ("chat/completions", CHAT | {"messages": []}, 400, "messages", "at least 1"),
        ("chat/completions", CHAT | {"messages": [{"role": CANARY, "content": "a"}]}, 400, "messages[0]", "no kind"),
        (
            "chat/completions",
            CHAT | {"messages": [{"role": "user", "content": [IMAGE]}]},
            400,
            "messages[0].content[0].type",
            "no URL is fetched",
        ),
        ("responses", RESPONSES | {"previous_response_id": "resp_1"}, 400, "previous_response_id", "nothing is kept"),
        ("responses", RESPONSES | {"store": True}, 400, "store", "nothing is kept"),
        ("responses", RESPONSES | {"background": True}, 400, "background", "nothing is kept"),
        ("responses", RESPONSES | {"truncation": "auto"}, 400, "truncation", "silently"),
        (
            "responses",
            RESPONSES | {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": CANARY}]}]},
            400,
            "input[0].content[0]",
            "no URL is fetched",
        ),
        ("embeddings", {"model": "stories", "input": CANARY}, 400, None, "no embedding model"),
        ("embeddings", {"model": "letters", "input": CANARY, "dimensions": 8}, 400, "dimensions", ""),
        ("completions", "{" + CANARY, 400, None, "not valid JSON"),
        ("completions", b"\xff\xfe", 400, None, "not valid JSON"),
        ("completions", "[" * 100_000, 400, None, "not valid JSON"),
        ("completions", json.dumps(CANARY), 400, None, ""),
        ("completions", "", 400, None, ""),
        ("completions", '{"model": "stories", "prompt": "\\ud800"}', 400, None, ""),
        ("completions", '{"model": "stories", "prompt": "a", "\\ud800": 1}', 400, None, ""),
        ("completions", '{"model": "stories", "prompt": "a", "temperature": NaN}', 400, "temperature", ""),
        ("completions", '{"model": "stories", "prompt": "a", "seed": %s}' % ("9" * 5000), 400, None, ""),
        ("nothing", TEXT, 404, None, "no such path"),
        ("models", TEXT, 405, None, "does not take this method"),
    ],
)
def test_it_is_said_what_is_wrong_and_nothing_of_what_was_asked(address, caplog, path, body, status, param, words):
    caplog.set_level(logging.INFO)
    answer = post(address, path, body)
    error = answer.json()["error"]
    assert answer.status_code == status, error
    assert set(error) == {"message", "type", "param", "code"}
    assert words in error["message"]
    if param is not None:
        assert error["param"] == param
    assert CANARY not in answer.text
    assert CANARY not in caplog.text
    assert "x-should-retry" not in answer.headers


def test_a_prompt_that_is_too_long_has_the_code_that_programs_look_for(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="stories", messages=[{"role": "user", "content": "word " * 600}])
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="stories", prompt="word " * 600, stream=True)
    assert caught.value.code == "context_length_exceeded"


def test_a_prompt_of_all_the_context_has_room_for_one_token(client):
    found = client.completions.create(model="stories", prompt=[5] * 512, temperature=0)
    assert found.usage.completion_tokens == 1
    assert found.choices[0].finish_reason == "length"


def test_a_fault_of_the_gateway_is_said_without_its_words(shipped, caplog):
    class Broken(Offered):
        def get(self, name):
            raise KeyError(CANARY)

    with gateway(Broken(shipped)) as broken:
        answer = post(broken, "completions", TEXT)
    assert answer.status_code == 500
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["error"]["code"] == "internal"
    assert "POST /v1/completions failed inside: KeyError at" in caplog.text
    assert CANARY not in answer.text + caplog.text
