"""What goes wrong with a request, as an answer over HTTP."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.responses import JSONResponse

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
        self, status: int, got: str, wanted: str, *, todo: str | None = None, close: bool = False
    ) -> None:
        self.status, self.got, self.wanted, self.todo = status, got, wanted, todo
        self.headers = {"Connection": "close"} if close else None
        super().__init__(got)


FAULTS = (PotstillError, Refused, BadBody, Overloaded, Late, Closed)
_BUSY: Mapping[type[Exception], str] = {
    Overloaded: "more to do than can be answered in time",
    Late: "it took longer than the deadline",
    Closed: "the service is stopping",
}


def fault(
    status: int,
    got: str,
    *,
    thing: str = "request",
    wanted: str | None = None,
    todo: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """``{"error": {"thing", "got", "wanted", "next"}}`` with a status."""
    parts = {"thing": thing, "got": got, "wanted": wanted, "next": todo}
    content = {"error": {k: v for k, v in parts.items() if v is not None}}
    return JSONResponse(content, status, headers=headers)


def to_response(error: Exception) -> JSONResponse:
    """The answer to a request that raised one of :data:`FAULTS`."""
    match error:
        case PotstillError():
            return fault(422, error.got, thing=error.thing, wanted=error.wanted, todo=error.todo)
        case Refused():
            return fault(
                error.status,
                error.got,
                wanted=error.wanted,
                todo=error.todo,
                headers=error.headers,
            )
        case BadBody():
            wanted = 'JSON: {"rows": [{column: text}], "tasks": [names]}'
            return fault(error.status, error.got, wanted=wanted, todo="GET /docs has an example")
        case _:
            after = retry_after(error) if isinstance(error, Overloaded) else 1
            headers = {"Retry-After": str(after)}
            return fault(503, _BUSY[type(error)], todo=f"try again in {after} s", headers=headers)
