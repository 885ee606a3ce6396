"""What a bench found, and its text."""

import dataclasses
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..runtime.backends import ON_CPU
from ..runtime.precisions import PRECISIONS
from .baselines import BASELINES
from .machine import Machine
from .measurement import STAGES, Measurement, Ratio, Subject

# Engines that compute on the processor, whose limit is measured.
ON_PROCESSOR = (*ON_CPU, *BASELINES)
# Types of operands that it is measured in.
LIMITED = ("fp32", "bf16", "int8")
COLUMNS = 100  # of the text


@dataclass(frozen=True)
class GemmRate:
    """The best rate of matrix multiplication seen with one engine, on the heaviest product of the model."""

    engine: str
    precision: str
    gflops: float


@dataclass(frozen=True)
class Comparison:
    """A subject beside the baseline at the same batch.

    speed:       the baseline's time of a round / the subject's, so above 1 is faster
    cold_start:  the subject's / the baseline's
    memory:      the subject's peak / the baseline's
    """

    subject: Subject
    speed: Ratio
    cold_start: float
    memory: float | None


@dataclass(frozen=True)
class LatencyReport:
    """Everything that a bench took and knows.

    baseline:  the name of the subject that the others are compared with; None where there is only one
    macs:      multiplications, each with its addition, of the matrix products that a clip takes in fp32
    shapes:    (rows, inner, columns) of the products that the limits were measured on
    clocks_mhz: the mean over the cores after each round, where the system says
    """

    command: str
    date: str
    model: str
    bundle_sha256: dict[str, str]
    clip_shape: tuple[int, ...]
    macs: int
    shapes: tuple[tuple[int, int, int], ...]
    machine: Machine
    threads: int
    rounds: int
    video: str | None
    baseline: str | None
    measurements: tuple[Measurement, ...]
    limits: tuple[GemmRate, ...]
    clocks_mhz: tuple[float, ...]
    notes: tuple[str, ...]

    @property
    def batches(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(one.subject.batch for one in self.measurements))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.subject.name for one in self.measurements))

    def at(self, batch: int) -> tuple[Measurement, ...]:
        return tuple(one for one in self.measurements if one.subject.batch == batch)

    def compare(self, one: Measurement) -> Comparison | None:
        """One subject beside the baseline at its batch; None for the baseline itself, and where there is none."""
        if self.baseline is None or one.subject.name == self.baseline:
            return None
        beside = next(other for other in self.at(one.subject.batch) if other.subject.name == self.baseline)
        memory = None
        if beside.peak_memory_mb is not None and one.peak_memory_mb is not None:
            memory = one.peak_memory_mb / beside.peak_memory_mb
        return Comparison(
            one.subject,
            speed=Ratio.of(beside.round_medians_ms, one.round_medians_ms),
            cold_start=float(np.median(one.cold_start_ms) / np.median(beside.cold_start_ms)),
            memory=memory,
        )

    def best_rate(self, precision: str) -> GemmRate | None:
        """The fastest that a matrix product of that precision was seen to be computed here."""
        rates = [rate for rate in self.limits if rate.precision == precision]
        return max(rates, key=lambda rate: rate.gflops, default=None)

    def gflops(self, one: Measurement) -> float:
        """What a subject computes in a second: two operations for each multiplication with its addition."""
        # By the median run, so that a pause of the machine does not count against the engine.
        clips_per_second = one.subject.batch * 1000 / one.latency_ms.p50
        return 2e-9 * self.macs * clips_per_second

    def share_of_limit(self, one: Measurement) -> float | None:
        """What a subject computes in a second, of the best rate seen in its precision; None where none was measured."""
        if one.subject.engine not in ON_PROCESSOR:
            return None
        rate = self.best_rate(PRECISIONS[one.subject.precision].multiplies)
        return None if rate is None else self.gflops(one) / rate.gflops

    def to_json(self) -> dict[str, Any]:
        comparisons = [comparison for one in self.measurements if (comparison := self.compare(one)) is not None]
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {
            "machine": dataclasses.asdict(self.machine),
            "measurements": [
                one.to_json() | {"gflops": self.gflops(one), "share_of_limit": self.share_of_limit(one)}
                for one in self.measurements
            ],
            "comparisons": [dataclasses.asdict(comparison) for comparison in comparisons],
            "limits": [dataclasses.asdict(rate) for rate in self.limits],
        }

    def table(self) -> str:
        """The report as text of at most 100 columns."""
        blocks = [_headline(self)]
        for batch in self.batches:
            blocks += [_columns(*rows(self, batch)) for rows in (latency_rows, start_rows, stage_rows)]
        notes = "\n".join(textwrap.fill(note, COLUMNS) for note in footnotes(self))
        return "\n\n".join([*blocks, notes])


# The names of columns, and rows of cells.
Rows = tuple[list[str], list[list[str]]]


def _columns(names: list[str], rows: list[list[str]]) -> str:
    """Rows of cells under their names, the first column to the left and the others to the right."""
    table = [names, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    widths[0] = max(widths[0], 20)
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _headline(report: LatencyReport) -> str:
    machine = report.machine
    lines = [
        f"{report.model}: clips of {' x '.join(map(str, report.clip_shape))}, {2e-9 * report.macs:,.1f} GFLOP each",
        machine.processor,
        f"{report.threads} threads on {len(machine.cores_allowed)} cores, {report.rounds} rounds, subjects in turn",
    ]
    best = [rate for precision in LIMITED if (rate := report.best_rate(precision)) is not None]
    limits = ", ".join(f"{rate.gflops:,.0f} {rate.precision} ({rate.engine})" for rate in best)
    lines.append(f"products alone, GFLOP/s: {limits}")
    return "\n".join(lines)


def latency_rows(report: LatencyReport, batch: int) -> Rows:
    """What a batch takes; ms."""
    names = [f"batch {batch}: ms", "p50", "p90", "p95", "p99", "mean", "sd", "clips/s"]
    if report.baseline is not None:
        names.append("speed")
    rows = []
    for one in report.at(batch):
        found, comparison = one.latency_ms, report.compare(one)
        times = (found.p50, found.p90, found.p95, found.p99, found.mean, found.deviation)
        row = [one.subject.name, *map(_ms, times), f"{one.clips_per_second:.2f}"]
        if comparison is not None:
            speed = comparison.speed
            row.append(f"{speed.median:.2f}x ({speed.lower:.2f} to {speed.upper:.2f})")
        elif report.baseline is not None:
            row.append("baseline")
        rows.append(row)
    return names, rows


def start_rows(report: LatencyReport, batch: int) -> Rows:
    """What a process takes before its first answer and in all, and what it makes of the machine."""
    names = [f"batch {batch}", "load s", "cold start s", "peak MB", "GFLOP/s", "of limit", "cosine"]
    rows = []
    for one in report.at(batch):
        comparison = report.compare(one)
        start, memory = f"{np.median(one.cold_start_ms) / 1000:.2f}", _or_dash(one.peak_memory_mb, "{:,.0f}")
        if comparison is not None:
            start += f" ({comparison.cold_start:.2f}x)"
            memory += "" if comparison.memory is None else f" ({comparison.memory:.2f}x)"
        rows.append(
            [
                one.subject.name,
                f"{np.median(one.load_ms) / 1000:.2f}",
                start,
                memory,
                f"{report.gflops(one):,.0f}",
                _or_dash(report.share_of_limit(one), "{:.0%}"),
                _or_dash(one.cosine, "{:.6f}"),
            ]
        )
    return names, rows


def stage_rows(report: LatencyReport, batch: int) -> Rows:
    """What each stage of a batch takes; ms. A dash: what an engine does not do, or not apart from the rest."""
    decoded = any("decode" in one.stages_ms for one in report.at(batch))
    stages = [stage for stage in STAGES if stage != "decode" or decoded]
    rows = []
    for one in report.at(batch):
        medians = {stage: float(np.median(times)) for stage, times in one.stages_ms.items()}
        rows.append([one.subject.name, *(_or_dash(medians.get(stage), "{:.2f}") for stage in stages)])
        rows[-1].append(f"{sum(medians.values()):.2f}")
    return [f"batch {batch}: stages, ms", *stages, "all"], rows


def footnotes(report: LatencyReport) -> Iterator[str]:
    """What a reader has to know to read the tables."""
    if report.baseline is not None:
        yield (
            f"speed: times as fast as {report.baseline}, the median of rounds and the range of their middle half; "
            f"other brackets: times what {report.baseline} takes"
        )
    if any("copy in" not in one.stages_ms for one in report.measurements):
        yield "an engine on the CPU reads a batch where it lies: copies, where it makes any, are part of execute"
    for one in report.measurements:
        if not one.steady:
            yield f"{one.subject.name} at batch {one.subject.batch} had not settled after {len(one.warmup_ms)} visits"
    yield from report.notes


def _ms(value: float) -> str:
    """Four digits, whatever the size."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
