"""Several trainings at once: jobs of a run in processes of this machine.

On a CPU two processes with one thread each train faster than one process with two threads (small
products do not share well), and do not stall when the machine is busy with something else.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import ModuleType

import torch

from potstill.config import RunFile
from potstill.core.device import Device, resolve_device
from potstill.core.errors import PotstillError, ResourceError, Stopped
from potstill.core.parent import SECONDS_TO_SAVE
from potstill.core.progress import Bars, Progress
from potstill.core.stages import STAGES_FOLDER
from potstill.pipeline.child import begin, unreadable
from potstill.pipeline.jobs import Job
from potstill.pipeline.run import Run
from potstill.pipeline.worker import BarNews, Begun, Done, Makes, News, Waits

_POLL_SECONDS = 0.2
_MOST_BY_DEFAULT = 2  # each worker holds a network, its optimiser state and torch itself


def default_workers(device: Device) -> int:
    """How many processes train at once: two on a CPU with two cores or more, else one."""
    return 1 if device.torch.type != "cpu" else min(_MOST_BY_DEFAULT, os.cpu_count() or 1)


@contextmanager
def open_run(
    asked: RunFile, progress: Progress, *, skip_bad_rows: int, n_workers: int | None
) -> Iterator[Run]:
    """A run whose trainings are shared among processes, which end with the block.

    Args:
        asked: The run file.
        progress: Where to report.
        skip_bad_rows: How many faulty rows each source may have.
        n_workers: Processes at once; 1 trains in this process; None: :func:`default_workers`.
    """
    if n_workers is None:
        n_workers = default_workers(resolve_device(asked.device, asked.precision))
    if n_workers == 1:
        yield Run(asked, progress, skip_bad_rows=skip_bad_rows)
        return
    team = LocalProcesses(asked, progress, n_workers, skip_bad_rows=skip_bad_rows)
    try:
        if not (Path(asked.output) / STAGES_FOLDER).exists():  # so there is work for them
            team.warm_up()
        yield Run(asked, progress, skip_bad_rows=skip_bad_rows, executor=team)
    except KeyboardInterrupt:
        if progress.stop.requested is not None:  # once more: who waits no longer is obeyed
            team.kill()
        raise
    finally:
        team.close()


class LocalProcesses:
    """Jobs in processes of this machine, each with its share of the cores.

    Args:
        run: The run file; workers read the data themselves.
        progress: Where the workers' bars appear.
        n_workers: Processes at once.
        skip_bad_rows: As the run was opened with.
    """

    def __init__(
        self, run: RunFile, progress: Progress, n_workers: int, *, skip_bad_rows: int
    ) -> None:
        self._asked = (run, skip_bad_rows)
        self._progress = progress
        self._n_workers = n_workers
        self._context = multiprocessing.get_context("spawn")
        self._team: list[_Worker] = []
        self._made: set[str] = set()  # by the team: waiting for one another is no news

    def close(self) -> None:
        """End the processes; those that train save a checkpoint first."""
        for worker in self._team:
            worker.process.terminate()
            worker.pipe.close()
        for worker in self._team:
            worker.process.join(SECONDS_TO_SAVE)
            worker.process.kill()
            worker.process.join()
        self._team.clear()

    def kill(self) -> None:
        """End the processes at once; what is not in a checkpoint is lost."""
        for worker in self._team:
            worker.process.kill()

    def run(self, jobs: Sequence[Job], spare: deque[Job], run_id: str) -> None:
        """Do all jobs, and of ``spare`` what is begun while some of them are still being done.

        Raises:
            Stopped: Stop was requested; the workers have saved what they had.
            PotstillError: The first fault of a worker, such as data that has changed since the run
                with this id was opened.
        """
        stop = self._progress.stop
        stop.check("before the first training")
        if any(worker.is_lost for worker in self._team):
            self.close()
        self.warm_up()
        left = deque(jobs)
        faults: list[BaseException] = []
        with self._progress.bars() as bars:
            while True:
                if faults or stop.reason is not None:
                    left.clear()
                    for worker in self._team:
                        worker.stop()
                else:
                    self._hand_out(left, run_id)
                    if any(worker.job in jobs for worker in self._team):
                        self._hand_out(spare, run_id)
                busy = {worker.pipe: worker for worker in self._team if worker.job is not None}
                if not busy:
                    break
                for pipe in wait(list(busy), _POLL_SECONDS):
                    faults += self._hear(busy[pipe], bars)  # type: ignore[index]
        self._raise_first(faults)

    def _hand_out(self, jobs: deque[Job], run_id: str) -> None:
        for worker in self._team:
            if jobs and worker.job is None:
                worker.start(jobs.popleft(), run_id)

    def _raise_first(self, faults: Sequence[BaseException]) -> None:
        for fault in faults:
            if not isinstance(fault, Stopped | _Lost):  # which a stop would explain
                raise fault
        doing = [fault.thing for fault in faults if isinstance(fault, Stopped)]
        begun = any(worker.has_begun for worker in self._team)
        none = "between two trainings" if begun else "before a training had begun"
        self._progress.stop.check(_together(doing) or none)
        for fault in faults:
            raise fault

    def warm_up(self) -> None:
        """Let the processes start, which takes seconds, while this one reads the data."""
        if self._team:
            return
        threads = max(1, torch.get_num_threads() // self._n_workers)
        try:
            asked = bytes(ForkingPickler.dumps((*self._asked, threads)))
        except Exception as error:  # it runs code of the objects' own
            raise unreadable(error) from error
        with _deaf_children(), _strange_children():
            for _ in range(self._n_workers):
                ours, theirs = self._context.Pipe()
                arguments = (os.getpid(), theirs, asked)
                process = self._context.Process(target=begin, args=arguments)
                process.start()
                theirs.close()  # so that the pipe ends with the process
                self._team.append(_Worker(process, ours))

    def _hear(self, worker: _Worker, bars: Bars) -> list[BaseException]:
        """Take in one piece of news; its fault, if it is of one."""
        news = worker.hear()
        if isinstance(news, BarNews):
            bars.show(news.name, news.total, news.done, news.info)
        elif isinstance(news, Makes):
            self._made.add(news.stage)
        elif isinstance(news, Waits) and news.stage not in self._made:
            self._progress.say_wait(news.what, news.stage)
        elif isinstance(news, Done) and news.fault is not None:
            if news.traceback and not isinstance(news.fault, Stopped):
                news.fault.add_note(f"In a training process:\n{news.traceback}")
            return [news.fault]
        return []


class _Worker:
    """One process as its parent sees it."""

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.process, self.pipe = process, pipe
        self.job: Job | None = None
        self.has_begun = self._told = False

    @property
    def is_lost(self) -> bool:
        """It was stopped, or is gone."""
        return self._told or not self.process.is_alive()

    def start(self, job: Job, run_id: str) -> None:
        """Give it a job; one that has not started up yet finds it then."""
        self.job, self.has_begun = job, False
        with suppress(OSError):  # it is gone: what is heard of it says so
            self.pipe.send((job, run_id))

    def stop(self) -> None:
        """End a job that has begun with a checkpoint; nobody need wait for any other."""
        if self.job is None or self._told:
            return
        self._told = True
        if self.has_begun:
            with suppress(OSError):
                self.pipe.send(None)
        else:
            self.process.terminate()
            self.job = None

    def hear(self) -> News:
        """The next piece of news; a process that is gone has failed its job."""
        try:
            news: News = self.pipe.recv()
        except (EOFError, OSError):
            news = Done(_ended())
        if isinstance(news, Begun):
            self.has_begun = True
        elif isinstance(news, Done):
            self.job = None
        return news


class _Lost(ResourceError):
    """A process that is gone."""


def _ended() -> PotstillError:
    return _Lost(
        "a training process",
        got="it was ended from outside, as systems do when memory runs out",
        wanted="memory for as many trainings as run at once",
        todo="run the same command again with --jobs 1 (in Python: jobs=1): it continues",
    )


def _together(stopped: Sequence[str]) -> str:
    """What several workers were doing, from the things of their errors."""
    return "; ".join(dict.fromkeys(thing.removeprefix("stopped: ") for thing in stopped))


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes that start in this block do not hear Ctrl-C, not even before their first line."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _strange_children() -> Iterator[None]:
    """Processes that start in this block do not run the user's script, as Python's others do.

    They need nothing of it, and a script without ``if __name__ == "__main__":`` would start
    processes of processes.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
