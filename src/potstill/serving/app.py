"""The HTTP service: its endpoints, its description, and what guards them."""

from __future__ import annotations

import asyncio
import gc
import hmac
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import fastapi_swagger
from fastapi import FastAPI, Request, Security
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from potstill import __version__
from potstill.serving.batcher import Batcher
from potstill.serving.faults import WHY, Fault, own_fault
from potstill.serving.metrics import Metrics
from potstill.serving.predictions import Predictions, Service
from potstill.serving.predictor import BundlePredictor
from potstill.serving.schema import answer_schema, body_schema, describe, example, tasks_schema
from potstill.serving.settings import ServeSettings
from potstill.tasks.predictor import passes

log = logging.getLogger("potstill.serve")

# Files of the page at /docs: not from a CDN, which not everybody reaches.
_SWAGGER = ("/swagger-ui-bundle.js", "/swagger-ui.css", "/favicon-32x32.png")
_OPEN = ("/healthz", "/readyz", "/", "/docs", "/openapi.json", *_SWAGGER)  # without the token
_KNOWN = ("/predict", "/tasks", "/metrics", *_OPEN)


def create_app(predictor: BundlePredictor, settings: ServeSettings) -> FastAPI:
    """The service of one bundle.

    Args:
        predictor: The bundle, loaded.
        settings: Limits.
    """
    metrics = Metrics(predictor.name, predictor.engine_name)
    batch_tokens = settings.batch_tokens or predictor.batch_tokens
    batcher = Batcher(predictor.run, batch_tokens=batch_tokens)
    service = Service(predictor=predictor, settings=settings, batcher=batcher, metrics=metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        first = await asyncio.get_running_loop().run_in_executor(
            service.texts, predictor.sample, batch_tokens
        )
        # A full batch: the first request is not the slow one, and its time is known.
        await asyncio.wrap_future(batcher.submit(first, within=math.inf))
        gc.freeze()  # what stands now stays: later collections need not walk it, for 30 ms
        service.ready = True
        noting = asyncio.create_task(_note_load(service)) if settings.workers > 1 else None
        yield
        service.ready = False
        if noting is not None:
            noting.cancel()
        await asyncio.to_thread(batcher.close, settings.stop_seconds)
        service.texts.shutdown(wait=False)
        service.answers.shutdown(wait=False)

    app = FastAPI(
        title=f"potstill: {predictor.name}",
        version=__version__,
        description=f"{len(predictor.tasks)} tasks from one student.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        servers=[{"url": "."}],  # beside the description, whatever a proxy puts before both
    )
    app.state.service = service
    _add_routes(app, service)

    @app.exception_handler(HTTPException)
    async def http_fault(request: Request, error: HTTPException) -> Fault:
        wanted = "POST /predict, or GET of /tasks, /healthz, /readyz, /metrics, /docs, /"
        todo = "GET /docs describes them"
        return Fault(error.status_code, str(error.detail), wanted, todo, headers=error.headers)

    @app.exception_handler(Exception)
    async def fault_of_ours(request: Request, error: Exception) -> Fault:
        return own_fault()

    app.middleware_stack = _Guard(app.build_middleware_stack(), service)
    return app


async def _note_load(service: Service) -> None:
    """For scrapes that another worker answers."""
    while True:
        service.metrics.note(service.batcher.load())
        await asyncio.sleep(1)


def _add_routes(app: FastAPI, service: Service) -> None:
    faults: dict[int | str, dict[str, Any]] = {
        code: _json(text, Fault.SCHEMA)
        for code, text in {
            400: "The body is no JSON.",
            401: "The token is missing or wrong.",
            408: "The body came too slowly.",
            413: "The body is too large.",
            415: "The body is not declared as plain application/json.",
            422: "The request is JSON, but no request that can be answered.",
            503: "Too much to do; `Retry-After` says when to come again.",
        }.items()
        if code != 401 or service.settings.token is not None
    }
    locked, refused = list[Any](), dict[int | str, dict[str, Any]]()
    if service.settings.token is not None:  # only described here: the guard checks it
        locked, refused = [Security(HTTPBearer(auto_error=False))], {401: faults[401]}

    @app.post(
        "/predict",
        dependencies=locked,
        responses=faults | {200: _json("One answer a row.", answer_schema(service.predictor))},
        openapi_extra={
            "parameters": [
                {
                    "name": "truncate",
                    "in": "query",
                    "description": "Let too long texts lose their end.",
                    "schema": {"type": "boolean", "default": False},
                }
            ],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": body_schema(service.predictor, service.settings.most_rows),
                        "example": example(service.predictor),
                    }
                },
            },
        },
    )
    async def predict() -> Response:
        """Answer one or many rows, for some or all tasks."""
        raise HTTPException(404)  # the guard answers it; this only describes it

    @app.get(
        "/tasks",
        dependencies=locked,
        responses=refused | {200: _json("What is served.", tasks_schema())},
    )
    async def tasks() -> dict[str, Any]:
        """The tasks: what they read and what they answer."""
        return describe(service.predictor)

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> Response:
        """The process is alive."""
        return PlainTextResponse("alive\n")

    not_ready = {"description": "Not yet, or no longer.", "content": {"text/plain": {}}}

    @app.get("/readyz", response_class=PlainTextResponse, responses={503: not_ready})
    async def readyz() -> Response:
        """Requests are welcome."""
        if service.ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse("not ready\n", 503, headers={"Retry-After": "1"})

    @app.get("/metrics", response_class=PlainTextResponse, dependencies=locked, responses=refused)
    async def metrics() -> Response:
        """Counters for Prometheus."""
        service.metrics.note(service.batcher.load())
        text = await asyncio.to_thread(service.metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        """A page to try the tasks on."""
        html = resources.files("potstill.serving").joinpath("page.html").read_text("utf-8")
        one = service.predictor
        n_passes = len(passes(one.heads, one.tasks, task_token=one.task_token))
        facts = json.dumps({**describe(one), "passes": n_passes}).replace("<", "\\u003c")
        return html.replace("/*TASKS*/null", facts)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        """What the schema says, to read and to try."""
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=app.title,
            swagger_js_url=_SWAGGER[0][1:],
            swagger_css_url=_SWAGGER[1][1:],
            swagger_favicon_url=_SWAGGER[2][1:],
            swagger_ui_parameters={"validatorUrl": None, "tryItOutEnabled": True},
        )

    folder = Path(fastapi_swagger.__file__).parent / "resources"

    async def answer_file(file: Path, request: Request) -> FileResponse:
        return FileResponse(file)

    for path in _SWAGGER:
        app.add_route(path, partial(answer_file, folder / path[1:]))


def _json(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """An answer in JSON, as OpenAPI describes it."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


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
        method, path, status, started = scope["method"], scope["path"], 500, False
        # A HEAD is a GET here: the server sends no body to it.
        scope = {**scope, "method": "GET" if method == "HEAD" else method}

        async def noted(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
            await send(message)

        try:
            if not self._allowed(scope):
                await Fault(
                    401,
                    "no token, or a wrong one",
                    "the header 'Authorization: Bearer TOKEN'",
                    "send the token that the service was started with",
                    headers={"WWW-Authenticate": "Bearer"},
                )(scope, receive, noted)
            elif path == "/predict" and method == "POST":
                await self._predictions(scope, receive, noted)
            else:
                await self._app(scope, receive, noted)
        except Exception:
            log.exception("a fault of potstill")
            if not started:
                await own_fault()(scope, receive, noted)
        finally:
            seconds = time.monotonic() - start
            self._service.metrics.request(path if path in _KNOWN else "other", status, seconds)
            if path not in ("/healthz", "/readyz", "/metrics"):
                line = {
                    "method": method,
                    "path": path[:200],
                    "status": status,
                    "ms": round(1000 * seconds, 1),
                    **({"why": scope[WHY]} if WHY in scope else {}),
                }
                log.info(json.dumps(line))

    def _allowed(self, scope: Scope) -> bool:
        token = self._service.settings.token
        if token is None or scope["path"] in _OPEN:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, sent = given.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(sent.strip(), token.encode())
