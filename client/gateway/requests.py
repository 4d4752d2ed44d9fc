"""What may be asked, as pydantic models: everything that is understood, nothing else. A parameter that is not here is refused.

Some are known and may only have the value that changes nothing (`problems.NOT_SUPPORTED`); some are taken and change nothing
(user, metadata, safety_identifier, prompt_cache_key): they are for keeping accounts, and there are none here.
`top_k`, `ignore_eos` and `return_progress` are this gateway's own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...checks import MAX_SEQUENCES, MAX_TOKENS

ModelName = Annotated[str, Field(min_length=1, max_length=256)]
Count = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
Zero = Annotated[float, Field(ge=0, le=0)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Stop = Annotated[str, Field(min_length=1, max_length=1024)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Strict(BaseModel):
    """Types are as they are written in JSON, and unknown names are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Strict):
    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class Asked(Strict):
    """What all kinds of answers have in common."""

    model: ModelName
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1, le=2**31)] | None = Field(None, description="the k most likely tokens only")
    ignore_eos: bool | None = Field(None, description="go on after an end-of-text token, for measurements")
    stream: bool | None = None
    user: str | None = Field(None, description="taken, changes nothing")
    metadata: dict[str, str] | None = Field(None, description="taken, changes nothing")
    safety_identifier: str | None = Field(None, description="taken, changes nothing")
    prompt_cache_key: str | None = Field(None, description="taken, changes nothing")
    service_tier: Literal["auto", "default"] | None = None


class Sampled(Asked):
    """Completions and chat."""

    n: Annotated[int, Field(ge=1, le=MAX_SEQUENCES)] | None = Field(None, description="answers to each prompt")
    max_tokens: Count | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    logit_bias: Annotated[dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Bias], Field(max_length=1024)] | None = (
        Field(None, description="added to the logits of these token ids")
    )
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    stream_options: StreamOptions | None = None
    return_progress: bool | None = Field(
        None, description="while streaming: how much of the prompt is through, as prompt_progress"
    )


class CompletionRequest(Sampled):
    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=MAX_SEQUENCES)]
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=MAX_SEQUENCES)]
    )
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    echo: Literal[False] | None = None
    suffix: None = None


class TextPart(Strict):
    type: Literal["text"]
    text: str


Content = str | list[TextPart]


class FunctionCall(Strict):
    name: Identifier
    arguments: str = Field(description="JSON")


class ToolCall(Strict):
    id: Annotated[str, Field(max_length=256)]
    type: Literal["function"]
    function: FunctionCall


class SystemMessage(Strict):
    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(Strict):
    role: Literal["user"]
    content: Content
    name: str | None = None


class AssistantMessage(Strict):
    """`refusal`, `audio` and the like are what other servers' answers have: null is taken, so that they can be sent back."""

    role: Literal["assistant"]
    content: Content | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None


class ToolMessage(Strict):
    role: Literal["tool"]
    content: Content
    tool_call_id: Annotated[str, Field(max_length=256)]


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Function(Strict):
    name: Identifier
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="a JSON schema")
    strict: bool | None = None


class Tool(Strict):
    type: Literal["function"]
    function: Function


class FunctionName(Strict):
    name: Identifier


class NamedTool(Strict):
    type: Literal["function"]
    function: FunctionName


class PlainText(Strict):
    type: Literal["text"]


class JsonObject(Strict):
    type: Literal["json_object"]


class NamedSchema(Strict):
    """`strict` or not: the answer's tokens are chosen so that it fits."""

    name: Identifier
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema", description="a JSON schema")
    strict: bool | None = None


class JsonSchema(Strict):
    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[PlainText | JsonObject | JsonSchema, Field(discriminator="type")]


class ChatRequest(Sampled):
    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    store: Literal[False] | None = None


class InputText(Strict):
    type: Literal["input_text"]
    text: str


class OutputText(Strict):
    """As it stood in an earlier answer."""

    type: Literal["output_text"]
    text: str
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    logprobs: list[Any] | None = None


class InputMessage(Strict):
    type: Literal["message"] | None = None
    role: Literal["user", "system", "developer", "assistant"]
    content: str | list[Annotated[InputText | OutputText, Field(discriminator="type")]]
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class SchemaFormat(Strict):
    type: Literal["json_schema"]
    name: Identifier
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema", description="a JSON schema")
    strict: bool | None = None


class TextConfig(Strict):
    format: Annotated[PlainText | JsonObject | SchemaFormat, Field(discriminator="type")] | None = None


class ResponsesRequest(Asked):
    """The stateless part of the Responses API: text in, text out."""

    input: str | Annotated[list[InputMessage], Field(min_length=1, max_length=4096)]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    text: TextConfig | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=0)] | None = None
    store: Literal[False] | None = None
    background: Literal[False] | None = None
    previous_response_id: None = None
    conversation: None = None
    truncation: Literal["disabled"] | None = None
    include: Annotated[list[str], Field(max_length=0)] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None


class EmbeddingsRequest(Strict):
    model: ModelName
    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: None = None
    user: str | None = Field(None, description="taken, changes nothing")
