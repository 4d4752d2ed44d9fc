"""What `tacit embed` does and prints: vectors to stdout, everything about them to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from ..errors import UsageError
from .commands import client_of, interrupt_on_signals, say_resumed, size, write
from .embedding import DEFAULT_MODEL, Embeddings, Text

_err = Console(stderr=True, highlight=False, soft_wrap=True)


def read_texts(words: Sequence[str], file: Path | None) -> list[Text]:
    """The texts that the command line means, in order. Raises UsageError."""
    texts: list[Text] = []
    for word in words:
        texts += _lines(sys.stdin.buffer.read()) if word == "-" else [word]
    if file is not None:
        try:
            texts += _lines(file.read_bytes())
        except OSError as error:
            raise UsageError(f"{file}: cannot be read ({error.strerror})") from None
    if not texts:
        raise UsageError("there is no text to embed: give texts, --file, or '-' for lines of standard input")
    return texts


def _lines(raw: bytes) -> list[str]:
    """Every line, an empty one too: vectors come in the order of lines."""
    text = raw.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    return text.removesuffix("\n").split("\n") if text else []


def run_embed(
    texts: Sequence[Text],
    *,
    model: str | None,
    protocol: str,
    cluster: str | None,
    as_json: bool,
    truncate: bool,
    policy: dict[str, Any],
    rules: dict[str, Any],
) -> None:
    """Embed the texts and print a line for each, or one JSON object. Arguments as those of `commands.run_ask`."""
    from ..config import Config
    from .policy import configured_policy
    from .resolve import find

    interrupt_on_signals()
    if protocol == "plain":
        from .plain import PlainModel

        _err.print("[yellow]plain: nothing is private; the model runs in the clear on this machine[/]")
        with bar("embedding", len(texts)) as progress:
            found = PlainModel(model or DEFAULT_MODEL).embed(texts, truncate=truncate, progress=progress)
        _show(found, as_json)
        return
    config = Config.load()
    meant = find(cluster, config)
    name = meant.name if meant else None
    rules["policy"] = configured_policy(config, name, **policy)
    model = config.get("client.model", model, name)
    there = meant is not None
    with (
        client_of(cluster if there else None, there, model, rules, DEFAULT_MODEL) as (client, served),
        bar("embedding privately", len(texts)) as progress,
    ):
        found = client.embed(texts, model=served, truncate=truncate, progress=progress, on_resume=say_resumed)
    _show(found, as_json)


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """Progress over texts, on stderr where that is a terminal; nothing elsewhere."""
    if not _err.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_err, transient=True) as shown:
        task = shown.add_task("", total=total)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _show(found: Embeddings, as_json: bool) -> None:
    for place in found.truncated:
        _err.print(f"[yellow]text {place + 1} was cut to its first {found.tokens[place]} tokens[/]")
    everything = found.to_dict()
    if as_json:
        write(json.dumps(everything) + "\n")
        return
    for vector in everything["embeddings"]:
        write(json.dumps(vector) + "\n")
    if _err.is_terminal:
        _err.print(f"[dim]{summary(found)}[/]")


def summary(found: Embeddings) -> str:
    """The costs in one line."""
    costs, usage = found.costs, found.usage
    words = [f"{len(found)} texts, {sum(found.tokens)} tokens", f"{costs.seconds:.2f} s"]
    if costs.rounds:
        words.append(f"{costs.rounds} rounds")
        words.append(f"{size(costs.online_bytes)} online and {size(costs.offline_bytes)} offline")
    if usage.cost is not None and usage.cost.strip("0."):
        words.append(f"{usage.cost} {usage.currency}")
    return ", ".join(words)
