"""The gateway's HTTP face: the routes of the OpenAI API that this gateway has, over whatever `Offers` offers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from ... import __version__
from ...errors import TacitError
from ..answer import Answer
from . import chat, completions, embeddings, responses
from .asking import Limits, check_stream
from .guard import Guard, Rules
from .offers import Offers, Served
from .problems import Problem, busy, invalid, no_model, problem_of
from .replies import (
    ChatReply,
    CompletionReply,
    EmbeddingsReply,
    ErrorReply,
    Health,
    ModelCard,
    ModelList,
    ResponseReply,
)
from .requests import Asked, ChatRequest, CompletionRequest, EmbeddingsRequest, ResponsesRequest
from .running import Account, Running, whole
from .streams import Writer, streamed

log = logging.getLogger("tacit.gateway")

OWNER = "tacit"
BODIES = ("/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/embeddings")

_Request = TypeVar("_Request", bound=Asked)

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorReply, "description": "The request cannot be met as it stands"},
    401: {"model": ErrorReply, "description": "No or a wrong token"},
    403: {"model": ErrorReply, "description": "A Host or Origin that is not allowed"},
    404: {"model": ErrorReply, "description": "Not here: a model, or a path"},
    405: {"model": ErrorReply, "description": "Not a method of this path"},
    413: {"model": ErrorReply, "description": "The body is too large"},
    415: {"model": ErrorReply, "description": "The body is not JSON"},
    500: {"model": ErrorReply, "description": "The gateway failed inside"},
    502: {"model": ErrorReply, "description": "A peer broke the protocol"},
    503: {
        "model": ErrorReply,
        "description": "Busy, declined or not reachable; x-should-retry says whether to try again",
    },
}
_EVENT = {
    "type": "object",
    "properties": {
        "data": {"type": "string", "description": "a chunk as the API has it, in JSON; or [DONE]"},
        "event": {"type": "string", "description": "of /v1/responses: its type"},
    },
}
_STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": _EVENT}}, "description": "Whole, or as a stream of such events"}
}


def make_app(offers: Offers, rules: Rules, limits: Limits | None = None) -> FastAPI:
    """The application. `limits`: the usual if left out."""
    limits = limits or Limits()
    app = FastAPI(
        title="Tacit gateway",
        summary="The OpenAI API on your own machine, over peers that cannot read what you ask",
        version=__version__,
        docs_url=None,
        redirect_slashes=False,
        redoc_url=None,
        separate_input_output_schemas=False,
        responses=_ERRORS,
    )
    started = int(time.time())
    load = _Load(limits.answers)
    embedding = CapacityLimiter(1)
    _handle_errors(app)
    if rules.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(rules.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["x-should-retry"],
        )
    app.add_middleware(Guard, rules=rules, bodies=BODIES)  # the outermost

    async def served(name: str) -> Served:
        found = await run_in_threadpool(offers.get, name)
        if found is None:
            raise no_model()
        return found

    async def answered(
        http: Request,
        asked: _Request,
        made: Callable[[Served, _Request], list[list[Answer]]],
        reply: Callable[[Served, _Request, Running, Account], Any],
        writer: Callable[[Served, _Request, Running], Writer],
    ) -> Any:
        """A stream, or the whole answer; nothing if who asked has left."""
        check_stream(asked)
        model = await served(asked.model)
        groups = await run_in_threadpool(made, model, asked)
        running = Running(model.batcher, groups, load.take(sum(map(len, groups))))
        try:
            if asked.stream:
                return await streamed(running, writer(model, asked, running))
            account = await whole(running, http)
        except BaseException:
            running.cancel()
            raise
        return Response(status_code=499) if account is None else reply(model, asked, running, account)

    @app.get("/health", response_model=Health)
    def health() -> dict[str, str]:
        """Whether the gateway runs."""
        return {"status": "ok"}

    @app.get("/ready", response_model=Health)
    def ready() -> dict[str, str]:
        """Whether a question could be answered: the coordinator is there, and serves a model."""
        if not offers.cards():
            raise Problem(503, "the cluster serves no model at the moment", code="unreachable", retry=True)
        return {"status": "ok"}

    @app.get("/v1/models")
    def models() -> ModelList:
        return ModelList(data=[_card(one.name, one.context, started) for one in offers.cards()])

    @app.get("/v1/models/{model:path}")
    def model(model: Annotated[str, Path(min_length=1, max_length=256)]) -> ModelCard:
        found = next((one for one in offers.cards() if one.name == model), None)
        if found is None:
            raise no_model()
        return _card(found.name, found.context, started)

    @app.post("/v1/completions", response_model=CompletionReply, responses=_STREAMED)
    async def complete(http: Request, asked: CompletionRequest) -> Any:
        """Go on from a text."""
        return await answered(http, asked, completions.answers, completions.reply, completions.Writer)

    @app.post("/v1/chat/completions", response_model=ChatReply, responses=_STREAMED)
    async def converse(http: Request, asked: ChatRequest) -> Any:
        """Answer a conversation."""

        def made(model: Served, asked: ChatRequest) -> list[list[Answer]]:
            return chat.answers(model, asked, limits)

        return await answered(http, asked, made, chat.reply, chat.Writer)

    @app.post("/v1/responses", response_model=ResponseReply, responses=_STREAMED)
    async def respond(http: Request, asked: ResponsesRequest) -> Any:
        """Answer a conversation, in the form of the Responses API; nothing is stored."""

        def made(model: Served, asked: ResponsesRequest) -> list[list[Answer]]:
            return responses.answers(model, asked, limits)

        return await answered(http, asked, made, responses.reply, responses.Writer)

    @app.post("/v1/embeddings")
    async def embed(asked: EmbeddingsRequest) -> EmbeddingsReply:
        """Vectors of texts."""
        # One request after another, in a thread of their own: those that wait must not take the threads of all others.
        return await to_thread.run_sync(embeddings.embed, offers, asked, limiter=embedding)

    _describe(app, rules)
    return app


def _card(name: str, context: int | None, created: int) -> ModelCard:
    return ModelCard(id=name, created=created, owned_by=OWNER, context_length=context)


class _Load:
    """How many answers are on their way. For the event loop's thread alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = 0

    def take(self, count: int) -> Callable[[], None]:
        """Call what is returned once they are over. Raises Problem if they are too many just now."""
        if self._now + count > self._most:
            raise busy(f"{self._now} answers are on their way, {self._most} at most")
        self._now += count

        def give_back() -> None:
            self._now -= count

        return give_back


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return error.response

    @app.exception_handler(TacitError)
    async def known(request: Request, error: TacitError) -> Response:
        return problem_of(error).response

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> Response:
        return invalid(error.errors(), error.body).response

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, Problem):  # while the body was read
            return error.__cause__.response
        words = {404: "there is no such path here", 405: "this path does not take this method"}
        message = words.get(error.status_code, "the body is not valid JSON")
        return Problem(error.status_code, message, headers=error.headers).response


def _describe(app: FastAPI, rules: Rules) -> None:
    """The description without the answers that FastAPI supposes, and with the token if there is one."""
    made = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        found = made()
        for path, operations in found["paths"].items():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                if rules.token and path.startswith("/v1/"):
                    operation["security"] = [{"token": []}]
        if rules.token:
            found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for unused in ("HTTPValidationError", "ValidationError"):
            found["components"]["schemas"].pop(unused, None)
        return found

    app.openapi = described  # type: ignore[method-assign]
