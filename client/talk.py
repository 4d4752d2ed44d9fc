"""What `tacit chat` does: lines in, answers out on stdout, everything else on stderr.

On a terminal Ctrl-C stops an answer after the token that is computed (a second one at once, which costs the session), and Ctrl-D
ends. Lines can be edited and called up again while it runs; they are written nowhere, and neither is the conversation
unless /save says so. Without a terminal every line of standard input is a message, and an error ends it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import ConfigError, TacitError, UsageError
from .commands import client_of, say_resumed, size, write
from .conversation import Conversation, Said, Turn

_PROMPT, _MORE = "> ", ". "
HELP = (
    ("TEXT", "say it; a line that ends with a backslash goes on in the next one"),
    ("/retry", "another answer to what you said last"),
    ("/undo", "take back what you said last, and its answer"),
    ("/system TEXT", "what the model is told before the conversation; '-' takes it away, no TEXT shows it"),
    ("/save FILE", "write the conversation to a new file (.json: for programs; else Markdown)"),
    ("/stats", "tokens, rounds, bytes, cost and peers so far"),
    ("/help", "this"),
    ("/quit", "end; so does Ctrl-D"),
)

_err = Console(stderr=True, highlight=False, soft_wrap=True)


class _End(Exception):
    """The user wants no more."""


def run_chat(
    *,
    model: str | None,
    cluster: str | None,
    settings: dict[str, Any],
    policy: dict[str, Any],
    rules: dict[str, Any],
) -> None:
    """Talk until the end of input. `settings` are those of `Client.chat`, `policy` of `configured_policy`, `rules` of `Client`."""
    from ..config import Config
    from .policy import configured_policy
    from .resolve import find

    _end_on_signals()
    config = Config.load()
    meant = find(cluster, config)
    name = meant.name if meant else None
    rules = {**rules, "policy": configured_policy(config, name, **policy), "trace": None}
    model = config.get("client.model", model, name)
    with client_of(cluster if meant else None, meant is not None, model, rules) as (client, served):
        waiting = _Waiting()
        conversation = client.chat(
            model=served,
            on_resume=say_resumed,
            on_progress=waiting.progress,
            notice=partial(_say, style="yellow"),
            **settings,
        )
        with conversation:
            _Talk(conversation, waiting, terminal=sys.stdin.isatty()).run()


class _Talk:
    """The loop."""

    def __init__(self, conversation: Conversation, waiting: _Waiting, terminal: bool) -> None:
        self._conversation = conversation
        self._waiting = waiting
        self._terminal = terminal
        self._saved: set[Path] = set()
        self._commands: dict[str, Callable[[str], None]] = {
            "/retry": lambda rest: self._answer(self._conversation.retry),
            "/undo": self._undo,
            "/system": self._system,
            "/save": self._save,
            "/stats": lambda rest: _show_stats(self._conversation),
            "/help": lambda rest: _show_help(),
            "/quit": _quit,
            "/exit": _quit,
        }

    def run(self) -> None:
        if self._terminal:
            _say(
                f"Talking with {self._conversation.model.name}; no peer can read it, nothing is stored. "
                "/help shows commands, Ctrl-C stops an answer, Ctrl-D ends.",
                style="dim",
            )
            import readline  # noqa: F401  lets `input` edit lines; it writes no history by itself
        while True:
            try:
                self._take(self._read())
            except (EOFError, _End):
                break
            except KeyboardInterrupt:
                if not self._terminal:
                    raise
                _say("\n/quit or Ctrl-D ends", style="dim")
            except TacitError as error:
                if not self._terminal:
                    raise
                _say(f"error: {' '.join(str(error).split())}", style="red")

    def _read(self) -> str:
        """A message or command, of one line or several. EOFError at the end."""
        lines = [self._line(_PROMPT)]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(self._line(_MORE))
        return "\n".join(lines)

    def _line(self, prompt: str) -> str:
        if self._terminal and sys.stdout.isatty():
            return input(prompt)
        if self._terminal:  # the answers go elsewhere, where no prompt belongs
            _err.print(prompt, end="")
        line = sys.stdin.buffer.readline()
        if not line:
            raise EOFError
        return line.decode("utf-8", "surrogateescape").rstrip("\r\n")

    def _take(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        if not text.strip():
            return
        if not text.startswith("/"):
            self._answer(lambda: self._conversation.say(text))
        elif text.startswith("//"):  # a message that begins with a slash
            self._answer(lambda: self._conversation.say(text[1:]))
        elif word in self._commands:
            self._commands[word](rest.strip())
        else:
            raise UsageError(
                f"there is no command {word[:20]}; /help shows those there are, // begins a message with /"
            )

    def _answer(self, ask: Callable[[], Turn]) -> None:
        turn = ask()
        first = True
        with _interrupting(turn):
            try:
                with self._waiting:
                    piece = next(turn, None)
                while piece is not None:
                    write(self._shown(piece, first))
                    first = first and not piece.strip()
                    piece = next(turn, None)
            except KeyboardInterrupt:
                if not self._terminal:
                    raise
                _say("\nstopped at once; the next turn opens another session", style="dim")
                return
            finally:
                turn.close()
                write("\n" if turn.text else "")
        if turn.said is not None:
            self._remark(turn.said)

    def _shown(self, piece: str, first: bool) -> str:
        """On a terminal an answer begins where it is, and cannot send the terminal commands."""
        if not sys.stdout.isatty():
            return piece
        text = piece.lstrip() if first else piece
        return "".join(one if one.isprintable() or one in "\n\t" else "\ufffd" for one in text)

    def _remark(self, said: Said) -> None:
        if not self._terminal:
            return
        if said.finish_reason is None:
            _say("stopped; what was said by then stands" if said.text else "stopped before the first word", style="dim")
        elif said.finish_reason == "length":
            _say(f"cut off after {len(said.token_ids)} tokens", style="dim")

    # Commands --------------------------------------------------------------------------------------------------------

    def _undo(self, rest: str) -> None:
        _say("taken back" if self._conversation.undo() else "there is nothing to take back", style="dim")

    def _system(self, rest: str) -> None:
        if rest:
            self._conversation.system = None if rest == "-" else rest
        _say(f"system: {self._conversation.system or '(nothing)'}", style="dim")

    def _save(self, rest: str) -> None:
        if not rest:
            raise UsageError("/save needs the name of a file")
        path = Path(rest).expanduser().absolute()
        new = os.O_TRUNC if path in self._saved else os.O_EXCL
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | new, 0o600), "w", encoding="utf-8") as file:
                file.write(as_text(self._conversation, path.suffix == ".json"))
        except FileExistsError:
            raise ConfigError(f"{path} exists; choose another name") from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
        self._saved.add(path)
        _say(f"saved to {path}, readable by you alone", style="dim")


def as_text(conversation: Conversation, as_json: bool) -> str:
    """A conversation to keep: JSON with model and messages, or Markdown."""
    system = [{"role": "system", "content": conversation.system}] if conversation.system else []
    messages = [*system, *conversation.messages]
    if as_json:
        return json.dumps({"model": conversation.model.name, "messages": messages}, ensure_ascii=False, indent=1) + "\n"
    parts = [f"# A conversation with {conversation.model.name}"]
    parts += [f"**{message['role']}**\n\n{message['content'].strip()}" for message in messages]
    return "\n\n".join(parts) + "\n"


def _quit(rest: str) -> None:
    raise _End


def _show_help() -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for command, what in HELP:
        table.add_row(command, what)
    _err.print(table)


def _show_stats(conversation: Conversation) -> None:
    stats = conversation.stats
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    cost = stats.cost
    if stats.last is not None:
        last = stats.last
        speed = len(last.token_ids) / last.seconds if last.seconds else 0.0
        table.add_row(
            "last answer",
            f"{len(last.token_ids)} tokens, the first after {last.first_token_seconds:.2f} s, {speed:.1f} a second",
        )
        table.add_row("before it", f"{last.usage.prompt_tokens} tokens, {last.cached_tokens} of them kept at the peers")
    table.add_row("tokens", f"{stats.new_tokens} in {stats.turns} answers; {stats.fed_tokens} went through the model")
    table.add_row("at the peers", f"{stats.kept_tokens} of {stats.context} tokens, session {stats.sessions}")
    table.add_row("rounds", f"{cost.rounds}")
    table.add_row(
        "bytes",
        f"{size(cost.online_bytes)} online, {size(cost.offline_bytes)} offline, {size(cost.client_bytes)} to and from here",
    )
    table.add_row("cost", stats.price or "nothing")
    table.add_row("peers", ", ".join(stats.peers) or "none yet")
    if stats.resumes:
        table.add_row("lost peers", ", ".join(resume.lost or "unknown" for resume in stats.resumes))
    _err.print(table)


class _Waiting:
    """Until the first piece of an answer: on a terminal, something that moves."""

    def __init__(self) -> None:
        self._status = _err.status("thinking") if _err.is_terminal else None

    def progress(self, done: int, total: int) -> None:
        if self._status is not None:
            self._status.update(f"reading: {done} of {total} tokens")

    def __enter__(self) -> None:
        if self._status is not None:
            self._status.update("thinking")
            self._status.start()

    def __exit__(self, *ignored: object) -> None:
        if self._status is not None:
            self._status.stop()


def _say(text: str, style: str) -> None:
    _err.print(f"[{style}]{escape(text)}[/]")


@contextmanager
def _interrupting(turn: Turn) -> Iterator[None]:
    """SIGINT stops the turn in order; a second one interrupts whatever is being done."""

    def interrupt(number: int, frame: object) -> None:
        if turn.stopped:
            raise KeyboardInterrupt
        turn.stop()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_on_signals() -> None:
    """SIGINT interrupts, also where a shell switched it off for background jobs; the others end, tidily."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGINT, interrupt)
    for one in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(one) is not signal.SIG_IGN:  # nohup means it
            signal.signal(one, end)
