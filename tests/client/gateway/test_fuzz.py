"""Requests made up from the gateway's own description: none of them ends in a 500, and every answer is one it declares."""

from __future__ import annotations

from itertools import count

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

EXAMPLES = 20  # of each operation, valid and not
POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
CHECKS = (
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
)
OPERATIONS = {
    "GET /health",
    "GET /ready",
    "GET /v1/models",
    "GET /v1/models/{model}",
    "POST /v1/completions",
    "POST /v1/chat/completions",
    "POST /v1/responses",
    "POST /v1/embeddings",
}
WITH_INPUT = sorted(label for label in OPERATIONS if "POST" in label or "{" in label)


@pytest.fixture(scope="module")
def described(address):
    return schemathesis.openapi.from_url(f"{address}/openapi.json")


def test_the_description_has_all_operations(described):
    assert {one.ok().label for one in described.get_all_operations()} == OPERATIONS


@pytest.mark.parametrize(
    ("label", "mode"), [*((one, POSITIVE) for one in sorted(OPERATIONS)), *((one, NEGATIVE) for one in WITH_INPUT)]
)
def test_no_request_ends_in_a_fault_of_the_gateway(described, label, mode):
    """Every other request is for a model that is there, and few tokens: else nearly all would end as a 404."""
    operation = next(one.ok() for one in described.get_all_operations() if one.ok().label == label)
    places, statuses = count(), set()

    @seed(7)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def check(data):
        case = data.draw(operation.as_strategy(generation_mode=mode))
        if mode is POSITIVE and next(places) % 2:
            make_answerable(case)
        answer = case.call_and_validate(checks=CHECKS, timeout=20)
        statuses.add(answer.status_code)

    check()
    if mode is POSITIVE:
        assert 200 in statuses


def make_answerable(case):
    if case.path_parameters:
        case.path_parameters["model"] = "stories"
    if isinstance(case.body, dict):
        embedding = "embeddings" in case.path
        case.body["model"] = "letters" if embedding else "stories"
        if not embedding:
            case.body["max_output_tokens" if "responses" in case.path else "max_tokens"] = 2
            case.body.pop("max_completion_tokens", None)
