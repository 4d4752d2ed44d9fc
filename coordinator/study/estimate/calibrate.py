"""Measuring this machine once: the kernels, the gates, the links, opening a session. In a process as peers are, one thread."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from ....errors import NetworkError
from ....records import tidy
from ....sizes import Sizes
from .amounts import fit, misfit
from .in_session import Measured, in_session, measured_answers
from .own_model import write_model
from .rates import Rates, load_rates, machine_key, processor, rates_path
from .subject import Subject, read_subject

SECONDS = 300.0
SESSIONS = 7
STAGES = ("compiling kernels", "trees", "products", "gates", "steps", "plaintext", "links", "opening sessions")
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)  # fmt: skip

Progress = Callable[[str], None]


def calibrated(progress: Progress = lambda what: None) -> Rates:
    """This machine's rates: those kept, or measured now and kept. Raises as `calibrate` does."""
    if rates_path(machine_key()).exists():
        return load_rates()
    return calibrate(progress)


def calibrate(progress: Progress = lambda what: None) -> Rates:
    """Measure and keep them; `progress` is told each of STAGES as it begins.

    NetworkError if a measurement's process fails, ConfigError if the cache cannot be written.
    """
    progress(STAGES[0])
    found = _measured_in_child(progress)
    progress(STAGES[-1])
    opening, subject, answers = _sessions()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    rates = Rates(
        rates=in_session(found["rates"] | {"session": opening}, cores, subject, answers),
        key=machine_key(),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=processor(),
        cores=cores,
        misfit=found["misfit"],
    )
    rates.save()
    return rates


def _measured_in_child(progress: Progress) -> dict[str, dict[str, float]]:
    """The child says each stage on a line of its own, and the result on the last."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", "from tacit.coordinator.study.estimate.calibrate import child; child()"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | _ONE_THREAD,
    )  # fmt: skip
    found: dict[str, dict[str, float]] = {}
    try:
        for line in child.stdout or ():
            said = json.loads(line)
            if "stage" in said:
                progress(str(said["stage"]))
            else:
                found = said
        status = child.wait(SECONDS)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    if status or not found:
        lines = (child.stderr.read() if child.stderr else "").strip().splitlines() or ["no reason given"]
        raise NetworkError(f"measuring the kernels failed: {tidy(lines[-1], 300)}")
    return found


def child() -> None:
    """The measuring process."""
    import torch

    from ....kernels.warm import warm
    from ....party.memory import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    warm()
    from . import bench, plaintext
    from .wire import measured_wire

    plans = bench.plans()
    rates: dict[str, float] = {}
    errors: dict[str, float] = {}
    stages: tuple[tuple[str, Callable[[], Iterator[bench.Measured]]], ...] = (
        ("trees", lambda: bench.measured_trees(plans)),
        ("products", bench.measured_products),
        ("gates", lambda: bench.measured_gates(plans)),
        ("steps", bench.measured_steps),
        ("plaintext", plaintext.measured_plain),
    )
    for name, measure in stages:
        _say({"stage": name})
        measured = list(measure())
        rates |= fit(measured, rates)
        errors[name] = misfit(measured, rates)
    _say({"stage": "links"})
    _say({"rates": rates | measured_wire(), "misfit": errors})


def _say(what: object) -> None:
    print(json.dumps(what), flush=True)


def _sessions() -> tuple[float, Subject, Measured]:
    """In a cluster on this machine: seconds from asking for a session to both links open; a model, and what its answers take."""
    from ....client.api import Client
    from ....client.launch import Cluster

    with tempfile.TemporaryDirectory(prefix="tacit-calibration-") as name:
        folder = Path(name) / "calibration"
        folder.mkdir()
        write_model(folder)
        subject = read_subject(folder)
        with Cluster(model=folder) as cluster, Client(cluster, keep_receipts=False) as client:
            return statistics.median(_openings(client)), subject, measured_answers(client)


def _openings(client: object) -> Iterable[float]:
    from ....client.api import Client

    if not isinstance(client, Client):
        raise TypeError("openings are timed by a client")
    for _ in range(SESSIONS):
        generation = client.generate([1, 2, 3], max_new_tokens=1)
        started = time.perf_counter()
        runner = generation._start(Sizes.of([3], 1))
        yield time.perf_counter() - started
        runner.abort()
