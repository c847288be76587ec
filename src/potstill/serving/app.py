"""The HTTP service: requests to batcher, answers back.

Parsing, tokenising, decoding and the engine run in threads; the event loop only moves bytes.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from potstill import __version__
from potstill.core.errors import PotstillError
from potstill.serving.batcher import Batcher, Closed, Late, Overloaded, retry_after
from potstill.serving.metrics import Metrics
from potstill.serving.predictor import BundlePredictor
from potstill.serving.requests import BadBody, Prepared, decode, parse_body, prepare
from potstill.serving.schema import body_schema, describe, example
from potstill.serving.settings import ServeSettings

log = logging.getLogger("potstill.serve")

_KNOWN = ("/predict", "/tasks", "/healthz", "/readyz", "/metrics", "/", "/docs", "/openapi.json")
_OPEN = ("/healthz", "/readyz", "/", "/docs", "/openapi.json")  # without the token


@dataclass(slots=True, kw_only=True, eq=False)
class Service:
    """What the endpoints share.

    Attributes:
        predictor: The bundle.
        settings: Limits.
        batcher: Its queue and engine thread.
        metrics: Counters.
        texts: The one thread that parses and tokenises: the tokenizer keeps state between calls.
        answers: Threads that decode and write JSON.
        ready: Whether requests are welcome.
    """

    predictor: BundlePredictor
    settings: ServeSettings
    batcher: Batcher
    metrics: Metrics
    texts: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="texts")
    )
    answers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="answers")
    )
    ready: bool = False
    bytes_read: int = 0

    @contextmanager
    def reading(self, size: int) -> Iterator[None]:
        """Bodies that wait to be tokenised are bounded like all else."""
        if self.bytes_read and self.bytes_read + size > self.settings.most_body_bytes:
            raise Overloaded(1.0)
        self.bytes_read += size
        try:
            yield
        finally:
            self.bytes_read -= size


def create_app(predictor: BundlePredictor, settings: ServeSettings) -> FastAPI:
    """The service of one bundle.

    Args:
        predictor: The bundle, loaded.
        settings: Limits.
    """
    metrics = Metrics(predictor.name, predictor.engine_name)
    batcher = Batcher(predictor.run, batch_tokens=settings.batch_tokens)
    service = Service(predictor=predictor, settings=settings, batcher=batcher, metrics=metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        first = await asyncio.get_running_loop().run_in_executor(
            service.texts, predictor.sample, settings.batch_tokens
        )
        # A full batch: the first request is not the slow one, and its time is known.
        await asyncio.wrap_future(batcher.submit(first, within=math.inf))
        service.ready = True
        yield
        service.ready = False
        await asyncio.to_thread(batcher.close, settings.stop_seconds)
        service.texts.shutdown(wait=False)
        service.answers.shutdown(wait=False)

    app = FastAPI(
        title=f"potstill: {predictor.name}",
        version=__version__,
        description=f"{len(predictor.tasks)} tasks from one encoder pass.",
        lifespan=lifespan,
        redoc_url=None,
        max_body_size=settings.most_body_bytes,
    )
    app.state.service = service
    _add_routes(app, service)
    _add_faults(app)
    # Outside FastAPI's own limit of bodies, which answers in plain text and is not logged.
    app.middleware_stack = _Guard(app.build_middleware_stack(), service)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    faults: dict[int | str, dict[str, Any]] = {
        code: {"description": text, "content": {"application/json": {}}}
        for code, text in {
            400: "The body is no JSON.",
            401: "The token is missing or wrong.",
            408: "The body came too slowly.",
            413: "The body is too large.",
            415: "The body is not declared as application/json.",
            422: "The request is JSON, but no request that can be answered.",
            503: "Too much to do; `Retry-After` says when to come again.",
        }.items()
    }

    @app.post(
        "/predict",
        responses=faults,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": body_schema(service.predictor, service.settings.most_rows),
                        "example": example(service.predictor),
                    }
                },
            }
        },
    )
    async def predict(
        request: Request,
        truncate: bool = Query(False, description="Let too long texts lose their end."),
    ) -> Response:
        """Answer one or many rows, for some or all tasks."""
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json":
            raise HTTPException(415, f"content type '{kind[:80]}'; wanted application/json")
        body = await request.body()
        if not service.ready:
            raise Closed
        start = time.monotonic()
        deadline = start + service.settings.deadline
        loop = asyncio.get_running_loop()
        with service.reading(len(body)):
            prepared = await loop.run_in_executor(
                service.texts, _read, service, body, truncate, deadline
            )
        within = deadline - time.monotonic()
        if within <= 0:
            raise Late
        outputs = await asyncio.wrap_future(service.batcher.submit(prepared.tokens, within=within))
        answer = await loop.run_in_executor(service.answers, _write, service, prepared, outputs)
        service.metrics.rows.inc(prepared.n_rows)
        return Response(answer, media_type="application/json")

    @app.get("/tasks", responses={401: faults[401]})
    async def tasks() -> dict[str, Any]:
        """The tasks: what they read and what they answer."""
        return describe(service.predictor)

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """The process is alive."""
        return "alive\n"

    @app.get("/readyz", response_class=PlainTextResponse, responses={503: faults[503]})
    async def readyz() -> Response:
        """Requests are welcome."""
        if service.ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse("not ready\n", 503, headers={"Retry-After": "1"})

    @app.get("/metrics", response_class=PlainTextResponse, responses={401: faults[401]})
    async def metrics() -> Response:
        """Counters for Prometheus."""
        text = await asyncio.to_thread(service.metrics.text, service.batcher.load())
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        """A page to try the tasks on."""
        html = resources.files("potstill.serving").joinpath("page.html").read_text("utf-8")
        facts = json.dumps(describe(service.predictor)).replace("<", "\\u003c")
        return html.replace("/*TASKS*/null", facts)


def _add_faults(app: FastAPI) -> None:
    async def own(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, PotstillError)
        return _fault(422, error.got, thing=error.thing, wanted=error.wanted, todo=error.todo)

    async def bad_body(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, BadBody)
        return _fault(error.status, error.got)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return _fault(error.status_code, str(error.detail), headers=error.headers)

    async def busy(request: Request, error: Exception) -> JSONResponse:
        after = retry_after(error) if isinstance(error, Overloaded) else 1
        got = {
            Overloaded: "more to do than can be answered in time",
            Late: "it took longer than the deadline",
            Closed: "the service is stopping",
        }[type(error)]
        return _fault(503, got, headers={"Retry-After": str(after)})

    async def form(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return _fault(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it; the log does

    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(RequestValidationError, form)
    app.add_exception_handler(PotstillError, own)
    app.add_exception_handler(BadBody, bad_body)
    app.add_exception_handler(HTTPException, http)
    for kind in (Overloaded, Late, Closed):
        app.add_exception_handler(kind, busy)


def _read(service: Service, body: bytes, truncate: bool, deadline: float) -> Prepared:
    if time.monotonic() > deadline:  # it has waited for larger ones
        raise Late
    return prepare(
        service.predictor,
        parse_body(body),
        most_rows=service.settings.most_rows,
        truncate=truncate,
    )


def _write(service: Service, prepared: Prepared, outputs: list[Any]) -> bytes:
    return json.dumps(decode(service.predictor, prepared, outputs), ensure_ascii=False).encode()


def _fault(
    status: int,
    got: str,
    *,
    thing: str = "request",
    wanted: str | None = None,
    todo: str | None = None,
    headers: Any = None,
) -> JSONResponse:
    parts = {"thing": thing, "got": got, "wanted": wanted, "next": todo}
    content = {"error": {k: v for k, v in parts.items() if v is not None}}
    return JSONResponse(content, status, headers=headers)


class _Guard:
    """Around every request: the token, the time that a body may take, one line in the log.

    Args:
        app: What is guarded.
        service: Limits and counters.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.monotonic()
        status = 500
        settings = self._service.settings

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if not self._allowed(scope):
                await _fault(
                    401,
                    "no token, or a wrong one",
                    wanted="the header 'Authorization: Bearer TOKEN'",
                    headers={"WWW-Authenticate": "Bearer"},
                )(scope, receive, noted)
            elif _declared_bytes(scope) > settings.most_body_bytes:
                await _fault(
                    413,
                    f"a body of {_declared_bytes(scope)} bytes",
                    wanted=f"at most {settings.most_body_bytes} bytes",
                    todo="send the rows in several requests",
                    headers={"Connection": "close"},
                )(scope, receive, noted)
            else:
                await self._app(scope, _in_time(receive, settings.body_seconds), noted)
        finally:
            seconds = time.monotonic() - start
            path = scope["path"] if scope["path"] in _KNOWN else "other"
            self._service.metrics.request(path, status, seconds)
            if scope["path"] not in ("/healthz", "/readyz", "/metrics"):
                line = {"path": scope["path"], "status": status, "ms": round(1000 * seconds, 1)}
                log.info(json.dumps(line))

    def _allowed(self, scope: Scope) -> bool:
        token = self._service.settings.token
        if token is None or scope["path"] in _OPEN:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, sent = given.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(sent.strip(), token.encode())


def _declared_bytes(scope: Scope) -> int:
    """The header's Content-Length; 0 for chunked bodies, which FastAPI counts as they come."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


def _in_time(receive: Receive, seconds: float) -> Receive:
    """``receive`` that gives up where the body has not come in time."""
    deadline = time.monotonic() + seconds
    whole = False

    async def waiting() -> Message:
        nonlocal whole
        if whole:  # what comes after the body is the end of the connection
            return await receive()
        try:
            message = await asyncio.wait_for(_once(receive), max(deadline - time.monotonic(), 0))
        except TimeoutError:
            raise HTTPException(
                408, f"a body that took more than {seconds:g} s", {"Connection": "close"}
            ) from None
        whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    return waiting


async def _once(receive: Callable[[], Awaitable[Message]]) -> Message:
    return await receive()
