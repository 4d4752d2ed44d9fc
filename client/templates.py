"""A model's chat template: from a conversation to the token ids that the model was trained to go on from.

Rendered as Hugging Face does it (its files, variables and Jinja settings; no start-of-text token but the template's own), in a
process that a template cannot keep busy for longer than SECONDS (`rendering`), and without that a message can say
anything but text (`markup`).
"""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..chatfile import ChatFile
from ..errors import ConfigError, ModelError, UsageError
from .extras import need_chat_extra
from .markup import Guard, markup_of
from .tokens import TextTokenizer, Tokenizer
from .tools import ToolFormat, tool_format

SECONDS = 5.0  # that a rendering may take
START_SECONDS = 30.0  # that the process may take to start
ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
KEYS = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content")

_HEAD = struct.Struct(">I")
_LARGEST_REPLY = 64 << 20  # bytes; JSON writes a character in up to 12

Message = Mapping[str, Any]


class ChatTemplate:
    """Renders conversations for one model. Threads may share it; `close` ends its process."""

    def __init__(self, chat: ChatFile, tokenizer: Tokenizer) -> None:
        """Nothing is started yet. Raises UsageError for a model without tokenizer, ConfigError without Jinja."""
        if not isinstance(tokenizer, TextTokenizer):
            raise UsageError("a model without tokenizer.json has no chat: its prompts are token ids")
        need_chat_extra("rendering a chat template", "jinja2")
        self._chat = chat
        self._tokenizer = tokenizer
        self._special, self._written = markup_of(tokenizer, chat.templates.values(), chat.tokens.values())
        self._process = _Process()

    @property
    def source(self) -> str:
        """Of the template that conversations with tools are rendered by."""
        return self._chat.template(with_tools=True)

    @property
    def tokenizer(self) -> TextTokenizer:
        """The model's."""
        return self._tokenizer

    @property
    def tools(self) -> ToolFormat | None:
        """How the model writes calls of tools; None if its template knows none."""
        return tool_format(self.source)

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        add_generation_prompt: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> str:
        """The text that the model goes on from; to be shown, not to be encoded: see `encode`.

        Messages have a "role" and a "content", and what else is in KEYS; `tools` are function definitions as OpenAI's.
        `options`: further variables of the template, such as enable_thinking. Raises UsageError for a conversation that the
        template does not take, ModelError for a template that cannot be rendered.
        """
        guard, rendered = self._rendered(messages, tools, add_generation_prompt, options)
        return guard.plain(rendered)

    def encode(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        add_generation_prompt: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Its token ids. What a message says is text, special tokens too; only the template writes markup."""
        guard, rendered = self._rendered(messages, tools, add_generation_prompt, options)
        return guard.encode(rendered, self._tokenizer)

    def close(self) -> None:
        """End the process, if there is one. It may start again."""
        self._process.close()

    def _rendered(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None,
        add_generation_prompt: bool,
        options: Mapping[str, Any] | None,
    ) -> tuple[Guard, str]:
        source = self._chat.template(with_tools=bool(tools))
        given = [_checked(message, number) for number, message in enumerate(messages, 1)]
        options = dict(options or {})
        guard = Guard(self._special, self._written, [source, given, list(tools or ()), options])
        variables: dict[str, Any] = {
            **self._chat.tokens,
            **{str(name): guard.guarded(value) for name, value in options.items()},
            "messages": [guard.guarded(one, one["role"] == "assistant") for one in given],
            "tools": guard.guarded(list(tools)) if tools else None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        reply = self._process.ask(source, variables)
        if (text := reply.get("text")) is not None:
            return guard, text
        if (reason := reply.get("raised")) is not None:
            # Only what stands in the template itself is shown: anything else could be a piece of the conversation.
            words = f": {reason}" if reason and reason in source else ""
            raise UsageError(f"the model's chat template does not take this conversation{words}")
        if (syntax := reply.get("syntax")) is not None:
            raise ModelError(f"the model's chat template is damaged: {syntax}")
        raise ModelError(f"the model's chat template failed ({reply.get('failed', 'no answer')})")


def _checked(message: Message, number: int) -> dict[str, Any]:
    """A message as templates expect it: text in one piece, arguments of calls as objects."""
    if not isinstance(message, Mapping) or message.get("role") not in ROLES:
        raise UsageError(f"message {number} has no role, or another than {', '.join(ROLES)}")
    if unknown := [str(key) for key in message if key not in KEYS]:
        raise UsageError(f"message {number} has a field that is not known: {unknown[0][:40]!r}")
    found = {key: value for key, value in message.items() if value is not None or key == "content"}
    found["content"] = _text(message.get("content"), number)
    if found["content"] is None and not found.get("tool_calls"):
        raise UsageError(f"message {number} has no content")
    if found.get("tool_calls"):
        found["tool_calls"] = [_call(call, number) for call in found["tool_calls"]]
    return found


def _text(content: object, number: int) -> str | None:
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list | tuple):
        texts = [
            part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None for part in content
        ]
        if all(isinstance(text, str) for text in texts):
            return "".join(text for text in texts if text is not None)
    raise UsageError(f"the content of message {number} is neither a text nor a list of parts of type 'text'")


def _call(call: object, number: int) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise UsageError(f"a tool call of message {number} names no function")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise UsageError(f"the arguments of a tool call of message {number} are not JSON") from None
    return {**call, "function": {**function, "arguments": arguments}}


class _Process:
    """The process that renders, started when first asked. One question at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, template: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer. ModelError if it takes too long, or ends over it."""
        try:
            body = json.dumps({"template": template, "variables": variables, "seconds": SECONDS}).encode()
        except (TypeError, ValueError, RecursionError):
            raise UsageError("messages and tools must be made of what JSON can hold") from None
        with self._lock:
            child = self._started()
            try:
                return self._exchange(child, _HEAD.pack(len(body)) + body, SECONDS)
            except (OSError, EOFError, TimeoutError) as error:
                self._end()
                why = f"took longer than {SECONDS:g} s" if isinstance(error, TimeoutError) else "took too much memory"
                raise ModelError(f"the model's chat template {why}; it was stopped") from None
            except BaseException:  # Ctrl-C too: a half answer must not be taken for the next one
                self._end()
                raise

    def close(self) -> None:
        with self._lock:
            self._end()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self._end()
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "tacit.client.rendering"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # a traceback would hold pieces of the conversation
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for whoever asked
            )
            self._exchange(self._child, b"", START_SECONDS)
        except (OSError, EOFError, TimeoutError) as error:
            self._end()
            raise ConfigError(
                f"the process that renders chat templates did not start ({error or 'it ended'})"
            ) from None
        return self._child

    def _exchange(self, child: subprocess.Popen[bytes], question: bytes, seconds: float) -> dict[str, Any]:
        """Send the question, take the answer, both before `seconds` are over. TimeoutError, EOFError or OSError."""
        if child.stdin is None or child.stdout is None:
            raise EOFError
        deadline = time.monotonic() + seconds
        out, into = child.stdin.fileno(), child.stdout.fileno()
        os.set_blocking(out, False)
        view = memoryview(question)
        while view:
            _await(out, deadline, writing=True)
            view = view[os.write(out, view) :]
        (length,) = _HEAD.unpack(_taken(into, _HEAD.size, deadline))
        if length > _LARGEST_REPLY:
            raise EOFError
        reply = json.loads(_taken(into, length, deadline))
        if not isinstance(reply, dict):
            raise EOFError
        return reply

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def _taken(pipe: int, length: int, deadline: float) -> bytes:
    found = bytearray()
    while len(found) < length:
        _await(pipe, deadline, writing=False)
        piece = os.read(pipe, length - len(found))
        if not piece:
            raise EOFError
        found += piece
    return bytes(found)


def _await(pipe: int, deadline: float, writing: bool) -> None:
    poll = select.poll()  # not select(): a gateway may have more than 1024 files open
    poll.register(pipe, select.POLLOUT if writing else select.POLLIN)
    if not poll.poll(max(0.0, 1e3 * (deadline - time.monotonic()))):
        raise TimeoutError
