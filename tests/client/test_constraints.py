"""Answers of a given form, driven by random logits: those that end have the form, and nothing else changes."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import jsonschema
import numpy as np
import pytest
from chat_models import byte_fallback, byte_level, facts
from hypothesis import given, settings
from hypothesis import strategies as st
from tacit.client import constraints, extras
from tacit.client.answer import Answer
from tacit.client.constraints import Constraint, from_response_format, json_object, json_schema, wanted_form
from tacit.client.generation import Generation, Step, StepCost
from tacit.client.sampling import Sampling
from tacit.client.tokens import IdTokenizer, TextTokenizer
from tacit.errors import ConfigError, ModelError, UsageError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TOKENIZERS = {"byte-level": byte_level(), "byte-fallback": byte_fallback()}


@pytest.fixture(params=TOKENIZERS, scope="module")
def tokenizer(request):
    return TOKENIZERS[request.param]


def told(
    tokenizer, constraint: Constraint | None, seed: int, most: int = 400, spread: float = 3.0, **more: Any
) -> Answer:
    """An answer made of noise: whatever the form leaves free is chosen at random."""
    noise = np.random.default_rng(seed)
    sampling = Sampling(temperature=1.0 if seed % 2 else 0.0, seed=seed, logprobs=True, top_logprobs=2)
    answer = Answer(
        facts(tokenizer), tokenizer, [5], max_new_tokens=most, sampling=sampling, constraint=constraint, **more
    )
    while not answer.done:
        answer.take(noise.normal(size=tokenizer.vocab) * spread)
    return answer


# Schemas that a hypothesis makes ---------------------------------------------------------------------------------------

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=6)
WHOLE = st.integers(-(1 << 53), 1 << 53)
FRACTIONS = st.integers(1, 9999).map(lambda number: number / 100)
VALUES = NAMES | WHOLE | FRACTIONS | st.booleans() | st.none()
LEAVES = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        st.integers(-999, 999),
        st.integers(0, 99),
    ),
    st.builds(lambda most: {"type": "string", "maxLength": most}, st.integers(0, 12)),
    st.just({"type": "string", "pattern": "^[a-c]{1,4}x?$"}),
    st.builds(
        lambda low, more: {"type": "number", "minimum": low, "maximum": low + more}, st.integers(-99, 99), FRACTIONS
    ),
    st.builds(lambda values: {"enum": values}, st.lists(VALUES, min_size=1, max_size=4)),
    st.builds(lambda value: {"const": value}, VALUES | st.lists(VALUES, max_size=2)),
)


def _object(properties: dict[str, Any], needed: list[bool]) -> dict[str, Any]:
    required = [name for name, need in zip(properties, needed, strict=False) if need]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(_object, st.dictionaries(NAMES, inner, max_size=3), st.lists(st.booleans(), max_size=3)),
        st.builds(lambda item, most: {"type": "array", "items": item, "maxItems": most}, inner, st.integers(0, 3)),
        st.builds(lambda one, other: {"anyOf": [one, other]}, inner, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(SCHEMAS, st.integers(0, 1 << 20), st.sampled_from(sorted(TOKENIZERS)))
def test_what_ends_by_itself_parses_and_is_valid(schema, seed, kind):
    tokenizer = TOKENIZERS[kind]
    answer = told(tokenizer, json_schema(tokenizer, schema)(), seed)
    if answer.finish_reason == "stop":
        jsonschema.validate(json.loads(answer.text), schema)


def test_most_do_end_and_all_of_those_are_objects(tokenizer):
    form = json_object(tokenizer)
    ends = Counter()
    for seed in range(60):
        answer = told(tokenizer, form(), seed, most=300)
        ends[answer.finish_reason] += 1
        if answer.finish_reason == "stop":
            assert isinstance(json.loads(answer.text), dict)
        else:
            with pytest.raises(ValueError, match=r"."):
                json.loads(answer.text)
    assert ends["stop"] >= 15
    assert ends["length"] >= 1  # "length" is what an answer is called that was cut off inside


@pytest.mark.parametrize("pattern", ["[a-f0-9]{8}(-[a-f0-9]{4}){3}", "(yes|no)", "é?[0-9]{1,3}"])
def test_regular_expressions(tokenizer, pattern):
    form = constraints.regex(tokenizer, pattern)
    for seed in range(10):
        answer = told(tokenizer, form(), seed)
        assert answer.finish_reason == "stop"
        assert re.fullmatch(pattern, answer.text)


def test_grammars(tokenizer):
    form = constraints.grammar(tokenizer, 'start: "(" start ")" | /[0-9]/')
    for seed in range(10):
        answer = told(tokenizer, form(), seed)
        depth = answer.text.count("(")
        if answer.finish_reason == "stop":
            assert re.fullmatch(rf"\({{{depth}}}[0-9]\){{{depth}}}", answer.text)


# How an answer ends ----------------------------------------------------------------------------------------------------


def test_end_of_text_comes_only_where_the_form_is_complete(tokenizer):
    end = facts(tokenizer).eos[0]
    form = constraints.regex(tokenizer, "ab*")
    noise = np.zeros(tokenizer.vocab)
    noise[end] = 50.0  # the model wants to end at once
    answer = Answer(facts(tokenizer), tokenizer, [5], max_new_tokens=9, sampling=Sampling(), constraint=form())
    while not answer.done:
        answer.take(noise)
    assert (answer.text, answer.finish_reason) == ("a", "stop")


def test_a_complete_form_ends_without_a_further_step_and_without_an_end_of_text_token():
    tokenizer = TOKENIZERS["byte-level"]
    form = constraints.regex(tokenizer, "abc")
    answer = told(tokenizer, form(), 3, most=3)
    assert (answer.text, len(answer.token_ids), answer.finish_reason) == ("abc", 3, "stop")


def test_an_answer_cut_off_inside_is_called_so():
    tokenizer = TOKENIZERS["byte-level"]
    answer = told(tokenizer, constraints.regex(tokenizer, "[ab]{20}")(), 3, most=7)
    assert (len(answer.token_ids), answer.finish_reason) == (7, "length")


def test_each_answer_has_a_form_of_its_own(tokenizer):
    form = json_schema(tokenizer, {"enum": ["one", "two"]})
    first, second = form(), form()
    for token in tokenizer.encode_markup('"one'):
        if first.allowed()[token]:
            first.advance(token)
    assert second.allowed().any()
    assert not second.may_end
    assert told(tokenizer, second, 0).text in ('"one"', '"two"')


def test_stop_strings_and_endless_answers_have_no_form(tokenizer):
    form = json_object(tokenizer)
    for more in ({"stop": ("}",)}, {"ignore_eos": True}):
        with pytest.raises(UsageError, match="its form says where it ends"):
            told(tokenizer, form(), 0, **more)


def test_the_models_own_probabilities_are_reported(tokenizer):
    """Neither form nor bias changes what the model said of a token."""
    noise = np.random.default_rng(0).normal(size=tokenizer.vocab)
    own = noise - np.log(np.exp(noise).sum())
    sampling = Sampling(logprobs=True, top_logprobs=1)
    answer = Answer(
        facts(tokenizer), tokenizer, [5], max_new_tokens=1, sampling=sampling, bias={7: 3.0},
        constraint=constraints.regex(tokenizer, "[0-9]+")(),
    )  # fmt: skip
    answer.take(noise)
    assert answer.logprobs is not None
    (one,) = answer.logprobs
    assert one.logprob == pytest.approx(own[one.token_id])
    assert one.top == ((int(np.argmax(noise)), pytest.approx(own.max())),)


# Nothing of it is sent -------------------------------------------------------------------------------------------------


class Recorded:
    """A runner that keeps what it is fed."""

    peers: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    resumes, receipts, charge = (), (), None

    def __init__(self, sizes: Any, vocab: int) -> None:
        self.sizes, self.seen, self._noise, self._vocab = sizes, [], np.random.default_rng(1), vocab

    def step(self, feeds, ahead, forget=()):
        self.seen.append(([feed.part for feed in feeds], ahead, tuple(forget)))
        return Step(self._noise.normal(size=(1, self._vocab)), StepCost())

    def finish(self):
        """Nobody there."""

    abort = finish


def test_the_traffic_is_that_of_an_answer_without_form_and_bias(tokenizer):
    """As many tokens, one a step, in a session of the same size: stretches without a choice are not fed at once."""
    seen = []
    model = facts(tokenizer)
    length = len(told(tokenizer, constraints.regex(tokenizer, "once upon a time [a-z]{9}")(), 1).token_ids)
    for constraint, bias in (
        (None, dict.fromkeys(model.eos, -100.0)),
        (constraints.regex(tokenizer, "once upon a time [a-z]{9}"), {}),
    ):
        runners: list[Recorded] = []

        def start(sizes, runners=runners):
            runners.append(Recorded(sizes, tokenizer.vocab))
            return runners[-1]

        asked = Answer(
            model, tokenizer, [5, 6, 7], max_new_tokens=40, sampling=Sampling(temperature=1.0, seed=1),
            bias=bias, constraint=constraint() if constraint else None,
        )  # fmt: skip
        list(Generation(asked, start))
        seen.append((runners[0].sizes, runners[0].seen))
    (free_sizes, free), (formed_sizes, formed) = seen
    assert formed_sizes == free_sizes
    assert length >= 17
    assert free[: len(formed)] == formed
    assert len(formed) >= 17


# What cannot be done ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "foo"}, "Invalid type"),
        ({"not": {}}, "not"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"$ref": "http://127.0.0.1:9/x"}, "not fetch"),
        ({"anyOf": []}, "Unsatisfiable"),
        ({"type": "string", "x-guidance": {"lenient": True}, "not": {}}, "not"),
        ({"type": "string", "pattern": "(a)\\1"}, "backreferences"),
        ({"items": {"enum": [(1 << 53) + 1]}}, "2\\^53"),
        ({"const": float("nan")}, "none"),
        ({"const": {1, 2}}, "none"),
        ({"description": "x" * (1 << 19)}, "characters"),
        ([], "object"),
    ],
)
def test_a_schema_that_cannot_be_held_to_is_refused_at_once(tokenizer, schema, reason):
    with pytest.raises(UsageError, match=reason):
        json_schema(tokenizer, schema)


def test_broken_expressions_and_grammars(tokenizer):
    with pytest.raises(UsageError, match="unclosed group"):
        constraints.regex(tokenizer, "(a")
    with pytest.raises(UsageError, match="no start rule"):
        constraints.grammar(tokenizer, 'other: "a"')


def test_one_form_an_answer():
    tokenizer = TOKENIZERS["byte-level"]
    assert wanted_form(tokenizer) is None
    assert wanted_form(tokenizer, {"type": "text"}) is None
    with pytest.raises(UsageError, match="one of"):
        wanted_form(tokenizer, {"type": "json_object"}, {"type": "object"})


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"type": "xml"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {}},
        {"type": "json_schema", "json_schema": {"schema": 3}},
    ],
)
def test_response_formats_that_are_none(wanted):
    with pytest.raises(UsageError, match="response_format"):
        from_response_format(TOKENIZERS["byte-level"], wanted)


def test_response_formats(tokenizer):
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {"const": "a"}}}
    form = from_response_format(tokenizer, wanted)
    assert form is not None
    assert told(tokenizer, form(), 0).text == '"a"'


def test_models_that_cannot_be_held_to_a_form(monkeypatch):
    with pytest.raises(UsageError, match="token ids"):
        json_object(IdTokenizer(9))
    words = Tokenizer(models.WordLevel({"a": 0, "</s>": 1, "[UNK]": 2}, unk_token="[UNK]"))
    words.decoder = decoders.WordPiece()
    words.add_special_tokens(["</s>"])
    with pytest.raises(ModelError, match="another kind"):
        json_object(TextTokenizer(words.to_str().encode(), 3, None))
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"llguidance.*pip install '\.\[chat\]'"):
        json_object(TOKENIZERS["byte-level"])


def test_a_vocabulary_that_lacks_a_letter_is_an_error_and_no_endless_answer():
    few = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    few.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    few.decoder = decoders.ByteLevel()
    few.add_special_tokens(["</s>"])
    tokenizer = TextTokenizer(few.to_str().encode(), 3, None)
    model, form = facts(tokenizer), constraints.regex(tokenizer, "abz")
    answer = Answer(model, tokenizer, [0], max_new_tokens=5, sampling=Sampling(), constraint=form())
    answer.take(np.zeros(3))
    answer.take(np.zeros(3))
    with pytest.raises((ModelError, UsageError), match="form"):
        answer.take(np.zeros(3))
