"""Which runs and stages stand, what they weigh, and what no run uses."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from potstill.core.errors import ArtefactError, UsageError
from potstill.core.files import MANIFEST, PARTIAL_SUFFIX, read_json, verify
from potstill.core.progress import Progress
from potstill.core.stages import STAGES_FOLDER, StageFolder

_CLOCK_SECONDS = 5.0  # how coarse a file system's times may be


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What stands in a folder of runs.

    Attributes:
        runs: Name, date, mean score and size of each run.
        stages: Name, size and users of each stage.
    """

    runs: list[dict[str, Any]]
    stages: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """As the command prints it with ``--json``."""
        return {"runs": self.runs, "stages": self.stages}

    def table(self) -> Table:
        """As the command prints it for people."""
        table = Table(box=None, pad_edge=False)
        for name in ("folder", "made", "student", "MiB", "used by"):
            right = name in ("student", "MiB")
            table.add_column(name, justify="right" if right else "left", overflow="fold")
        for run in self.runs:
            score = "–" if run["student"] is None else f"{run['student']:.4f}"
            made = (run["created"] or "unfinished").removesuffix("+00:00").replace("T", " ")
            table.add_row(run["folder"], made, score, _mib(run), "")
        for stage in self.stages:
            users = ", ".join(stage["used_by"]) or ("unfinished" if stage["partial"] else "no run")
            table.add_row(f"  {stage['folder']}", "", "", _mib(stage), users)
        return table


def list_runs(output: Path) -> Listing:
    """List runs and stages.

    Raises:
        UsageError: The folder is not there.
    """
    if not output.is_dir():
        raise UsageError(
            f"folder {output}",
            got="a file" if output.exists() else "no such folder",
            wanted="the `output:` folder of a run file",
            todo="name it: potstill runs FOLDER",
        )
    if _is_run(output):
        raise UsageError(
            f"folder {output}",
            got="the folder of one run",
            wanted="the folder of all runs, with their stages",
            todo=f"name that: potstill runs {output.absolute().parent}",
        )
    runs: list[dict[str, Any]] = []
    users: dict[str, list[str]] = {}
    for folder in sorted(p for p in output.iterdir() if _is_run(p)):
        finished = (folder / MANIFEST).is_file()
        try:
            manifest, damaged = verify(folder) if finished else {}, None
        except ArtefactError as error:
            manifest, damaged = {}, f"damaged: {error.thing}"
        # A finished run that is run again may want others than it had: after an update.
        made = [*manifest.get("stages", []), *_stages_so_far(folder, last_only=bool(manifest))]
        for stage in dict.fromkeys(made):
            users.setdefault(stage, []).append(folder.name)
        results = folder / "results.json"
        shown = finished and damaged is None and results.is_file()
        score = read_json(results)["mean"].get("student") if shown else None
        runs.append(
            {
                "folder": folder.name,
                "created": damaged or manifest.get("created"),
                "student": score,
                "bytes": _size(folder),
            }
        )
    root = output / STAGES_FOLDER
    folders = sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    stages = [
        {
            "folder": folder.name,
            "bytes": _size(folder),
            "used_by": users.get(folder.name.removesuffix(PARTIAL_SUFFIX), []),
            "partial": folder.name.endswith(PARTIAL_SUFFIX),
        }
        for folder in folders
    ]
    return Listing(runs=runs, stages=stages)


def bytes_so_far(folder: Path) -> int:
    """Bytes of the stages that the run in ``folder`` has made or found, unfinished ones too."""
    if not (folder / "log.jsonl").is_file():
        return 0
    root = folder.parent / STAGES_FOLDER
    names = dict.fromkeys(_stages_so_far(folder, last_only=False))
    return sum(_size(root / f"{name}{end}") for name in names for end in ("", PARTIAL_SUFFIX))


def clean(output: Path, *, really: bool) -> tuple[list[Path], int]:
    """Remove the stages that no run uses; an unfinished run needs its own to continue.

    What another process is making at the moment stays.

    Returns:
        The folders, and their bytes; nothing is removed unless ``really``.
    """
    looked = time.time()
    unused = [s for s in list_runs(output).stages if not s["used_by"]]
    stages = StageFolder(root=output / STAGES_FOLDER, progress=Progress())
    folders, n_bytes = [], 0
    for entry in unused:
        folder = stages.root / entry["folder"]
        with stages.if_idle(folder.name.removesuffix(PARTIAL_SUFFIX)) as idle:
            # Asked again: a run may have found it since, and said so under this lock.
            if idle and folder.exists() and not (really and _has_user(output, folder.name, looked)):
                folders.append(folder)
                n_bytes += entry["bytes"]
                if really:
                    # Renamed first: what is removed in part would stand as a damaged stage.
                    doomed = folder.with_name(f"{folder.name}.removed{PARTIAL_SUFFIX}")
                    shutil.rmtree(doomed, ignore_errors=True)  # of one that was broken off
                    shutil.rmtree(folder.rename(doomed))
    return folders, n_bytes


def _has_user(output: Path, name: str, since: float) -> bool:
    """Whether a run has said since then that it makes or finds a stage."""
    logs = (path / "log.jsonl" for path in output.iterdir())
    late = [log for log in logs if log.is_file() and log.stat().st_mtime > since - _CLOCK_SECONDS]
    stage = name.removesuffix(PARTIAL_SUFFIX)
    return any(stage in _stages_so_far(log.parent, last_only=True) for log in late)


def _is_run(folder: Path) -> bool:
    """Whether a folder is a run's: it keeps its stages even where somebody has removed the log."""
    finished = (folder / MANIFEST).is_file() and (folder / "results.json").is_file()
    return finished or (folder / "log.jsonl").is_file()


def _stages_so_far(folder: Path, *, last_only: bool) -> list[str]:
    """The stages that a run has made or found, by its log; ``last_only`` since it last started."""
    log, stages = folder / "log.jsonl", list[str]()
    if not log.is_file():
        return stages
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError, AttributeError):  # a line that was cut off by a kill
            event = json.loads(line)
            if last_only and event.get("event") == "start":
                stages.clear()
            if event.get("stage") is not None:
                stages.append(str(event["stage"]))
    return stages


def _size(folder: Path) -> int:
    """Bytes of the files in a folder, in which a run may be at work."""
    n_bytes = 0
    for place, _, names in os.walk(folder):  # which passes over folders that are gone meanwhile
        for name in names:
            with suppress(FileNotFoundError):
                n_bytes += Path(place, name).stat().st_size
    return n_bytes


def _mib(entry: dict[str, Any]) -> str:
    return f"{entry['bytes'] / 2**20:.1f}"
