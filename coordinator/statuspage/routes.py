"""GET /, what the page loads, and GET /metrics."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import HTTPException

from .metrics import Allowed, Metrics
from .page import HEADERS, StatusPage, asset
from .view import View


def make_routes(look: Callable[[], View], metrics: Metrics, allowed: Allowed) -> APIRouter:
    """`look`: what the page shows just now; `allowed`: who may read metrics."""
    routes, page = APIRouter(include_in_schema=False), StatusPage(look)
    style, script = asset("status.css"), asset("status.js")

    def answer(body: str, kind: str) -> Response:
        return Response(body, media_type=f"text/{kind}", headers=HEADERS)

    @routes.get("/")
    def whole() -> Response:
        return answer(page.whole(), "html")

    @routes.get("/status/parts")
    def parts() -> Response:
        return answer(page.parts(), "html")

    @routes.get("/status.css")
    def styled() -> Response:
        return answer(style, "css")

    @routes.get("/status.js")
    def scripted() -> Response:
        return answer(script, "javascript")

    @routes.get("/metrics")
    def measured(request: Request) -> Response:
        address = request.client.host if request.client else ""
        if address not in allowed:
            raise HTTPException(403, f"{address or 'an unknown address'} is not among those of --metrics-from")
        body, media_type = metrics.text(request.headers.get("accept", ""))
        return Response(body, headers={**HEADERS, "Content-Type": media_type})

    return routes
