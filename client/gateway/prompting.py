"""What a chat request means for a model: the tokens of its messages, and what the answer may look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .problems import Problem
from .replies import ToolCall
from .requests import (
    AssistantMessage,
    ChatRequest,
    JsonObject,
    JsonSchema,
    PlainText,
    Sampled,
    SchemaFormat,
    SystemMessage,
    ToolMessage,
    UserMessage,
)

if TYPE_CHECKING:
    from .offers import Served


@dataclass(frozen=True, slots=True)
class Shape:
    """What the tokens of an answer are chosen by, beside the model. The peers see nothing of it."""

    bias: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says: text, calls of tools, or both."""

    text: str | None
    calls: list[ToolCall] = field(default_factory=list)


def bias_of(request: Sampled) -> Shape:
    """Raises Problem."""
    if request.logit_bias:
        raise _not_here("logit_bias")
    return Shape()


def shape_of(served: Served, request: ChatRequest) -> Shape:
    """Raises Problem for a form that cannot be kept to."""
    if request.tools:
        raise _not_here("tools")
    form_of(served, request.response_format, "response_format")
    return bias_of(request)


def form_of(served: Served, form: PlainText | JsonObject | JsonSchema | SchemaFormat | None, param: str) -> Shape:
    """Raises Problem for a form that cannot be kept to."""
    if form is not None and not isinstance(form, PlainText):
        raise _not_here(param)
    return Shape()


def may_call(request: ChatRequest) -> bool:
    """Whether the answer may be calls of tools."""
    return bool(request.tools) and request.tool_choice != "none"


def read_answer(served: Served, request: ChatRequest, text: str) -> Reading:
    return Reading(text)


def chat_prompt(served: Served, request: ChatRequest) -> list[int]:
    """Token ids of the conversation. Raises Problem, UsageError."""
    return conversation(served, [_message(one) for one in request.messages], "messages")


def conversation(served: Served, messages: Sequence[dict[str, Any]], param: str) -> list[int]:
    """Token ids of messages, up to where the assistant begins. Raises Problem, UsageError."""
    if served.template is None:
        raise Problem(
            400,
            f"{served.facts.name} has no chat template, so it takes no messages: use /v1/completions",
            param="model",
            code="no_chat_template",
        )
    return served.fitting(served.template.encode(messages), param)


def _message(given: SystemMessage | UserMessage | AssistantMessage | ToolMessage) -> dict[str, Any]:
    """As templates take it."""
    found = given.model_dump(include={"role", "content", "name", "tool_calls", "tool_call_id"}, exclude_none=True)
    if given.role == "developer":  # a name that only OpenAI's own models have for it
        found["role"] = "system"
    return found


def _not_here(param: str) -> Problem:
    return Problem(400, f"{param} is not supported", param=param, code="unsupported_parameter")
