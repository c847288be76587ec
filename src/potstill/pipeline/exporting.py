"""From a run to a bundle: finds the student and the dev rows that its engines are scored on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Container, Sequence
from pathlib import Path

from potstill.config import RunFile, load_run_file
from potstill.config.fields import IN_MEMORY
from potstill.config.sections import Export
from potstill.core.errors import DataError, UsageError
from potstill.core.files import MANIFEST, read_manifest
from potstill.core.places import resolved
from potstill.core.progress import Progress
from potstill.export.decoders import DECODERS, decoders_here
from potstill.export.engines import ENGINES, engines_here, n_cores
from potstill.export.write import Exported, aside_of, write_bundle, written_aside
from potstill.pipeline.loading import load_tasks
from potstill.pipeline.run_folder import RUN_FILE
from potstill.students.student import Student
from potstill.tasks.task import Split
from potstill.training.sequence_network import SequenceNetwork

_GRAPHS = (ENGINES, engines_here, "onnxruntime or openvino", "export,openvino")
_DECODERS = (DECODERS, decoders_here, "ctranslate2", "translation")


def export_bundle(
    student: Path,
    out: Path,
    *,
    engines: Sequence[str] | None,
    max_drop: float | None,
    threads: int | None,
    packed: bool,
    progress: Progress,
) -> Exported:
    """Export the student of a run.

    Args:
        student: A run's folder, or a student's folder; only beside its run are there dev rows to
            score engines on, so without them only engines that compute in fp32 may win.
        out: The bundle's folder, new or empty.
        engines: Which to measure; None takes all that this machine can run.
        max_drop: Largest loss of a task's dev score; None takes the run file's.
        threads: Of each engine; None takes the cores that this process may use.
        packed: Also write ``out`` with ``.zip`` behind its name.
        progress: Where to report.

    Raises:
        UsageError: ``out`` holds something, or an engine is unknown or not here.
        ArtefactError: The student is damaged, or no engine keeps the scores.
    """
    out = resolved(out)
    packed_file = out.with_name(out.name + ".zip") if packed else None
    _need_place(out, packed_file)
    loaded = Student.load(student, device="cpu", precision="fp32")
    sequences = isinstance(loaded.network, SequenceNetwork)
    names = _engines(engines, *(_DECODERS if sequences else _GRAPHS))
    run_folder = loaded.folder.parent
    splits: dict[str, Split] = {}
    name, allowed = loaded.folder.name, Export().max_drop
    if (run_folder / RUN_FILE).is_file() and (run_folder / MANIFEST).is_file():
        run = load_run_file(run_folder / RUN_FILE)
        name, allowed = run.name, run.export.max_drop
        splits = _dev_rows(run, run_folder, loaded, progress)
    else:
        progress.warn(
            f"{student} lies in no run's folder, so there are no dev rows to score engines on: "
            "only engines that compute in fp32 may win"
        )
    return write_bundle(
        loaded.network,
        out,
        name=name,
        student=loaded.folder,
        splits=splits,
        engines=names,
        max_drop=allowed if max_drop is None else max_drop,
        threads=threads or n_cores(),
        packed=packed_file,
        progress=progress,
    )


def export_task(student: Path, task: str, out: Path) -> Path:
    """Write one task of a student as a model of transformers, in a new or empty folder.

    Raises:
        UsageError: ``out`` holds something, or the task is unknown or no such model.
        ArtefactError: The student is damaged.
    """
    out = resolved(out)
    need_new(out)
    loaded = Student.load(student, device="cpu", precision="fp32")
    with written_aside(out) as aside:
        loaded.save_task(task, aside)
    return out


def need_new(folder: Path) -> None:
    """Check that a folder can be written here, before minutes are spent on it.

    Raises:
        UsageError: Something is there, or nothing can be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise _taken(folder)
        place = folder if folder.is_dir() else folder.parent
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place):
            pass
    except OSError as error:
        raise UsageError(
            f"--out {folder}",
            got=f"a place where nothing can be written ({error.strerror})",
            wanted="a new or empty folder, in one that can be written",
            todo="name another",
        ) from error


def _need_place(out: Path, packed: Path | None) -> None:
    """Check the places of a bundle, which appears by renaming what was written beside it."""
    need_new(out)
    if out.is_mount():
        raise UsageError(
            f"--out {out}",
            got="a mount point, which nothing can be renamed to",
            wanted="a new or empty folder",
            todo=f"name a folder in it: --out {out / 'bundle'}",
        )
    if packed is not None and packed.exists():
        raise _taken(packed)
    aside = aside_of(out)
    if aside.exists():
        raise UsageError(
            str(aside),
            got="something is there, perhaps of an export that was killed",
            wanted="nothing: the bundle is written there before it appears",
            todo="remove it if it is of no more use, or name another --out",
        )


def _taken(place: Path) -> UsageError:
    return UsageError(
        f"--out {place}",
        got="a file or folder that holds something already",
        wanted="a new or empty folder",
        todo="name another",
    )


def _engines(
    asked: Sequence[str] | None,
    known: Container[str],
    find: Callable[[], list[str]],
    packages: str,
    install: str,
) -> list[str]:
    """The engines to measure.

    Args:
        asked: What the user named, or None.
        known: All that run a student of this sort.
        find: Gives those that this machine can run.
        packages: What brings some, for messages.
        install: What to give pip for them.
    """
    here = find()
    if asked is not None and not asked:
        raise UsageError(
            "--engines",
            got="no name",
            wanted=f"of {', '.join(here)}",
            todo="name some, or leave it out",
        )
    for name in asked or ():
        if name not in here:
            raise UsageError(
                f"--engines {name}",
                got="an engine that this machine cannot run"
                if name in known
                else "an engine of other students"
                if name in {*ENGINES, *DECODERS}
                else "an unknown engine",
                wanted=f"of {', '.join(here) or 'none: no engine is installed'}",
                todo="leave --engines out for all that are here; "
                f"pip install 'potstill[{install}]' brings more",
            )
    if not here:
        raise UsageError(
            "export",
            got="no engine is installed",
            wanted=packages,
            todo=f"pip install 'potstill[{install}]'",
        )
    return list(dict.fromkeys(asked)) if asked else here


def _dev_rows(
    run: RunFile, run_folder: Path, student: Student, progress: Progress
) -> dict[str, Split]:
    """The dev rows of the run, if they are still those of the run."""
    manifest = read_manifest(run_folder)
    seed = int(read_manifest(student.folder)["seed"])
    try:
        tasks = load_tasks(run, seed=seed, skip_bad_rows=1 << 30, progress=progress)
    except (DataError, UsageError) as error:
        given = IN_MEMORY in error.thing
        why = "its rows were given in Python" if given else f"{error.thing}: {error.got}"
        progress.warn(
            "the run's data cannot be read again, so only engines that compute in fp32 may win: "
            f"{why}"
        )
        return {}
    splits = {}
    for name, task in tasks.items():
        if task.dev.digest != manifest["data"][f"{seed}/{name}"]["dev"]:
            progress.warn(
                f"task '{name}' has other dev rows than the run had, so only engines that compute "
                "in fp32 may win; put the data back, or run again and export that student"
            )
            return {}
        splits[name] = task.dev
    return splits
