"""A run that is killed, stopped or out of disk continues, and ends in the weights it would have."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

import potstill
from potstill import cli
from potstill.core import files
from potstill.core.errors import ArtefactError, ResourceError, Stopped
from potstill.core.progress import StopSignal
from potstill.training.loop import _Fit
from tests.pipeline.test_stages import flip
from tests.pipeline.toy_runs import Keys, toy_run, toy_task, weight_digests, with_key, write_run

KILLS = Path(__file__).parents[2] / "benchmarks" / "kills.py"


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Keys, dict[str, str]]:
    """A run that checkpoints at every step, and its weights when nothing stops it."""
    output = tmp_path_factory.mktemp("whole")
    run = toy_run(output, base, {"mood": toy_task(train=40)})
    run["training"] |= {"epochs": 2, "checkpoint_seconds": 1e-6}
    run["teachers"]["members"] = 1
    run["evaluate"]["baselines"] = []
    potstill.run(run)
    return run, weight_digests(output)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_processes_end_in_equal_weights(tmp_path: Path) -> None:
    command = [sys.executable, str(KILLS), "--rounds", "3", "--inside-writes", "2", "--json"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path), "--seed", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads(done.stdout)
    assert summary["kills"] >= 3
    assert summary["inside_writes"] >= 2
    assert summary["different"] == 0


class Faults:
    """Breaks the n-th write of a file whose name fits, after some bytes."""

    def __init__(self, fits: Callable[[str], bool], number: int, after: int, code: int) -> None:
        self.fits = fits
        self.left = number
        self.after = after
        self.code = code
        self.broke: Path | None = None

    def __call__(self, path: Path, written: int) -> None:
        if not self.fits(path.name) or self.broke is not None:
            return
        if written == 0:
            self.left -= 1
        if self.left < 0 and written >= self.after:
            self.broke = path
            raise OSError(self.code, os.strerror(self.code))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize(
    ("prefix", "number"),
    [
        ("checkpoint-", 0),
        ("checkpoint-", 7),
        ("checkpoint.json", 3),
        ("best-", 1),
        ("shard-", 0),
        ("model.safetensors", 0),
        ("training.json", 0),
        ("manifest.json", 2),
        ("results.json", 0),
        ("README.md", 0),
    ],
)
def test_a_full_disk_keeps_the_last_good_and_continues(
    whole: tuple[Keys, dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefix: str,
    number: int,
    code: int,
) -> None:
    run, wanted = whole
    run = {**run, "output": str(tmp_path)}
    after = 0 if prefix.endswith((".json", ".md")) else 512
    faults = Faults(lambda name: name.startswith(prefix), number, after, code)
    monkeypatch.setattr(files, "_CHUNK_BYTES", 256)
    monkeypatch.setattr(files, "fault_hook", faults)
    with pytest.raises(ResourceError, match="writing") as caught:
        potstill.run(run)
    assert faults.broke is not None
    assert ("disk full" in str(caught.value)) == (code != errno.EFBIG)
    assert str(faults.broke) in caught.value.thing
    assert list(tmp_path.rglob("*.tmp")) == []
    for pointer in tmp_path.rglob("checkpoint.json"):
        kept = files.read_signed_json(pointer)["files"]
        for name, digest in kept.items():
            assert files.digest_file(pointer.with_name(name)) == digest
    monkeypatch.setattr(files, "fault_hook", None)
    potstill.run(run)
    assert weight_digests(tmp_path) == wanted


def test_a_full_disk_at_a_repetition_keeps_the_finished_run(
    whole: tuple[Keys, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {**whole[0], "output": str(tmp_path)}
    folder = potstill.run(run).folder
    fault = Faults(lambda name: name == "heads.safetensors", 0, 0, errno.ENOSPC)
    monkeypatch.setattr(files, "fault_hook", fault)
    with pytest.raises(ResourceError):
        potstill.run(run)
    assert fault.broke is not None
    assert "student" in str(fault.broke)
    files.verify(folder)
    potstill.load(folder)


def test_a_full_disk_ends_the_command_with_1(
    whole: tuple[Keys, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, wanted = whole
    file = write_run(tmp_path, with_key(run, "output", "runs"))
    monkeypatch.setattr(
        files, "fault_hook", Faults(lambda name: name.startswith("shard"), 0, 0, errno.ENOSPC)
    )
    result = CliRunner().invoke(cli.app, ["run", str(file), "--quiet", "--jobs", "1"])
    assert result.exit_code == 1
    assert "disk full while writing" in result.stderr
    assert "a run continues" in result.stderr
    assert result.stdout == ""
    monkeypatch.setattr(files, "fault_hook", None)
    result = CliRunner().invoke(cli.app, ["run", str(file), "--quiet", "--jobs", "1"])
    assert result.exit_code == 0
    stages = {name: d for name, d in wanted.items() if name.startswith("stages/")}
    found = weight_digests(tmp_path / "runs")
    assert {name: d for name, d in found.items() if name.startswith("stages/")} == stages


def test_a_full_disk_for_the_log_is_named(
    whole: tuple[Keys, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = whole
    plain = Path.open

    def full(self: Path, mode: str = "r", *args: object, **keys: object) -> object:
        if self.name == "log.jsonl":
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(self, mode, *args, **keys)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ResourceError, match="log.jsonl"):
        potstill.run({**run, "output": str(tmp_path)})


# -- asked to stop ------------------------------------------------------------------------------


class StopAfter(StopSignal):
    """Asks to stop at the n-th look."""

    looks: int = 0

    @property
    def reason(self) -> str | None:
        self.looks -= 1
        return "the test said so" if self.looks < 0 else None


@pytest.mark.parametrize("looks", [0, 1, 2, 5, 9, 14, 20, 25])
def test_a_stopped_run_continues_to_equal_weights(
    whole: tuple[Keys, dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    looks: int,
) -> None:
    run, wanted = whole
    run = with_key({**run, "output": str(tmp_path)}, "training.checkpoint_seconds", 1e6)

    def after(seconds: float | None) -> StopSignal:
        signal = StopAfter()
        signal.looks = looks
        return signal

    with monkeypatch.context() as patch:
        patch.setattr(StopSignal, "after", after)
        with pytest.raises(Stopped, match="the test said so"):
            potstill.run(run)
    result = potstill.run(run)
    found = weight_digests(tmp_path)
    stages = {name: d for name, d in wanted.items() if name.startswith("stages/")}
    assert {name: d for name, d in found.items() if name.startswith("stages/")} == stages
    assert list((tmp_path / "stages").glob("*.partial")) == []
    assert result.report.is_file()


def test_stopping_at_every_step_makes_one_step_at_a_time(
    whole: tuple[Keys, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Continued as often as can be: each sitting does one step and no step is done twice."""
    run, wanted = whole
    run = {**run, "output": str(tmp_path)}
    steps: list[int] = []
    plain = _Fit._step

    def counted(self: _Fit, group: object, step: int, nth: int) -> None:
        steps.append(step)
        assert nth == 0
        plain(self, group, step, nth)  # type: ignore[arg-type]
        self.progress.stop.requested = "one step is enough"

    with monkeypatch.context() as patch:
        patch.setattr(_Fit, "_step", counted)
        for _ in range(60):
            try:
                potstill.run(run)
            except Stopped:
                continue
            break
    assert weight_digests(tmp_path) == wanted
    starts = [*(i for i, step in enumerate(steps) if step == 0), len(steps)]
    assert len(starts) == 3  # one teacher, one student
    for start, end in pairwise(starts):
        assert steps[start:end] == [*range(end - start)]


@pytest.mark.parametrize("name", ["checkpoint.json", "checkpoint-*", "best-*"])
def test_a_flipped_byte_in_a_checkpoint_is_named_and_refused(
    whole: tuple[Keys, dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    run, wanted = whole
    run = {**run, "output": str(tmp_path)}
    faults = Faults(lambda name: name == "best-2.safetensors", 0, 0, errno.ENOSPC)
    monkeypatch.setattr(files, "fault_hook", faults)
    with pytest.raises(ResourceError):
        potstill.run(run)
    monkeypatch.setattr(files, "fault_hook", None)
    found = [
        p for p in tmp_path.rglob(name) if p.name != "checkpoint.json" or name == "checkpoint.json"
    ]
    assert found
    for file in found:
        good = file.read_bytes()
        for place in (0.1, 0.5, 0.9):
            flip(file, place)
            with pytest.raises(ArtefactError) as caught:
                potstill.run(run)
            assert str(file) in caught.value.thing
            file.write_bytes(good)
    potstill.run(run)
    assert weight_digests(tmp_path) == wanted


def test_a_kill_after_the_last_step_does_not_cost_the_training(
    whole: tuple[Keys, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, wanted = whole
    run = {**run, "output": str(tmp_path)}
    faults = Faults(lambda name: name == "heads.safetensors", 0, 0, errno.ENOSPC)
    monkeypatch.setattr(files, "fault_hook", faults)
    with pytest.raises(ResourceError):
        potstill.run(run)
    monkeypatch.setattr(files, "fault_hook", None)

    def never(self: _Fit, group: object, step: int, nth: int) -> None:
        raise AssertionError("the training was done again")

    with monkeypatch.context() as patch:
        patch.setattr(_Fit, "_step", never)
        with pytest.raises(AssertionError):  # the next network has steps of its own
            potstill.run(run)
    manifests = list((tmp_path / "stages").glob("network-*/manifest.json"))
    assert len(manifests) == 1
    potstill.run(run)
    assert weight_digests(tmp_path) == wanted
