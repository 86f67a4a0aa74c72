"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from panini.server.job import Job


class Metrics:
    """The counters of one server. Nothing in them tells of a photo or a client."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "panini_requests", "Requests, by route and status.", ["route", "status"], registry=self._registry
        )
        self.refused = Counter("panini_refused", "Photos refused because the queue was full.", registry=self._registry)
        self._jobs = Counter("panini_jobs", "Photos, by outcome.", ["outcome"], registry=self._registry)
        self._faces = Counter("panini_faces", "Faces restored.", registry=self._registry)
        self._steps = Histogram(
            "panini_step_seconds", "Seconds of each step of a photo.", ["step"], registry=self._registry,
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
        )  # fmt: skip

    def watch(self, queue: Callable[[], float], memory: Callable[[], float]) -> None:
        """Names what tells the length of the queue and the bytes that photos and results take."""
        Gauge("panini_queue", "Photos that wait or are in work.", registry=self._registry).set_function(queue)
        gauge = Gauge("panini_kept_bytes", "Memory of photos and results, about.", registry=self._registry)
        gauge.set_function(memory)

    def finished(self, job: Job) -> None:
        """Counts a job that is done, failed or stopped."""
        self._jobs.labels(job.state.value).inc()
        if job.result is not None:
            self._faces.inc(len(job.result.faces))
            for step, seconds in job.result.timings.items():
                self._steps.labels(step).observe(seconds)

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self._registry)
