"""A stage that broke off anywhere continues from what it had."""

from __future__ import annotations

from pathlib import Path

import pytest

from potstill.core import files, stages
from potstill.core.files import read_manifest
from potstill.core.progress import Progress
from potstill.core.stages import Stage, StageFolder

SCRATCH = ("step-*.bin", "step.json")


class Work:
    """A build that counts its steps and leaves scratch files; it continues from the last one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.steps: list[int] = []

    def build(self, folder: Path) -> None:
        """Three steps, of which those with a scratch file are not done again."""
        for step in range(3):
            if not (folder / f"step-{step}.bin").exists():
                self.steps.append(step)
                files.write_bytes(folder / f"step-{step}.bin", b"x")
        files.write_json(folder / "step.json", {})
        files.write_bytes(folder / "result.bin", b"done")

    def make(self) -> Stage:
        """Make the stage as a new process would."""
        folder = StageFolder(root=self.root, progress=Progress())
        return folder.make("work", {"fact": 1}, self.build, what="work", scratch=SCRATCH)


def finished(stage: Stage) -> None:
    assert sorted(p.name for p in stage.folder.iterdir()) == ["manifest.json", "result.bin"]
    assert set(read_manifest(stage.folder)["files"]) == {"result.bin"}


def test_scratch_is_no_part_of_a_stage(tmp_path: Path) -> None:
    work = Work(tmp_path)
    finished(work.make())
    assert work.steps == [0, 1, 2]
    assert work.make().folder.is_dir()
    assert work.steps == [0, 1, 2]


def test_a_sealed_attempt_that_is_damaged_is_made_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise KeyboardInterrupt

    work = Work(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(stages, "publish", broken)
        with pytest.raises(KeyboardInterrupt):
            work.make()
    (result,) = tmp_path.rglob("result.bin")
    result.write_bytes(b"other")
    finished(work.make())


@pytest.mark.parametrize("place", ["seal", "publish"])
def test_a_break_between_work_and_name_costs_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    work = Work(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(stages, place, broken)
        with pytest.raises(KeyboardInterrupt):
            work.make()
    finished(work.make())
    assert work.steps == [0, 1, 2]
