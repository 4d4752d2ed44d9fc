"""A process of its own that renders chat templates: `python -m tacit.client.rendering`, started by `templates.py`.

A template is a program that somebody else wrote. Jinja's sandbox keeps it from reaching anything of this machine, but not from
computing for ever or filling the memory in one expression; only a process can be stopped from doing that. This one
lets a template have MEMORY and LARGEST characters of output, and its parent ends it when a rendering takes too long.

Both directions carry messages: 4 bytes of length, big endian, then JSON. First it says {"ready": true}, then it answers
{"template", "variables", "seconds"} with {"text"}, {"raised"} (the template's own words, from `raise_exception`), {"syntax"} or
{"failed"} (the name of an exception: what it says could be a piece of the conversation).
"""

from __future__ import annotations

import json
import resource
import struct
import sys
from contextlib import suppress
from datetime import datetime
from typing import Any, BinaryIO

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY = 1 << 30  # bytes of address space
LARGEST = 4 << 20  # characters of a rendering
HEAD = struct.Struct(">I")


class Refused(Exception):
    """A template called `raise_exception`."""


class TooLong(Exception):
    """A template wrote more than LARGEST characters."""


class _Generation(Extension):
    """`{% generation %} ... {% endgeneration %}` marks, for training, what an assistant says; here it says it."""

    tags = {"generation"}  # noqa: RUF012  as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """Jinja set up as Hugging Face renders chat templates."""
    found = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], cache_size=0
    )
    found.filters["tojson"] = _to_json
    found.globals["raise_exception"] = _raise
    found.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    del found.globals["lipsum"]
    return found


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Without the escapes for HTML that Jinja's own filter adds."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: object) -> None:
    raise Refused(str(message))


class Renderer:
    """Templates compiled once."""

    def __init__(self) -> None:
        self._environment = environment()
        self._compiled: dict[str, Any] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, str]:
        """What becomes of a request; no exception but those that end a process."""
        source = request["template"]
        try:
            if source not in self._compiled:
                self._compiled[source] = self._environment.from_string(source)
            return {"text": _bounded(self._compiled[source].generate(**request["variables"]))}
        except Refused as error:
            return {"raised": str(error)}
        except TemplateSyntaxError as error:
            return {"syntax": f"line {error.lineno}: {error.message}"}
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            return {"failed": type(error).__name__}
        except (TooLong, MemoryError, RecursionError) as error:
            return {"failed": type(error).__name__}


def _bounded(pieces: Any) -> str:
    found, length = [], 0
    for piece in pieces:
        length += len(piece)
        if length > LARGEST:
            raise TooLong
        found.append(piece)
    return "".join(found)


def write(stream: BinaryIO, message: dict[str, Any]) -> None:
    body = json.dumps(message).encode()
    stream.write(HEAD.pack(len(body)) + body)
    stream.flush()


def read(stream: BinaryIO) -> dict[str, Any] | None:
    """None at the end."""
    head = stream.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    (length,) = HEAD.unpack(head)
    body = stream.read(length)
    if len(body) < length:
        return None
    found: dict[str, Any] = json.loads(body)
    return found


def _limit(seconds: float) -> None:
    """Processor time from here on: should nobody be left to end this process, the kernel does."""
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 2, hard))


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold the conversation
    with suppress(ValueError, OSError):  # not every system bounds the address space
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    renderer = Renderer()
    write(sys.stdout.buffer, {"ready": True})
    while (request := read(sys.stdin.buffer)) is not None:
        _limit(request["seconds"])
        write(sys.stdout.buffer, renderer.answer(request))


if __name__ == "__main__":
    main()
