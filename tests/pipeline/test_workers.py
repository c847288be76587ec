"""Trainings in several processes give what one process gives, and end with their parent."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest

import potstill
from potstill.config import load_run_file, parse_run
from potstill.core.errors import ArtefactError, DataError, PotstillError, ResourceError, Stopped
from potstill.core.files import verify
from potstill.core.progress import Progress
from potstill.pipeline import worker, workers
from potstill.pipeline.jobs import Job
from potstill.pipeline.run import Run
from potstill.pipeline.workers import LocalProcesses, open_run
from potstill.students.student import Student
from tests.pipeline.toy_runs import Keys, toy_run, write_run

_ORPHAN = """
import os, sys, time
from potstill.core import parent
from potstill.pipeline import child
parent.SECONDS_TO_SAVE = 3
parent.Tie(os.getppid()).at_work = sys.argv[2] == "at work"
assert "torch" not in sys.modules  # which takes seconds, in which a parent may go
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(100)
"""
_PARENT = """
import pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
while not pathlib.Path(sys.argv[2]).exists() or not pathlib.Path(sys.argv[2]).read_text():
    time.sleep(0.05)
"""
_SCRIPT = """
import json, sys
import potstill
print("the script runs")
class Word(str):
    pass
run = json.loads(sys.argv[1])
for row in run["tasks"]["mood"]["train"]:
    row["label"] = Word(row["label"])
potstill.run(run, jobs=2)
"""


class Unsendable(Exception):
    def __reduce__(self) -> str:
        raise TypeError("not to be pickled")


def _below(kind: type[PotstillError]) -> list[type[PotstillError]]:
    return [found for below in kind.__subclasses__() for found in (below, *_below(below))]


@pytest.mark.timeout(240)
def test_two_processes_give_the_results_of_one(base: Path, tmp_path: Path) -> None:
    one, two = (
        potstill.run(toy_run(tmp_path / name, base), jobs=jobs)
        for name, jobs in (("one", 1), ("two", 2))
    )
    for key in ("tasks", "mean"):
        assert two.results[key] == one.results[key]
    stages = [
        sorted(p.name for p in (tmp_path / n / "stages").iterdir() if p.is_dir())
        for n in ("one", "two")
    ]
    assert stages[0] == stages[1]


@pytest.mark.timeout(120)
def test_no_worker_trains_on_data_that_changed_since_the_run_was_opened(
    base: Path, tmp_path: Path
) -> None:
    file = load_run_file(write_run(tmp_path, toy_run(Path("runs"), base)))
    train = tmp_path / "data" / "mood" / "train.jsonl"
    with open_run(file, Progress(quiet=True), skip_bad_rows=0, n_workers=2) as opened:
        train.write_text("\n".join(train.read_text().splitlines()[::-1]) + "\n")
        with pytest.raises(ArtefactError, match="other content than when the run began"):
            opened.teach()
    assert not list((tmp_path / "runs" / "stages").glob("network-*[0-9a-f]"))


@pytest.mark.timeout(120)
def test_two_runs_of_one_file_do_not_write_into_each_other(base: Path, tmp_path: Path) -> None:
    """Both have all stages and come to the run's folder at once: one waits for the other."""
    run = toy_run(tmp_path / "runs", base)
    file = write_run(tmp_path, run)
    folder = potstill.run(file).folder
    for _ in range(2):
        shutil.rmtree(folder)
        command = [sys.executable, "-m", "potstill", "run", str(file), "--quiet", "--jobs", "1"]
        both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        for one in both:
            _, said = one.communicate(timeout=120)
            assert one.returncode == 0, said
    assert verify(folder)
    Student.load(folder)


def test_rows_that_cannot_be_sent_are_refused(base: Path, tmp_path: Path) -> None:
    class Word(str):
        __slots__ = ()

    run = toy_run(tmp_path, base)
    for row in run["tasks"]["mood"]["train"]:
        row["text"] = Word(row["text"])
    with pytest.raises(DataError, match="rows given in Python") as caught:
        potstill.run(run, jobs=2)
    assert "Word" in caught.value.got
    assert "jobs=1" in caught.value.todo


def test_a_script_without_a_main_guard_runs_once(base: Path, tmp_path: Path) -> None:
    run = json.dumps(toy_run(tmp_path, base), default=str)
    script = tmp_path / "script.py"  # with -c there is no file that children could run
    script.write_text(_SCRIPT)
    done = subprocess.run(
        [sys.executable, script, run], check=False, capture_output=True, text=True
    )
    assert done.stdout == "the script runs\n"
    # Its workers start, and say what of it they cannot know.
    assert "DataError: rows given in Python" in done.stderr
    assert "attribute 'Word'" in done.stderr


@pytest.mark.timeout(120)
@pytest.mark.parametrize("doing", ["at work", "starting up"])
def test_a_worker_ends_when_its_parent_is_gone(tmp_path: Path, doing: str) -> None:
    file = tmp_path / "pid"
    command = [sys.executable, "-c", _PARENT, _ORPHAN, str(file), doing]
    subprocess.run(command, check=True, timeout=100)
    worker, start = int(file.read_text()), time.monotonic()
    while time.monotonic() < start + 30:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            saved = time.monotonic() - start > 2
            assert saved == (doing == "at work")
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")


@pytest.mark.parametrize("kind", [PotstillError, *_below(PotstillError)])
def test_errors_travel_between_processes(kind: type[PotstillError]) -> None:
    error = kind("the thing", got="this", wanted="that", todo="go on")
    again = copy.copy(error)  # by the way that pickle takes
    assert type(again) is kind
    assert str(again) == str(error)


@pytest.mark.timeout(240)
def test_stopped_workers_save_and_are_no_crash(base: Path, tmp_path: Path) -> None:
    run = toy_run(tmp_path, base)
    run["training"] |= {"epochs": 5000, "checkpoint_seconds": 1e6}
    progress = Progress(quiet=True)

    def stop_when_both_train() -> None:
        trained: set[str] = set()
        while len(trained) < 2:
            time.sleep(0.1)
            logs = [log.read_text() for log in tmp_path.rglob("log.jsonl")]
            lines = [line for log in logs for line in log.split("\n")[:-1]]
            events = [json.loads(line) for line in lines]
            trained = {e["training"] for e in events if e["event"] == "loss"}
        progress.stop.requested = "enough"

    threading.Thread(target=stop_when_both_train, daemon=True).start()
    with (
        pytest.raises(Stopped, match="enough"),
        open_run(parse_run(run), progress, skip_bad_rows=0, n_workers=2) as opened,
    ):
        opened.evaluate()
    # both trainings of the first two jobs left a checkpoint, not one of them
    assert len(list((tmp_path / "stages").rglob("checkpoint.json"))) == 2


class Fake:
    """A worker process that says what a test lets it say; ``heard`` is what it was sent."""

    def __init__(self, progress: Progress, run: Keys) -> None:
        self.ended = False
        ours, self.pipe = multiprocessing.Pipe()
        self.team = LocalProcesses(parse_run(run), progress, 1, skip_bad_rows=0)
        self.team._team = [workers._Worker(self, ours)]  # type: ignore[arg-type]

    def terminate(self) -> None:
        self.ended = True

    def is_alive(self) -> bool:
        return not self.ended


JOB = Job(what="student", seed=0)


def test_a_process_that_ends_before_its_work_is_explained(base: Path, tmp_path: Path) -> None:
    for requested, kind in ((None, ResourceError), ("SIGINT was received", Stopped)):
        progress = Progress()
        fake = Fake(progress, toy_run(tmp_path, base))
        fake.pipe.close()
        progress.stop.requested = requested
        with pytest.raises(kind):
            fake.team.run([JOB, JOB], deque(), "id")


def test_a_stop_waits_for_no_process_that_is_still_starting(base: Path, tmp_path: Path) -> None:
    progress = Progress()
    fake = Fake(progress, toy_run(tmp_path, base))
    threading.Timer(0.3, setattr, (progress.stop, "requested", "enough")).start()
    with pytest.raises(Stopped, match="before a training had begun"):
        fake.team.run([JOB], deque(), "id")
    assert fake.ended


def test_what_a_worker_waits_for_is_said_and_named(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(quiet=False)
    fake = Fake(progress, toy_run(tmp_path, base))

    def wait_then_stop() -> None:
        told = worker._Told(worker._Worker(None, fake.pipe, None, 0), progress.stop)  # type: ignore[arg-type]
        fake.pipe.send(worker.Begun())
        told.say_wait("teacher 1/1", "network-0")
        told.log("stage", stage="network-1")
        told.say_wait("single", "network-1")
        assert fake.pipe.recv() == (JOB, "id")
        progress.stop.requested = "enough"
        assert fake.pipe.recv() is None
        try:
            progress.stop.check("waiting for teacher 1/1")
        except Stopped as stopped:
            fake.pipe.send(worker.Done(stopped))

    thread = threading.Thread(target=wait_then_stop)
    thread.start()
    with pytest.raises(Stopped, match="^stopped: waiting for teacher 1/1\n"):
        fake.team.run([JOB], deque(), "id")
    thread.join()
    assert not fake.ended
    said = capsys.readouterr().err
    assert "teacher 1/1: another process makes it (network-0); waiting" in said
    assert "single" not in said  # a process of the same run makes it


@pytest.mark.parametrize("error", [ValueError("odd"), Unsendable("odd")])
def test_any_fault_of_a_worker_can_be_sent(error: Exception) -> None:
    sent = ForkingPickler.dumps(worker._that_travels(error))
    assert "odd" in str(ForkingPickler.loads(sent))


def test_a_fault_matters_more_than_a_stop(base: Path, tmp_path: Path) -> None:
    progress = Progress()
    fake = Fake(progress, toy_run(tmp_path, base))

    def fail_after_the_stop() -> None:
        fake.pipe.send(worker.Begun())
        assert fake.pipe.recv() == (JOB, "id")
        progress.stop.requested = "enough"
        assert fake.pipe.recv() is None
        fake.pipe.send(worker.Done(KeyError("odd")))

    thread = threading.Thread(target=fail_after_the_stop)
    thread.start()
    with pytest.raises(KeyError, match="odd"):
        fake.team.run([JOB], deque(), "id")
    thread.join()


def test_a_team_that_lost_a_process_starts_anew(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake(Progress(), toy_run(tmp_path, base))
    again = Fake(Progress(), toy_run(tmp_path, base))
    fake.ended = True

    def restart() -> None:
        fake.team._team = again.team._team

    monkeypatch.setattr(fake.team, "close", restart)
    for news in (worker.Begun(), worker.Done()):
        again.pipe.send(news)
    fake.team.run([JOB], deque(), "id")
    assert again.pipe.recv() == (JOB, "id")


def test_spare_jobs_are_begun_only_beside_those_that_are_waited_for(
    base: Path, tmp_path: Path
) -> None:
    first, second = (Fake(Progress(), toy_run(tmp_path, base)) for _ in range(2))
    first.team._team += second.team._team
    spare = deque(Job(what="single", seed=0, task=name) for name in "abc")

    def work() -> None:
        assert first.pipe.recv() == (JOB, "id")
        assert second.pipe.recv()[0].task == "a"
        second.pipe.send(worker.Done())
        assert second.pipe.recv()[0].task == "b"
        first.pipe.send(worker.Done())
        second.pipe.send(worker.Done())

    thread = threading.Thread(target=work)
    thread.start()
    first.team.run([JOB], spare, "id")
    thread.join()
    assert [job.task for job in spare] == ["c"]


@pytest.mark.parametrize("requested", [None, "SIGINT was received"])
def test_only_a_second_interrupt_breaks_off(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requested: str | None
) -> None:
    done: list[str] = []
    monkeypatch.setattr(LocalProcesses, "kill", lambda _: done.append("kill"))
    monkeypatch.setattr(LocalProcesses, "close", lambda _: done.append("close"))
    monkeypatch.setattr(LocalProcesses, "warm_up", lambda _: None)
    progress = Progress()
    run = parse_run(toy_run(tmp_path, base))

    def interrupted() -> None:
        with open_run(run, progress, skip_bad_rows=0, n_workers=2):
            progress.stop.requested = requested
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == (["close"] if requested is None else ["kill", "close"])


class Noting:
    """An executor that does nothing but note what it was asked."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def run(self, jobs: Sequence[Job], spare: deque[Job], run_id: str) -> None:
        self.jobs += jobs


def test_only_what_is_missing_is_shared(finished: tuple[Keys, Path], tmp_path: Path) -> None:
    run, folder = finished
    shutil.copytree(folder.parent, tmp_path / "runs")
    again = parse_run({**run, "output": str(tmp_path / "runs")})
    executor = Noting()
    Run(again, Progress(), executor=executor).evaluate()
    assert executor.jobs == []
    for stage in (tmp_path / "runs" / "stages").glob("student-*"):
        shutil.rmtree(stage)
    Run(again, Progress(), executor=executor).distill()
    assert executor.jobs == []  # the student is alone among the steps of `distill`
    for stage in (tmp_path / "runs" / "stages").glob("student-*"):
        shutil.rmtree(stage)
    Run(again, Progress(), executor=executor).evaluate()
    # The baselines stand, and yet the student is trained where it would be with them: its numbers
    # must not depend on what was done before a stop.
    assert [job.what for job in executor.jobs if job.what != "outcome"] == ["student"]
