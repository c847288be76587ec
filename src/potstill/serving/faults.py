"""What goes wrong with a request, as an answer over HTTP."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from potstill.core.errors import PotstillError
from potstill.serving.batcher import Closed, Late, Overloaded, retry_after
from potstill.serving.requests import BadBody

FAULTS = (
    PotstillError, BadBody, Overloaded, Late, Closed, HTTPException, RequestValidationError,
)  # fmt: skip
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
        case BadBody():
            return fault(error.status, error.got)
        case HTTPException():
            return fault(error.status_code, str(error.detail), headers=error.headers)
        case RequestValidationError():
            first = error.errors()[0]
            return fault(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
        case _:
            after = retry_after(error) if isinstance(error, Overloaded) else 1
            return fault(503, _BUSY[type(error)], headers={"Retry-After": str(after)})
