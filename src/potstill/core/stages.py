"""Content-addressed stages: a folder named by the digest of everything that its making reads.

A stage is built aside, sealed with a manifest and renamed to its place. The same facts find the
same folder; other facts make another one. So what stands is never stale, and nothing is made
twice. Knows nothing of what a stage holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from potstill.core.errors import ArtefactError
from potstill.core.files import (
    MANIFEST,
    PARTIAL_SUFFIX,
    digest_json,
    naming_full_disk,
    publish,
    remove_left_overs,
    seal,
    verify,
)
from potstill.core.progress import Progress

METHOD_VERSION = 7
"""Raised when the meaning of a stage changes, so that results of the old method are not reused."""

STAGES_FOLDER = "stages"
"""Beside the runs, in their folder."""

_DIGEST_LETTERS = 16
_SECONDS_UNSAID = 1.0  # processes of one run look at each other's stages, for a moment


class NotMade(Exception):
    """A stage does not stand yet, and was only looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A finished stage.

    Attributes:
        name: What kind of stage.
        digest: Of its facts.
        folder: Where it stands, sealed.
        reused: It stood before this run.
    """

    name: str
    digest: str
    folder: Path
    reused: bool


@dataclass(slots=True, kw_only=True)
class StageFolder:
    """The folder that holds the stages of all runs.

    Attributes:
        root: ``runs/stages``.
        since: When this run began, in seconds since the epoch: what is older was reused.
        used: The stages that this run has asked for, in order, each once.
        only_looking: Raise :class:`NotMade` instead of making anything.
    """

    root: Path
    progress: Progress
    since: float = field(default_factory=time.time)
    used: dict[str, Stage] = field(default_factory=dict)
    only_looking: bool = False

    def make(
        self,
        name: str,
        facts: Mapping[str, Any],
        build: Callable[[Path], None],
        *,
        what: str,
        scratch: Sequence[str] = (),
    ) -> Stage:
        """Return the stage of ``facts``, building it if it does not stand.

        Args:
            name: Kind of stage; the first part of the folder's name.
            facts: All that the stage's making reads, as JSON.
            build: Fills the folder that it is given; what an earlier, broken attempt left there
                is still there, so that it can continue.
            what: How progress names the stage.
            scratch: Patterns of files from which a broken attempt continues. They are no part of
                the stage, and go when nothing else can be lost any more.

        Raises:
            ArtefactError: The stage stands, but one of its files is damaged.
            NotMade: It does not stand, and is only looked for.
        """
        digest = digest_json({"stage": name, "method": METHOD_VERSION, "facts": dict(facts)})
        folder = self.root / f"{name}-{digest[:_DIGEST_LETTERS]}"
        if folder.name in self.used:
            return self.used[folder.name]
        if self.only_looking and not folder.exists():
            raise NotMade(folder.name)
        self.root.mkdir(parents=True, exist_ok=True)
        with self.alone(folder.name, what):
            reused = folder.exists()
            if reused:
                verify(folder)
                self.progress.log("found", stage=folder.name, what=what)
                reused = (folder / MANIFEST).stat().st_mtime < self.since  # else: by a worker
                if reused:
                    self.progress.say(f"{what}: done before ({folder.name})")
            else:
                if self.only_looking:  # it was removed meanwhile
                    raise NotMade(folder.name)
                self.progress.stop.check(f"before {what}")
                self.progress.log("stage", stage=folder.name, what=what)
                partial = folder.with_name(folder.name + PARTIAL_SUFFIX)
                with naming_full_disk(partial):
                    partial.mkdir(exist_ok=True)
                remove_left_overs(partial)
                if not self._sealed(partial):
                    build(partial)
                    whole = {"stage": name, "digest": digest, "facts": dict(facts)}
                    seal(partial, whole, without=scratch)
                for path in {path for pattern in scratch for path in partial.glob(pattern)}:
                    path.unlink()
                publish(partial, folder)
        stage = Stage(name=name, digest=digest, folder=folder, reused=reused)
        self.used[folder.name] = stage
        return stage

    @staticmethod
    def _sealed(partial: Path) -> bool:
        """Whether an attempt broke off between its seal and its place; a damaged one is undone."""
        if not (partial / MANIFEST).exists():
            return False
        try:
            verify(partial)
        except ArtefactError:
            (partial / MANIFEST).unlink()
            return False
        return True

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Make nothing in this block."""
        self.only_looking = True
        try:
            yield
        finally:
            self.only_looking = False

    @contextmanager
    def noting(self) -> Iterator[dict[str, Stage]]:
        """Gather the stages that the block asks for, those that were asked for before too."""
        before, self.used = self.used, {}
        noted = self.used
        try:
            yield noted
        finally:
            self.used = before | noted

    @contextmanager
    def if_idle(self, name: str) -> Iterator[bool]:
        """Hold a stage's lock, and say whether it could be had: no process makes the stage."""
        lock = self._lock(name)
        if not Path(
            lock.lock_file
        ).exists():  # nobody ever made it here; the folder may be read-only
            yield True
            return
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _lock(self, name: str) -> FileLock:
        return FileLock(self.root / f".{name}.lock")

    @contextmanager
    def alone(self, name: str, what: str) -> Iterator[None]:
        """Hold the lock of a stage or of a run's folder.

        While another process makes what the name says, a stop is still obeyed.
        """
        lock = self._lock(name)
        try:
            lock.acquire(timeout=_SECONDS_UNSAID)
        except Timeout:
            self.progress.say_wait(what, name)
            while not lock.is_locked:
                self.progress.stop.check(f"waiting for {what}")
                with suppress(Timeout):
                    lock.acquire(timeout=1)
        try:
            yield
        finally:
            lock.release()
