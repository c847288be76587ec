"""What the commands share: their options, a run with its data, answers and error messages."""

from __future__ import annotations

import errno
import json
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from potstill.core.errors import PotstillError, UsageError

if TYPE_CHECKING:
    from potstill.pipeline.run import Run
    from potstill.pipeline.run_folder import RunResult

RunPath = Annotated[Path, typer.Argument(metavar="RUN.YAML", help="The run file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the run file; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on standard error.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.")]
SkipBad = Annotated[
    int, typer.Option(metavar="N", min=0, help="Leave out up to N faulty rows of each source.")
]
TimeLimit = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Stop at the first step after this long (90s, 45m, 2h); run again to go on.",
    ),
]

Jobs = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Trainings at once, in processes of their own; default: 2 on CPUs."
    ),
]

_OF_MACHINE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@contextmanager
def opened_run(
    run_file: Path,
    overrides: list[str] | None,
    time_limit: str | None,
    skip_bad_rows: int,
    quiet: bool,
    jobs: int | None,
) -> Iterator[Run]:
    """A run with its data read; Ctrl-C stops it between two steps."""
    from potstill.core.progress import Progress, StopSignal

    stop = StopSignal.after(None if time_limit is None else _seconds(time_limit))
    from potstill.config import load_run_file

    asked = load_run_file(run_file, overrides=overrides or ())
    from potstill.pipeline.workers import open_run

    progress = Progress(quiet=quiet, stop=stop)
    with (
        progress.stop.catch_interrupts(),
        open_run(asked, progress, skip_bad_rows=skip_bad_rows, n_workers=jobs) as run,
    ):
        yield run


def show_result(result: RunResult, as_json: bool) -> None:
    """Print the leaderboard, what it suggests, and where student and report lie."""
    from potstill.core.characters import printable
    from potstill.core.files import read_json
    from potstill.evaluation.advice import advice
    from potstill.evaluation.leaderboard import leaderboard
    from potstill.evaluation.number_words import MINUS
    from potstill.evaluation.run_details import read_details
    from potstill.evaluation.run_results import read_results

    if as_json:
        print(json.dumps({"folder": str(result.folder), **result.results}, indent=1))
        return
    console = Console()
    console.print(leaderboard(result.results))
    more = result.folder / "details.json"
    details = read_details(read_json(more)) if more.is_file() else None
    for said in advice(read_results(result.results), details):
        text = printable(said).replace(MINUS, "-")
        lines = wrap(text, max(40, console.width - 9), break_on_hyphens=False)
        print("try      " + "\n         ".join(lines))
    print(f"student  {result.folder / 'student'}")
    print(f"report   {result.report}")


def answer(facts: dict[str, Any], as_json: bool, text: str) -> None:
    """Print ``facts`` as JSON, or ``text``."""
    print(json.dumps(facts, indent=1) if as_json else text)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if match is None:
        raise UsageError(
            "--time-limit", got=text, wanted="a time such as 90s, 45m or 2h", todo="correct it"
        )
    return float(match[1]) * _UNITS.get(match[2], 1.0)


@contextmanager
def errors(debug: bool) -> Iterator[None]:
    """Messages instead of tracebacks, and the exit codes."""
    try:
        yield
    except PotstillError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        print("error: broken off; run the same command again", file=sys.stderr)
        raise typer.Exit(1) from None
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except ModuleNotFoundError as error:
        if debug or (error.name or "potstill").split(".")[0] == "potstill":
            traceback.print_exc()
        print(
            f"error: package {error.name}\n  got:    it is not installed\n"
            "  wanted: what this command needs\n"
            "  next:   pip install 'potstill[train]' (`potstill serve` alone: 'potstill[serve]')",
            file=sys.stderr,
        )
        raise typer.Exit(1) from None
    except Exception as error:
        if debug:
            traceback.print_exc()
        todo = _of_machine(error) or (
            f"{type(error).__name__}: {error}\n"
            "  next:   this is a fault of potstill: run again with --debug and report it"
        )
        print(f"error: {todo}", file=sys.stderr)
        raise typer.Exit(1) from None


def _of_machine(error: Exception) -> str | None:
    """What to say of an error that the machine makes, not potstill; None for others."""
    if isinstance(error, OSError) and error.errno in _OF_MACHINE:
        return (
            f"{error.filename or 'a file'}\n  got:    {error.strerror}\n"
            "  wanted: a place to read and write\n"
            "  next:   look at its owner, its rights and the room on its disk, or choose another "
            "place (of a run: `output:`)"
        )
    # By name: torch is not imported to say this.
    of_torch = "OutOfMemoryError" in [each.__name__ for each in type(error).__mro__]
    if (
        isinstance(error, MemoryError)
        or of_torch
        or re.search("(not enough|out of) memory", str(error))
    ):
        return (
            f"memory\n  got:    {str(error).splitlines()[0] if str(error) else 'none is left'}\n"
            "  wanted: room for what is computed\n"
            "  next:   --jobs 1 where trainings run side by side; else half the `batch:` with "
            "`accumulate: 2`, fewer `max_tokens:`, or a smaller base"
        )
    return None


def names_of(text: str | None) -> list[str] | None:
    """``a, b`` as a list; None stays None."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
