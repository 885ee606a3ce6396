"""Times that were taken of one subject, and what is computed from them."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from .baselines import BASELINES, is_made

# The copies of engines that have memory of their own; see backends/timed_steps.py.
STAGES = ("decode", "prepare", "copy in", "execute", "copy out", "rank")


@dataclass(frozen=True)
class Subject:
    """What is measured: a backend with one of the bundle's precisions, or a baseline in torch, at one batch."""

    engine: str
    precision: str
    batch: int

    @property
    def name(self) -> str:
        return self.engine if self.engine in BASELINES else f"{self.engine} {self.precision}"

    @property
    def is_reference(self) -> bool:
        """Whether it is what the bundle's recorded logits were computed by: torch in float32."""
        return self.engine in BASELINES and self.precision == "fp32" and not is_made(self.engine)


@dataclass(frozen=True)
class Distribution:
    """What all the values are like: none is taken away as an outlier. A percentile is interpolated between the two
    nearest values. So p99 of fewer than 100 values is close to the largest.
    """

    count: int
    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    deviation: float
    smallest: float
    largest: float

    @classmethod
    def of(cls, values: tuple[float, ...]) -> Self:
        p50, p90, p95, p99 = (float(value) for value in np.percentile(values, (50, 90, 95, 99)))
        mean, deviation = float(np.mean(values)), float(np.std(values))
        return cls(len(values), p50, p90, p95, p99, mean, deviation, min(values), max(values))


@dataclass(frozen=True)
class Ratio:
    """How two subjects compare, round by round: the median, and the quartiles that hold the middle half of rounds."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, above: tuple[float, ...], below: tuple[float, ...]) -> Self:
        quotients = np.array(above) / np.array(below)
        lower, median, upper = (float(value) for value in np.percentile(quotients, (25, 50, 75)))
        return cls(median, lower, upper)


@dataclass(frozen=True)
class Measurement:
    """One subject.

    rounds_ms:       of each run, in the rounds that they were taken in
    warmup_ms:       medians of the visits before the first round
    steady:          whether the warm-up ended because its times had settled
    load_ms:         from the start of the process until the model was loaded; one for each start
    cold_start_ms:   from the start of the process to the first logits; one for each start
    peak_memory_mb:  of the whole process, before any video was decoded; None where the system does not say
    stages_ms:       what each stage of a batch took, one value for each time that it was gone through
    cosine:          the smallest, over the reference clips of the batch, of its logits and those that torch gave at the
                     export; None for a regression, whose values have no direction
    """

    subject: Subject
    rounds_ms: tuple[tuple[float, ...], ...]
    warmup_ms: tuple[float, ...]
    steady: bool
    load_ms: tuple[float, ...]
    cold_start_ms: tuple[float, ...]
    peak_memory_mb: float | None
    stages_ms: dict[str, tuple[float, ...]]
    cosine: float | None

    @property
    def runs_ms(self) -> tuple[float, ...]:
        return tuple(ms for visit in self.rounds_ms for ms in visit)

    @property
    def latency_ms(self) -> Distribution:
        return Distribution.of(self.runs_ms)

    @property
    def clips_per_second(self) -> float:
        """Clips divided by seconds, over all runs."""
        return self.subject.batch * 1000 / float(np.mean(self.runs_ms))

    @property
    def round_medians_ms(self) -> tuple[float, ...]:
        return tuple(float(np.median(visit)) for visit in self.rounds_ms)

    def to_json(self) -> dict[str, Any]:
        computed = {
            "name": self.subject.name,
            "latency_ms": dataclasses.asdict(self.latency_ms),
            "clips_per_second": self.clips_per_second,
        }
        return computed | dataclasses.asdict(self)
