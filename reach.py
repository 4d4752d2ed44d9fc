"""Whether a TCP port can be reached, and if not, what stands in the way: as far as one end can tell.

| outcome     | what happened                                         | what that mostly means                                     |
| ----------- | ------------------------------------------------------ | ---------------------------------------------------------- |
| OPEN        | connected                                             | some program listens there                                 |
| EXPECTED    | connected, and heard the words that were asked for    | the very program meant listens there                       |
| REFUSED     | the machine said no                                   | nothing listens on this port, or a firewall that says so   |
| TIMEOUT     | no answer at all                                      | a firewall drops it, no forwarding, or nobody is there     |
| UNREACHABLE | this machine or a router knows no way there           | wrong address, no network, a private address from outside  |
| UNKNOWN     | the name has no address                               | misspelled, or the name server cannot be reached           |
| UNTRIED     | not tried (by a member that is asked to dial back)    | see `party/dialback.py`                                    |
"""

from __future__ import annotations

import errno
import hmac
import socket
import time
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

TIMEOUT = 3.0
MAX_ADDRESSES = 4  # of one name
_GREETING_SECONDS = 1.0


class Outcome(StrEnum):
    """See the module's table."""

    OPEN = "open"
    EXPECTED = "expected"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"
    UNTRIED = "untried"

    @property
    def reached(self) -> bool:
        return self in (Outcome.OPEN, Outcome.EXPECTED)


@dataclass(frozen=True, slots=True)
class Reach:
    """What came of one attempt. `address`: the IP address that `host` stands for, "" if it has none."""

    host: str
    port: int
    outcome: Outcome
    address: str = ""

    @property
    def place(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_BEST_FIRST = (Outcome.EXPECTED, Outcome.OPEN, Outcome.REFUSED, Outcome.TIMEOUT, Outcome.UNREACHABLE, Outcome.UNKNOWN)


def resolve(host: str) -> list[str]:
    """The IP addresses of a host, at most `MAX_ADDRESSES`; none if it has none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))[:MAX_ADDRESSES]


def knock(host: str, port: int, timeout: float = TIMEOUT, expected: bytes = b"") -> Reach:
    """Try each address of `host`; the best that came of it. `timeout` in seconds, of all together.

    `expected`: what the program meant says at once, if it is that one.
    """
    addresses = resolve(host)
    results = [Reach(host, port, Outcome.UNKNOWN)]
    deadline = time.monotonic() + timeout
    for number, address in enumerate(addresses):
        share = (deadline - time.monotonic()) / (len(addresses) - number)
        results.append(Reach(host, port, _knock(address, port, max(0.1, share), expected), address))
    return min(results, key=lambda result: _BEST_FIRST.index(result.outcome))


def _knock(address: str, port: int, timeout: float, expected: bytes) -> Outcome:
    try:
        with socket.create_connection((address, port), timeout) as connection:
            if expected and hmac.compare_digest(_heard(connection, len(expected)), expected):
                return Outcome.EXPECTED
            return Outcome.OPEN
    except TimeoutError:
        return Outcome.TIMEOUT
    except OSError as error:
        if error.errno == errno.ECONNREFUSED:
            return Outcome.REFUSED
        return Outcome.TIMEOUT if error.errno == errno.ETIMEDOUT else Outcome.UNREACHABLE


def _heard(connection: socket.socket, size: int) -> bytes:
    """The first bytes that come, up to `size`; fewer if they do not come soon."""
    found = b""
    deadline = time.monotonic() + _GREETING_SECONDS
    try:
        while len(found) < size and (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            if not (piece := connection.recv(size - len(found))):
                break
            found += piece
    except OSError:
        return found
    return found


def is_outside(address: str) -> bool:
    """Whether an IP address is one of the public internet; False for private ones, this machine's, and what is none."""
    try:
        return ip_address(address).is_global
    except ValueError:
        return False


def own_address_towards(host: str) -> str:
    """The IP address that this machine uses towards `host`; "" if there is no way. Nothing is sent."""
    for address in resolve(host):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((address, 9))
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return ""
