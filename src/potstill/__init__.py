"""potstill: many teachers in, one small student out.

    import potstill
    student = potstill.run("run.yaml").student          # or potstill.load("runs/x/student")
    student.predict({"sentence": "A warm, funny film."}, tasks=["sst2"])

The names here load what they need when they are first used: importing the package is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from potstill.api import load, run
    from potstill.core.errors import PotstillError
    from potstill.pipeline.run_folder import RunResult
    from potstill.students.student import Student

__all__ = ["PotstillError", "RunResult", "Student", "__version__", "load", "run"]

_HOMES = {
    "PotstillError": "potstill.core.errors",
    "RunResult": "potstill.pipeline.run_folder",
    "Student": "potstill.students.student",
    "load": "potstill.api",
    "run": "potstill.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'potstill' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
