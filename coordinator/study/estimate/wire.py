"""What a message costs beyond the line: two processes of this machine, one link as sessions have it (ZeroMQ, CURVE, loopback).

`round` is an opening between gates: waking the other process, CURVE, ZeroMQ's threads, our frames, and the caches that the
waiting lost. It is what a norm over a real link takes longer than the same norm alone, a third of it for each of its rounds.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ....ends import Ends, LinkSettings
from ....errors import NetworkError
from ....kernels.dpf.keygen import tree_keys
from ....kernels.dpf.trees import make_trees
from ....link import Circle, Link
from ....party.memory import keep_freed_memory
from ....party.zap import Doorkeeper
from ....protocols.pair.norm import rms_norm
from ....protocols.pair.scales import NormPlan
from ....protocols.pair.secret import Secret
from ....zmqlink import CurveKeys, ZmqLink, new_context
from .bench import SHAPES, fed, plans, timed, words

SESSION = bytes(16)
PARTIES = ("a", "b", "dealer", "client")
SMALL, LARGE = 64, 256 << 10
NORMS, EXCHANGES, LARGE_EXCHANGES, MESSAGES = 150, 400, 60, 80
SECONDS = 60.0


def measured_wire() -> dict[str, float]:
    """Rates of links: seconds of processor time and of waiting, by message and by byte. NetworkError if that fails."""
    other = subprocess.Popen(
        [sys.executable, "-P", "-c", "from tacit.coordinator.study.estimate.wire import other_side; other_side()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    try:
        keys, context, circle = CurveKeys.fresh(), new_context(), Circle()
        with Doorkeeper(context) as doorkeeper:
            doorkeeper.admit("calibrate", _hear(other)["key"])
            ends = Ends(SESSION, PARTIES, 0, 1, "the other process", "")
            link = ZmqLink.bind(context, "127.0.0.1", "calibrate", keys, ends, circle, LinkSettings(timeout=SECONDS))
            _tell(other, {"endpoint": link.endpoint, "key": keys.public})
            link.open()
            mine = _script(link, 0)
            theirs = _hear(other)
            circle.close()
        context.term()
    finally:
        if other.poll() is None:
            try:
                other.wait(5)
            except subprocess.TimeoutExpired:
                other.kill()
                other.wait()
    return _rates(mine, theirs)


def other_side() -> None:
    """The second process: told where to dial on stdin, says what it measured on stdout."""
    import torch

    torch.set_num_threads(1)
    keep_freed_memory()
    keys, context, circle = CurveKeys.fresh(), new_context(), Circle()
    print(json.dumps({"key": keys.public}), flush=True)
    told = json.loads(sys.stdin.readline())
    ends = Ends(SESSION, PARTIES, 1, 0, "the first process", "")
    link = ZmqLink.dial(
        context, told["endpoint"], told["key"], keys, ends, circle, LinkSettings(timeout=SECONDS)
    )  # fmt: skip
    link.open()
    print(json.dumps(_script(link, 1)), flush=True)
    circle.close()
    context.term()


def _script(link: Link, role: int) -> dict[str, Any]:
    """What both sides do, in step. Seconds of each repetition, and processor seconds of the whole process."""
    found: dict[str, Any] = {}
    plan = plans()[0].norm("norm")
    for size, count in ((SMALL, EXCHANGES), (LARGE, LARGE_EXCHANGES)):
        body = np.ones(size // 8, np.uint64)
        found[f"exchange {size}"] = _repeat(count, lambda body=body, size=size: _exchange(link, body, size))  # type: ignore[misc]
    found["norm alone"] = {"wall": [timed(_norm(plan, role, None))], "cpu": 0.0}
    link.send("ready")
    link.receive("ready")
    found["norm"] = _repeat(NORMS, _norm(plan, role, link))
    body = np.ones(LARGE // 8, np.uint64)
    sender = role == 0
    found["stream"] = _repeat(
        MESSAGES, lambda: link.send("stream", body) if sender else link.receive("stream", size=LARGE)
    )
    link.send("ready")
    link.receive("ready")
    found["echo"] = _repeat(EXCHANGES, lambda: _echo(link, sender, SMALL))
    return found


def _exchange(link: Link, body: np.ndarray, size: int) -> None:
    link.send("open", body, step=1, round=1)
    link.receive("open", size=size)


def _echo(link: Link, first: bool, size: int) -> None:
    """A question and its answer, one after the other: two ways."""
    if first:
        link.send("echo", bytes(size), step=1)
        link.receive("echo", size=size)
    else:
        link.receive("echo", size=size)
        link.send("echo", bytes(size), step=1)


def _norm(plan: NormPlan, role: int, link: Link | None) -> Callable[[], object]:
    party = fed(role, make_trees(tree_keys(SESSION)), link)
    x = Secret(words(1, SHAPES[0].width), 30, 64)
    step = iter(range(1, 1 << 30))

    def one() -> None:
        party.begin(next(step))
        rms_norm(party, x, plan)

    return one


def _repeat(count: int, action: Callable[[], object]) -> dict[str, Any]:
    for _ in range(3):
        action()
    before, walls = _cpu(), list[float]()
    for _ in range(count):
        started = time.perf_counter()
        action()
        walls.append(time.perf_counter() - started)
    return {"wall": walls, "cpu": (_cpu() - before) / count}


def _cpu() -> float:
    """Of all threads of this process, ZeroMQ's among them."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _rates(mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    def wall(what: str) -> float:
        return float(np.mean([np.median(side[what]["wall"]) for side in (mine, theirs)]))

    small, large = wall(f"exchange {SMALL}"), wall(f"exchange {LARGE}")
    in_gates = (wall("norm") - wall("norm alone")) / 3
    busy = float(np.mean([side["norm"]["cpu"] - wall("norm alone") for side in (mine, theirs)])) / 3
    one_round = max(small, in_gates)
    streamed = max(sum(side["stream"]["wall"]) for side in (mine, theirs)) / MESSAGES
    return {
        "round": one_round,
        "round.cpu": min(max(busy, 0.0), one_round),
        "round.byte": max(0.0, large - small) / (LARGE - SMALL),
        "stream.byte": streamed / LARGE,
        "stream.sender.byte": mine["stream"]["cpu"] / LARGE,
        "stream.receiver.byte": theirs["stream"]["cpu"] / LARGE,
        "way": wall("echo") / 2,
    }


def _tell(process: subprocess.Popen[str], what: dict[str, Any]) -> None:
    if process.stdin is not None:
        process.stdin.write(json.dumps(what) + "\n")
        process.stdin.flush()


def _hear(process: subprocess.Popen[str]) -> dict[str, Any]:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise NetworkError("measuring links: the second process ended early; its message is above")
    found: dict[str, Any] = json.loads(line)
    return found
