"""The same transfers over links of either kind: how long each took."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ...errors import NetworkError
from ...link import Circle, Link
from ...network import Profile
from ...party.zap import Doorkeeper
from ...shaping import line_seconds
from ...zmqlink import CurveKeys, ZmqLink, new_context
from .far import ENDS, SETTINGS, shaped

_DOMAIN = "lines"
_SMALL_TIMES, _WARM_TIMES = 15, 2
_READY_SECONDS, _END_SECONDS = 60.0, 5.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A transfer that is measured: so many bytes, one way or there and back."""

    size: int
    words: str
    back: bool

    @property
    def small(self) -> bool:
        """So small that TCP sends it at once, however cold."""
        return self.size < 10_000

    @property
    def names(self) -> tuple[str, ...]:
        """What `measure` calls its figures."""
        return (self.words,) if self.small else (f"{self.words}, cold", f"{self.words}, warm")

    def expected_ms(self, profile: Profile) -> float:
        """From the profile alone: half a round trip and the bits on the line, each way; jitter and loss apart."""
        ways = 2 if self.back else 1
        return 1e3 * ways * (profile.one_way + line_seconds(self.size, profile))

    def take(self, link: Link, body: bytes) -> float:
        """Do it once; milliseconds."""
        sent = time.monotonic_ns()
        if self.back:
            link.send("echo", body)
            link.receive("echoed", size=self.size)
            return (time.monotonic_ns() - sent) / 1e6
        link.send("take", body)
        at = link.receive("taken").integer("at", sent, time.monotonic_ns(), link.remote)  # one clock: one machine
        return (at - sent) / 1e6


KINDS = (
    Kind(64, "64 B one way", back=False),
    Kind(64, "64 B there and back", back=True),
    Kind(64_000, "64 KB there and back", back=True),
    Kind(1_000_000, "1 MB there and back", back=True),
    Kind(16_000_000, "16 MB one way", back=False),
)


def measure(near: Near, repeat: int, progress: Callable[[str], None]) -> dict[str, list[float]]:
    """Milliseconds of every kind, by name. Cold is the first transfer of a new link, warm are those right after it."""
    found = defaultdict(list)
    for number in range(repeat):
        for kind in KINDS:
            progress(f"{kind.words}, {number + 1} of {repeat}")
            body = bytes(kind.size)
            with near.link() as link:
                first = kind.take(link, body)
                if not kind.small:
                    found[kind.names[0]].append(first)
                for _ in range(_SMALL_TIMES if kind.small else _WARM_TIMES):
                    found[kind.names[-1]].append(kind.take(link, body))
    return dict(found)


class Near:
    """This end, and the process that is the other one. Make and use it where this end is to be (`namespaces.inside`)."""

    def __init__(self, host: str, profile: Profile | None, within: Sequence[str] = ()) -> None:
        """Links listen on `host`, and are shaped with `profile` if there is one; `within` comes before the other end's command.

        Raises NetworkError if the other end does not start.
        """
        self._host = host
        self._profile = None if profile is None else profile.text
        self._context = new_context()
        self._doorkeeper = Doorkeeper(self._context)
        self._process = subprocess.Popen(
            [*within, sys.executable, "-P", "-m", "tacit.coordinator.lines.far"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert self._process.stdout is not None
            ready, _, _ = select.select([self._process.stdout], [], [], _READY_SECONDS)
            said = self._process.stdout.readline() if ready else ""
            if not said:
                raise NetworkError(f"the other end of the lines did not start within {_READY_SECONDS:.0f} s")
            self._doorkeeper.admit(_DOMAIN, json.loads(said)["key"])
        except BaseException:
            self.close()
            raise

    @contextmanager
    def link(self) -> Iterator[Link]:
        """A new one, open."""
        keys, circle = CurveKeys.fresh(), Circle()
        line = shaped(self._profile)
        link = ZmqLink.bind(self._context, self._host, _DOMAIN, keys, ENDS, circle, SETTINGS, line=line)
        try:
            assert self._process.stdin is not None
            asked = {"endpoint": link.endpoint, "key": keys.public, "profile": self._profile}
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            link.open()
            yield link
            link.send("end")
        finally:
            circle.close()

    def close(self) -> None:
        """The other end ends with its standard input; by force if it does not."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._doorkeeper.close()
        self._context.term()

    def __enter__(self) -> Near:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
