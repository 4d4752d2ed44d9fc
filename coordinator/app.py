"""The coordinator's HTTP face. Errors are {"error": {"type", "message"}}, the type being a class of tacit.errors.

| request                        | answer                                                              |
| ------------------------------ | ------------------------------------------------------------------- |
| GET /                          | the status page, for people (`statuspage`)                          |
| GET /metrics                   | for Prometheus, to those who may (`statuspage.metrics`)             |
| GET /health                    | {"status": "ok"}                                                    |
| GET /v1/status                 | cluster, peers, models, recent sessions by role                     |
| GET /v1/models                 | [{name, manifest_hash, vocab, context, layers, architecture, …}]    |
| GET /v1/models/NAME/manifest   | the manifest's exact bytes                                          |
| GET /v1/models/NAME/tokenizer  | tokenizer.json, exact bytes                                         |
| GET /v1/models/NAME/chat       | its chat templates (tacit.chatfile), exact bytes                    |
| POST /v1/sessions              | SessionRequest -> SessionReply (see tacit.wire)                     |
| GET /v1/peers                  | who may be pinned: [{peer_id, name, operator, live, …, quote}]      |
| POST /v1/peers/ID/PROTOCOL     | a question of the mesh passed on to a peer, if PROTOCOL is RELAYED  |
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from .. import __version__
from ..checks import PROTOCOLS
from ..errors import NetworkError, PeerError, RefusedError, TacitError, UsageError
from ..members import Members
from ..party.mesh import ATTEST
from ..quotes import Quote
from ..records import error_to_json
from ..wire import SessionReply, SessionRequest
from .describe import describe, describe_peers
from .quota import Quota, TooMany
from .registry import Registry
from .relay import MAX_QUESTION, Relay
from .sessions import Sessions
from .statuspage.metrics import Allowed, Metrics
from .statuspage.routes import make_routes
from .statuspage.view import view

log = logging.getLogger("tacit.coordinator.http")

MAX_REQUEST = 64 << 10
RELAYED: tuple[str, ...] = (ATTEST,)
"""Mesh protocols whose questions clients may have passed on: small ones, whose answers the peers sign."""


def make_app(
    members: Members,
    registry: Registry,
    sessions: Sessions,
    relayed: Collection[str] = RELAYED,
    quota: Quota | None = None,
    metrics_for: Allowed | None = None,
) -> FastAPI:
    """The application over a running registry. `quota`: what one address may ask for; the usual if left out.

    `metrics_for`: who may read metrics; this machine if left out.
    """
    quota = quota or Quota(registry)
    relay = Relay(registry, relayed)
    app = FastAPI(title="Tacit coordinator", version=__version__, docs_url=None, redoc_url=None)
    started = time.time()

    @app.exception_handler(TacitError)
    async def known(request: Request, error: TacitError) -> JSONResponse:
        return JSONResponse({"error": error_to_json(error)}, http_status(error))

    @app.exception_handler(TooMany)
    async def busy(request: Request, error: TooMany) -> JSONResponse:
        return JSONResponse({"error": error_to_json(error.plain())}, 429, {"Retry-After": str(error.seconds)})

    @app.exception_handler(StarletteHTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return JSONResponse({"error": error_to_json(UsageError(message))}, error.status_code)

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed inside", request.method, request.url.path, exc_info=error)
        inside = PeerError("coordinator", "failed inside; its log says why")
        return JSONResponse({"error": error_to_json(inside)}, 500)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/status")
    def status() -> dict[str, Any]:
        return describe(members, registry, started)

    @app.get("/v1/models")
    def models() -> list[dict[str, Any]]:
        return [
            {**offer.summary, "name": offer.name, "manifest_hash": offer.manifest_hash} for offer in registry.models()
        ]

    metrics = Metrics(members, registry, quota, started)
    app.include_router(make_routes(lambda: view(status(), models()), metrics, metrics_for or Allowed()))

    @app.get("/v1/models/{name:path}/manifest")
    def manifest(name: str) -> Response:
        return Response(registry.manifest(name), media_type="application/json")

    @app.get("/v1/models/{name:path}/tokenizer")
    def tokenizer(name: str) -> Response:
        return Response(registry.tokenizer(name), media_type="application/json")

    @app.get("/v1/models/{name:path}/chat")
    def chat(name: str) -> Response:
        return Response(registry.chat(name), media_type="application/json")

    @app.post("/v1/sessions", openapi_extra={"requestBody": _session_schema()})
    async def open_session(request: Request) -> Response:
        try:
            asked = SessionRequest.from_bytes(await _body(request, MAX_REQUEST), "client")
        except PeerError as error:
            raise UsageError(error.reason) from None
        reply = await run_in_threadpool(_open, request.client.host if request.client else "", asked)
        return Response(reply.to_bytes(), media_type="application/json")

    def _open(address: str, asked: SessionRequest) -> SessionReply:
        quota.admit(address)
        reply = sessions.open(asked)
        quota.seated(
            address, asked.session, tuple(Quote.from_bytes(one.payload, "peer").peer_id for one in reply.quotes)
        )
        return reply

    @app.get("/v1/peers")
    def peers() -> list[dict[str, Any]]:
        return describe_peers(members, registry)

    @app.post("/v1/peers/{peer_id}/{protocol}")
    async def pass_on(peer_id: str, protocol: str, request: Request) -> Response:
        relay.check(peer_id, protocol)
        question = await _body(request, MAX_QUESTION)
        answer = await run_in_threadpool(relay.ask, peer_id, protocol, question)
        return Response(answer, media_type="application/octet-stream")

    return app


async def _body(request: Request, limit: int) -> bytes:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > limit:
            raise UsageError(f"the request is longer than {limit} bytes")
    return bytes(raw)


def http_status(error: TacitError) -> int:
    """The HTTP status for an error of the tree."""
    if isinstance(error, UsageError):
        return 404 if str(error).startswith(("unknown model", "unknown peer", "unknown protocol")) else 400
    if isinstance(error, RefusedError | NetworkError):
        return 503
    return 502


def _sizes_schema() -> dict[str, Any]:
    words = {
        "sequences": "sequences at a time",
        "step_tokens": "new tokens in one step, all sequences together",
        "step_pairs": "pairs of a new token and one that it sees, in one step",
        "kept_tokens": "tokens kept at a time, all sequences together",
    }
    properties = {
        name: {"type": "integer", "minimum": 1, "description": f"the most {what}"} for name, what in words.items()
    }
    return {"type": "object", "properties": properties, "required": sorted(words), "additionalProperties": False}


def _session_schema() -> dict[str, Any]:
    text, number = {"type": "string"}, {"type": "integer"}
    properties = {
        "session": {**text, "description": "32 hex digits, chosen by the client"},
        "client_key": {**text, "description": "the client's fresh CURVE public key, z85"},
        "model": text,
        "protocol": {**text, "enum": list(PROTOCOLS)},
        "sizes": _sizes_schema(),
        "padded": {"type": "boolean", "description": "which tokens count is shared, not shown"},
        "operators": {"type": "array", "items": text, "description": "the only ones accepted; any if empty"},
        "without": {"type": "array", "items": text, "description": "ids of peers that failed this client"},
        "max_price": {**number, "minimum": 0, "description": "the most for a million tokens, in millionths"},
        "currency": {**text, "description": "of max_price, three capital letters; empty: no maximum"},
    }
    schema = {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }
    return {"required": True, "content": {"application/json": {"schema": schema}}}
