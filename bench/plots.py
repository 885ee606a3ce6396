"""Plots: rows of dots, bars, lines and points, laid out by hand because a page needs no more.

A plot is a list of shapes in the order that they are drawn in; page.html writes them as SVG. Their `kind` is a class
of its style, so a plot follows the light and dark of its page.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

WIDTH = 760
LABELS = 168  # to the left of rows
ROW = 38
RIGHT = 64

LINE_HEIGHT, LINE_LEFT, LINE_TOP, LINE_BOTTOM = 240, 56, 12, 40
LABEL_GAP = 15


@dataclass(frozen=True)
class Series:
    """One subject in a plot. colour: as CSS says it; values: what the plot shows of it."""

    name: str
    colour: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` on pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        low, high, here = (math.log(x) if self.logarithmic else x for x in (self.low, self.high, value))
        return self.start + (here - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round numbers, about five of them."""
        if self.logarithmic:
            return _logarithmic_ticks(self.low, self.high)
        step = _round_step((self.high - self.low) / 4)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _round_step(step: float) -> float:
    """1, 2 or 5 times a power of ten, at least `step`."""
    power: float = 10 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def _logarithmic_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten where there is room for them, else the powers alone."""
    decades = math.log10(high / low)
    factors = (1, 2, 5) if decades < 2.5 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    candidates = [factor * 10.0**power for power in powers for factor in factors]
    return [value for value in candidates if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]


def number(value: float) -> str:
    """Three digits or so, as a person would write them."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1e-4:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.3g}"


@dataclass(frozen=True)
class Text:
    """Words. anchor: which end of them is at x, as SVG says it."""

    x: float
    y: float
    text: str
    kind: str
    anchor: str = "start"
    shape: ClassVar[str] = "text"


@dataclass(frozen=True)
class Rule:
    """A straight line; its colour is that of its kind where it has none of its own."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str
    colour: str = ""
    shape: ClassVar[str] = "rule"


@dataclass(frozen=True)
class Dot:
    """A filled circle. title: what is shown where one points at it."""

    x: float
    y: float
    radius: float
    colour: str
    title: str = ""
    kind: str = ""
    shape: ClassVar[str] = "dot"


@dataclass(frozen=True)
class Bar:
    """A part of a bar."""

    x: float
    y: float
    width: float
    colour: str
    title: str
    height: ClassVar[int] = 22
    shape: ClassVar[str] = "bar"


@dataclass(frozen=True)
class Path:
    """A line through places (x, y)."""

    places: tuple[tuple[float, float], ...]
    colour: str
    shape: ClassVar[str] = "path"


Shape = Text | Rule | Dot | Bar | Path


@dataclass(frozen=True)
class Plot:
    """A drawing, WIDTH wide. label: what it shows, for those who cannot see it."""

    height: float
    label: str
    parts: tuple[Shape, ...]
    width: ClassVar[int] = WIDTH


def _across(scale: Scale, bottom: float, unit: str) -> list[Shape]:
    """Ticks along the bottom, a faint line up from each."""
    parts: list[Shape] = []
    for value in scale.ticks():
        x = scale.at(value)
        parts.append(Rule(x, 4, x, bottom, "grid"))
        parts.append(Text(x, bottom + 16, number(value), "tick", "middle"))
    parts.append(Text(scale.end, bottom + 34, unit, "tick", "end"))
    return parts


def _up(scale: Scale) -> list[Shape]:
    """Ticks along the left, a faint line across from each."""
    parts: list[Shape] = []
    for value in scale.ticks():
        y = scale.at(value)
        parts.append(Rule(LINE_LEFT, y, WIDTH - LABELS, y, "grid"))
        parts.append(Text(LINE_LEFT - 8, y + 4, number(value), "tick", "end"))
    return parts


def dot_rows(rows: Sequence[Series], unit: str, label: str) -> Plot:
    """Every value of every series as a dot in a row of its own, with a bar at the median."""
    values = [value for row in rows for value in row.values]
    low, high = min(values), max(values)
    logarithmic = high > 4 * low
    scale = (
        Scale(low * 0.9, high * 1.1, LABELS, WIDTH - RIGHT, logarithmic=True)
        if logarithmic
        else Scale(0, high * 1.05, LABELS, WIDTH - RIGHT)
    )
    bottom = ROW * len(rows) + 4
    parts = _across(scale, bottom, f"{unit}, logarithmic" if logarithmic else unit)
    for i, row in enumerate(rows):
        y = ROW * (i + 0.5) + 2
        parts.append(Text(LABELS - 12, y + 4, row.name, "name", "end"))
        for place, value in enumerate(row.values):
            # Spread up and down by the golden ratio, so that equal values stay apart and the picture is the same
            # each time.
            offset = ((place * 0.618034) % 1 - 0.5) * 18
            title = f"{row.name}: {number(value)} {unit}"
            parts.append(Dot(scale.at(value), y + offset, 3, row.colour, title, "dot"))
        ordered = sorted(row.values)
        median = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        x = scale.at(median)
        parts.append(Rule(x, y - 14, x, y + 14, "median", row.colour))
        parts.append(Text(WIDTH - RIGHT + 8, y + 4, number(median), "value"))
    return Plot(bottom + 40, label, tuple(parts))


def bars(rows: Sequence[Series], unit: str, label: str) -> Plot:
    """A bar for each series, as long as its one value."""
    return stacked_bars([[row] for row in rows], [row.name for row in rows], unit, label)


def stacked_bars(rows: Sequence[Sequence[Series]], names: Sequence[str], unit: str, label: str) -> Plot:
    """A bar for each row: parts of one value each, one after the other, with their sum behind them."""
    sums = [sum(part.values[0] for part in row) for row in rows]
    scale = Scale(0, max(sums) * 1.02, LABELS, WIDTH - RIGHT)
    bottom = ROW * len(rows) + 4
    drawn = _across(scale, bottom, unit)
    for i, (row, name) in enumerate(zip(rows, names, strict=True)):
        y = ROW * i + 8
        drawn.append(Text(LABELS - 12, y + 16, name, "name", "end"))
        start = 0.0
        for part in row:
            x, end = scale.at(start), scale.at(start + part.values[0])
            drawn.append(Bar(x, y, end - x, part.colour, f"{part.name}: {number(part.values[0])} {unit}"))
            start += part.values[0]
        drawn.append(Text(scale.at(sums[i]) + 8, y + 16, number(sums[i]), "value"))
    return Plot(bottom + 40, label, tuple(drawn))


def lines(
    series: Sequence[Series], places: Sequence[float], unit: str, below: str, label: str, *, from_zero: bool = True
) -> Plot:
    """A line for each series over `places`, its name at its end. A place without a value is NaN."""
    values = [value for one in series for value in one.values if not math.isnan(value)]
    low, high = (0.0, max(values) * 1.08) if from_zero else _widened(min(values), max(values))
    bottom = LINE_HEIGHT - LINE_BOTTOM
    across = Scale(min(places), max(places), LINE_LEFT, WIDTH - LABELS)
    up = Scale(low, high, bottom, LINE_TOP)
    parts = _up(up)
    shown = places if len(places) <= 12 else across.ticks()
    parts += [Text(across.at(place), bottom + 18, number(place), "tick", "middle") for place in shown]
    parts.append(Text(across.end, bottom + 36, f"{unit}, by {below}", "tick", "end"))
    for one in series:
        points = [
            (across.at(place), up.at(value), value)
            for place, value in zip(places, one.values, strict=True)
            if not math.isnan(value)
        ]
        parts.append(Path(tuple((x, y) for x, y, _ in points), one.colour))
        parts += [Dot(x, y, 3.5, one.colour, f"{one.name}: {number(value)} {unit}") for x, y, value in points]
    ends = [up.at(next(value for value in reversed(one.values) if not math.isnan(value))) for one in series]
    for one, y in zip(series, _apart(ends, bottom), strict=True):
        parts.append(Dot(WIDTH - LABELS + 14, y, 4, one.colour))
        parts.append(Text(WIDTH - LABELS + 24, y + 4, one.name, "name"))
    return Plot(LINE_HEIGHT, label, tuple(parts))


def _widened(low: float, high: float) -> tuple[float, float]:
    margin = max((high - low) * 0.1, abs(high) * 0.02)
    return low - margin, high + margin


def _apart(places: Sequence[float], bottom: float) -> list[float]:
    """Places of labels moved up or down until none lies over another, and none below `bottom`."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    for before, i in itertools.pairwise(order):
        moved[i] = max(moved[i], moved[before] + LABEL_GAP)
    limit = bottom
    for i in reversed(order):
        moved[i] = min(moved[i], limit)
        limit = moved[i] - LABEL_GAP
    return moved


def points(
    series: Sequence[Series],
    unit: str,
    upward: str,
    label: str,
    *,
    joined: Sequence[Series] = (),
    named: Sequence[Series] | None = None,
) -> Plot:
    """A point for each series at its two values: across, and up a logarithmic axis with small values on top.

    joined: those that a line goes through, in order; named: those whose names stand beside them, None for all
    """
    across_high = max(one.values[0] for one in series) * 1.08
    heights = [one.values[1] for one in series]
    bottom = LINE_HEIGHT - LINE_BOTTOM
    across = Scale(0, across_high, LINE_LEFT, WIDTH - LABELS)
    up = Scale(min(heights) / 3, max(heights) * 3, LINE_TOP, bottom, logarithmic=True)
    parts: list[Shape] = []
    parts += [Text(across.at(value), bottom + 18, number(value), "tick", "middle") for value in across.ticks()]
    parts += _up(up)
    parts.append(Text(across.end, bottom + 36, f"{unit}; {upward}, the best on top", "tick", "end"))
    if len(joined) > 1:
        parts.append(Path(tuple((across.at(one.values[0]), up.at(one.values[1])) for one in joined), "var(--limit)"))
    taken: list[tuple[float, float]] = []  # where labels begin
    for one in sorted(series, key=lambda one: one.values[0]):
        x, y = across.at(one.values[0]), up.at(one.values[1])
        title = f"{one.name}: {number(one.values[0])} {unit}, {number(one.values[1])} {upward}"
        parts.append(Dot(x, y, 6, one.colour, title))
        if named is not None and one not in named:
            continue
        while any(abs(x - left) < LABELS and abs(y - top) < LABEL_GAP for left, top in taken):
            y += LABEL_GAP
        taken.append((x, y))
        parts.append(Text(x + 11, y + 4, one.name, "name"))
    return Plot(LINE_HEIGHT, label, tuple(parts))
