"""Counters of the service, in Prometheus' text format."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

from potstill.serving.batcher import Load

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The counters of one process; with several, a scrape of any of them gives the sum.

    Args:
        name: Of the bundle.
        engine: That runs it.
    """

    def __init__(self, name: str, engine: str) -> None:
        self._registry = CollectorRegistry()
        labels = {"bundle": name, "engine": engine}
        self._requests = Counter(
            "potstill_requests", "Requests by path and status.", ["path", "status"],
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "potstill_request_seconds", "Time of answered predictions.",
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self.rows = Counter("potstill_rows", "Rows answered.", registry=self._registry)
        self._gauges = {
            field: Gauge(
                f"potstill_{field}", text, registry=self._registry, multiprocess_mode="livesum"
            )
            for field, text in {
                "queue_requests": "Requests that wait or are in work.",
                "queue_tokens": "Tokens that wait or are in work.",
                "tokens_per_second": "Speed of the last batches.",
                "batches": "Batches run.",
            }.items()
        }
        info = Gauge(
            "potstill_info", "What is served.", list(labels), registry=self._registry,
            multiprocess_mode="max",
        )  # fmt: skip
        info.labels(**labels).set(1)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(path=path, status=str(status)).inc()
        if path == "/predict" and status == 200:
            self._seconds.observe(seconds)

    def note(self, load: Load) -> None:
        """How busy this process is now."""
        self._gauges["queue_requests"].set(load.requests)
        self._gauges["queue_tokens"].set(load.tokens)
        self._gauges["tokens_per_second"].set(load.tokens_per_second)
        self._gauges["batches"].set(load.batches)

    def text(self) -> bytes:
        """All counters."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        for file in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("gauge_live*_*.db"):
            pid = int(file.stem.rpartition("_")[2])
            try:
                os.kill(pid, 0)
            except (ProcessLookupError, PermissionError):  # a worker that was killed and replaced
                file.unlink(missing_ok=True)
        whole = CollectorRegistry()
        multiprocess.MultiProcessCollector(whole)  # type: ignore[no-untyped-call]
        return generate_latest(whole)
