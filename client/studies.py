"""`study`: measuring from Python what answers take. What it needs is imported when it is called."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, UsageError
from .api import Client
from .policy import Policy

if TYPE_CHECKING:
    from ..coordinator.study.plan import ModelFact
    from ..coordinator.study.records import Results
    from ..coordinator.study.run import Watcher

QUICK_SECONDS = 90.0  # of measuring; starting the cluster and drawing the report come on top
NETWORKS = ("lan", "metro", "wan", "sigma-wan", "global")
DEFAULT_MODEL = "stories"
_PROTOCOLS = ("pair", "plain")


def study(
    out: str | Path | None = None,
    *,
    protocols: Sequence[str] | None = None,
    networks: Sequence[str] | None = None,
    models: Sequence[str | Path] | None = None,
    prompts: Sequence[int] = (8,),
    new: Sequence[int] = (8,),
    repetitions: int = 5,
    warmup: int = 1,
    quick: bool = False,
    cluster: str | None = None,
    forwarded: bool = False,
    predict: bool = True,
    check: bool = True,
    resume: bool = False,
    watcher: Watcher | None = None,
) -> Results:
    """Measure every protocol on every network with every model and length; `rows()` of the result is for pandas.

    `out`: the folder for results.json, results.csv and report.html; default a new one in the current folder.
    `protocols`: default "pair" and "plain" (in the clear on this machine). `networks`: profiles such as "wan" or
    "rtt=40ms,bandwidth=100mbit"; default the five named ones. `models`: shipped names or folders; default the shipped
    story model. `prompts`, `new`: lengths in tokens. `repetitions` of every answer, after `warmup` answers of a protocol and
    length that are thrown away. `quick`: begin no second repetition that would take the measuring beyond two minutes.
    `cluster`: measure one that runs already, with the network that it has. `forwarded`: measure "pair" over the kernel's
    stack too (needs privileges). `predict`: every case is predicted too, which first measures this machine's kernels, once, in
    half a minute. `check`: where that is allowed, single transfers over shaped links are compared with the
    kernel's stack. `resume`: go on with what `out` holds. `watcher` is told how it goes on.

    The whole matrix is checked before anything starts. Raises UsageError, ModelError or ConfigError for what cannot be
    measured, NetworkError for a cluster that cannot be reached; an answer that fails is listed in `missing`. Whatever is
    raised, even KeyboardInterrupt, what was measured until then is in `out`.
    """
    from ..coordinator.study.plan import Plan, parse_networks, read_models
    from ..coordinator.study.records import AS_IS
    from ..coordinator.study.report import need_packages
    from ..coordinator.study.run import Study, Watcher, finish

    watcher = watcher or Watcher()
    folder = Path(out) if out is not None else Path(time.strftime("study-%Y%m%d-%H%M%S"))
    if cluster is not None and (networks is not None or forwarded):
        raise UsageError("a cluster that runs already has the network that it has: leave --network and --forward out")
    if forwarded:
        from ..coordinator.study.forwarded import why_not

        if reason := why_not():
            raise ConfigError(f"the kernel's network stack cannot be used here: {reason}; leave --forward out")
    plan = Plan(
        tuple(dict.fromkeys(protocols or _PROTOCOLS[: 1 if cluster is not None else None])),
        {AS_IS: None} if cluster is not None else parse_networks(networks or NETWORKS),
        _served(cluster, models)
        if cluster is not None
        else read_models([str(one) for one in models or [DEFAULT_MODEL]]),
        tuple(dict.fromkeys(prompts)),
        tuple(dict.fromkeys(new)),
        repetitions,
        warmup,
        forwarded,
    )
    try:
        need_packages()
    except ConfigError as error:
        watcher.warn(f"{error}; everything else is done")
    within = QUICK_SECONDS if quick else None
    running = Study(plan, folder, there=cluster, resume=resume, within=within, watcher=watcher)
    results = running.run()
    if predict:
        running.predict()
    running.trace()
    if check:
        running.check_lines(1 if quick else 3)
    try:
        finish(results, folder)
    except ConfigError as error:  # of hours of measuring nothing is to be lost
        watcher.warn(str(error))
    return results


def _served(cluster: str, models: Sequence[str | Path] | None) -> tuple[ModelFact, ...]:
    """The models of a running cluster, all or those named. Raises UsageError, NetworkError."""
    from ..coordinator.study.plan import ModelFact

    with Client(cluster, policy=Policy(max_resumes=0), keep_receipts=False) as client:
        served = {str(one["name"]): int(one["context"]) for one in client.describe_models()}
    if not served:
        raise UsageError(f"the cluster {cluster} serves no model at the moment: its peers are not connected")
    wanted = list(served) if models is None else [str(model) for model in models]
    for name in wanted:
        if name not in served:
            raise UsageError(f"the cluster {cluster} does not serve {name!r}; it serves: {', '.join(served)}")
    return tuple(ModelFact(name, name, served[name]) for name in dict.fromkeys(wanted))
