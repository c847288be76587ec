"""What long work says while it runs: a bar with the time left, and a log of JSON lines.

Progress goes to standard error only, so that standard output stays free for results.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from potstill.core.errors import Stopped
from potstill.core.files import naming_full_disk


@dataclass(slots=True, kw_only=True)
class StopSignal:
    """A request to stop between two steps: a time limit, or the first Ctrl-C.

    Attributes:
        deadline: ``time.monotonic()`` value after which work stops; None for no limit.
        requested: Why to stop now, or None.
        continues: Whether the same work, asked again, goes on from there.
    """

    deadline: float | None = None
    requested: str | None = None
    continues: bool = True

    @classmethod
    def after(cls, seconds: float | None) -> StopSignal:
        """A signal that fires ``seconds`` from now (None: never)."""
        return cls(deadline=None if seconds is None else time.monotonic() + seconds)

    @property
    def reason(self) -> str | None:
        """Why the work should stop, or None to go on."""
        if self.requested is not None:
            return self.requested
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "the time limit is reached"
        return None

    def check(self, doing: str) -> None:
        """Stop here if asked to.

        Raises:
            Stopped: With what was being done.
        """
        reason = self.reason
        if reason is not None:
            raise Stopped(
                f"stopped: {doing}",
                got=reason,
                wanted="the end of the work",
                todo="run the same command again: "
                + ("it continues where it stopped" if self.continues else "it begins anew"),
            )

    @contextmanager
    def catch_interrupts(self) -> Iterator[None]:
        """Turn the first Ctrl-C or SIGTERM into a request to stop; Ctrl-C after it breaks off.

        SIGTERM never breaks off: `timeout` and schedulers send it twice, to a process and to its
        group.
        """

        def request(number: int, frame: FrameType | None) -> None:
            if self.requested is None:
                self.requested = f"{signal.Signals(number).name} was received"
                # Not through sys.stderr, which may be in the middle of a line of its own.
                os.write(2, b"\nstopping at the next step; Ctrl-C now breaks off\n")
            elif number == signal.SIGINT:
                raise KeyboardInterrupt

        try:
            before = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: the caller's own handlers stay
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Bar:
    """One piece of work with a known number of units."""

    def __init__(self, rich: RichProgress | None, name: str, total: float | None) -> None:
        self._rich = rich
        self._task = rich.add_task(name, total=total, info="") if rich else None

    def advance(self, units: float = 1, info: str = "") -> None:
        """Count ``units`` as done and show ``info`` behind the bar."""
        if self._rich is not None and self._task is not None:
            self._rich.update(self._task, advance=units, info=info)


class Bars:
    """Any number of bars at once, each named by what it is of."""

    def __init__(self, rich: RichProgress | None) -> None:
        self._rich = rich
        self._ids: dict[str, TaskID] = {}

    def show(self, name: str, total: float | None, done: float | None, info: str = "") -> None:
        """Draw one bar; ``done`` None fills it."""
        if self._rich is None:
            return
        if name not in self._ids:
            self._ids[name] = self._rich.add_task(name, total=total, info=info)
        filled = total if done is None else done
        self._rich.update(self._ids[name], completed=filled, info=info)


@dataclass(slots=True)
class Progress:
    """Where work reports to.

    Attributes:
        quiet: Show nothing on standard error.
        log_file: JSON lines are appended here; None keeps no log.
    """

    quiet: bool = True
    log_file: Path | None = None
    stop: StopSignal = field(default_factory=StopSignal)
    _console: Console = field(default_factory=lambda: Console(file=sys.stderr), init=False)
    _said: set[str] = field(default_factory=set, init=False)

    def say(self, text: str, *, once: bool = False) -> None:
        """A line for the person who waits; with ``once`` not again."""
        if once and text in self._said:
            return
        self._said.add(text)
        if not self.quiet:
            self._console.print(text, highlight=False, markup=False)

    def say_wait(self, what: str, stage: str) -> None:
        """Another process makes the stage that is needed; workers, which are quiet, say it too."""
        self.say(f"{what}: another process makes it ({stage}); waiting", once=True)

    def warn(self, text: str) -> None:
        """A line that matters even to those who asked for quiet; each is said once."""
        if text in self._said:
            return
        self._said.add(text)
        self._console.print(f"warning: {text}", style="yellow", highlight=False, markup=False)
        self.log("warning", text=text)

    def log(self, event: str, **facts: object) -> None:
        """Append one JSON line to the log."""
        if self.log_file is None:
            return
        line = json.dumps({"time": round(time.time(), 3), "event": event, **facts}, default=str)
        with naming_full_disk(self.log_file):
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    @contextmanager
    def bar(
        self, name: str, total: float | None, done: float = 0, *, keep: bool = True
    ) -> Iterator[Bar]:
        """Show a bar for ``total`` units (None: unknown), ``done`` of them finished before.

        With ``keep`` false the bar vanishes when it is full.
        """
        if self.quiet or not (keep or self._console.is_terminal):
            yield Bar(None, name, total)
            return
        with self._drawing(keep) as rich:
            bar = Bar(rich, name, total)
            bar.advance(done)
            yield bar

    @contextmanager
    def bars(self) -> Iterator[Bars]:
        """Show bars of work that goes on in several places at once."""
        if self.quiet:
            yield Bars(None)
            return
        with self._drawing(keep=True) as rich:
            yield Bars(rich)

    def _drawing(self, keep: bool) -> RichProgress:
        return RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[info]}"),
            console=self._console,
            refresh_per_second=2,
            transient=not keep,
        )
