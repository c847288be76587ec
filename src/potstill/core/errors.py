"""Every error that a user can cause, in one tree.

    PotstillError                exit code 1
    ├── UsageError               exit code 2: wrong command line or argument
    │   └── RunFileError         exit code 2: the run file does not fit the schema
    ├── DataError                a file or row of the user's data is missing or faulty
    ├── BaseModelError           a base or teacher model is missing, unsafe or unsuitable
    ├── ArtefactError            a file of a run is damaged, missing or of another run
    │   └── MismatchError        soft targets, teachers or students that do not belong together
    ├── ResourceError            not enough disk, memory or device
    └── Stopped                  time limit or Ctrl-C: the work is saved and can be continued

A message has four parts: which thing, what it got, what it wanted, what to do next. A
programmer's fault is a plain ``ValueError`` or ``TypeError``, not one of these.
"""

from __future__ import annotations

from typing import Any


class PotstillError(Exception):
    """A fault that the user can mend.

    Args:
        thing: Which thing is wrong, with its place (``data/rte.csv, row 12, column 'label'``).
        got: What was found there.
        wanted: What would have been right.
        todo: What the user can do next, as an instruction.
    """

    exit_code = 1

    def __init__(self, thing: str, *, got: str, wanted: str, todo: str) -> None:
        self.thing = thing
        self.got = got
        self.wanted = wanted
        self.todo = todo
        super().__init__(f"{thing}\n  got:    {got}\n  wanted: {wanted}\n  next:   {todo}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors travel from worker processes to the one that started them."""
        return _rebuilt, (type(self), self.thing, self.got, self.wanted, self.todo)


def _rebuilt(
    kind: type[PotstillError], thing: str, got: str, wanted: str, todo: str
) -> PotstillError:
    return kind(thing, got=got, wanted=wanted, todo=todo)


class UsageError(PotstillError):
    """The command line or an argument of the Python API is wrong."""

    exit_code = 2


class RunFileError(UsageError):
    """The run file does not fit its schema."""


class DataError(PotstillError):
    """A data file, a row or a label is missing or faulty."""


class BaseModelError(PotstillError):
    """A base or teacher model is missing, unsafe to open or unsuitable for the task."""


class ArtefactError(PotstillError):
    """A file that a run left behind is damaged, missing or incomplete."""


class MismatchError(ArtefactError):
    """Two artefacts that do not belong together: other data, label order, teacher or kind."""


class ResourceError(PotstillError):
    """The machine lacks disk, memory or a device that the work needs."""


class Stopped(PotstillError):
    """The work stopped early on request; what is done is saved and the same command continues."""
