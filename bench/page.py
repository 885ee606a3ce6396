"""A bench as one page of HTML that needs nothing beside it: no scripts, no fonts, nothing fetched."""

from collections.abc import Callable, Iterator, Sequence
from html import escape

import numpy as np

from .measurement import STAGES, Measurement
from .page_style import STYLE
from .plots import Series, bars, dot_rows, lines, number, points, stacked_bars
from .report import LIMITED, LatencyReport, footnotes, latency_rows, stage_rows, start_rows

SERIES_COLOURS = 8
LIMIT_COLOUR = "var(--limit)"
# Cosines closer to 1 than this are shown as if they were so far from it: for any use they are 1.
SMALLEST_ANGLE = 1e-7


def page(report: LatencyReport) -> str:
    """The whole document. Every plot is drawn from values that the tables of the page hold too."""
    sections = [
        _summary(report),
        *(_latency(report, batch) for batch in report.batches),
        _by_batch(report),
        _agreement(report),
        _stages(report),
        _limit(report),
        _drift(report),
        _numbers(report),
        _machine(report),
    ]
    title = f"{report.model} on {report.machine.cpu}"
    body = "\n".join(section for section in sections if section)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{_heading(report)}\n{body}\n</main>\n</body>\n</html>\n"
    )


def _heading(report: LatencyReport) -> str:
    clip = " x ".join(map(str, report.clip_shape))
    return (
        f"<header>\n<h1>{escape(report.model)}</h1>\n"
        f"<p>{escape(report.machine.cpu)}, {report.threads} threads &middot; clips of {clip}, "
        f"{2e-9 * report.macs:,.1f} GFLOP each &middot; {escape(report.date)}</p>\n"
        f"<pre><code>{escape(report.command)}</code></pre>\n</header>"
    )


def _section(title: str, explanation: str, *content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n<p>{escape(explanation)}</p>\n" + "\n".join(content) + "\n</section>"


def _figure(plot: str, caption: str = "") -> str:
    below = f"<figcaption>{escape(caption)}</figcaption>\n" if caption else ""
    return f"<figure>\n{below}{plot}\n</figure>"


def _colour(report: LatencyReport, name: str) -> str:
    """A subject's colour, the same in every plot. The baseline is the grey one, number 0."""
    others = [other for other in report.names if other != report.baseline]
    return f"var(--series-{0 if name == report.baseline else 1 + others.index(name) % (SERIES_COLOURS - 1)})"


def _series(report: LatencyReport, one: Measurement, values: Sequence[float]) -> Series:
    return Series(one.subject.name, _colour(report, one.subject.name), tuple(values))


def _summary(report: LatencyReport) -> str:
    """The few numbers that one came for, as tiles: at the smallest batch, the fastest first."""
    tiles = []
    for one in sorted(report.at(report.batches[0]), key=lambda one: one.latency_ms.p50):
        comparison = report.compare(one)
        large, small = f"{number(one.latency_ms.p50)} ms", "the baseline" if report.baseline else "median"
        if comparison is not None:
            large = f"{comparison.speed.median:.2f}&times;"
            small = f"{number(one.latency_ms.p50)} ms; {comparison.speed.lower:.2f} to {comparison.speed.upper:.2f}"
        tiles.append(
            f'<div class="tile" style="--tile: {_colour(report, one.subject.name)}">'
            f"<span>{escape(one.subject.name)}</span><strong>{large}</strong><small>{escape(small)}</small></div>"
        )
    what = f"a batch of {report.batches[0]}"
    told = (
        f"How many times as fast as {report.baseline} on {what}, by the median of rounds; their middle half behind it."
    )
    return _section(
        "At a glance", told if report.baseline else f"On {what}.", f'<div class="tiles">{"".join(tiles)}</div>'
    )


def _latency(report: LatencyReport, batch: int) -> str:
    rows = [_series(report, one, one.runs_ms) for one in report.at(batch)]
    plot = dot_rows(rows, "ms", f"Every run at batch {batch}")
    told = "Every run that was taken, none left out; the bar and the number are the median."
    return _section(f"Time of a batch of {batch}", told, _figure(plot))


def _by_batch(report: LatencyReport) -> str:
    """Throughput, and memory where the system says: lines over batches, or bars where there is one batch."""
    figures = [_figure(_over_batches(report, "clips/s", lambda one: one.clips_per_second), "Throughput")]
    if all(one.peak_memory_mb is not None for one in report.measurements):
        plot = _over_batches(report, "MB", lambda one: one.peak_memory_mb or 0.0)
        figures.append(_figure(plot, "Peak memory of the process"))
    return _section("Throughput and memory", "Memory is all that a process had, engine and weights included.", *figures)


def _over_batches(report: LatencyReport, unit: str, value: Callable[[Measurement], float]) -> str:
    if len(report.batches) == 1:
        rows = [_series(report, one, [value(one)]) for one in report.measurements]
        return bars(rows, unit, f"{unit} of each subject")
    series = []
    for name in report.names:
        of_one = [one for one in report.measurements if one.subject.name == name]
        series.append(_series(report, of_one[0], [value(one) for one in of_one]))
    return lines(series, report.batches, unit, "batch", f"{unit} by batch")


def _agreement(report: LatencyReport) -> str:
    """Speed against how well the logits agree with torch's; nothing where all agree to the last digits."""
    ones = [one for one in report.at(report.batches[0]) if not one.subject.is_reference]
    angles = [max(1 - one.cosine, SMALLEST_ANGLE) for one in ones if one.cosine is not None]
    if max(angles, default=0) <= SMALLEST_ANGLE:
        return ""
    series = [_series(report, one, (one.clips_per_second, angle)) for one, angle in zip(ones, angles, strict=True)]
    told = (
        "How far the logits of the bundle's reference clips are from those that torch gave at the export, as "
        "1 - cosine: what the arithmetic alone cost. What it costs in accuracy, labelled videos tell."
    )
    return _section(
        "Speed and agreement", told, _figure(points(series, "clips/s", "1 - cosine", "Speed and agreement"))
    )


def _stages(report: LatencyReport) -> str:
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
    keys = "".join(
        f'<li><i style="background: {colours[stage]}"></i>{escape(stage)}</li>'
        for stage in STAGES
        if any(stage in one.stages_ms for one in ones)
    )
    begin = "decoded reference clips" if report.video is None else report.video
    told = f"A batch of {batch} taken from {begin} to labels; the median of each stage."
    plot = stacked_bars(rows, [one.subject.name for one in ones], "ms", "Stages of each subject")
    return _section("Where the time goes", told, f'<ul class="key">{keys}</ul>', _figure(plot))


def _limit(report: LatencyReport) -> str:
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
    return _section("The machine's limit", told, _figure(bars(rows, "GFLOP/s", "GFLOP/s of each subject")))


def _drift(report: LatencyReport) -> str:
    """The median of each round, beside the median of all: what the machine did to everyone shows in all the lines."""
    batch = report.batches[0]
    series = []
    for one in report.at(batch):
        medians = np.array(one.round_medians_ms)
        series.append(_series(report, one, (medians / np.median(medians)).tolist()))
    rounds = range(1, report.rounds + 1)
    plot = lines(series, rounds, "of its median", "round", "Rounds", from_zero=False)
    told = f"Each round at batch {batch}, as a multiple of the subject's own median. Ratios are taken within a round."
    return _section("Round by round", told, _figure(plot))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>\n"
        for row in rows
    )
    return f'<div class="wide"><table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>'


def _numbers(report: LatencyReport) -> str:
    tables = []
    for batch in report.batches:
        for head, rows in (latency_rows(report, batch), start_rows(report, batch), stage_rows(report, batch)):
            tables.append(_table(head, rows))
    notes = "".join(f"<li>{escape(note)}</li>" for note in footnotes(report))
    return _section(
        "All numbers", "Times in ms of a whole batch, unless it says otherwise.", *tables, f"<ul>{notes}</ul>"
    )


def _machine(report: LatencyReport) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>\n" for name, text in _machine_facts(report))
    return _section("The machine", "What it said about itself.", f"<dl>\n{rows}</dl>")


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
