"""Errors as the API has them: {"error": {"message", "type", "param", "code"}}, with a status and a word on trying again.

| what went wrong | status | code | x-should-retry |
| --- | --- | --- | --- |
| the request | 400 | of the reason, if there is one | |
| the prompt is longer than the model's context | 400 | context_length_exceeded | |
| no or a wrong token | 401 | invalid_api_key | |
| a Host or Origin that is not allowed | 403 | forbidden | |
| an unknown model | 404 | model_not_found | |
| the body is too large, is not JSON by its type | 413, 415 | | |
| the coordinator or a peer declined | 503 | refused | true: a refusal costs no session |
| the coordinator cannot be reached | 503 | unreachable | true |
| too much is asked at once | 503 | busy | true |
| a peer was lost, and no other committee could go on | 503 | peer_lost | false: it would cost another session |
| a peer broke the protocol, or is not who it should be | 502 | peer_error, identity | false |
| something on this machine is not as it should be | 503 | misconfigured | false |

No message holds a prompt, an answer or a piece of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse

from ...errors import (
    ConfigError,
    IdentityError,
    ModelError,
    NetworkError,
    PeerError,
    PeerLost,
    RefusedError,
    TacitError,
    UsageError,
)
from ...records import tidy
from .replies import ErrorDetail, ErrorReply

_LONGEST_NAME = 64


class Problem(Exception):
    """An error that only this API knows, or one of the error tree as it shows it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`param`: the parameter that is wrong. `retry`: whether the client should try again by itself; None: its own rule."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        advice = {} if retry is None else {"x-should-retry": "true" if retry else "false"}
        self.headers = advice | dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        detail = ErrorDetail(message=self.message, type=kind, param=self.param, code=self.code)
        return ErrorReply(error=detail).model_dump()

    @property
    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers)


def problem_of(error: TacitError) -> Problem:
    """An error of the tree as this API shows it; see the table."""
    status, code, retry = _shown(error)
    return Problem(status, tidy(str(error)), code=code, retry=retry)


def _shown(error: TacitError) -> tuple[int, str | None, bool | None]:
    match error:
        case ConfigError() | ModelError():
            return 503, "misconfigured", False
        case UsageError():
            return 400, None, None
        case IdentityError():
            return 502, "identity", False
        case RefusedError():
            return 503, "refused", True
        case PeerError():
            return 502, "peer_error", False
        case PeerLost():
            return 503, "peer_lost", False
        case NetworkError():
            return 503, "unreachable", True
    return 502, None, False


def no_model() -> Problem:
    return Problem(404, "this model is not served here: see /v1/models", param="model", code="model_not_found")


def busy(what: str) -> Problem:
    return Problem(503, f"{what}; try again in a moment", code="busy", retry=True, headers={"Retry-After": "1"})


def invalid(errors: Sequence[Mapping[str, Any]], body: object) -> Problem:
    """What pydantic says of a request: the first thing that is wrong, named; never the value."""
    # Of a union every branch is reported: the one that got furthest is the one that was meant, or that had the right type.
    unknown: Mapping[str, Any] = {"loc": (), "msg": "the request is not valid", "type": ""}
    error = max(errors, key=lambda one: (len(one["loc"]), not one["type"].endswith("_type")), default=unknown)
    place = _place(tuple(error["loc"][1:]), error["type"], body)
    name = place or None
    top = str(error["loc"][1]) if len(error["loc"]) > 1 else ""
    match error["type"]:
        case "json_invalid":
            return Problem(400, "the body is not valid JSON", code="invalid_json")
        case "extra_forbidden" if name and "content" not in place:
            message = f"{place} is not a parameter that this gateway supports: leave it out"
            return Problem(400, message, param=name, code="unsupported_parameter")
        case _ if top in NOT_SUPPORTED:
            return Problem(
                400, f"{top} is not supported: {NOT_SUPPORTED[top]}", param=top, code="unsupported_parameter"
            )
        case _ if ".content[" in place or ".input[" in place:
            message = (
                f"{place} may hold parts of text alone: images, audio and files are not supported, no URL is fetched"
            )
            return Problem(400, message, param=name, code="unsupported_content")
        case "missing":
            return Problem(400, f"{place or 'the body'} is missing", param=name, code="missing_parameter")
        case "union_tag_invalid":
            return Problem(400, f"{place or 'the body'} is of no kind that this gateway supports", param=name)
        case _:
            return Problem(400, f"{place or 'the body'}: {_lower(error['msg'])}", param=name, code="invalid_value")


NOT_SUPPORTED = {
    "audio": "answers are text",
    "background": "nothing is kept here",
    "best_of": "leave it out, or make it 1",
    "conversation": "nothing is kept here: send the whole conversation as input",
    "echo": "leave it out, or make it false",
    "frequency_penalty": "leave it out, or make it 0",
    "modalities": "answers are text",
    "presence_penalty": "leave it out, or make it 0",
    "previous_response_id": "nothing is kept here: send the whole conversation as input",
    "service_tier": "leave it out",
    "store": "nothing is kept here: leave it out, or make it false",
    "suffix": "leave it out",
    "truncation": "nothing is cut off silently: leave it out, or make it 'disabled'",
}
"""Parameters that are known and have only values that change nothing; why, or what to do."""


def _place(loc: tuple[str | int, ...], kind: str, body: object) -> str:
    """The path in the body, as in messages[0].content: pydantic's own names of branches are left out."""
    path = ""
    for last, part in ((place == len(loc) - 1, part) for place, part in enumerate(loc)):
        if isinstance(part, int) and isinstance(body, list) and part < len(body):
            path, body = f"{path}[{part}]", body[part]
        elif isinstance(body, dict) and part in body:
            path, body = f"{path}.{part}", body[part]
        elif last and kind == "missing":
            path = f"{path}.{part}"
    path = path.lstrip(".")
    return tidy(path if len(path) <= _LONGEST_NAME else path[: _LONGEST_NAME - 3] + "...")


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
