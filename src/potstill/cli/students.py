"""The commands that use a student: export, predict, serve."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer
from rich.console import Console

from potstill.cli.frame import AsJson, Debug, Quiet, answer, errors, names_of
from potstill.core.errors import UsageError


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
        typer.Option(help="Write this task as a model of transformers instead of a bundle."),
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
            from potstill.pipeline.exporting import export_task

            if packed or (max_drop, engines, threads) != (None, None, None):
                raise UsageError(
                    f"--task {task}",
                    got="with --zip, --max-drop, --engines or --threads, which are of bundles",
                    wanted="--out alone: a model of transformers is a folder of fp32 weights",
                    todo="leave them out, or leave --task out for a bundle",
                )
            folder = export_task(student, task, out)
            answer(
                {"folder": str(folder)},
                as_json,
                f"{folder} is written: {_auto_class(folder)}.from_pretrained loads it"
                + _tuned(folder),
            )
            return
        from potstill.core.progress import Progress, StopSignal
        from potstill.pipeline.exporting import export_bundle

        progress = Progress(quiet=quiet, stop=StopSignal(continues=False))
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
        from potstill.core.files import read_json
        from potstill.export.bundle import BUNDLE_FILE
        from potstill.kinds import GROUP

        Console().print(engine_table(done))
        print(f"bundle  {done.folder}, with {done.engine}")
        if done.packed is not None:
            print(f"packed  {done.packed}")
        engine = done.engine.partition("-")[0]
        needs = {
            "openvino": "'potstill[serve,openvino]'",
            "ctranslate2": "'potstill[serve]' ctranslate2",
        }.get(engine, "'potstill[serve]'")
        tasks = read_json(done.folder / BUNDLE_FILE)["tasks"].values()
        kinds = {task["space"]["kind"] for task in tasks}
        points = [point for point in entry_points(group=GROUP) if point.name in kinds]
        packages = {point.dist.name for point in points if point.dist is not None}
        needs = " ".join([needs, *sorted(packages)])
        print(
            f"\nNext:\n"
            f"  answer a file   potstill predict {quote(str(done.folder))} FILE\n"
            f"  serve it        potstill serve {quote(str(done.folder))}\n"
            f"  elsewhere       pip install {needs} is all that it needs"
        )


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
        from potstill.core.progress import Progress, StopSignal
        from potstill.pipeline.prediction import predict_file

        if precision not in ("auto", "fp32", "bf16"):
            raise UsageError(
                "--precision", got=precision, wanted="auto, fp32 or bf16", todo="choose one"
            )
        if as_json and out is None:
            raise UsageError(
                "--json", got="no --out", wanted="a file for the rows", todo="add --out FILE"
            )
        progress = Progress(quiet=quiet, stop=StopSignal(continues=False))
        with progress.stop.catch_interrupts():
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
    """Answer over HTTP: tasks on the same text share a pass where they can; requests are batched.

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
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            if as_json:
                print(json.dumps({"url": url}), flush=True)
            elif not quiet:
                print(f"serving {bundle} on {url} (Ctrl-C stops)", flush=True)

        serve_bundle(settings, insecure=insecure, quiet=quiet, announce=announce)


def _auto_class(folder: Path) -> str:
    """The class of transformers that loads a written task: BertForX is AutoModelForX."""
    written: str = json.loads((folder / "config.json").read_text())["architectures"][0]
    return f"AutoModelFor{written.partition('For')[2] or 'Seq2SeqLM'}"


def _tuned(folder: Path) -> str:
    """What its config says that transformers does not apply by itself."""
    config = json.loads((folder / "config.json").read_text())
    for name, it in (("thresholds", "them"), ("no_answer_margin", "it")):
        if name in config:
            return f"\nconfig.json has the {name} that dev chose; transformers does not apply {it}"
    return ""
