"""Who may ask at all: a page in the user's browser must not, whatever name it gives this address.

| checked | of | else |
| --- | --- | --- |
| Host: a loopback name or address, the address that is listened on, or one of --allow-host | every request | 403 |
| Origin: none, or one of --allow-origin; Sec-Fetch-Site: not another site | every request | 403 |
| Authorization: the token, if there is one | /v1/… | 401 |
| Content-Type: application/json | requests with a body | 415 |
| size of the body | every request | 413 |

Browsers set Host and Origin themselves. A name that somebody made point here (DNS rebinding) stands in Host; a page
that sends a form or a fetch here (CSRF) stands in Origin; and a form cannot send JSON by its type.
"""

from __future__ import annotations

import hmac
import logging
import re
import traceback
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import Problem

log = logging.getLogger("tacit.gateway")

MAX_BODY = 8 << 20  # bytes

_FRAMES = 8  # of an unknown error, in the log

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rules:
    """`hosts`: names and addresses allowed beside loopback's. `origins`: of pages that may ask. `token`: "" for none."""

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    token: str = ""
    max_body: int = MAX_BODY

    def allows_host(self, header: str) -> bool:
        found = _HOST.fullmatch(header)
        if found is None:
            return False
        host = found[1].strip("[]").lower()
        return host == "localhost" or host in self.hosts or is_loopback(host)


def is_loopback(host: str) -> bool:
    """Whether it is an address of this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Middleware. What is wrong inside is said without content, in the answer and in the log."""

    def __init__(self, app: ASGIApp, rules: Rules, bodies: Collection[str]) -> None:
        """`bodies`: paths that take a body."""
        self._app = app
        self._rules = rules
        self._bodies = frozenset(bodies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # there are no websockets here
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, self._counted(receive), sending)
        except Problem as problem:
            if not started:
                await self._readable(problem, scope).response(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - the message of an unknown error may hold a prompt: it is not logged
            frames = reversed(traceback.extract_tb(error.__traceback__)[-_FRAMES:])
            where = " < ".join(f"{one.filename}:{one.lineno}" for one in frames)
            log.error("%s %s failed inside: %s at %s", scope["method"], _route(scope), type(error).__name__, where)
            if not started:
                inside = Problem(500, "the gateway failed inside; its log says where", code="internal", retry=False)
                await self._readable(inside, scope).response(scope, receive, send)

    def _readable(self, problem: Problem, scope: Scope) -> Problem:
        """By a page that may ask: what is said here does not go through the CORS middleware."""
        origin = Headers(scope=scope).get("origin")
        if origin in self._rules.origins and problem.status != 403:
            problem.headers |= {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        return problem

    def _check(self, scope: Scope) -> None:
        """Raises Problem."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._rules.allows_host(hosts[0]):
            raise _forbidden("this Host is not allowed: use localhost, or start the gateway with --allow-host NAME")
        origins = headers.getlist("origin")
        if any(origin not in self._rules.origins for origin in origins):
            raise _forbidden("this Origin is not allowed: start the gateway with --allow-origin ORIGIN if it should be")
        if not origins and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise _forbidden("pages of other sites are not allowed")
        path = scope["path"]
        if scope["method"] == "OPTIONS":
            return
        if self._rules.token and path.startswith("/v1/") and not self._knows(headers.getlist("authorization")):
            raise Problem(
                401,
                "no or a wrong token: send Authorization: Bearer TOKEN (api_key of the openai package)",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if scope["method"] == "POST" and path in self._bodies:
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise Problem(415, "the body must be JSON: Content-Type: application/json")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length[:20]) > self._rules.max_body:
            raise self._too_large()

    def _knows(self, given: list[str]) -> bool:
        kind, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        return kind.lower() == "bearer" and hmac.compare_digest(
            token.strip().encode("latin-1", "replace"), self._rules.token.encode()
        )

    def _counted(self, receive: Receive) -> Receive:
        taken = 0

        async def counting() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > self._rules.max_body:
                    raise self._too_large()
            return message

        return counting

    def _too_large(self) -> Problem:
        return Problem(413, f"the body is larger than {self._rules.max_body} bytes", code="too_large")


def _route(scope: Scope) -> str:
    """The path that a route has: what was typed may be anything."""
    return getattr(scope.get("route"), "path", "a request")


def _forbidden(message: str) -> Problem:
    return Problem(403, message, code="forbidden")
