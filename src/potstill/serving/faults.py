"""What goes wrong with a request, as an answer over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from potstill.core.errors import PotstillError
from potstill.serving.batcher import Closed, Late, Overloaded, retry_after
from potstill.serving.requests import BadBody


class Refused(Exception):
    """A request that is refused for what its header or its length says.

    Args:
        status: Of the answer.
        got: What it is.
        wanted: What it should be.
        todo: What to do next.
        close: Whether the connection is of no more use.
    """

    def __init__(
        self, status: int, got: str, wanted: str, todo: str, *, close: bool = False
    ) -> None:
        self.status, self.got, self.wanted, self.todo = status, got, wanted, todo
        self.headers = {"Connection": "close"} if close else None
        super().__init__(got)


WHY = "potstill.why"  # of a fault, in its request's scope, which no layer here copies
_LONGEST = 1000  # characters of a part: names that callers give may be of any length
FAULTS = (PotstillError, Refused, BadBody, Overloaded, Late, Closed)
_BUSY: Mapping[type[Exception], str] = {
    Overloaded: "more to do than can be answered in time",
    Late: "it took longer than the deadline",
    Closed: "the service is stopping",
}


class Fault(JSONResponse):
    """``{"error": {"thing", "got", "wanted", "next"}}`` with a status.

    Args:
        status: Of the answer.
        got: What it was.
        wanted: What it should have been.
        todo: What to do next.
        thing: What is at fault.
        headers: More of them.
        why: For the log, which must not quote the request as ``got`` may; ``got`` where None.
    """

    SCHEMA: Mapping[str, Any] = {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {k: {"type": "string"} for k in ("thing", "got", "wanted", "next")},
                "required": ["thing", "got", "wanted", "next"],
                "additionalProperties": False,
            }
        },
        "required": ["error"],
        "additionalProperties": False,
    }

    def __init__(
        self,
        status: int,
        got: str,
        wanted: str,
        todo: str,
        *,
        thing: str = "request",
        headers: Mapping[str, str] | None = None,
        why: str | None = None,
    ) -> None:
        parts = {"thing": thing, "got": got, "wanted": wanted, "next": todo}
        content = {"error": {k: v[:_LONGEST] for k, v in parts.items()}}
        self._why = why or got
        super().__init__(content, status, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[WHY] = self._why
        await super().__call__(scope, receive, send)


def to_response(error: Exception) -> Fault:
    """The answer to a request that raised one of :data:`FAULTS`."""
    why = type(error).__name__
    match error:
        case PotstillError():
            return Fault(422, error.got, error.wanted, error.todo, thing=error.thing, why=why)
        case Refused():
            return Fault(
                error.status, error.got, error.wanted, error.todo, headers=error.headers, why=why
            )
        case BadBody():
            wanted = 'JSON: {"rows": [{column: text}], "tasks": [names]}'
            todo = "GET /docs has an example"
            return Fault(error.status, error.got, wanted, todo, why=why)
        case _:
            after = retry_after(error) if isinstance(error, Overloaded) else 1
            todo = f"try again in {after} s"
            if isinstance(error, Late):
                todo += "; if it happens again, send fewer rows at once"
            wanted = "an answer within the deadline"
            return Fault(503, _BUSY[type(error)], wanted, todo, headers={"Retry-After": str(after)})


def own_fault() -> Fault:
    """The answer where potstill itself is at fault."""
    got = "a fault of the service"
    return Fault(500, got, "an answer", "tell those who run it: its log says more")
