"""The command line: one thin command a stage; those that use a student are in ``students.py``.

Everything it can do, ``potstill.api`` can do too.

Results go to standard output (with ``--json`` one document and nothing else), progress and logs
to standard error. Exit code 0: done; 2: wrong usage or run file; 1: everything else.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console

from potstill import __version__
from potstill.cli.frame import (
    AsJson,
    Debug,
    Jobs,
    Overrides,
    Quiet,
    RunPath,
    SkipBad,
    TimeLimit,
    answer,
    errors,
    opened_run,
    show_result,
)
from potstill.cli.students import export, predict, serve
from potstill.core.errors import UsageError

if TYPE_CHECKING:
    from potstill.core.stages import Stage
    from potstill.pipeline.run import Run

T = TypeVar("T")

app = typer.Typer(
    name="potstill",
    help="Many teachers in, one small student out.\n\n"
    "A first look: `potstill demo`. With data of your own: `potstill init DATA...` writes a run "
    "file, `potstill check run.yaml` looks at it, `potstill run run.yaml` does the rest. Any "
    "command that trains or labels continues where it was stopped, when it is run again.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)


@app.command()
def init(
    data: Annotated[list[Path], typer.Argument(metavar="DATA...", help="Data files or folders.")],
    out: Annotated[Path, typer.Option(help="Where to write the run file.")] = Path("run.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a short run file from data files, guessing tasks and kinds; then edit and check it."""
    with errors(debug):
        from potstill.config import scaffold
        from potstill.core.files import write_text
        from potstill.core.places import need_file_place
        from potstill.tasks.stream import read_head

        need_file_place(out, f"--out {out}")
        if out.exists() and not force:
            raise UsageError(
                str(out),
                got="a file that exists already",
                wanted="a new file",
                todo="name another with --out, or replace it with --force",
            )
        made = scaffold(data, read_head=read_head, folder=out.resolve().parent)
        write_text(out, made.text)
        for note in () if quiet else made.left_out:
            print(f"left out: {note}", file=sys.stderr)
        answer(
            {"run_file": str(out), "left_out": made.left_out},
            as_json,
            f"{out} is written. Next: potstill check {shlex.quote(str(out))}",
        )


@app.command()
def check(
    run_file: RunPath,
    overrides: Overrides = None,
    show: Annotated[bool, typer.Option("--show", help="Print every key with its default.")] = False,
    skip_bad_rows: SkipBad = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Validate run file and data, try a few real steps, print what the run will take."""
    with errors(debug):
        from potstill.config import load_run_file
        from potstill.config import show as show_run

        run = load_run_file(run_file, overrides=overrides or ())
        if show:
            answer(run.record(), as_json, show_run(run).rstrip())
            return
        from potstill.core.progress import Progress, StopSignal
        from potstill.pipeline.looking import look

        progress = Progress(quiet=quiet, stop=StopSignal(continues=False))
        with progress.stop.catch_interrupts():
            found = look(run, progress, skip_bad_rows=skip_bad_rows)
        if as_json:
            print(json.dumps(found.to_json(), indent=1))
        else:
            Console().print(found.table())
        if found.n_errors:
            raise typer.Exit(1)


def _run_command(
    name: str, doc: str, call: Callable[[Run], T], show: Callable[[T, bool], None]
) -> None:
    """Add a command that runs the stages up to one of them and shows what came out."""

    def command(
        run_file: RunPath,
        overrides: Overrides = None,
        time_limit: TimeLimit = None,
        skip_bad_rows: SkipBad = 0,
        jobs: Jobs = None,
        as_json: AsJson = False,
        quiet: Quiet = False,
        debug: Debug = False,
    ) -> None:
        with (
            errors(debug),
            opened_run(run_file, overrides, time_limit, skip_bad_rows, quiet, jobs) as run,
        ):
            show(call(run), as_json)

    command.__doc__ = doc
    app.command(name)(command)


def _says(what: str) -> Callable[[list[Stage], bool], None]:
    def show(stages: list[Stage], as_json: bool) -> None:
        folders = [str(stage.folder) for stage in stages]
        answer({"stages": folders}, as_json, f"{what}: {len(folders)} stages stand")

    return show


_run_command(
    "run",
    "Teach, label, distil, evaluate and report. Run it again to continue after a stop.",
    lambda run: run.evaluate(),
    show_result,
)
_run_command(
    "teach",
    "Train the teachers (and stop there).",
    lambda run: run.teach(),
    _says("teachers are trained"),
)
_run_command(
    "label",
    "Write down what the teachers think of each row; teaches first where needed.",
    lambda run: run.label(),
    _says("soft targets are written"),
)
_run_command(
    "distill",
    "Train the student; teaches and labels first where needed.",
    lambda run: run.distill(),
    _says("the student is trained"),
)
_run_command(
    "evaluate",
    "Score student, baselines and ensemble; makes first what is missing.",
    lambda run: run.evaluate(),
    show_result,
)


@app.command()
def report(
    run_file: Annotated[
        Path,
        typer.Argument(metavar="RUN.YAML", help="The run file, or a run's folder."),
    ],
    overrides: Overrides = None,
    skip_bad_rows: SkipBad = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw report.html again from the results of a finished run."""
    if run_file.is_dir():
        with errors(debug):
            said = {"--set": (overrides or [""])[0], "--skip-bad-rows": skip_bad_rows}
            for option in (name for name, value in said.items() if value):
                raise UsageError(
                    option,
                    got=f"{said[option]} beside the folder {run_file}",
                    wanted="a run file: what a folder's run was asked is fixed",
                    todo=f"leave {option} out, or name the run file",
                )
            from potstill.pipeline.run_folder import draw_report

            show_result(draw_report(run_file), as_json)
        return
    with errors(debug), opened_run(run_file, overrides, None, skip_bad_rows, quiet, 1) as opened:
        sets = [part for override in overrides or () for part in ("--set", override)]
        skip = ["--skip-bad-rows", str(skip_bad_rows)] if skip_bad_rows else []
        again = shlex.join(["potstill", "run", str(run_file), *sets, *skip])
        show_result(opened.report(again), as_json)


app.command()(export)
app.command()(predict)
app.command()(serve)


@app.command()
def runs(
    output: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Folder of runs.")] = Path(
        "runs"
    ),
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List runs and stages with their sizes."""
    with errors(debug):
        from potstill.pipeline.housekeeping import list_runs

        listing = list_runs(output)
        if as_json:
            print(json.dumps(listing.to_json(), indent=1))
        else:
            Console().print(listing.table())


@app.command()
def clean(
    output: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Folder of runs.")] = Path(
        "runs"
    ),
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it only say what.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Remove the stages that no run uses (of a run that you gave up, delete its folder first)."""
    with errors(debug):
        from potstill.pipeline.housekeeping import clean as clean_runs

        removed, size = clean_runs(output, really=yes)
        verb = "removed" if yes else "would be removed (say --yes)"
        answer(
            {"folders": [str(p) for p in removed], "bytes": size, "removed": yes},
            as_json,
            "\n".join(
                [
                    *(str(p) for p in removed),
                    f"{len(removed)} folders, {size / 2**20:.1f} MiB {verb}",
                ]
            ),
        )


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where data and run go.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the data and of the run.")] = 0,
    time_limit: TimeLimit = None,
    jobs: Jobs = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """The whole path on data it makes itself: offline, in minutes."""
    with errors(debug):
        from potstill.core.places import need_folder_place
        from potstill.demo.grammar import make_demo

        need_folder_place(folder, f"--folder {folder}")
        run_file = make_demo(folder, seed=seed)
        with opened_run(run_file, None, time_limit, 0, quiet, jobs) as opened:
            result = opened.evaluate()
        show_result(result, as_json)
        if not as_json:
            done = shlex.quote(str(result.folder))
            print(
                f"\nNext:\n"
                f"  look at the report           {result.report}\n"
                f"  read what it was asked       {run_file}\n"
                f"  ask the student              potstill predict {done} FILE\n"
                f"  start with your own data     potstill init DATA...\n"
            )


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """The console script."""
    if isinstance(sys.stdout, TextIOWrapper):  # a name that it cannot show ends no command
        sys.stdout.reconfigure(errors="backslashreplace")
    app()
