"""``POST /predict``, as bare ASGI: FastAPI documents it, but its layers cost more than the work.

The event loop only moves bytes: parsing, tokenising, decoding and the engine run in threads.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from potstill.serving.batcher import Batcher, Closed, Late, Overloaded
from potstill.serving.faults import FAULTS, Fault, Refused, to_response
from potstill.serving.metrics import Metrics
from potstill.serving.predictor import BundlePredictor
from potstill.serving.requests import Prepared, decode, parse_body, prepare
from potstill.serving.settings import ServeSettings

_BOOL = TypeAdapter(bool)
_BODIES_COMING = 64  # of the largest size, in memory before they are whole


@dataclass(slots=True, kw_only=True, eq=False)
class Service:
    """What the endpoints share.

    Attributes:
        predictor: The bundle.
        settings: Limits.
        batcher: Its queue and engine thread.
        metrics: Counters.
        texts: The one thread that parses and tokenises: the tokenizer keeps state between calls.
        answers: The thread that decodes and writes JSON.
        ready: Whether requests are welcome.
        bytes_coming: Of bodies that are not whole yet.
        bytes_read: Of bodies that wait to be tokenised.
        tokens_per_byte: Of bodies, as last seen; 0 before the first.
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
    bytes_coming: int = 0
    bytes_read: int = 0
    tokens_per_byte: float = 0.0

    @contextmanager
    def reading(self, size: int, deadline: float) -> Iterator[None]:
        """Bodies that wait to be tokenised are bounded, and count as work that is coming."""
        if not self.ready:
            raise Closed
        if self.bytes_read and self.bytes_read + size > self.settings.most_body_bytes:
            raise Overloaded(1.0)
        tokens = max(round(size * self.tokens_per_byte), 1)
        self.bytes_read += size
        try:
            with self.batcher.coming(tokens, within=_left(deadline)):
                yield
        finally:
            self.bytes_read -= size

    def wait_for(self, reading: Future[Prepared], size: int) -> None:
        """A body that nobody waits for any more is read until its thread is through with it."""
        if not reading.done():
            loop = asyncio.get_running_loop()
            self.bytes_read += size
            reading.add_done_callback(lambda _: loop.call_soon_threadsafe(self._read_at_last, size))

    def _read_at_last(self, size: int) -> None:
        self.bytes_read -= size

    def note(self, prepared: Prepared, size: int) -> None:
        """Learn how many tokens a body holds."""
        now = int(prepared.tokens.lengths.sum()) / size
        before = self.tokens_per_byte
        self.tokens_per_byte = 0.9 * before + 0.1 * now if before else now


class Predictions:
    """The endpoint.

    Args:
        service: What it works with.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response: Response = await self._answer(scope, receive)
        except FAULTS as error:
            response = to_response(error)
        except ClientDisconnect:  # if the caller is gone, the log reads it
            response = Fault(400, "a body that breaks off", "a whole one", "send it again")
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        service = self._service
        headers = dict(scope["headers"])
        _check_headers(headers, service.settings)
        truncate = _flag(scope["query_string"], "truncate")
        body = await _body(receive, service)
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + service.settings.deadline
        with service.reading(len(body), deadline):
            reading = service.texts.submit(_read, service, body, truncate, deadline)
            try:
                async with asyncio.timeout(_left(deadline)):
                    prepared = await asyncio.wrap_future(reading)
            except TimeoutError:
                service.wait_for(reading, len(body))
                raise Late from None
            outputs = service.batcher.submit(prepared.tokens, within=_left(deadline))
        service.note(prepared, len(body))
        answer = await loop.run_in_executor(
            service.answers, _write, service, prepared, await asyncio.wrap_future(outputs)
        )
        _left(deadline)
        service.metrics.rows.inc(prepared.n_rows)
        return Response(answer, media_type="application/json")


def _check_headers(headers: Mapping[bytes, bytes], settings: ServeSettings) -> None:
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        got = kind[:80].decode("latin-1")
        raise Refused(415, f"content type '{got}'", "application/json", "send JSON and say so")
    packed = headers.get(b"content-encoding", b"identity").strip().lower()
    if packed != b"identity":
        got = packed[:80].decode("latin-1")
        raise Refused(415, f"content encoding '{got}'", "a plain body", "send it unpacked")
    length = headers.get(b"content-length", b"0")  # chunked bodies are counted as they come
    if length.isdigit():
        _check_size(int(length), settings)


def _check_size(size: int, settings: ServeSettings) -> None:
    if size > settings.most_body_bytes:
        raise Refused(
            413,
            f"a body of {size} bytes",
            f"at most {settings.most_body_bytes} bytes",
            "send the rows in several requests",
            close=True,
        )


def _flag(query: bytes, name: str) -> bool:
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True).get(name)
    try:
        return False if given is None else _BOOL.validate_python(given[-1])
    except ValidationError:
        got = f"query.{name} '{given[-1][:80] if given else ''}'"
        raise Refused(422, got, "true or false", "correct it, or leave it out") from None


async def _body(receive: Receive, service: Service) -> bytes:
    """The body, if it is not too large and comes in time."""
    settings = service.settings
    parts, size, more = list[bytes](), 0, True
    try:
        async with asyncio.timeout(settings.body_seconds):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                service.bytes_coming += len(parts[-1])
                _check_size(size, settings)
                if service.bytes_coming > _BODIES_COMING * settings.most_body_bytes:
                    raise Overloaded(1.0)
                more = message.get("more_body", False)
    except TimeoutError:
        raise Refused(
            408,
            f"a body that took more than {settings.body_seconds:g} s",
            "a body that comes at once",
            "send it again, in one go",
            close=True,
        ) from None
    finally:
        service.bytes_coming -= size
    return b"".join(parts)


def _left(deadline: float) -> float:
    """Seconds until then."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise Late
    return left


def _read(service: Service, body: bytes, truncate: bool, deadline: float) -> Prepared:
    _left(deadline)  # it may have waited for larger ones
    return prepare(
        service.predictor,
        parse_body(body),
        most_rows=service.settings.most_rows,
        truncate=truncate,
    )


def _write(service: Service, prepared: Prepared, outputs: list[Any]) -> bytes:
    return json.dumps(decode(service.predictor, prepared, outputs), ensure_ascii=False).encode()
