"""What a server counts, as Prometheus reads it."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

__all__ = ["CONTENT_TYPE_LATEST", "STAGES", "Metrics"]

# Those of `tubelet bench` that lie outside an engine, and what a server adds: receive, and wait for a run.
STAGES = ("receive", "decode", "prepare", "wait", "execute", "rank")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_CLIPS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counts of one server. held: says how many requests hold a place."""

    def __init__(self, held: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "tubelet_requests", "Requests that were answered.", ("route", "status"), registry=registry
        )
        self._request_seconds = Histogram(
            "tubelet_request_seconds",
            "From the head to the end.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._stage_seconds = Histogram(
            "tubelet_stage_seconds",
            "What each stage of a video took.",
            ("model", "stage"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._run_clips = Histogram(
            "tubelet_run_clips", "Clips in a run of the graph.", ("model",), buckets=_CLIPS, registry=registry
        )
        self._run_seconds = Histogram(
            "tubelet_run_seconds",
            "What a run of the graph took.",
            ("model",),
            buckets=_SECONDS,
            registry=registry,
        )
        Gauge("tubelet_requests_held", "Requests that hold a place.", registry=registry).set_function(held)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request. status: 0 where its client went before the answer began."""
        self._requests.labels(route, str(status) if status else "gone").inc()
        self._request_seconds.labels(route).observe(seconds)

    def stages(self, model: str, seconds: Mapping[str, float]) -> None:
        for stage, took in seconds.items():
            self._stage_seconds.labels(model, stage).observe(took)

    def ran(self, model: str, clips: int, seconds: float) -> None:
        self._run_clips.labels(model).observe(clips)
        self._run_seconds.labels(model).observe(seconds)

    def text(self) -> bytes:
        """In the form that Prometheus scrapes."""
        return generate_latest(self._registry)
