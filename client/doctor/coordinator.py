"""The way to the coordinator, one step after the other: name, port, program, clock, version."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from ... import __version__
from ...reach import Outcome, Reach, knock, resolve
from ...records import parse_json, tidy
from ..directory import is_loopback
from .finding import Finding, fail, ok, skipped, warn

MAX_SKEW = 30.0  # seconds; records that carry a time are refused when they are too far off
NAME, PORT, PROGRAM, CLOCK, VERSION = (
    "coordinator's name", "coordinator's port", "coordinator's answer", "clock", "coordinator's version",
)  # fmt: skip
_SECONDS = 10.0
_MAX_ANSWER = 1 << 20

Knock = Callable[[str, int], Reach]


@dataclass(slots=True)
class Visit:
    """What was found on the way, and the status that the coordinator told (None: it never came to that)."""

    findings: list[Finding] = field(default_factory=list)
    status: dict[str, Any] | None = None
    models: list[dict[str, Any]] = field(default_factory=list)


def visit(url: str, *, clock: Callable[[], float] = time.time, reach: Knock = knock) -> Visit:
    """Go to the coordinator at `url` (http or https)."""
    found = Visit()
    steps = (PORT, PROGRAM, CLOCK, VERSION)
    done = _proxied(url, found) or (_named(url, found) and _open(url, found, reach))
    if done and _answers(url, found, clock):
        return found
    reached = {one.check for one in found.findings}
    found.findings += [skipped(step, "the coordinator was not reached") for step in steps if step not in reached]
    return found


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _proxied(url: str, found: Visit) -> bool:
    """Whether the client goes there by a proxy: then neither name nor port are looked up from here."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme) or getproxies().get("all")
    if not proxy or is_loopback(url) or proxy_bypass(parts.netloc):
        return False
    where = urlsplit(proxy)
    found.findings.append(
        warn(
            NAME,
            "proxy",
            f"{parts.netloc} is asked through the proxy {where.hostname}:{where.port}, which the environment names",
            f"if the coordinator is not reached, put {parts.hostname} into NO_PROXY",
        )
    )
    return True


def _named(url: str, found: Visit) -> bool:
    host, _ = _place(url)
    addresses = resolve(host)
    if addresses:
        found.findings.append(ok(NAME, host if addresses == [host] else f"{host} is {', '.join(addresses)}"))
    else:
        found.findings.append(
            fail(
                NAME,
                "name",
                f"the name {host!r} has no address",
                f"check how it is spelled in {url}, and whether this machine's name server answers (getent hosts {host})",
            )
        )
    return bool(addresses)


def _open(url: str, found: Visit, reach: Knock) -> bool:
    host, port = _place(url)
    result = reach(host, port)
    if result.outcome.reached:
        found.findings.append(ok(PORT, f"{result.place} is open"))
        return True
    cause, seen, advice = {
        Outcome.REFUSED: (
            "closed",
            "refuses: the machine is there, and nothing listens on this port",
            f"start the coordinator there (tacit coordinator), let it listen on that address (--host), or correct {url}",
        ),
        Outcome.TIMEOUT: (
            "filtered",
            "does not answer: a firewall drops what comes, or the machine is off",
            f"open TCP port {port} in that machine's and its provider's firewall; then check the address",
        ),
    }.get(
        result.outcome,
        (
            "unreachable",
            "cannot be reached: there is no way there from this machine",
            "check this machine's network (ip route get ADDRESS), a VPN that should be on, and the address",
        ),
    )
    found.findings.append(fail(PORT, cause, f"{result.place} {seen}", advice))
    return False


def _answers(url: str, found: Visit, clock: Callable[[], float]) -> bool:
    try:
        with httpx2.Client(base_url=url, timeout=_SECONDS, trust_env=not is_loopback(url)) as http:
            asked = clock()
            health = http.get("/health")
            answered = clock()
            if _json(health) != {"status": "ok"}:
                server = tidy(health.headers.get("server", "unnamed"), 60)
                found.findings.append(_another(url, f"HTTP status {health.status_code} from a server {server!r}"))
                return False
            status, models = _json(http.get("/v1/status")), _json(http.get("/v1/models"))
    except httpx2.TimeoutException:
        found.findings.append(
            fail(
                PROGRAM,
                "hangs",
                f"{url} takes connections and does not answer within {_SECONDS:g} s",
                "look at the coordinator's log, and start it again",
            )
        )
        return False
    except (httpx2.HTTPError, ssl.SSLError, ValueError) as error:
        found.findings.append(_another(url, f"no HTTP ({tidy(error, 120) or type(error).__name__})"))
        return False
    if not isinstance(status, dict) or not isinstance(models, list):
        found.findings.append(_another(url, "no status of a cluster"))
        return False
    found.status = status
    found.models = [one for one in models if isinstance(one, dict)]
    cluster = tidy(status.get("cluster", "?"), 64)
    found.findings.append(ok(PROGRAM, f"the coordinator of {cluster!r} answered in {1000 * (answered - asked):.0f} ms"))
    found.findings.append(_clock(health.headers.get("date"), asked, answered))
    found.findings.append(_version(status.get("version")))
    return True


def _json(response: httpx2.Response) -> object:
    """None for what is no JSON."""
    if not response.is_success:
        return None
    try:
        return parse_json(response.content, _MAX_ANSWER)
    except ValueError:
        return None


def _another(url: str, what: str) -> Finding:
    return fail(
        PROGRAM,
        "other program",
        f"another program answers at {url}: {what}",
        "correct the address or port (7440 unless another was chosen), http or https, or stop the other program",
    )


def _clock(date: str | None, asked: float, answered: float) -> Finding:
    """`date`: HTTP's Date, in whole seconds."""
    try:
        theirs = parsedate_to_datetime(date or "").timestamp()
    except (TypeError, ValueError):
        return skipped(CLOCK, "the coordinator did not tell its time")
    skew = theirs - answered if theirs > answered else min(0.0, theirs + 1 - asked)
    if abs(skew) <= MAX_SKEW:
        return ok(CLOCK, f"within {max(1.0, abs(skew)):.0f} s of the coordinator's")
    way = "ahead of" if skew > 0 else "behind"
    return fail(
        CLOCK,
        "clock",
        f"the coordinator's clock is {abs(skew):.0f} s {way} this machine's",
        "set both by NTP (timedatectl set-ntp true): signed quotes and records carry times",
    )


def _version(version: object) -> Finding:
    if version == __version__:
        return ok(VERSION, f"{__version__}, as here")
    return fail(
        VERSION,
        "version",
        f"the coordinator is version {tidy(version, 32)}, this client {__version__}",
        "install the same version on both (pip install --upgrade)",
    )
