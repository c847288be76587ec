"""The Python API: the same stages as the commands.

Only training needs torch: a bundle is loaded without it, so each function imports what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.core.errors import UsageError
from potstill.tasks.predictor import Predictor

if TYPE_CHECKING:
    from potstill.pipeline.run_folder import RunResult


def run(
    source: str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    time_limit: float | None = None,
    skip_bad_rows: int = 0,
    jobs: int = 1,
    quiet: bool = True,
) -> RunResult:
    """Run everything that a run file asks for; call it again to continue.

    Args:
        source: A run file, or the same as a mapping; in a mapping the rows of a task may be
            lists of dicts, Arrow tables or DataFrames.
        overrides: ``key.of.the.file=value``, as ``--set`` takes them; not with a mapping.
        time_limit: Stop after so many seconds; what is done is kept.
        skip_bad_rows: How many faulty rows each source may have.
        jobs: Trainings at once, with more than one in processes of their own (which do not run
            the calling script). On a CPU 2 are faster; the command line's default.
        quiet: Show no progress.

    Returns:
        The run's folder, results and student.

    Raises:
        UsageError: An argument is of another form.
        RunFileError: The run file does not fit its schema.
        DataError: A source or a row is faulty.
        BaseModelError: A base or teacher is missing or unsafe.
        Stopped: The time limit was reached.

    Examples:
        >>> result = run("run.yaml")  # doctest: +SKIP
        >>> result.results["mean"]["student"]  # doctest: +SKIP
        0.83
    """
    _need("source", source, isinstance(source, str | Path | Mapping), "a path or a mapping")
    _need("jobs", jobs, type(jobs) is int and jobs >= 1, "1 or more trainings at once")
    fits = type(skip_bad_rows) is int and skip_bad_rows >= 0
    _need("skip_bad_rows", skip_bad_rows, fits, "0 or more rows")
    seconds = time_limit is None or (type(time_limit) in (int, float) and time_limit > 0)
    _need("time_limit", time_limit, seconds, "a number of seconds, or None")
    _need("overrides", overrides, not isinstance(overrides, str), "a list: ['seed=1']")
    from potstill.config import load_run_file, parse_run
    from potstill.core.progress import Progress, StopSignal
    from potstill.pipeline.workers import open_run

    if isinstance(source, Mapping):
        if overrides:
            raise UsageError(
                "overrides",
                got=f"{', '.join(overrides)}, beside a run file as a mapping",
                wanted="overrides of a run file by its path",
                todo="change the mapping itself",
            )
        asked = parse_run(source)
    else:
        asked = load_run_file(Path(source), overrides=overrides)
    progress = Progress(quiet=quiet, stop=StopSignal.after(time_limit))
    with open_run(asked, progress, skip_bad_rows=skip_bad_rows, n_workers=jobs) as opened:
        return opened.evaluate()


def _need(name: str, value: object, fits: bool, wanted: str) -> None:
    if not fits:
        todo = f"give `{name}=` in that form" if name == "source" else f"leave `{name}=` out"
        raise UsageError(name, got=f"{value!r:.60}", wanted=wanted, todo=todo)


def load(
    folder: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Predictor:
    """Load a student or an exported bundle; both have the same ``predict``.

    A bundle needs no torch.

    Args:
        folder: A student's folder, its run's folder, or a bundle's folder or zip file.
        device: Of a student: ``auto``, ``cpu``, ``cuda``, ``mps``. Bundles run on the CPU.
        precision: Of a student: ``auto``, ``fp32``, ``bf16``. A bundle's was chosen at export.
        threads: Of a bundle: threads of one call; None takes the cores that are there.

    Raises:
        UsageError: A device or precision that there is not, or that a bundle cannot be put to.
        ArtefactError: Neither is there, or a file is damaged.
        ResourceError: The engine of a bundle is not installed.
    """
    from potstill.export.bundle import is_bundle

    if is_bundle(Path(folder)):
        from potstill.serving.predictor import BundlePredictor

        _need("device", device, device in ("auto", "cpu"), "'auto' or 'cpu': a bundle runs there")
        _need("precision", precision, precision == "auto", "'auto': it was chosen at export")
        fits = threads is None or (type(threads) is int and threads >= 1)
        _need("threads", threads, fits, "1 or more threads, or None")
        return BundlePredictor.load(folder, threads=threads)
    from potstill.students.student import Student

    return Student.load(folder, device=device, precision=precision)
