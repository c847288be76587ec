"""Requests in, batches out: rows of many requests share the passes of one engine.

No request waits for a batch to fill: whatever is there when the engine is free is its next batch.
Requests take turns by tokens, so one of a thousand rows does not hold up one of a single row.
What could not be answered within its deadline is refused when it comes, not when it is late.

Knows token rows and an engine; no HTTP, no tasks. One thread of its own runs the engine.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np

from potstill.models.token_rows import TokenRows, distinct_rows, join_rows

Outputs = list[np.ndarray]
Clock = Callable[[], float]

_SHARE = 512  # tokens that a request gives at each of its turns
_MEMORY = 0.8  # of the times before the last batch's
_NICE = 5
_HASTE = 0.5  # of the deadline may be spent waiting by estimate: estimates err


class Overloaded(Exception):
    """A request that would not be answered in time.

    Args:
        retry_after: Seconds after which it is worth trying again.
    """

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(f"try again in {retry_after:.1f} s")


class Late(Exception):
    """A request that was accepted and yet not answered in time."""


class Closed(Exception):
    """The batcher takes no more requests: the service is stopping."""


@dataclass(slots=True, eq=False, kw_only=True)
class _Request:
    tokens: TokenRows
    order: np.ndarray  # rows by falling length: what is padded together is of similar lengths
    deadline: float
    future: Future[Outputs]
    tokens_left: int
    next: int = 0
    n_done: int = 0
    outputs: Outputs = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How busy a batcher is.

    Attributes:
        requests: Waiting or in work.
        tokens: Not answered yet.
        tokens_per_second: Of full batches, as measured; 0 before the first.
        batches: Run so far.
        rows: Answered so far.
    """

    requests: int
    tokens: int
    tokens_per_second: float
    batches: int
    rows: int


class Batcher:
    """Batches rows of many requests for one engine.

    Args:
        run: Token rows to every task's outputs (N, ...); called from one thread only.
        batch_tokens: Tokens that one call of ``run`` gets at most (but always one row).
        clock: Seconds; tests give their own.
    """

    def __init__(
        self,
        run: Callable[[TokenRows], Outputs],
        *,
        batch_tokens: int = 2048,
        clock: Clock = time.monotonic,
    ) -> None:
        self._run = run
        self._batch_tokens = batch_tokens
        self._clock = clock
        self._per_token = self._per_batch = 0.0  # seconds, as measured
        self._requests: deque[_Request] = deque()
        self._in_work = 0  # tokens of the batch that the engine has
        self._coming: list[int] = []  # tokens of requests that are being tokenised, by estimate
        self._n_batches = self._n_rows = 0
        self._closing = False
        self._lock = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(self, tokens: TokenRows, *, within: float) -> Future[Outputs]:
        """Hand in a request.

        Args:
            tokens: Its rows, at least one.
            within: Seconds in which it must be answered.

        Returns:
            Every task's outputs (N, ...) in the order of the rows, in time; or the future fails
            with :class:`Late`, or with what the engine raised. Cancelling it spares the work that
            is not yet begun.

        Raises:
            Overloaded: It would not be answered in time.
            Closed: The batcher is stopping.
        """
        if not len(tokens):
            raise ValueError("a request without rows")
        order = np.argsort(-tokens.lengths, kind="stable")
        size = int(tokens.lengths.sum())
        request = _Request(
            tokens=tokens,
            order=order,
            deadline=self._clock() + within,
            future=Future(),
            tokens_left=size,
        )
        with self._lock:
            if self._closing:
                raise Closed
            self._admit(size, within)
            self._requests.append(request)
            self._lock.notify_all()
        return request.future

    @contextmanager
    def coming(self, size: int, *, within: float) -> Iterator[None]:
        """A request that is being tokenised: refused now, if what is ahead of it takes too long.

        Its own size is a guess, so it counts only for those that come after it.

        Args:
            size: Tokens that it will have, by estimate.
            within: Seconds in which it must be answered.

        Raises:
            Overloaded: It would not be answered in time.
        """
        with self._lock:
            self._admit(0, within, self._coming)
            self._coming.append(size)
        try:
            yield
        finally:
            with self._lock:
                self._coming.remove(size)

    def load(self) -> Load:
        """How busy it is."""
        with self._lock:
            return Load(
                requests=len(self._requests),
                tokens=self._in_work + sum(r.tokens_left for r in self._requests),
                tokens_per_second=1 / self._per_token if self._per_token else 0.0,
                batches=self._n_batches,
                rows=self._n_rows,
            )

    def close(self, within: float) -> bool:
        """Take no more requests, and answer those that are there.

        Returns:
            Whether all were answered in ``within`` seconds; the rest fail with :class:`Closed`.
        """
        with self._lock:
            self._closing = True
            self._lock.notify_all()
        if self._thread.is_alive():
            self._thread.join(max(within, 0.0))
        with self._lock:
            left = list(self._requests)
            self._requests.clear()
        for request in left:
            _fail(request, Closed())
        return not left and not self._thread.is_alive()

    # -- inside, with the lock ------------------------------------------------------------------

    def _admit(self, size: int, within: float, before: Iterable[int] = ()) -> None:
        """Refuse what would be answered too late, if nothing else came.

        Taking turns, each of the others is served at most as many tokens as this one in between.
        A request that finds nothing to do before it is always tried.
        """
        turn = max(size, _SHARE)
        ahead = sum(min(r.tokens_left, turn) for r in self._requests)
        ahead += sum(min(tokens, turn) for tokens in before)
        if not ahead and not self._in_work:
            return
        tokens = self._in_work + ahead + size
        wait = tokens * self._per_token + (1 + tokens // self._batch_tokens) * self._per_batch
        if wait > _HASTE * within:
            raise Overloaded(max(wait - _HASTE * within, 0.1))

    def _pick(self) -> list[tuple[_Request, np.ndarray]]:
        """The next batch: turns of at most a share each, until it is full."""
        picked: dict[_Request, list[np.ndarray]] = {}
        room, now = self._batch_tokens, self._clock()
        while self._requests and (room > 0 or not picked):
            request = self._requests.popleft()
            if request.future.cancelled():
                continue
            if request.deadline < now:
                _fail(request, Late())
                continue
            lengths = request.tokens.lengths[request.order[request.next :]]
            fits = int(np.searchsorted(np.cumsum(lengths), min(_SHARE, room), "right"))
            if not fits and picked and room < self._batch_tokens // 2:
                self._requests.appendleft(request)  # its next row is for the next batch
                break
            fits = max(fits, 1)
            rows = request.order[request.next : request.next + fits]
            taken = int(lengths[:fits].sum())
            request.next += fits
            request.tokens_left -= taken
            room -= taken
            picked.setdefault(request, []).append(rows)
            if request.next < len(request.order):
                self._requests.append(request)
        return [(request, np.concatenate(rows)) for request, rows in picked.items()]

    # -- inside, in the engine's thread ---------------------------------------------------------

    def _work(self) -> None:
        step_back()
        while True:
            with self._lock:
                while not self._requests and not self._closing:
                    self._lock.wait()
                if not self._requests:
                    return
                picked = self._pick()
                self._in_work = sum(int(r.tokens.lengths[rows].sum()) for r, rows in picked)
            if picked:
                self._answer(picked)

    def _answer(self, picked: list[tuple[_Request, np.ndarray]]) -> None:
        start = self._clock()
        together = join_rows([(r.tokens, rows) for r, rows in picked])
        kept, place = distinct_rows(together)
        try:
            once = self._run(join_rows([(together, kept)]))
        except Exception as error:  # noqa: BLE001 (the requests get it; the next ones may be well)
            with self._lock:
                for request, _ in picked:
                    if request in self._requests:
                        self._requests.remove(request)
                self._in_work = 0
            for request, _ in picked:
                _fail(request, error)
            return
        outputs = [one[place] for one in once]
        self._note(self._clock() - start, max(int(together.lengths[kept].sum()), 1), len(place))
        at = 0
        for request, rows in picked:
            part = slice(at, at + len(rows))
            at += len(rows)
            n = len(request.tokens)
            if not request.outputs:
                request.outputs = [np.empty((n, *one.shape[1:]), one.dtype) for one in outputs]
            for whole, one in zip(request.outputs, outputs, strict=True):
                whole[rows] = one[part]
            request.n_done += len(rows)
            if request.n_done < n:
                continue
            if request.deadline < self._clock():
                _fail(request, Late())
            elif request.future.set_running_or_notify_cancel():
                request.future.set_result(request.outputs)

    def _note(self, seconds: float, tokens: int, rows: int) -> None:
        """Learn from a batch: large ones say what a token takes, small ones what a batch takes."""
        with self._lock:
            full = 2 * tokens >= self._batch_tokens
            too_high = seconds < tokens * self._per_token  # full ones may never come to mend it
            if full or too_high or not self._per_token:
                self._per_token = _mean(self._per_token, seconds / tokens)
            if not full:
                rest = max(seconds - tokens * self._per_token, 0.0)
                self._per_batch = _mean(self._per_batch, rest)
            self._in_work = 0
            self._n_batches += 1
            self._n_rows += rows


def _mean(before: float, now: float) -> float:
    return _MEMORY * before + (1 - _MEMORY) * now if before else now


def _fail(request: _Request, error: Exception) -> None:
    if request.future.set_running_or_notify_cancel():
        request.future.set_exception(error)


def step_back() -> None:
    """Let other threads, the event loop above all, run before this one."""
    if sys.platform == "linux":  # elsewhere priorities are the process's
        this = threading.get_native_id()
        with suppress(OSError):  # a courtesy, never a reason to end
            nice = os.getpriority(os.PRIO_PROCESS, this)
            os.setpriority(os.PRIO_PROCESS, this, min(nice + _NICE, 19))


def retry_after(error: Overloaded) -> int:
    """Whole seconds for the ``Retry-After`` header."""
    return max(1, math.ceil(error.retry_after))
