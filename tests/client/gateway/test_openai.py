"""The official client, unchanged, against the gateway: every kind of request, streamed and whole."""

from __future__ import annotations

import base64
import json
import math
from typing import Literal

import numpy as np
import openai
import pydantic
import pytest
from tacit.client.answer import Answer
from tacit.client.generation import Generation
from tacit.client.sampling import Sampling

PROMPT = "Once upon a time"
MESSAGES = [{"role": "user", "content": PROMPT}]


def plain(shipped, prompt=PROMPT, count=16, stop=(), **sampling):
    """The same model, asked without gateway and batcher."""
    asked = Answer(
        shipped.facts,
        shipped.tokenizer,
        prompt,
        max_new_tokens=count,
        sampling=Sampling(**sampling),
        stop=stop,
    )
    return Generation(asked, shipped.start).complete()


def test_models(client):
    listed = client.models.list().data
    assert [one.id for one in listed] == ["stories", "ids", "tools", "padded", "letters"]
    assert client.models.retrieve("stories").model_extra == {"context_length": 512}
    with pytest.raises(openai.NotFoundError, match="not served here") as caught:
        client.models.retrieve("gpt-4o")
    assert caught.value.code == "model_not_found"


def test_a_completion_is_what_the_model_says(client, shipped):
    found = client.completions.create(model="stories", prompt=PROMPT, temperature=0)
    expected = plain(shipped)
    assert found.choices[0].text == expected.text
    assert found.choices[0].finish_reason == "length"
    assert found.system_fingerprint == "fp_" + "ab" * 8
    usage = found.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (5, 16, 21)
    assert usage.model_extra == {"cost": None, "currency": None, "operators": []}


def test_with_hidden_lengths_it_says_the_same(client, shipped):
    chunks = list(
        client.completions.create(
            model="padded", prompt=PROMPT, temperature=0, stream=True, extra_body={"return_progress": True}
        )
    )
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == plain(shipped).text
    assert chunks[0].model_extra["prompt_progress"]["total"] == 16  # that the peers see, of 5


def test_a_streamed_completion_is_the_same(client, shipped):
    chunks = list(
        client.completions.create(
            model="stories", prompt=PROMPT, temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == plain(shipped).text
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 16
    assert len({chunk.id for chunk in chunks}) == 1
    assert len(chunks) >= 16  # a token at a time


def test_several_prompts_several_answers(client, shipped):
    prompts = [PROMPT, "The big dog"]
    found = client.completions.create(model="stories", prompt=prompts, n=2, max_tokens=6, temperature=0)
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    expected = [plain(shipped, prompt, 6).text for prompt in prompts for _ in range(2)]
    assert [choice.text for choice in found.choices] == expected
    assert found.usage.completion_tokens == 24


def test_answers_with_a_seed_differ_among_each_other_and_come_again(client, shipped):
    def ask():
        found = client.completions.create(model="stories", prompt=PROMPT, n=3, max_tokens=12, seed=5, temperature=1)
        return [choice.text for choice in found.choices]

    first = ask()
    assert first[0] == plain(shipped, count=12, temperature=1, seed=5).text
    assert len(set(first)) == 3
    assert ask() == first


@pytest.mark.parametrize("form", ["one", "several"])
def test_a_prompt_may_be_token_ids(client, shipped, form):
    ids = shipped.tokenizer.encode(PROMPT)
    prompt = ids if form == "one" else [ids]
    found = client.completions.create(model="stories", prompt=prompt, max_tokens=5, temperature=0)
    assert found.choices[0].text == plain(shipped, count=5).text


def test_a_model_without_tokenizer_takes_and_gives_ids(client, shipped):
    ids = shipped.tokenizer.encode(PROMPT)
    found = client.completions.create(model="ids", prompt=" ".join(map(str, ids)), max_tokens=4, temperature=0)
    assert tuple(map(int, found.choices[0].text.split())) == plain(shipped, count=4).token_ids


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings(client, shipped, stream):
    stop = ". One"
    expected = plain(shipped, count=30, stop=[stop])
    assert expected.finish_reason == "stop"
    settings = {"model": "stories", "prompt": PROMPT, "max_tokens": 30, "temperature": 0, "stop": stop}
    if stream:
        choices = [chunk.choices[0] for chunk in client.completions.create(**settings, stream=True)]
    else:
        choices = client.completions.create(**settings).choices
    assert "".join(choice.text for choice in choices) == expected.text
    assert choices[-1].finish_reason == "stop"


def test_top_p_nearly_nothing_and_top_k_one_are_greedy(client, shipped):
    expected = plain(shipped, count=8).text
    for settings in ({"top_p": 0}, {"extra_body": {"top_k": 1}}):
        found = client.completions.create(model="stories", prompt=PROMPT, max_tokens=8, temperature=1, **settings)
        assert found.choices[0].text == expected


def test_logprobs_of_a_completion(client, shipped):
    found = client.completions.create(model="stories", prompt=PROMPT, max_tokens=8, temperature=0, logprobs=3)
    logprobs = found.choices[0].logprobs
    expected = plain(shipped, count=8, logprobs=True, top_logprobs=3).logprobs
    assert "".join(logprobs.tokens) == found.choices[0].text
    np.testing.assert_allclose(logprobs.token_logprobs, [one.logprob for one in expected])
    assert all(len(top) == 3 for top in logprobs.top_logprobs)
    for offset, token in zip(logprobs.text_offset, logprobs.tokens, strict=True):
        assert found.choices[0].text[offset:].startswith(token)


@pytest.mark.parametrize("stop", [None, ". One"])
def test_streamed_logprobs_are_those_of_the_whole(client, stop):
    settings = {"model": "stories", "messages": MESSAGES, "temperature": 0, "max_tokens": 20, "stop": stop}
    settings |= {"logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**settings).choices[0]
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**settings, stream=True)]
    streamed = [token for chunk in chunks if chunk.logprobs for token in chunk.logprobs.content]
    assert [token.token for token in streamed] == [token.token for token in whole.logprobs.content]
    shown = [[token.logprob for token in found] for found in (streamed, whole.logprobs.content)]
    np.testing.assert_allclose(*shown, atol=1e-9)
    text = "".join(token.token for token in streamed)
    assert text.startswith(whole.message.content)
    assert bytes(byte for token in streamed for byte in token.bytes).decode() == text
    assert all(token.logprob <= token.top_logprobs[0].logprob for token in streamed)
    assert math.isclose(streamed[0].logprob, streamed[0].top_logprobs[0].logprob)


def test_chat(client, shipped):
    expected = plain(shipped, shipped.template.encode(MESSAGES), 20).text
    found = client.chat.completions.create(model="stories", messages=MESSAGES, temperature=0, max_completion_tokens=20)
    assert found.choices[0].message.role == "assistant"
    assert found.choices[0].message.content == expected
    chunks = list(
        client.chat.completions.create(model="stories", messages=MESSAGES, temperature=0, max_tokens=20, stream=True)
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected


def test_a_conversation_is_sent_back_as_it_came(client):
    first = client.chat.completions.create(model="stories", messages=MESSAGES, temperature=0, max_tokens=8)
    said = first.choices[0].message
    further = [
        {"role": "developer", "content": "Tell stories."},
        *MESSAGES,
        said.model_dump(),
        {"role": "user", "content": [{"type": "text", "text": "What"}, {"type": "text", "text": " next?"}]},
    ]
    found = client.chat.completions.create(model="stories", messages=further, temperature=0, max_tokens=4)
    assert found.choices[0].message.content


def test_a_further_turn_is_cached(client):
    messages = [{"role": "user", "content": "The cat sat on the mat and looked at the moon"}]
    first = client.chat.completions.create(model="stories", messages=messages, temperature=0, max_tokens=8)
    messages += [first.choices[0].message.model_dump(), {"role": "user", "content": "Then"}]
    second = client.chat.completions.create(model="stories", messages=messages, temperature=0, max_tokens=4)
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens


def test_progress_of_the_prompt(client):
    chunks = list(
        client.chat.completions.create(
            model="stories",
            messages=[{"role": "user", "content": "word " * 150}],
            max_tokens=2,
            stream=True,
            extra_body={"return_progress": True},
        )
    )
    told = [chunk.model_extra["prompt_progress"] for chunk in chunks if "prompt_progress" in (chunk.model_extra or {})]
    assert told[0]["processed"] == 0
    assert [one["processed"] for one in told] == sorted(one["processed"] for one in told)
    assert told[-1]["processed"] == told[-1]["total"] > 256  # more than goes in at once
    assert len(told) > 2


def test_responses(client, shipped):
    expected = plain(shipped, shipped.template.encode(MESSAGES), 12).text
    found = client.responses.create(model="stories", input=PROMPT, temperature=0, max_output_tokens=12)
    assert found.output_text == expected
    assert found.status == "incomplete"
    assert found.incomplete_details.reason == "max_output_tokens"
    assert found.usage.output_tokens == 12
    again = client.responses.create(
        model="stories",
        instructions="",
        input=[{"role": "user", "content": [{"type": "input_text", "text": PROMPT}]}, *found.output],
        max_output_tokens=3,
        store=False,
    )
    assert again.usage.input_tokens > found.usage.input_tokens


def test_streamed_responses(client, shipped):
    events = list(
        client.responses.create(model="stories", input=PROMPT, temperature=0, max_output_tokens=12, stream=True)
    )
    assert [one.sequence_number for one in events] == list(range(len(events)))
    kinds = [one.type for one in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    text = "".join(one.delta for one in events if one.type == "response.output_text.delta")
    assert text == events[-1].response.output_text == plain(shipped, shipped.template.encode(MESSAGES), 12).text
    with client.responses.stream(model="stories", input=PROMPT, temperature=0, max_output_tokens=3) as stream:
        assert len(list(stream)) > 5  # the client's own helper follows it too


@pytest.mark.parametrize("form", ["float", "base64", None])  # None: base64, which the client asks for by itself
def test_embeddings(client, form):
    settings = {} if form is None else {"encoding_format": form}
    found = client.embeddings.create(model="letters", input=["a tale", "teatime"], **settings)
    vectors = [one.embedding for one in found.data]
    if form == "base64":
        vectors = [np.frombuffer(base64.b64decode(one), "<f4") for one in vectors]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert found.usage.total_tokens == 13
    with pytest.raises(openai.BadRequestError, match="no embedding model"):
        client.embeddings.create(model="stories", input="a")
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="text-embedding-3-small", input="a")


def test_parameters_that_change_nothing_are_taken(client):
    found = client.chat.completions.create(
        model="stories",
        messages=MESSAGES,
        max_tokens=2,
        user="me",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        frequency_penalty=0,
        presence_penalty=0.0,
        n=1,
        stop=[],
        modalities=["text"],
        extra_body={"safety_identifier": "x", "prompt_cache_key": "y"},
    )
    assert found.choices[0].finish_reason == "length"


def test_logit_bias(client, shipped):
    free = client.completions.create(model="stories", prompt=PROMPT, max_tokens=6, temperature=0)
    first = plain(shipped).token_ids[0]
    for settings in ({"prompt": PROMPT}, {"prompt": PROMPT, "temperature": 1}):
        found = client.completions.create(
            **{"model": "stories", "max_tokens": 6, "logit_bias": {first: -100}} | settings
        )
        assert not found.choices[0].text.startswith(free.choices[0].text[0])
    forced = client.completions.create(
        model="stories", prompt=PROMPT, max_tokens=4, logit_bias={"1000": 100}, logprobs=0
    )
    assert forced.choices[0].logprobs.tokens == [shipped.tokenizer.decode([1000])] * 4
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model="stories", prompt=PROMPT, logit_bias={"99999": 1})


SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Mia", "Ben"]}, "age": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "child", "schema": SCHEMA, "strict": True}}


def check(text):
    found = json.loads(text)
    assert set(found) == {"name", "age"}
    assert found["name"] in ("Mia", "Ben")
    assert 1 <= found["age"] <= 9


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_an_answer_of_a_schema_parses(client, temperature):
    settings = {"model": "stories", "messages": MESSAGES, "temperature": temperature, "max_tokens": 60}
    found = client.chat.completions.create(**settings, response_format=FORMAT, n=4)
    for choice in found.choices:
        assert choice.finish_reason == "stop"
        check(choice.message.content)
    chunks = client.chat.completions.create(**settings, response_format=FORMAT, stream=True)
    check("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    text = {"format": {"type": "json_schema", "name": "child", "schema": SCHEMA}}
    found = client.responses.create(
        model="stories", input=PROMPT, temperature=temperature, max_output_tokens=60, text=text
    )
    check(found.output_text)


def test_the_clients_own_parsing(client):
    class Child(pydantic.BaseModel):
        name: Literal["Mia", "Ben"]
        age: Literal[3, 4]

    found = client.chat.completions.parse(model="stories", messages=MESSAGES, max_tokens=60, response_format=Child)
    assert found.choices[0].message.parsed.age in (3, 4)


def test_any_json_object(client):
    for number in range(4):
        found = client.chat.completions.create(
            model="stories", messages=MESSAGES, max_tokens=200, seed=number, response_format={"type": "json_object"}
        ).choices[0]
        if found.finish_reason == "stop":
            assert isinstance(json.loads(found.message.content), dict)


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather somewhere",
        "parameters": {
            "type": "object",
            "properties": {"place": {"enum": ["here", "there"]}},
            "required": ["place"],
            "additionalProperties": False,
        },
    },
}
TIME = {"type": "function", "function": {"name": "time"}}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_that_must_be_called_is_called(client, choice, stream):
    settings = {"model": "tools", "messages": MESSAGES, "tools": [WEATHER, TIME], "max_tokens": 200, "seed": 3}
    settings |= {"tool_choice": choice, "parallel_tool_calls": False}
    if stream:
        chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**settings, stream=True)]
        calls = [call for chunk in chunks for call in chunk.delta.tool_calls or ()]
        assert chunks[-1].finish_reason == "tool_calls"
        assert not any(chunk.delta.content for chunk in chunks)
    else:
        found = client.chat.completions.create(**settings).choices[0]
        assert found.finish_reason == "tool_calls"
        assert found.message.content is None
        calls = found.message.tool_calls
    assert len(calls) == 1
    arguments = json.loads(calls[0].function.arguments)
    assert calls[0].id
    if calls[0].function.name == "weather":
        assert arguments["place"] in ("here", "there")
    else:
        assert choice == "required"
        assert arguments == {}


def test_a_call_and_its_result_are_sent_back(client):
    settings = {"model": "tools", "tools": [WEATHER], "max_tokens": 100}
    messages = list(MESSAGES)
    called = client.chat.completions.create(messages=messages, tool_choice="required", **settings).choices[0].message
    messages += [called.model_dump(), {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "sunny"}]
    found = client.chat.completions.create(messages=messages, tool_choice="none", **settings)
    assert found.choices[0].message.content
    assert found.choices[0].message.tool_calls is None


def test_a_tool_that_may_be_called_need_not_be(client):
    found = client.chat.completions.create(
        model="tools", messages=MESSAGES, tools=[WEATHER], temperature=0, max_tokens=5
    ).choices[0]
    assert found.message.content
    assert found.finish_reason == "length"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "stories", "tools": [WEATHER]}, "knows no tools"),
        ({"tool_choice": "required"}, "no tools are given"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "time"}}}, "not given"),
        ({"tools": [WEATHER, WEATHER]}, "two tools"),
        ({"tools": [WEATHER], "response_format": {"type": "json_object"}}, "tool_choice: 'none'"),
        ({"response_format": {"type": "json_object"}, "stop": "x"}, "no stop strings"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nothing"}}}},
            "form of the answer",
        ),
    ],
)
def test_forms_and_tools_that_cannot_be(client, settings, words):
    with pytest.raises(openai.BadRequestError, match=words):
        client.chat.completions.create(**{"model": "tools", "messages": MESSAGES} | settings)
