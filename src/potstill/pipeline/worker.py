"""Inside a process of :class:`potstill.pipeline.workers.LocalProcesses`: jobs in, news out.

A pipe joins it to its parent. While a job is done, anything on the pipe means stop: the parent
says so, or is gone. Either way a training saves a checkpoint first.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from types import FrameType

import torch

from potstill.config import RunFile
from potstill.core.files import changed
from potstill.core.parent import Tie
from potstill.core.progress import Bar, Progress, StopSignal
from potstill.pipeline.jobs import Job
from potstill.pipeline.run import Run


@dataclass(frozen=True, slots=True)
class BarNews:
    """What a worker says of a bar: its name, total and how far it is; done is None at the end."""

    name: str
    total: float | None
    done: float | None
    info: str = ""


@dataclass(frozen=True, slots=True)
class Makes:
    """It makes a stage."""

    stage: str


@dataclass(frozen=True, slots=True)
class Waits:
    """Another process makes the stage that it needs."""

    what: str
    stage: str


@dataclass(frozen=True, slots=True)
class Begun:
    """The data is read and the job goes on: from here on a stop is a checkpoint's time away."""


@dataclass(frozen=True, slots=True)
class Done:
    """The job's end.

    Attributes:
        fault: What went wrong, if anything.
        traceback: Where, in this process.
    """

    fault: BaseException | None = None
    traceback: str = ""


News = BarNews | Makes | Waits | Begun | Done
"""All that a worker sends."""


def work(tie: Tie, pipe: Connection, run: RunFile, skip_bad_rows: int, threads: int) -> None:
    """Do the jobs that come, until the parent says None or is gone.

    Args:
        tie: Ends this process with its parent.
        pipe: To and from the parent.
        run: The run file; the data is read with the first job, so that a fault in it is an answer.
        skip_bad_rows: As the run was opened with.
        threads: This process' share of the cores.
    """
    torch.set_num_threads(threads)
    worker = _Worker(tie, pipe, run, skip_bad_rows)
    signal.signal(signal.SIGTERM, worker.terminate)
    with suppress(EOFError, OSError):  # the parent is gone
        while worker.stop.requested is None and (news := pipe.recv()) is not None:
            worker.do(*news)


class _Worker:
    """One process: its pipe, its run with the data read at the first job, its request to stop."""

    def __init__(self, tie: Tie, pipe: Connection, run: RunFile, skip_bad_rows: int) -> None:
        self.stop = _TeamStop(pipe)
        self._tie, self._pipe = tie, pipe
        self._sending = threading.Lock()
        self._open = partial(Run, run, _Told(self, self.stop), skip_bad_rows=skip_bad_rows)
        self._run: Run | None = None

    def do(self, job: Job, run_id: str) -> None:
        """Do a job of the run with an id, and tell how it ended."""
        try:
            run = self._opened(run_id)
            self._tie.at_work = True
            self.send(Begun())
            run.do(job)
            done = Done()
        except BaseException as error:  # noqa: BLE001 (the parent raises it; Rust's panics are none)
            done = Done(_that_travels(error), traceback.format_exc())
        finally:
            self._tie.at_work = False
        self.send(done)

    def _opened(self, run_id: str) -> Run:
        """The run with its data, which must be what the parent has read."""
        if self._run is None:
            self._run = self._open()
        if self._run.id != run_id:
            raise changed("the run's data, bases or teachers")
        return self._run

    def send(self, news: News) -> None:
        """Tell the parent; where it is gone, the next look at the pipe says so."""
        with self._sending, suppress(OSError):
            self._pipe.send(news)

    def terminate(self, number: int, frame: FrameType | None) -> None:
        """Save what is being trained, then end: schedulers signal all processes of a job."""
        self.stop.requested = f"{signal.Signals(number).name} was received"
        if not self._tie.at_work:
            os._exit(1)


class _TeamStop(StopSignal):
    """Stops when the parent says so, or is gone."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe = pipe

    @property
    def reason(self) -> str | None:
        if self.requested is None and self._is_told():
            self.requested = "the run was stopped"
        return self.requested

    def _is_told(self) -> bool:
        try:
            return self._pipe.poll()
        except OSError:  # on Windows, of a pipe whose other end is gone
            return True


class _Told(Progress):
    """Progress that tells the parent instead of drawing."""

    def __init__(self, worker: _Worker, stop: StopSignal) -> None:
        super().__init__(quiet=True, stop=stop)
        self._worker = worker

    def warn(self, text: str) -> None:
        self.log("warning", text=text)  # the parent says it, once

    def log(self, event: str, **facts: object) -> None:
        super().log(event, **facts)
        if event == "stage":
            self._worker.send(Makes(str(facts["stage"])))

    def say_wait(self, what: str, stage: str) -> None:
        self._worker.send(Waits(what, stage))

    @contextmanager
    def bar(
        self, name: str, total: float | None, done: float = 0, *, keep: bool = True
    ) -> Iterator[Bar]:
        if not keep:
            yield Bar(None, name, total)
            return
        bar = _ToldBar(self._worker, name, total)
        bar.advance(done)
        yield bar
        self._worker.send(BarNews(name, total, None))


class _ToldBar(Bar):
    def __init__(self, worker: _Worker, name: str, total: float | None) -> None:
        super().__init__(None, name, total)
        self._worker, self._name, self._total, self._done = worker, name, total, 0.0

    def advance(self, units: float = 1, info: str = "") -> None:
        self._done += units
        self._worker.send(BarNews(self._name, self._total, self._done, info))


def _that_travels(error: BaseException) -> BaseException:
    """The error, or what can be said of it where it cannot be sent to another process."""
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:  # noqa: BLE001 (pickling runs code of the error's own)
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
