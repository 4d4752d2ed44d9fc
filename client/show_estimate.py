"""What `tacit calibrate` and `tacit estimate` do and print."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import UsageError
from ..network import Network
from .commands import size
from .extras import need_peer_extra

if TYPE_CHECKING:
    from ..coordinator.study.estimate import Estimate, Rates, Split

_WIDE = 160  # what a pipe or file takes, so that nothing is cut off there
_out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def run_calibrate(*, force: bool, as_json: bool) -> None:
    """Measure this machine, or show that it was measured."""
    need_peer_extra("measuring kernels")
    from ..coordinator.study.estimate.rates import machine_key, rates_path

    path = rates_path(machine_key())
    known = path.exists() and not force
    rates = _rates(force)
    if as_json:
        print(json.dumps(asdict(rates)))
        return
    for line in _provenance(rates):
        _out.print(line)
    _out.print(f"{'kept since then' if known else 'kept'} in {path}" + ("; --force measures again" if known else ""))


def _rates(force: bool = False) -> Rates:
    """This machine's, measured now if need be, with a word on each stage."""
    from ..coordinator.study.estimate import calibrate, load_rates
    from ..coordinator.study.estimate.calibrate import STAGES
    from ..coordinator.study.estimate.rates import machine_key, rates_path

    if not force and rates_path(machine_key()).exists():
        return load_rates()
    with _steps(len(STAGES)) as say:
        return calibrate(say)


@contextmanager
def _steps(count: int) -> Iterator[Any]:
    """Progress over `count` stages, on stderr; a line each where that is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    if not _err.is_terminal:
        yield lambda what: _err.print(f"measuring: {what}")
        return
    columns = (TextColumn("measuring this machine once: {task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_err, transient=True) as progress:
        task, begun = progress.add_task("", total=count), [0]

        def say(what: str) -> None:
            progress.update(task, description=what, completed=begun[0])
            begun[0] += 1

        yield say


def run_estimate(
    *,
    model: str,
    prompt: int,
    new: int,
    network: Sequence[str],
    protocol: str,
    machines: int,
    cores: int | None,
    as_json: bool,
    sweep: Path | None = None,
) -> None:
    """Predict, print it, and draw the page if asked for."""
    lines = Network.parse(network)
    need_peer_extra("estimating a model")
    if sweep is not None:
        _check_page(sweep)
    from ..coordinator.study.estimate import Placement, estimate, read_subject
    from ..coordinator.study.estimate.predict import check_lengths, check_protocol

    check_protocol(protocol)
    subject = read_subject(model)
    if subject.spec.encoder:
        new = 1
        if sweep is not None:
            raise UsageError(f"--sweep draws the tokens of an answer, and {subject.name} gives none: leave it out")
    check_lengths(subject, prompt, new)
    rates = _rates()
    where = Placement(cores or rates.cores, machines)
    found = estimate(subject, prompt, new, lines, rates=rates, where=where, protocol=protocol)
    if as_json:
        print(json.dumps(as_dict(found, rates, where)))
    else:
        _show(found, rates, where)
    if sweep is not None:
        from ..coordinator.study.estimate.sweep import sweep as sweep_lines
        from ..coordinator.study.report import write_page

        with _err.status("predicting over round trips and bandwidths"):
            swept = sweep_lines(subject, protocol, prompt, new, rates=rates, where=where)
            write_page(swept, sweep)
        _err.print(f"drawn: {escape(str(sweep))}")


def _check_page(path: Path) -> None:
    """Before anything is predicted. Raises UsageError, and ConfigError if what draws is missing."""
    from ..coordinator.study.report import need_packages

    if path.suffix not in (".html", ".htm"):
        raise UsageError(f"--sweep {path}: a page is written as .html")
    need_packages()


def as_dict(found: Estimate, rates: Rates, where: Any) -> dict[str, Any]:
    """The JSON object of ``tacit estimate --json``: milliseconds and bytes."""
    spec = found.subject.spec
    return {
        "model": found.subject.name,
        "architecture": spec.architecture,
        "parameters": found.subject.parameters,
        "protocol": found.protocol,
        "network": found.network,
        "prompt_tokens": found.prompt,
        "new_tokens": found.new,
        "rounds_per_layer": found.rounds_per_layer,
        "rounds_per_token": found.token_cost.rounds,
        "online_bytes": {"prompt": 2 * found.prompt_cost.online, "token": 2 * found.token_cost.online},
        "offline_bytes": {
            "prompt": found.prompt_cost.offline0 + found.prompt_cost.offline1,
            "token": found.token_cost.offline0 + found.token_cost.offline1,
        },
        "ttft_ms": _parts(found.first),
        "tpot_ms": _parts(found.token),
        "session_setup_ms": found.setup_ms,
        "dealer_ms": {"prompt": found.prompt_dealer_ms, "token": found.dealer_ms},
        "limit": found.limit,
        "memory_bytes": dict(zip(("compute 0", "compute 1", "dealer"), found.memory, strict=True)),
        "weights_bytes": found.weights,
        "notes": list(found.subject.notes),
        "rates": {"made": rates.made, "machine": rates.machine, "misfit": dict(rates.misfit)},
        "placement": {"machines": where.machines, "cores": where.cores},
    }


def _parts(split: Split) -> dict[str, float]:
    return {"all": split.all, "compute": split.compute, "latency": split.latency, "transfer": split.transfer}


def _show(found: Estimate, rates: Rates, where: Any) -> None:
    spec, subject = found.subject.spec, found.subject
    _out.print(
        f"[bold]{subject.name}[/]: {spec.architecture}, {_count(subject.parameters)} parameters, {spec.layers} layers, "
        f"{spec.width} wide, {spec.heads} heads on {spec.kv_heads} for keys and values, vocabulary {spec.vocab}"
    )
    what = "a text of {0} tokens" if spec.encoder else "{0} tokens of prompt, {1} new"
    _out.print(f"{found.protocol} on {found.network}, {what.format(found.prompt, found.new)}")
    columns = 1 if spec.encoder else 2
    table = Table()
    table.add_column("")
    for heading in ("to the vector",) if spec.encoder else ("to the first token", "each token after it"):
        table.add_column(heading, justify="right")
    for name, part in (("time", "all"), ("  compute", "compute"), ("  latency", "latency"), ("  transfer", "transfer")):
        table.add_row(name, *(_time(getattr(split, part)) for split in (found.first, found.token)[:columns]))
    if found.protocol == "pair":
        costs = (found.prompt_cost, found.token_cost)[:columns]
        table.add_row("rounds", *(str(cost.rounds) for cost in costs))
        table.add_row("online, both ways", *(size(2 * cost.online) for cost in costs))
        table.add_row("offline, dealer to both", *(size(cost.offline0 + cost.offline1) for cost in costs))
        table.add_row("dealer's own work", *map(_time, (found.prompt_dealer_ms, found.dealer_ms)[:columns]))
    _out.print(table)
    if found.protocol == "pair":
        _out.print(f"{found.rounds_per_layer} rounds a layer; limited by {found.limit}")
        _out.print(
            "memory of the session: "
            + ", ".join(
                f"{name} {size(bytes_)}"
                for name, bytes_ in zip(
                    ("compute peers", "dealer"), (max(found.memory[:2]), found.memory[2]), strict=True
                )
            )
            + f"; weights at each peer {size(found.weights)}"
        )
    for note in subject.notes:
        _out.print(f"note: {note}", style="yellow")
    shared = (
        f"all on one machine of {where.cores} cores"
        if where.machines == 1
        else f"a machine of {where.cores} cores each"
    )
    _out.print(
        f"How: rounds and bytes are the gates' declared costs, which tests hold against sessions; compute is counted kernel "
        f"calls at the rates of this machine, {shared}; session set-up, {_time(found.setup_ms)}, as on one machine."
    )
    if (factor := rates.rates.get("session.work")) is not None:
        _out.print(
            f"All rates of work were then multiplied by {factor:.2f}, fitted to answers, without a line, of a model of "
            "another shape that is there for calibration alone."
        )
    for line in _provenance(rates):
        _out.print(line)


def _provenance(rates: Rates) -> list[str]:
    worst = max(rates.misfit.items(), key=lambda item: item[1], default=("", 0.0))
    return [
        f"Rates of {rates.machine}, {rates.cores} cores, measured {rates.made}; "
        f"median error of their fits: at most {100 * worst[1]:.0f} % ({worst[0]})"
    ]


def _time(ms: float) -> str:
    if ms >= 60e3:
        return f"{ms / 60e3:.1f} min"
    if ms >= 1e3:
        return f"{ms / 1e3:.2f} s"
    return f"{ms:.1f} ms"


def _count(number: int) -> str:
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return str(number)
