"""A timeline as a PNG, drawn by Pillow: twice as large as it gets, so that lines are smooth."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import MissingExtra
from ...preprocess.resize import Pixels
from ...runtime.stream.answers import Event
from .page import COLOURS, facts, lanes, numbered, row_spans, summary, title
from .record import Steps, Timeline
from .times import clock, ticks

SCALE = 2  # pixels drawn for one that is shown, each way
WIDTH, MARGIN = 1200, 36
PLOT, LANE, AXIS, BETWEEN = 110, 20, 22, 20
COLUMNS, GAP = 6, 12
MOST_PICTURES = 12
MOST_TICKS = 12
LEAST_LETTERS = 4  # of a word that is cut

PAPER, INK, SOFT, FAINT, CARD = (255, 255, 255), (28, 32, 36), (92, 102, 112), (195, 202, 209), (245, 247, 249)
SERIES = (
    (31, 111, 209), (194, 77, 0), (15, 117, 82), (142, 68, 173), (143, 106, 0), (184, 42, 114), (11, 114, 131),
)  # fmt: skip
OTHER = (107, 117, 128)


def check_pillow() -> None:
    """Raise MissingExtra where Pillow is not installed."""
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise MissingExtra("pillow", "picture", purpose="to draw a timeline as a .png") from error


def picture(timeline: Timeline, shown: Mapping[int, Pixels]) -> bytes:
    """Draw a timeline.

    Args:
        timeline: what is drawn.
        shown: uint8 (H, W, 3) by the number of an event, from 0; MOST_PICTURES of them have room.

    Returns:
        A PNG. A font that comes with Pillow writes it, which has Latin letters alone.
    """
    check_pillow()
    canvas = _Canvas(_height(timeline, shown))
    labels = timeline.shown_labels(COLOURS)
    colour = {timeline.labels[label]: SERIES[place] for place, label in enumerate(labels)}
    canvas.text((MARGIN, MARGIN), title(timeline), 24, INK, most=WIDTH - 2 * MARGIN)
    canvas.text((MARGIN, MARGIN + 34), summary(timeline), 15, SOFT, most=WIDTH - 2 * MARGIN)
    _key(canvas, labels, timeline, colour, MARGIN + 60)
    y = MARGIN + 96.0
    for first, last in row_spans(timeline.seconds):
        y = _row(canvas, timeline, labels, colour, first, last, y)
    y = _pictures(canvas, timeline, colour, shown, y)
    text = " · ".join(f"{name}: {said}" for name, said in facts(timeline)[2:5])
    canvas.text((MARGIN, y), text, 12, SOFT, most=WIDTH - 2 * MARGIN)
    return canvas.png()


class _Canvas:
    """What is drawn on, in the pixels that are shown."""

    def __init__(self, height: int) -> None:
        from PIL import Image, ImageDraw

        self._image: Image.Image = Image.new("RGB", (WIDTH * SCALE, height * SCALE), PAPER)
        self._draw: ImageDraw.ImageDraw = ImageDraw.Draw(self._image)

    def text(
        self, at: tuple[float, float], text: str, size: int, colour: Sequence[int], *, most: float, anchor: str = "la"
    ) -> float:
        """Write a line, cut to `most` wide, and nothing where hardly a word has room; its width."""
        from PIL import ImageFont

        font: ImageFont.FreeTypeFont | ImageFont.ImageFont = ImageFont.load_default(size * SCALE)
        line = " ".join(text.split())
        if font.getlength(line) > most * SCALE:
            while len(line) >= LEAST_LETTERS and font.getlength(f"{line}…") > most * SCALE:
                line = line[:-1].rstrip()
            line = f"{line}…" if len(line) >= LEAST_LETTERS else ""
        if line:
            self._draw.text((at[0] * SCALE, at[1] * SCALE), line, fill=tuple(colour), font=font, anchor=anchor)
        return float(font.getlength(line)) / SCALE

    def box(self, left: float, top: float, right: float, bottom: float, colour: Sequence[int], radius: int = 0) -> None:
        corners = [(left * SCALE, top * SCALE), (right * SCALE - 1, bottom * SCALE - 1)]
        self._draw.rounded_rectangle(corners, radius * SCALE, fill=tuple(colour))

    def line(self, places: NDArray[np.float64], colour: Sequence[int], width: int = 2) -> None:
        """places: (n, 2), x and y"""
        points = [tuple(place) for place in (places * SCALE).tolist()]
        self._draw.line(points, fill=tuple(colour), width=width * SCALE, joint="curve")

    def paste(self, pixels: Pixels, left: float, top: float, width: int, height: int) -> None:
        """Pixels (H, W, 3), cut to the shape of their place."""
        from PIL import Image, ImageOps

        fitted = ImageOps.fit(Image.fromarray(np.ascontiguousarray(pixels)), (width * SCALE, height * SCALE))
        self._image.paste(fitted, (round(left * SCALE), round(top * SCALE)))

    def png(self) -> bytes:
        from PIL import Image

        small = self._image.resize((WIDTH, self._image.height // SCALE), Image.Resampling.BOX)
        written = io.BytesIO()
        small.save(written, "PNG", optimize=True)
        return written.getvalue()


def _events_in(timeline: Timeline, first: float, last: float) -> list[tuple[int, Event]]:
    return [(number, event) for number, event in numbered(timeline) if event.begin < last and event.end >= first]


def _height(timeline: Timeline, shown: Mapping[int, Pixels]) -> int:
    rows = [len(lanes(timeline, _events_in(timeline, *span))) for span in row_spans(timeline.seconds)]
    height = MARGIN + 96 + sum(PLOT + LANE * count + AXIS + BETWEEN for count in rows)
    return height + -(-len(shown) // COLUMNS) * (_picture_height() + 46) + 12 + MARGIN


def _picture_width() -> int:
    return (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) // COLUMNS


def _picture_height() -> int:
    return round(_picture_width() * 0.66)


Colours = Mapping[str, tuple[int, int, int]]


def _key(canvas: _Canvas, labels: Sequence[int], timeline: Timeline, colour: Colours, y: float) -> None:
    x = float(MARGIN)
    for label in labels:
        name = timeline.labels[label]
        room = WIDTH - MARGIN - x - 26
        if room < 40:
            return
        canvas.box(x, y + 7, x + 18, y + 10, colour[name])
        x += 26 + canvas.text((x + 24, y), name, 14, INK, most=room) + 20


def _row(
    canvas: _Canvas,
    timeline: Timeline,
    labels: Sequence[int],
    colour: Colours,
    first: float,
    last: float,
    top: float,
) -> float:
    """One part of the video; where the next begins."""
    width = WIDTH - 2 * MARGIN
    by_label = lanes(timeline, _events_in(timeline, first, last))
    bottom = top + PLOT + LANE * len(by_label)

    def x(at: float) -> float:
        return MARGIN + (at - first) / (last - first) * width

    canvas.box(MARGIN, top, WIDTH - MARGIN, bottom + 3, CARD, 5)
    _plot(canvas, timeline, labels, colour, (first, last), top)
    for place, (name, events) in enumerate(by_label):
        lane = top + PLOT + LANE * place
        for _, event in events:
            begin, end = x(max(event.begin, first)), x(min(event.end, last))
            canvas.box(begin, lane + 1, max(end, begin + 3), lane + LANE - 2, colour.get(name, OTHER), 3)
            canvas.text((begin + 5, lane + LANE / 2), name, 12, PAPER, most=end - begin - 10, anchor="lm")
    for at in ticks(first, last, MOST_TICKS):
        anchor = "la" if at - first < (last - first) * 0.01 else "ra" if last - at < (last - first) * 0.01 else "ma"
        canvas.text((x(at), bottom + 7), clock(at, tenths=at % 1 != 0), 12, SOFT, most=80, anchor=anchor)
    return bottom + AXIS + BETWEEN


def _plot(
    canvas: _Canvas,
    timeline: Timeline,
    labels: Sequence[int],
    colour: Colours,
    span: tuple[float, float],
    top: float,
) -> None:
    """The lines of scores of a part of the video, over those of the rule."""
    first, last = span
    for limit in sorted({timeline.rule.on, timeline.rule.off}):
        y = top + PLOT * (0.96 - 0.92 * limit)
        for left in range(MARGIN, WIDTH - MARGIN, 8):
            canvas.box(left, y, left + 3, y + 1, FAINT)
        canvas.text((MARGIN + 4, y), f"{limit:.0%}", 11, SOFT, most=60, anchor="ls")
    for label in reversed(labels):  # the one that counts most lies on top
        for places in _lines(timeline.steps, label, first, last):
            across = MARGIN + (places[:, 0] - first) / (last - first) * (WIDTH - 2 * MARGIN)
            down = top + PLOT * (0.96 - 0.92 * places[:, 1])
            canvas.line(np.stack([across, down], axis=1), colour[timeline.labels[label]])


def _lines(steps: Steps, label: int, first: float, last: float) -> list[NDArray[np.float64]]:
    """(n, 2), time and score, of each unbroken run of steps, cut at the ends of the row."""
    inside = np.flatnonzero((steps.seconds >= first) & (steps.seconds <= last))
    runs = np.split(inside, np.flatnonzero(~steps.follows[inside[1:]]) + 1) if len(inside) else []
    lines = []
    for run in runs:
        places = np.stack([steps.seconds[run], steps.scores[run, label].astype(np.float64)], axis=1)
        if len(run) == 1:  # as short as it gets
            half = 0.001 * (last - first)
            places = np.clip(np.add(places, [[-half, 0], [half, 0]]), [first, 0], [last, 1])
        lines.append(places)
    return lines


def _pictures(canvas: _Canvas, timeline: Timeline, colour: Colours, shown: Mapping[int, Pixels], top: float) -> float:
    """The events that have a picture; where the next thing begins."""
    width, height = _picture_width(), _picture_height()
    for place, number in enumerate(sorted(shown)):
        event = timeline.events[number]
        left = MARGIN + place % COLUMNS * (width + GAP)
        y = top + place // COLUMNS * (height + 46)
        canvas.box(left, y, left + width, y + 4, colour.get(event.label, OTHER))
        canvas.paste(shown[number], left, y + 4, width, height - 4)
        canvas.text((left, y + height + 5), event.label, 14, INK, most=width)
        span = f"{clock(event.begin, tenths=True)} to {clock(event.end, tenths=True)} · {event.score:.0%}"
        canvas.text((left, y + height + 23), span, 12, SOFT, most=width)
    return top + -(-len(shown) // COLUMNS) * (height + 46)
