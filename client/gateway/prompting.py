"""What a chat request means for a model: the tokens of its messages, what the answer may look like, and what it says.

Form, bias and tools are between this machine and the model's logits: the peers see nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..constraints import Grammar, from_response_format, json_schema
from ..tools import ToolFormat, call_grammar, parse_calls, tool_names
from .problems import Problem
from .replies import CalledFunction, ToolCall
from .requests import (
    AssistantMessage,
    ChatRequest,
    NamedTool,
    PlainText,
    Sampled,
    SchemaFormat,
    SystemMessage,
    TextConfig,
    ToolMessage,
    UserMessage,
)

if TYPE_CHECKING:
    from ..templates import ChatTemplate
    from .offers import Served


@dataclass(frozen=True, slots=True)
class Shape:
    """What the tokens of an answer are chosen by, beside the model."""

    bias: Mapping[int, float] = field(default_factory=dict)
    form: Grammar | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says: text, calls of tools, or both."""

    text: str | None
    calls: list[ToolCall] = field(default_factory=list)


def bias_of(request: Sampled) -> dict[int, float]:
    return {int(token): bias for token, bias in (request.logit_bias or {}).items()}


def chat_shape(served: Served, request: ChatRequest) -> Shape:
    """Raises Problem, UsageError for a form that no answer of this model can be held to."""
    wanted = request.response_format
    form = None if wanted is None else from_response_format(served.tokenizer, wanted.model_dump(by_alias=True))
    calls = _called_form(served, request)
    if calls is not None and form is not None:
        raise Problem(
            400,
            "response_format is for texts, and a tool must be called here",
            param="response_format",
            code="invalid_value",
        )
    if form is not None and _may_call(request):
        raise Problem(
            400, "response_format with tools needs tool_choice: 'none'", param="response_format", code="invalid_value"
        )
    return Shape(bias_of(request), calls or form)


def text_shape(served: Served, text: TextConfig | None) -> Shape:
    """Of a response. Raises as `chat_shape`."""
    wanted = text.format if text is not None else None
    if isinstance(wanted, SchemaFormat):
        form: Grammar | None = json_schema(served.tokenizer, wanted.schema_)
    elif wanted is None or isinstance(wanted, PlainText):
        form = None
    else:
        form = from_response_format(served.tokenizer, {"type": wanted.type})
    return Shape(form=form)


def chat_prompt(served: Served, request: ChatRequest) -> list[int]:
    """Token ids of the conversation. Raises Problem, UsageError."""
    tools = _tools(request) if _may_call(request) else None
    return conversation(served, [_message(one) for one in request.messages], "messages", tools)


def conversation(
    served: Served, messages: Sequence[dict[str, Any]], param: str, tools: Sequence[dict[str, Any]] | None = None
) -> list[int]:
    """Token ids of messages, up to where the assistant begins. Raises Problem, UsageError."""
    return served.fitting(_template(served).encode(messages, tools), param)


def read_answer(served: Served, request: ChatRequest, text: str) -> Reading:
    """An answer's text, and the calls in it. Where none may be called, what looks like a call is text."""
    if not _may_call(request):
        return Reading(text)
    said, calls = parse_calls(text, _tool_format(served), tool_names(_tools(request)))
    if request.parallel_tool_calls is False:
        calls = calls[:1]
    shown = [
        ToolCall(id=f"call_{one.id}", function=CalledFunction(name=one.name, arguments=one.arguments)) for one in calls
    ]
    return Reading(said or (None if calls else ""), shown)


def waits_for_end(request: ChatRequest) -> bool:
    """Whether nobody knows what an answer is before it has ended: it may be a call."""
    return _may_call(request)


def _may_call(request: ChatRequest) -> bool:
    return bool(request.tools) and request.tool_choice != "none"


def _tools(request: ChatRequest) -> list[dict[str, Any]]:
    return [tool.model_dump(exclude_none=True) for tool in request.tools or ()]


def _called_form(served: Served, request: ChatRequest) -> Grammar | None:
    """Of an answer that has to be a call. Raises Problem, UsageError."""
    choice = request.tool_choice
    if not request.tools:
        if choice not in (None, "none", "auto"):
            raise Problem(
                400, "tool_choice wants a call, and no tools are given", param="tool_choice", code="invalid_value"
            )
        return None
    names = tool_names(_tools(request))
    written = _tool_format(served) if _may_call(request) else None
    if written is None or choice in (None, "auto"):
        return None
    only = choice.function.name if isinstance(choice, NamedTool) else None
    if only is not None and only not in names:
        raise Problem(400, "tool_choice names a tool that is not given", param="tool_choice", code="invalid_value")
    several = request.parallel_tool_calls is not False
    return call_grammar(served.tokenizer, written, _tools(request), only=only, several=several)


def _tool_format(served: Served) -> ToolFormat:
    """How the model writes calls. Raises Problem for one that was not taught to."""
    found = _template(served).tools
    if found is None:
        raise Problem(
            400, f"the chat template of {served.facts.name} knows no tools", param="tools", code="unsupported_parameter"
        )
    return found


def _template(served: Served) -> ChatTemplate:
    if served.template is None:
        raise Problem(
            400,
            f"{served.facts.name} has no chat template, so it takes no messages: use /v1/completions",
            param="model",
            code="no_chat_template",
        )
    return served.template


def _message(given: SystemMessage | UserMessage | AssistantMessage | ToolMessage) -> dict[str, Any]:
    """As templates take it."""
    found = given.model_dump(include={"role", "content", "name", "tool_calls", "tool_call_id"}, exclude_none=True)
    if given.role == "developer":  # a name that only OpenAI's own models have for it
        found["role"] = "system"
    return found
