"""The batcher: every request gets its own rows back, in turn, in time, or is told why not."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.models.token_rows import TokenRows, join_rows
from potstill.serving.batcher import Batcher, Closed, Late, Overloaded, retry_after


def rows(*lengths: int, first: int = 1) -> TokenRows:
    """Rows of these lengths; row i holds ``first + i`` in every place."""
    offsets = np.cumsum([0, *lengths]).astype(np.int64)
    ids = np.repeat(np.arange(first, first + len(lengths)), lengths).astype(np.int32)
    return TokenRows(
        ids=ids,
        types=np.zeros(len(ids), np.uint8),
        offsets=offsets,
        truncated=np.zeros(len(lengths), bool),
    )


class Engine:
    """Answers each row with its first id and its length, and remembers its batches.

    Args:
        seconds: Time of a batch.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.fault: Exception | None = None

    def __call__(self, tokens: TokenRows) -> list[np.ndarray]:
        self.entered.set()
        assert self.gate.wait(10)
        time.sleep(self.seconds)
        firsts = tokens.ids[tokens.offsets[:-1]]
        self.batches.append(firsts.tolist())
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        return [firsts[:, None].astype(np.float32), tokens.lengths[:, None].astype(np.float32)]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def start(engine: Engine) -> Iterator[Callable[..., Batcher]]:
    made: list[Batcher] = []

    def build(**settings: int) -> Batcher:
        batcher = Batcher(engine, **settings)  # type: ignore[arg-type]
        batcher.start()
        made.append(batcher)
        return batcher

    yield build
    engine.gate.set()
    for batcher in made:
        batcher.close(5)


def check(answer: Future[list[np.ndarray]], tokens: TokenRows) -> None:
    firsts, lengths = answer.result(10)
    assert firsts[:, 0].tolist() == tokens.ids[tokens.offsets[:-1]].tolist()
    assert lengths[:, 0].tolist() == tokens.lengths.tolist()


@settings(max_examples=30)
@given(
    st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=20), min_size=1, max_size=8),
    st.sampled_from([1, 64, 600, 5000]),
)
def test_every_request_gets_its_own_rows(sizes: list[list[int]], batch_tokens: int) -> None:
    engine = Engine()
    batcher = Batcher(engine, batch_tokens=batch_tokens)
    batcher.start()
    asked = [rows(*lengths, first=100 * i) for i, lengths in enumerate(sizes)]
    try:
        with ThreadPoolExecutor(4) as many:
            answers = list(many.map(lambda tokens: batcher.submit(tokens, within=1e6), asked))
        for answer, tokens in zip(answers, asked, strict=True):
            check(answer, tokens)
    finally:
        assert batcher.close(5)
    assert sum(len(batch) for batch in engine.batches) == sum(map(len, sizes))
    load = batcher.load()
    assert (load.requests, load.tokens) == (0, 0)
    assert load.rows == sum(map(len, sizes))
    assert load.batches == len(engine.batches)


def held(engine: Engine, batcher: Batcher) -> Future[list[np.ndarray]]:
    """A request that keeps the engine busy until its gate opens."""
    engine.gate.clear()
    engine.entered.clear()
    first = batcher.submit(rows(4, first=9000), within=1e6)
    assert engine.entered.wait(10)
    return first


def test_what_waits_is_answered_together(engine: Engine, start: Callable[..., Batcher]) -> None:
    batcher = start()
    first = held(engine, batcher)
    others = [batcher.submit(rows(5, first=i), within=1e6) for i in range(10)]
    engine.gate.set()
    for other in others:
        other.result(10)
    first.result(10)
    assert [len(batch) for batch in engine.batches] == [1, 10]


def test_a_large_request_does_not_hold_up_a_small_one(
    engine: Engine, start: Callable[..., Batcher]
) -> None:
    batcher = start(batch_tokens=1024)
    held(engine, batcher)
    large = batcher.submit(rows(*[32] * 1000, first=1), within=1e6)
    small = batcher.submit(rows(32, first=5000), within=1e6)
    engine.gate.set()
    large.result(10)
    small.result(10)
    place = next(i for i, batch in enumerate(engine.batches) if 5000 in batch)
    assert place == 1  # the first batch after the one that was running
    assert len(engine.batches) > 30
    assert all(len(batch) <= 32 for batch in engine.batches)


def test_a_row_that_is_longer_than_a_batch_is_answered(start: Callable[..., Batcher]) -> None:
    tokens = rows(500, 3, 700)
    check(start(batch_tokens=100).submit(tokens, within=1e6), tokens)


def test_what_would_be_late_is_refused_at_once(
    engine: Engine, start: Callable[..., Batcher]
) -> None:
    batcher = start()
    batcher.submit(rows(10), within=1e6).result(10)
    held(engine, batcher)
    batcher._per_token, batcher._per_batch = 0.01, 0.0  # seconds
    batcher.submit(rows(*[10] * 9), within=2.0)  # 4 + 90 tokens: 0.94 s
    with pytest.raises(Overloaded) as told:
        batcher.submit(rows(*[10] * 9), within=2.0)  # 184 tokens: 1.84 s, over half of 2 s
    assert told.value.retry_after == pytest.approx(0.84)
    assert retry_after(told.value) == 1
    batcher.submit(rows(5), within=2.0)  # 99 tokens


def test_what_is_being_tokenised_counts_for_what_comes_after_it(
    engine: Engine, start: Callable[..., Batcher]
) -> None:
    batcher = start()
    batcher.submit(rows(10), within=1e6).result(10)
    with batcher.coming(10_000, within=1.0):  # an idle engine tries whatever comes
        batcher._per_token, batcher._per_batch = 0.01, 0.0  # seconds
        with pytest.raises(Overloaded), batcher.coming(1, within=2.0):
            pytest.fail("the first has a turn of 512 tokens before it: 5 s")
        check(batcher.submit(tokens := rows(10), within=2.0), tokens)
    with batcher.coming(1, within=2.0):
        pass


def test_a_speed_that_was_taken_for_too_low_is_mended_by_small_batches(
    start: Callable[..., Batcher],
) -> None:
    batcher = start()
    batcher.submit(rows(10), within=1e6).result(10)
    batcher._per_token = 10.0
    for i in range(40):
        batcher.submit(rows(10, first=20 * i), within=1e6).result(10)
    assert batcher._per_token < 0.1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere priorities are the process's")
def test_the_engine_lets_the_event_loop_go_first(start: Callable[..., Batcher]) -> None:
    batcher = start()
    batcher.submit(rows(5), within=1e6).result(10)
    engine, here = batcher._thread.native_id, threading.get_native_id()
    assert engine is not None
    lower = os.getpriority(os.PRIO_PROCESS, engine)
    assert lower > os.getpriority(os.PRIO_PROCESS, here)


def test_the_first_request_is_always_tried(start: Callable[..., Batcher]) -> None:
    tokens = rows(*[100] * 100)
    check(start().submit(tokens, within=0.9), tokens)  # by the first guess 5 s


def test_an_idle_engine_refuses_nobody(start: Callable[..., Batcher]) -> None:
    batcher = start()
    batcher.submit(rows(5), within=1e6).result(10)
    batcher._per_token, batcher._per_batch = 10.0, 10.0  # whatever it thinks it takes
    tokens = rows(*[100] * 30)
    check(batcher.submit(tokens, within=1.0), tokens)


def test_equal_texts_are_encoded_once_and_do_not_flatter_the_speed(
    engine: Engine, start: Callable[..., Batcher]
) -> None:
    batcher = start(batch_tokens=100)
    engine.seconds = 0.05
    same = rows(*[50] * 20)
    same.ids[:] = 7
    firsts, lengths = batcher.submit(same, within=1e6).result(10)
    assert firsts[:, 0].tolist() == [7.0] * 20
    assert lengths[:, 0].tolist() == [50.0] * 20
    assert all(len(batch) == 1 for batch in engine.batches)
    assert batcher.load().tokens_per_second <= 50 / 0.05


def test_a_request_that_is_late_after_all_is_told(engine: Engine) -> None:
    now = [0.0]
    batcher = Batcher(engine, clock=lambda: now[0])
    batcher.start()
    engine.gate.clear()
    first = batcher.submit(rows(4), within=1.0)
    assert engine.entered.wait(10)
    second = batcher.submit(rows(4), within=1.0)
    now[0] = 2.0
    engine.gate.set()
    for late in (first, second):
        with pytest.raises(Late):
            late.result(10)
    assert len(engine.batches) == 1  # for the second no work was done
    assert batcher.close(5)


def test_a_fault_of_the_engine_is_the_requests_fault_only(
    engine: Engine, start: Callable[..., Batcher]
) -> None:
    batcher = start(batch_tokens=64)
    engine.fault = RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        batcher.submit(rows(*[32] * 10), within=1e6).result(10)
    tokens = rows(3, 4)
    check(batcher.submit(tokens, within=1e6), tokens)
    assert len(engine.batches) == 2  # the rest of the faulty request was dropped


def test_a_cancelled_request_is_not_worked_on(
    engine: Engine, start: Callable[..., Batcher]
) -> None:
    batcher = start()
    held(engine, batcher)
    gone = batcher.submit(rows(5, first=77), within=1e6)
    assert gone.cancel()
    engine.gate.set()
    batcher.submit(rows(5), within=1e6).result(10)
    assert all(77 not in batch for batch in engine.batches)
    with pytest.raises(CancelledError):
        gone.result(0)


def test_closing_answers_what_is_there_and_takes_no_more(
    engine: Engine, start: Callable[..., Batcher]
) -> None:
    batcher = start()
    held(engine, batcher)
    waiting = batcher.submit(rows(5), within=1e6)
    closing = ThreadPoolExecutor(1).submit(batcher.close, 10)
    while not batcher._closing:
        time.sleep(0.01)
    with pytest.raises(Closed):
        batcher.submit(rows(5), within=1e6)
    engine.gate.set()
    assert closing.result(10)
    waiting.result(0)


def test_closing_in_time_leaves_nobody_waiting(
    engine: Engine, start: Callable[..., Batcher]
) -> None:
    batcher = start()
    held(engine, batcher)
    waiting = batcher.submit(rows(5), within=1e6)
    assert not batcher.close(0.05)
    with pytest.raises(Closed):
        waiting.result(1)


def test_a_request_without_rows_is_a_fault_of_the_caller(start: Callable[..., Batcher]) -> None:
    with pytest.raises(ValueError, match="without rows"):
        start().submit(rows(), within=1.0)


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=4), st.data())
def test_joined_rows_are_the_rows(sizes: Sequence[Sequence[int]], data: st.DataObject) -> None:
    sets = [rows(*lengths, first=10 * i) for i, lengths in enumerate(sizes)]
    parts = [(one, np.array(data.draw(st.permutations(range(len(one)))), np.int64)) for one in sets]
    joined = join_rows(parts)
    wanted = [one.ids[one.offsets[i] : one.offsets[i + 1]] for one, order in parts for i in order]
    assert len(joined) == len(wanted)
    for i, ids in enumerate(wanted):
        assert joined.ids[joined.offsets[i] : joined.offsets[i + 1]].tolist() == ids.tolist()
