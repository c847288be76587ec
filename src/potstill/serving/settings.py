"""How a service runs. Every field but ``bundle`` and ``batch_tokens`` is a flag and a variable."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Limits and places of a service.

    Attributes:
        bundle: Folder or zip file of the bundle.
        host: Address to bind to.
        port: Port to bind to.
        workers: Processes, each with the whole model.
        threads: Threads of the engine in each process.
        deadline: Seconds in which an accepted request is answered.
        body_seconds: Seconds in which a request's body must have come.
        header_seconds: Seconds in which a request's header must have come.
        stop_seconds: Seconds that accepted requests have to finish after SIGTERM.
        most_body_bytes: Largest body.
        most_rows: Most rows of a request.
        batch_tokens: Tokens of a batch; None takes what suits the student.
        token: Bearer token that callers must send, or None.
    """

    bundle: str
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    threads: int = 1
    deadline: float = 1.0
    body_seconds: float = 5.0
    header_seconds: float = 5.0
    stop_seconds: float = 10.0
    most_body_bytes: int = 1 << 20
    most_rows: int = 1000
    batch_tokens: int | None = None
    token: str | None = None

    def to_json(self) -> str:
        """For the environment of the worker processes."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ServeSettings:
        """What :meth:`to_json` wrote."""
        return cls(**json.loads(text))
