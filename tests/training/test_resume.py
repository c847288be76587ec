"""A training that was stopped, killed or ran out of disk ends with the same bits."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.core import files
from potstill.core.errors import ArtefactError, ResourceError, Stopped
from potstill.training.feed import SoftFeed
from potstill.training.learner import EncoderLearner
from potstill.training.prepare import Extra
from tests.tiny import flip_byte, toy_task
from tests.training.trainings import StopAt, Trained, Training, same_numbers


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


@pytest.fixture(autouse=True)
def _no_hook_stays() -> Iterator[None]:
    yield
    files.fault_hook = None


@pytest.fixture
def whole(training: Training, tmp_path: Path) -> Trained:
    """The same training without any trouble."""
    return training.run(tmp_path / "whole")


def n_looks(training: Training, tmp_path: Path) -> int:
    """How often it asks whether to stop: before each step, and after each batch of dev rows."""
    stop = StopAt(10**6)
    training.run(tmp_path / "counted", stop=stop)
    return stop.looks


def test_it_is_deterministic_and_the_seed_matters(
    training: Training, tmp_path: Path, whole: Trained
) -> None:
    assert same_numbers(training.run(tmp_path / "again"), whole)
    assert not same_numbers(training.run(tmp_path / "other", seed=1), whole)


def test_stopped_at_any_look_it_ends_the_same(
    training: Training, tmp_path: Path, whole: Trained
) -> None:
    for at in range(n_looks(training, tmp_path)):
        folder = tmp_path / f"at-{at}"
        with pytest.raises(Stopped, match=r"\d of|scoring dev rows") as stopped:
            training.run(folder, stop=StopAt(at))
        assert "run the same command again" in stopped.value.todo
        assert (folder / "checkpoint.json").is_file()
        assert same_numbers(training.run(folder), whole), f"stopped at look {at}"


def test_stopped_again_and_again(training: Training, tmp_path: Path, whole: Trained) -> None:
    sittings = 0
    while True:
        sittings += 1
        try:
            trained = training.run(tmp_path / "one", stop=StopAt(2))  # two steps, or dev
        except Stopped:
            continue
        break
    assert sittings >= 6
    assert same_numbers(trained, whole)


@pytest.mark.parametrize("change", ["adamax", "accumulate", "patience"])
def test_other_settings_continue_too(training: Training, tmp_path: Path, change: str) -> None:
    training.settings = {
        "adamax": replace(training.settings, optimizer="adamax"),
        "accumulate": replace(training.settings, accumulate=2, batch=4),
        "patience": replace(training.settings, patience=1, epochs=5, learning_rate=1e-6),
    }[change]
    whole = training.run(tmp_path / "whole")
    if change == "patience":
        assert whole.result.state.epochs_done < 5
    for at in (1, 3, n_looks(training, tmp_path) - 1):
        with pytest.raises(Stopped):
            training.run(tmp_path / f"{at}", stop=StopAt(at))
        assert same_numbers(training.run(tmp_path / f"{at}"), whole)


def test_distilling_that_stops_with_a_pool_continues(training: Training, tmp_path: Path) -> None:
    """Later epochs have fewer steps than planned then."""
    task = training.tasks[0]
    pool = toy_task(train=40, dev=8, seed=1).train.take(np.arange(16, 40)).without_labels()
    soft = SoftFeed(
        targets=np.tile(np.array([0.9, 0.1], np.float32), (len(task.train) + 24, 1)),
        weights=np.array([0] * len(task.train) + [1] * 24, np.float32),
        space="probabilities",
        temperature=1.0,
        teacher_dev=-1.0,
        stop_margin=0.0,
    )
    training.extras = {task.name: Extra(pool=pool, soft=soft)}
    training.settings = replace(training.settings, epochs=3, batch=4)
    whole = training.run(tmp_path / "whole")
    assert whole.result.state.stopped[task.name]["epoch"] == 1
    for at in range(0, n_looks(training, tmp_path), 3):
        with pytest.raises(Stopped):
            training.run(tmp_path / f"{at}", stop=StopAt(at))
        assert same_numbers(training.run(tmp_path / f"{at}"), whole), f"stopped at look {at}"


def test_time_of_scoring_counts_where_it_is_stopped(
    training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = EncoderLearner.dev_outputs

    def slowly(self: EncoderLearner, *args: Any) -> np.ndarray:
        time.sleep(0.3)
        return score(self, *args)

    monkeypatch.setattr(EncoderLearner, "dev_outputs", slowly)
    n = n_looks(training, tmp_path)
    with pytest.raises(Stopped, match="scoring dev rows"):
        training.run(tmp_path / "run", stop=StopAt(n - 1))
    state = files.read_signed_json(tmp_path / "run" / "checkpoint.json")["state"]
    assert state["seconds"] > 0.3 * training.settings.epochs * len(training.tasks)


def writes(training: Training, folder: Path) -> list[tuple[str, int]]:
    """Every write of the training: file name and bytes written before it."""
    seen: list[tuple[str, int]] = []
    files.fault_hook = lambda path, done: seen.append((path.name, done))
    training.run(folder)
    files.fault_hook = None
    return seen


def fail_at(number: int, error: BaseException) -> None:
    """Raise ``error`` at the write of that number."""
    left = [number]

    def hook(path: Path, done: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise error

    files.fault_hook = hook


@pytest.fixture
def often(training: Training, monkeypatch: pytest.MonkeyPatch) -> Training:
    """A short training with a checkpoint before every batch, each written in several pieces."""
    monkeypatch.setattr(files, "_CHUNK_BYTES", 40_000)
    training.settings = replace(training.settings, checkpoint_seconds=-1.0)
    training.tasks = training.tasks[:1]
    return training


def test_killed_in_any_write_it_ends_the_same(often: Training, tmp_path: Path) -> None:
    whole = often.run(tmp_path / "whole")
    places = writes(often, tmp_path / "counted")
    names = {name for name, _ in places}
    assert any(name.startswith("best-") for name in names)
    assert "checkpoint.json" in names
    assert max(done for _, done in places) > 0  # the middle of a file is among the places
    for number in range(len(places)):
        folder = tmp_path / f"killed-{number}"
        fail_at(number, Killed())
        with pytest.raises(Killed):
            often.run(folder)
        files.fault_hook = None
        # what a real kill would leave behind
        (folder / f".{places[number][0]}.1.tmp").write_bytes(b"half a file")
        assert same_numbers(often.run(folder), whole), places[number]


def test_killed_between_the_pointer_and_the_sweep(
    often: Training, tmp_path: Path, whole: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_sweep(path: Path, missing_ok: bool = False) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", no_sweep)
        with pytest.raises(Killed):
            often.run(tmp_path / "killed")
    assert same_numbers(often.run(tmp_path / "killed"), whole)


def test_a_full_disk_keeps_the_last_checkpoint(often: Training, tmp_path: Path) -> None:
    whole = often.run(tmp_path / "whole")
    places = writes(often, tmp_path / "counted")
    for number in (len(places) // 2, len(places) - 2, len(places) - 1):
        folder = tmp_path / f"full-{number}"
        fail_at(number, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(ResourceError, match="disk full while writing") as full:
            often.run(folder)
        files.fault_hook = None
        assert places[number][0] in str(full.value)
        assert (folder / "checkpoint.json").is_file()
        assert not list(folder.glob(".*.tmp"))
        assert same_numbers(often.run(folder), whole)


def test_a_flipped_byte_is_named_and_refused(training: Training, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    with pytest.raises(Stopped):
        training.run(folder, stop=StopAt(n_looks(training, tmp_path) - 1))
    named = sorted(path.name for path in folder.iterdir())
    assert [name.split("-")[0] for name in named] == ["best", "checkpoint", "checkpoint.json"]
    for name in named:
        path = folder / name
        sound = path.read_bytes()
        for place in (0, len(sound) // 3, len(sound) // 2, len(sound) - 2):
            flip_byte(path, place)
            with pytest.raises(ArtefactError, match=name):
                training.run(folder)
            path.write_bytes(sound)
        if name != "checkpoint.json":  # without the pointer a training starts anew
            path.unlink()
            with pytest.raises(ArtefactError, match=name):
                training.run(folder)
            path.write_bytes(sound)
    training.run(folder)


def test_every_byte_of_the_pointer_counts(training: Training, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    with pytest.raises(Stopped):
        training.run(folder, stop=StopAt(2))
    pointer = folder / "checkpoint.json"
    text = pointer.read_text(encoding="utf-8")
    assert json.loads(text)["state"]["batches_done"] == 2
    for old, new in (
        ('"batches_done": 2', '"batches_done": 1'),
        ('"epochs_done": 0', '"epochs_done": 1'),
    ):
        assert old in text
        pointer.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(ArtefactError, match="checkpoint.json"):
            training.run(folder)
