"""The command line: one thin command a stage. Everything it can do, ``potstill.api`` can do too.

Results go to standard output (with ``--json`` one document and nothing else), progress and logs
to standard error. Exit code 0: done; 2: wrong usage or run file; 1: everything else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
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
    names_of,
    opened_run,
    show_result,
)
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
    "command that is stopped continues when it is run again.",
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
        from potstill.tasks.stream import read_head

        if out.exists() and not force:
            raise UsageError(
                str(out),
                got="a file that exists already",
                wanted="a new file",
                todo="name another with --out, or replace it with --force",
            )
        text = scaffold(data, read_head=read_head, folder=out.resolve().parent)
        from potstill.core.files import write_text

        write_text(out, text)
        answer({"run_file": str(out)}, as_json, f"{out} is written. Next: potstill check {out}")


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
        from potstill.core.progress import Progress
        from potstill.pipeline.looking import look

        progress = Progress(quiet=quiet)
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
    run_file: RunPath,
    overrides: Overrides = None,
    skip_bad_rows: SkipBad = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw report.html again from the results of a finished run."""
    with errors(debug), opened_run(run_file, overrides, None, skip_bad_rows, quiet, 1) as opened:
        show_result(opened.report(), as_json)


@app.command()
def export(
    student: Annotated[
        Path, typer.Argument(metavar="STUDENT", help="A run's folder, or a student's folder.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write, new or empty.")],
    packed: Annotated[bool, typer.Option("--zip", help="Also write OUT.zip, one file.")] = False,
    max_drop: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="What a task's dev score may lose; default: run file's."),
    ] = None,
    engines: Annotated[
        str | None, typer.Option(metavar="A,B", help="Engines to measure; default: all here.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of each engine; default: all cores.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Write this task as a transformers classifier instead of a bundle."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a student as a bundle that answers without torch, with the fastest engine that holds.

    Every engine that is installed is measured on this machine and scored on the run's dev rows.
    The fastest whose score of no task drops by more than --max-drop is chosen.
    """
    with errors(debug):
        if task is not None:
            _export_classifier(student, task, out, as_json)
            return
        from potstill.core.progress import Progress
        from potstill.pipeline.exporting import export_bundle

        progress = Progress(quiet=quiet)
        with progress.stop.catch_interrupts():
            done = export_bundle(
                student,
                out,
                engines=names_of(engines),
                max_drop=max_drop,
                threads=threads,
                packed=packed,
                progress=progress,
            )
        if as_json:
            print(json.dumps(done.to_json(), indent=1))
            return
        from potstill.cli.tables import engine_table

        Console().print(engine_table(done))
        print(f"bundle  {done.folder}, with {done.engine}")
        if done.packed is not None:
            print(f"packed  {done.packed}")
        print(f"\nNext:\n  answer a file   potstill predict {done.folder} FILE")


def _export_classifier(student: Path, task: str, out: Path, as_json: bool) -> None:
    from potstill.students.student import Student

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"--out {out}",
            got="a file or folder that holds something already",
            wanted="a new or empty folder",
            todo="name another",
        )
    folder = Student.load(student, device="cpu", precision="fp32").save_classifier(task, out)
    answer(
        {"folder": str(folder)},
        as_json,
        f"{folder} is written: AutoModelForSequenceClassification.from_pretrained loads it",
    )


@app.command()
def predict(
    student: Annotated[
        Path, typer.Argument(metavar="STUDENT", help="A student's or run's folder, or a bundle.")
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Rows: jsonl, csv, tsv, parquet.")],
    tasks: Annotated[
        str | None, typer.Option(metavar="A,B", help="Tasks to answer; default: all that fit.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write here (jsonl, csv or parquet by name); default: stdout, jsonl."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16.")] = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Rows in, rows out, in constant memory; one encoder pass for tasks on the same text."""
    with errors(debug):
        from potstill.core.progress import Progress
        from potstill.pipeline.prediction import predict_file

        if precision not in ("auto", "fp32", "bf16"):
            raise UsageError(
                "--precision", got=precision, wanted="auto, fp32 or bf16", todo="choose one"
            )
        if as_json and out is None:
            raise UsageError(
                "--json", got="no --out", wanted="a file for the rows", todo="add --out FILE"
            )
        progress = Progress(quiet=quiet)
        n_rows = predict_file(
            student,
            file,
            out=out,
            tasks=names_of(tasks),
            device=device,
            precision=precision,
            progress=progress,
        )
        if out is not None:
            answer({"rows": n_rows, "out": str(out)}, as_json, f"{n_rows} rows written to {out}")


@app.command()
def serve(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder or zip file.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to bind to.", envvar="POTSTILL_HOST")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port to bind to.", envvar="POTSTILL_PORT")
    ] = 8000,
    workers: Annotated[
        int,
        typer.Option(min=1, help="Processes, each with the model.", envvar="POTSTILL_WORKERS"),
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of each engine; default: cores / workers.", envvar="POTSTILL_THREADS"
        ),
    ] = None,
    deadline: Annotated[
        float,
        typer.Option(
            min=0.01, help="Seconds to answer an accepted request.", envvar="POTSTILL_DEADLINE"
        ),
    ] = 1.0,
    max_rows: Annotated[
        int, typer.Option(min=1, help="Most rows of a request.", envvar="POTSTILL_MAX_ROWS")
    ] = 1000,
    max_body: Annotated[
        int, typer.Option(min=1, help="Largest body, in KiB.", envvar="POTSTILL_MAX_BODY")
    ] = 1024,
    header_time: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="Seconds for a header to come; idle connections are closed after as many. Behind "
            "a proxy: more than it keeps its connections.",
            envvar="POTSTILL_HEADER_TIME",
        ),
    ] = 5.0,
    body_time: Annotated[
        float,
        typer.Option(min=0.1, help="Seconds for a body to come.", envvar="POTSTILL_BODY_TIME"),
    ] = 5.0,
    stop_time: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds to finish requests after SIGTERM.", envvar="POTSTILL_STOP_TIME"
        ),
    ] = 10.0,
    token: Annotated[
        str | None,
        typer.Option(
            help="Bearer token that callers must send (better set as a variable).",
            envvar="POTSTILL_TOKEN",
            show_envvar=True,
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Bind elsewhere than to loopback without a token.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Answer over HTTP: all tasks from one encoder pass, requests batched as they come.

    POST /predict {"rows": [{"text": "..."}], "tasks": ["a"]}; GET /tasks, /healthz, /readyz,
    /metrics; /docs describes them, / is a page to try the tasks on.
    """
    with errors(debug):
        from potstill.export.engines import n_cores
        from potstill.serving.server import serve as serve_bundle
        from potstill.serving.settings import ServeSettings

        settings = ServeSettings(
            bundle=str(bundle.resolve()),
            host=host,
            port=port,
            workers=workers,
            threads=threads or max(n_cores() // workers, 1),
            deadline=deadline,
            header_seconds=header_time,
            body_seconds=body_time,
            stop_seconds=stop_time,
            most_body_bytes=max_body << 10,
            most_rows=max_rows,
            token=token,
        )

        def announce() -> None:
            url = f"http://{host}:{port}"
            if as_json:
                print(json.dumps({"url": url}), flush=True)
            elif not quiet:
                print(f"serving {bundle} on {url} (Ctrl-C stops)", flush=True)

        serve_bundle(settings, insecure=insecure, announce=announce)


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
        from potstill.demo.grammar import make_demo

        run_file = make_demo(folder, seed=seed)
        with opened_run(run_file, None, time_limit, 0, quiet, jobs) as opened:
            result = opened.evaluate()
        show_result(result, as_json)
        if not as_json:
            print(
                f"\nNext:\n"
                f"  look at the report           {result.report}\n"
                f"  read what it was asked       {run_file}\n"
                f"  ask the student              potstill predict {result.folder} FILE\n"
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
    app()
