"""What stands on the page of a bench; page.html, beside it, is how it looks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.report_frame import load_page
from .measurement import STAGES, Measurement
from .plots import Plot, Series, bars, dot_rows, lines, number, points, stacked_bars
from .report import LIMITED, LatencyReport, Rows, footnotes, latency_rows, stage_rows, start_rows

if TYPE_CHECKING:
    import jinja2

SERIES_COLOURS = 8
LIMIT_COLOUR = "var(--limit)"
# Cosines closer to 1 than this are shown as if they were so far from it: for any use they are 1.
SMALLEST_ANGLE = 1e-7


@dataclass(frozen=True)
class Tile:
    """One of the numbers that one came for."""

    name: str
    colour: str
    large: str
    small: str


@dataclass(frozen=True)
class Figure:
    plot: Plot
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page; what it has of these stands in this order.

    key: names and colours; tables: names of columns, and rows of cells; notes: below the tables; facts: names and
    values.
    """

    title: str
    explanation: str
    tiles: tuple[Tile, ...] = ()
    key: tuple[tuple[str, str], ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Rows, ...] = ()
    notes: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


def page(report: LatencyReport) -> str:
    """Draw the whole document. Every plot is drawn from values that the tables of the page hold too.

    Raises:
        MissingExtra: where Jinja2 is not installed.
    """
    sections = [
        _summary(report),
        *(_latency(report, batch) for batch in report.batches),
        _by_batch(report),
        *_agreement(report),
        _stages(report),
        _limit(report),
        _drift(report),
        _numbers(report),
        Section("The machine", "What it said about itself.", facts=tuple(_machine_facts(report))),
    ]
    lead = (
        f"{report.machine.cpu}, {report.threads} threads · clips of {' x '.join(map(str, report.clip_shape))}, "
        f"{2e-9 * report.macs:,.1f} GFLOP each · {report.date}"
    )
    return render(f"{report.model} on {report.machine.cpu}", report.model, lead, report.command, sections)


def render(title: str, heading: str, lead: str, command: str, sections: Sequence[Section]) -> str:
    """Put sections on a page. Raises MissingExtra where Jinja2 is not installed."""
    named = {"title": title, "heading": heading, "lead": lead, "command": command}
    return load_template().render(sections=sections, **named) + "\n"


def load_template() -> "jinja2.Template":
    """Read the page's template, which escapes whatever is put into it.

    Raises:
        MissingExtra: where Jinja2 is not installed.
    """
    return load_page(__package__, decimals=1, purpose="to write the page")


def _colour(report: LatencyReport, name: str) -> str:
    """A subject's colour, the same in every plot. The baseline is the grey one, number 0."""
    others = [other for other in report.names if other != report.baseline]
    return f"var(--series-{0 if name == report.baseline else 1 + others.index(name) % (SERIES_COLOURS - 1)})"


def _series(report: LatencyReport, one: Measurement, values: Sequence[float]) -> Series:
    return Series(one.subject.name, _colour(report, one.subject.name), tuple(values))


def _summary(report: LatencyReport) -> Section:
    """The few numbers that one came for, as tiles: at the smallest batch, the fastest first."""
    tiles = []
    for one in sorted(report.at(report.batches[0]), key=lambda one: one.latency_ms.p50):
        comparison = report.compare(one)
        large, small = f"{number(one.latency_ms.p50)} ms", "the baseline" if report.baseline else "median"
        if comparison is not None:
            large = f"{comparison.speed.median:.2f}×"
            small = f"{number(one.latency_ms.p50)} ms; {comparison.speed.lower:.2f} to {comparison.speed.upper:.2f}"
        tiles.append(Tile(one.subject.name, _colour(report, one.subject.name), large, small))
    what = f"a batch of {report.batches[0]}"
    told = (
        f"How many times as fast as {report.baseline} on {what}, by the median of rounds; their middle half behind it."
    )
    return Section("At a glance", told if report.baseline else f"On {what}.", tiles=tuple(tiles))


def _latency(report: LatencyReport, batch: int) -> Section:
    rows = [_series(report, one, one.runs_ms) for one in report.at(batch)]
    plot = dot_rows(rows, "ms", f"Every run at batch {batch}")
    told = "Every run that was taken, none left out; the bar and the number are the median."
    return Section(f"Time of a batch of {batch}", told, figures=(Figure(plot),))


def _by_batch(report: LatencyReport) -> Section:
    """Throughput, and memory where the system says: lines over batches, or bars where there is one batch."""
    figures = [Figure(_over_batches(report, "clips/s", lambda one: one.clips_per_second), "Throughput")]
    if all(one.peak_memory_mb is not None for one in report.measurements):
        plot = _over_batches(report, "MB", lambda one: one.peak_memory_mb or 0.0)
        figures.append(Figure(plot, "Peak memory of the process"))
    told = "Memory is all that a process had, engine and weights included."
    return Section("Throughput and memory", told, figures=tuple(figures))


def _over_batches(report: LatencyReport, unit: str, value: Callable[[Measurement], float]) -> Plot:
    if len(report.batches) == 1:
        rows = [_series(report, one, [value(one)]) for one in report.measurements]
        return bars(rows, unit, f"{unit} of each subject")
    series = []
    for name in report.names:
        of_one = [one for one in report.measurements if one.subject.name == name]
        series.append(_series(report, of_one[0], [value(one) for one in of_one]))
    return lines(series, report.batches, unit, "batch", f"{unit} by batch")


def _agreement(report: LatencyReport) -> Iterator[Section]:
    """Speed against how well the logits agree with torch's; nothing where all agree to the last digits."""
    ones = [one for one in report.at(report.batches[0]) if not one.subject.is_reference]
    angles = [max(1 - one.cosine, SMALLEST_ANGLE) for one in ones if one.cosine is not None]
    if max(angles, default=0) <= SMALLEST_ANGLE:
        return
    series = [_series(report, one, (one.clips_per_second, angle)) for one, angle in zip(ones, angles, strict=True)]
    told = (
        "How far the logits of the bundle's reference clips are from those that torch gave at the export, as "
        "1 - cosine: what the arithmetic alone cost. What it costs in accuracy, labelled videos tell."
    )
    plot = points(series, "clips/s", "1 - cosine", "Speed and agreement")
    yield Section("Speed and agreement", told, figures=(Figure(plot),))


def _stages(report: LatencyReport) -> Section:
    batch = report.batches[0]
    ones = report.at(batch)
    colours = {stage: f"var(--stage-{i})" for i, stage in enumerate(STAGES)}
    rows = [
        [
            Series(stage, colours[stage], (float(np.median(one.stages_ms[stage])),))
            for stage in STAGES
            if stage in one.stages_ms
        ]
        for one in ones
    ]
    key = tuple((stage, colours[stage]) for stage in STAGES if any(stage in one.stages_ms for one in ones))
    begin = "decoded reference clips" if report.video is None else report.video
    told = f"A batch of {batch} taken from {begin} to labels; the median of each stage."
    plot = stacked_bars(rows, [one.subject.name for one in ones], "ms", "Stages of each subject")
    return Section("Where the time goes", told, key=key, figures=(Figure(plot),))


def _limit(report: LatencyReport) -> Section:
    rows = [_series(report, one, [report.gflops(one)]) for one in report.at(report.batches[0])]
    rows += [
        Series(f"limit {rate.precision}", LIMIT_COLOUR, (rate.gflops,))
        for precision in LIMITED
        if (rate := report.best_rate(precision)) is not None
    ]
    shapes = ", ".join(f"({m} x {k}) by ({k} x {n})" for m, k, n in report.shapes)
    told = (
        "What each subject computes in a second, counted from the matrix products of a clip, beside the best rate that "
        f"an engine reached here on nothing but products of the model's shapes: {shapes}."
    )
    plot = bars(rows, "GFLOP/s", "GFLOP/s of each subject")
    return Section("The machine's limit", told, figures=(Figure(plot),))


def _drift(report: LatencyReport) -> Section:
    """The median of each round, beside the median of all. What the machine did to everyone shows in all the lines."""
    batch = report.batches[0]
    series = []
    for one in report.at(batch):
        medians = np.array(one.round_medians_ms)
        series.append(_series(report, one, (medians / np.median(medians)).tolist()))
    rounds = range(1, report.rounds + 1)
    plot = lines(series, rounds, "of its median", "round", "Rounds", from_zero=False)
    told = f"Each round at batch {batch}, as a multiple of the subject's own median. Ratios are taken within a round."
    return Section("Round by round", told, figures=(Figure(plot),))


def _numbers(report: LatencyReport) -> Section:
    return Section(
        "All numbers",
        "Times in ms of a whole batch, unless it says otherwise.",
        tables=tuple(
            rows(report, batch) for batch in report.batches for rows in (latency_rows, start_rows, stage_rows)
        ),
        notes=tuple(footnotes(report)),
    )


def _machine_facts(report: LatencyReport) -> Iterator[tuple[str, str]]:
    machine = report.machine
    yield "system", machine.system
    yield "processor", machine.cpu
    yield "instructions", " ".join(machine.matrix_flags) or "not known"
    yield (
        "cores",
        f"{machine.cores}, of which {len(machine.cores_allowed)} may be used; {report.threads} threads a subject",
    )
    yield "share of the processor", "no limit" if machine.cpu_quota is None else f"{machine.cpu_quota:g} cores"
    if machine.memory_mb is not None:
        limit = "" if machine.memory_limit_mb is None else f", limited to {machine.memory_limit_mb:,.0f} MB"
        yield "memory", f"{machine.memory_mb:,.0f} MB{limit}"
    if report.clocks_mhz:
        yield "clock", f"{min(report.clocks_mhz):,.0f} to {max(report.clocks_mhz):,.0f} MHz after each round"
    if machine.load_average is not None:
        yield "load before", f"{machine.load_average:.2f}"
    yield from (("GPU", gpu) for gpu in machine.gpus)
    yield "versions", ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    yield from ((f"sha256 of {name}", value) for name, value in report.bundle_sha256.items())
