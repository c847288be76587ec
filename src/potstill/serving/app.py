"""The HTTP service: its endpoints, its description, and what guards them."""

from __future__ import annotations

import asyncio
import gc
import hmac
import json
import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from potstill import __version__
from potstill.serving.batcher import Batcher
from potstill.serving.faults import fault
from potstill.serving.metrics import Metrics
from potstill.serving.predictions import Predictions, Service
from potstill.serving.predictor import BundlePredictor
from potstill.serving.schema import body_schema, describe, example
from potstill.serving.settings import ServeSettings

log = logging.getLogger("potstill.serve")

_KNOWN = ("/predict", "/tasks", "/healthz", "/readyz", "/metrics", "/", "/docs", "/openapi.json")
_OPEN = ("/healthz", "/readyz", "/", "/docs", "/openapi.json")  # without the token


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
        gc.freeze()  # what stands now stays: later collections need not walk it, for 30 ms
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
    )
    app.state.service = service
    _add_routes(app, service)

    @app.exception_handler(HTTPException)
    async def no_such_endpoint(request: Request, error: HTTPException) -> JSONResponse:
        return fault(error.status_code, str(error.detail), headers=error.headers)

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
            415: "The body is not declared as plain application/json.",
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
        raise HTTPException(404)  # the guard answers it; this only describes it

    @app.get("/tasks", responses={401: faults[401]})
    async def tasks() -> dict[str, Any]:
        """The tasks: what they read and what they answer."""
        return describe(service.predictor)

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> Response:
        """The process is alive."""
        return PlainTextResponse("alive\n")

    @app.get("/readyz", response_class=PlainTextResponse, responses={503: faults[503]})
    async def readyz() -> Response:
        """Requests are welcome."""
        if service.ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse("not ready\n", 503, headers={"Retry-After": "1"})

    for path, endpoint in (("/healthz", healthz), ("/readyz", readyz)):
        app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)

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


class _Guard:
    """Around every request: the token, one line in the log, the short way to predictions.

    Args:
        app: All other endpoints.
        service: Limits and counters.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        self._predictions = Predictions(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.monotonic()
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if not self._allowed(scope):
                await fault(
                    401,
                    "no token, or a wrong one",
                    wanted="the header 'Authorization: Bearer TOKEN'",
                    headers={"WWW-Authenticate": "Bearer"},
                )(scope, receive, noted)
            elif scope["path"] == "/predict" and scope["method"] == "POST":
                await self._predictions(scope, receive, noted)
            else:
                await self._app(scope, receive, noted)
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
