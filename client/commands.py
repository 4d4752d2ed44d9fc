"""What the commands of the command line do. Answers go to stdout, everything about them to stderr."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import ConfigError, ModelError, UsageError
from ..records import Record
from ..succession import read_chain
from .extras import need_peer_extra
from .generation import Generation
from .results import Completion, Resume

if TYPE_CHECKING:
    from ..party.identity import Identity
    from .api import Client
    from .launch import Cluster

MARGIN_BITS = 2.0

_WIDE = 160  # what a pipe or file takes, so that nothing is cut off there

_out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def run_up(
    *,
    peers: int,
    models: Sequence[str] | None,
    port: int,
    host: str,
    network: Sequence[str] | None = None,
    trace: Path | None = None,
) -> None:
    """Start a cluster, show it, watch over it until Ctrl-C (or SIGTERM, SIGHUP) or until a process ends."""
    from .launch import DEFAULT_MODEL, Cluster

    interrupt_on_signals()
    ready = False
    chosen = models or DEFAULT_MODEL
    cluster = Cluster(model=chosen, peers=peers, port=port, host=host, network=network or None, trace=trace)
    try:
        with _progress() as say:
            cluster.start(say)
        ready = True
        _out.print(_processes(cluster))
        if cluster.network is not None:
            _out.print(f"Links are made like: {cluster.network.text}. Change it with: tacit network set PROFILE")
        _out.print("Ready. Ask in another terminal: [bold]tacit ask 'Once upon a time'[/]  (Ctrl-C stops everything)")
        sys.stdout.flush()
        cluster.wait(lambda what: _err.print(f"[yellow]{what}[/]"))
    except KeyboardInterrupt:
        if not ready:
            raise
        _err.print("stopping")  # the ordinary end of `tacit up`
    finally:
        _stop(cluster)


def run_ask(
    prompt: str,
    *,
    model: str | None,
    protocol: str,
    cluster: str | None,
    as_json: bool,
    settings: dict[str, Any],
    policy: dict[str, Any],
    rules: dict[str, Any],
    trace: Path | None = None,
) -> None:
    """Stream an answer, or print it as one JSON object.

    `settings` are those of `Client.generate`, `policy` of `configured_policy`, `rules` of `Client`; None: as set elsewhere.
    `trace`: a file for what the answer spends its time on.
    """
    from ..config import Config
    from .ask_trace import traced
    from .policy import configured_policy
    from .resolve import find

    interrupt_on_signals()
    config = Config.load()
    if protocol == "plain":
        if trace is not None:
            raise UsageError("--trace: there is nothing to trace under plain, where nobody sends anybody anything")
        from .plain import generate

        _err.print("[yellow]plain: nothing is private; the model runs in the clear on this machine[/]")
        settings["max_new_tokens"] = config.get("client.max_new_tokens", settings["max_new_tokens"])
        _answer(generate(model, prompt, **settings), as_json)
        return
    if protocol == "crypten":
        _err.print("[yellow]crypten: to compare with; it protects less than pair (docs/crypten.md)[/]")
    meant = find(cluster, config)
    name = meant.name if meant else None
    rules["policy"] = configured_policy(config, name, **policy)
    model = config.get("client.model", model, name)
    with (
        traced(trace, meant.file if meant else None, notice) as rules["trace"],
        client_of(cluster if meant else None, meant is not None, model, rules) as (client, served),
    ):
        _answer(client.generate(prompt, model=served, protocol=protocol, on_resume=say_resumed, **settings), as_json)


def read_schema(path: Path) -> dict[str, Any]:
    """A JSON schema from a file. Raises UsageError."""
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is not JSON ({type(error).__name__})") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: a JSON schema is an object")
    return found


def say_resumed(resume: Resume) -> None:
    """On stderr, while the answer streams on stdout."""
    lead = "\n" if _err.is_terminal and sys.stdout.isatty() and resume.after_tokens else ""
    _err.print(
        f"{lead}[yellow]{escape(resume.reason)}; going on after {resume.after_tokens} tokens with "
        f"{escape(', '.join(resume.peers))}[/]"
    )


def _answer(generation: Generation, as_json: bool) -> None:
    if as_json:
        write(json.dumps(generation.complete().to_dict(), ensure_ascii=False) + "\n")
        return
    try:
        for piece in generation:
            write(piece)
    finally:
        generation.close()
        if generation.text:
            write("\n")
    if _err.is_terminal:
        _err.print(f"[dim]{summary(generation.result)}[/]")


def write(text: str) -> None:
    """To stdout, now. Raises ConfigError if it takes no more; a reader that has left (`| head`) is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_stdout()
        raise ConfigError(f"the answer cannot be written to standard output: {error.strerror}") from None
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding
        raise ConfigError(f"the answer cannot be written in {encoding}: set PYTHONIOENCODING=utf-8") from None


def discard_stdout() -> None:
    """Nobody takes what is left in stdout's buffer: without this Python would try again when it ends, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def summary(result: Completion) -> str:
    """The costs of an answer in one line."""
    traffic, timings, usage = result.traffic, result.timings, result.usage
    words = [f"{result.usage.completion_tokens} tokens", f"first after {timings.first_token_ms / 1e3:.2f} s"]
    if timings.per_token_ms:
        words.append(f"then {1e3 / timings.per_token_ms:.1f} a second")
    if traffic.rounds_per_token:
        words.append(f"{traffic.rounds_per_token:.0f} rounds a token")
        words.append(
            f"{size(traffic.online_bytes_per_token)} online and {size(traffic.offline_bytes_per_token)} offline"
        )
    if usage.cost is not None and usage.cost.strip("0."):
        words.append(f"{usage.cost} {usage.currency}")
    return ", ".join(words)


def size(count: float) -> str:
    """Bytes for people: 812 B, 74.2 kB, 14.1 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def run_check(model: str) -> None:
    """The range check of a model, as a table. Raises ModelError if a gate has too little room."""
    need_peer_extra("checking a model")
    scales: Any = importlib.import_module("tacit.models.scales")
    with _progress() as say:
        say(f"running {model} in the clear on sample prompts")
        report = scales.check(model)
    table = Table(title=f"Fixed-point range of {model}", title_justify="left")
    table.add_column("site")
    table.add_column("quantity")
    for heading in ("largest", "bound", "margin (bits)"):
        table.add_column(heading, justify="right")
    tight = [row for row in report.rows if row.margin_bits < MARGIN_BITS]
    for row in report.rows:
        style = "red" if row.margin_bits < MARGIN_BITS else None
        table.add_row(
            row.site, row.quantity, f"{row.largest:.4g}", f"{row.bound:.4g}", f"{row.margin_bits:.1f}", style=style
        )
    _out.print(table)
    if tight:
        worst = min(tight, key=lambda row: row.margin_bits)
        raise ModelError(
            f"{model} does not fit: {worst.quantity} at {worst.site} leaves {worst.margin_bits:.1f} bits of margin, "
            f"{MARGIN_BITS:g} are needed"
        )
    _out.print(f"{model} fits: at least {min(row.margin_bits for row in report.rows):.1f} bits of margin everywhere.")


def run_status(cluster: str | None, trust_on_first_use: bool, as_json: bool, watch: bool) -> None:
    """Peers, sessions and models of a cluster, as its coordinator shows them."""
    from ..config import Config
    from . import status
    from .resolve import need

    meant = need(cluster, Config.load())
    if trust_on_first_use:
        meant.pinned(trust_on_first_use=True, say=notice)
    if watch:
        interrupt_on_signals()
    status.run_status(meant.where, as_json=as_json, watch=watch)


def run_server(package: str, arguments: list[str]) -> None:
    """Become a peer ("party") or the coordinator; returns when it was told to end."""
    need_peer_extra("running a peer or coordinator")
    server: Any = importlib.import_module(f"tacit.{package}.server")
    status = server.main(arguments)
    sys.exit(status if isinstance(status, int) else 0)


def new_identity(file: Path, *, name: str, operator: str, mesh_endpoint: str, url: str) -> None:
    """Write a new identity; print its entry for cluster.json (of a peer, of a coordinator), or just its public half."""
    from ..party.identity import Identity
    from ..party.setup import coordinator_entry, member_entry

    identity = Identity.create()
    entry: Record | None = None
    if url:
        entry = coordinator_entry(identity, name or "coordinator", url)
    elif name:
        entry = member_entry(identity, name, operator, mesh_endpoint)
    identity.save(file)
    if entry is None:
        show_identity(file)
    else:
        print(json.dumps(entry.to_json(), indent=2))


def show_identity(file: Path) -> None:
    """The public half of an identity, and which ids it had before."""
    from ..party.identity import Identity

    _print_identity(Identity.load(file))


def rotate_identity(file: Path) -> None:
    """Put a successor in the place of an identity; say who follows by itself and what is left to do by hand."""
    from ..party.identity import rotate

    identity = rotate(file)
    _print_identity(identity)
    _err.print(
        f"{escape(str(file))} holds the new key, and the old key's word for it; the old key is gone.\n"
        "Start the peer again: until then it goes on under the old id. Clients that pinned the old id follow by\n"
        "themselves, and so do members that list it in a cluster.toml. A cluster.json follows nobody: put this peer_id\n"
        "and mesh_key into every copy of it."
    )


def _print_identity(identity: Identity) -> None:
    facts: dict[str, Any] = {"peer_id": identity.peer_id, "mesh_key": identity.mesh_key}
    if identity.successions:
        facts["successions"] = [
            {"old": link.old, "new": link.new, "made": utc(link.made)}
            for link in read_chain(identity.successions, "this identity")
        ]
    print(json.dumps(facts, indent=2))


def utc(seconds: float) -> str:
    """A time as people and machines read it: 2026-03-01T12:00:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


@contextmanager
def client_of(
    cluster: str | None, there: bool, model: str | None, rules: dict[str, Any], default: str | None = None
) -> Iterator[tuple[Client, str | None]]:
    """A client of the cluster meant, and the model's name there; starts a cluster where none is `there`, of `default`."""
    from .api import Client
    from .launch import DEFAULT_MODEL, Cluster

    if there:
        with Client(cluster, notice=notice, **rules) as client:
            yield client, _served(client, model)
        return
    own = Cluster(model=model or default or DEFAULT_MODEL, trace=rules.get("trace"))
    try:
        with _progress() as say:
            own.start(say)
        with Client(own, notice=notice, **rules) as client:
            yield client, _served(client, model)
    finally:
        _stop(own)


def notice(what: str) -> None:
    _err.print(f"[yellow]{escape(what)}[/]")


def _stop(cluster: Cluster) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave processes behind
    cluster.stop()


def _served(client: Client, model: str | None) -> str | None:
    """A model given as a folder is served under the folder's name."""
    if model is None or model in (served := client.models()):
        return model
    return name if (name := Path(model).name) in served else model


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Says on stderr what is being done: a spinner on a terminal, lines elsewhere."""
    if not _err.is_terminal:
        yield lambda what: _err.print(what)
        return
    with _err.status("starting") as spinner:
        yield lambda what: spinner.update(what)


def _processes(cluster: Cluster) -> Table:
    table = Table("process", "pid", "peer id", "listens on", title="Cluster", title_justify="left")
    for process in cluster.processes:
        table.add_row(process.name, str(process.pid), process.peer_id, process.endpoint)
    return table


def interrupt_on_signals() -> None:
    """End tidily on every signal that means to end; SIGINT too, which a shell switches off for background jobs."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if one is not signal.SIGHUP or signal.getsignal(one) is not signal.SIG_IGN:  # nohup means it
            signal.signal(one, interrupt)
