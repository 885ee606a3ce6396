"""A timeline as one HTML file that fetches nothing; page.html, beside it, is how it looks."""

import base64
import json
from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources
from pathlib import PurePath
from string import Template

import numpy as np

from ...runtime.stream.answers import Event
from .record import Steps, Timeline
from .times import clock, spoken, ticks

COLOURS = 7  # of labels; the others share one
MOST_ROWS = 8
ROW_SECONDS = (120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)
MOST_TICKS = 10
WIDTH, HEIGHT = 1000, 100  # of a plot, in units of its own: it is stretched to its place

# A bar that is narrower than this share of its row has no room for words.
_WORDS_SHARE = 0.04
_FLAT = 0.002  # scores that differ by less lie on one line


def page(timeline: Timeline, pictures: Sequence[bytes | None], *, link: str | None = None) -> str:
    """Draw the whole document.

    Args:
        timeline: what is shown.
        pictures: a JPEG for each event, None where there is none.
        link: the video's address, relative to the page, so that a reader can go to a moment of it.

    Returns:
        HTML. All that the page shows is in it.
    """
    shown = timeline.shown_labels(COLOURS)
    colour = {timeline.labels[label]: f"var(--series-{place})" for place, label in enumerate(shown, start=1)}
    rows = [_row(timeline, shown, colour, first, last) for first, last in row_spans(timeline.seconds)]
    template = Template((resources.files(__package__) / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title(timeline)),
        summary=escape(summary(timeline)),
        key="\n".join(_key(timeline, shown, colour)),
        rows="\n".join(rows),
        events=_events(timeline, colour, pictures, link),
        facts="\n".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts(timeline)),
        # < cannot end the element that the scores are in.
        scores=json.dumps(_scores(timeline), separators=(",", ":")).replace("<", "\\u003c"),
    )


def title(timeline: Timeline) -> str:
    """The name of the file alone."""
    return PurePath(timeline.name).name or timeline.name


def summary(timeline: Timeline) -> str:
    count = len(timeline.events)
    labels = len({event.label for event in timeline.events})
    found = f"{count:,} event{'' if count == 1 else 's'}"
    found += f" of {labels} label{'' if labels == 1 else 's'}" if count else ""
    return f"{spoken(timeline.seconds)}, {found}, by {timeline.model}"


def facts(timeline: Timeline) -> list[tuple[str, str]]:
    rule = timeline.rule
    several = timeline.steps.windows
    drawn = f"; each point of a line is the highest of {several}" if several > 1 else ""
    event = f"begins at a score of {rule.on:g} and lasts down to {rule.off:g}"
    event += f", {rule.min_seconds:g} s or more" if rule.min_seconds else ""
    event += f", over gaps of {rule.gap_seconds:g} s" if rule.gap_seconds else ""
    event += f", averaged over {rule.smooth_seconds:g} s" if rule.smooth_seconds else ""
    return [
        ("Video", timeline.name),
        ("Model", timeline.model),
        ("A window", str(timeline.grid)),
        ("Windows", f"{len(timeline.answers.seconds):,}{drawn}"),
        ("An event", event),
        ("Times", "the middle of the first and of the last window that carries an event"),
    ]


def row_spans(seconds: float) -> list[tuple[float, float]]:
    """The parts of a video that lie below one another: one for a short one, at most MOST_ROWS."""
    if seconds <= 1.5 * ROW_SECONDS[0]:
        return [(0.0, max(seconds, 1e-3))]
    length = next((step for step in ROW_SECONDS if seconds / step <= MOST_ROWS), seconds / MOST_ROWS)
    # The last row is as long as the others, so that a second is as wide everywhere.
    return [(row * length, (row + 1) * length) for row in range(int(np.ceil(seconds / length - 1e-9)))]


# --- A row: lines of scores, bars of events, and times ---


def _row(timeline: Timeline, shown: Sequence[int], colour: dict[str, str], first: float, last: float) -> str:
    events = [(number, event) for number, event in numbered(timeline) if event.begin < last and event.end >= first]
    label = f"Scores from {clock(first)} to {clock(min(last, timeline.seconds))}"
    limits = [f'<line class="limit" x1="0" x2="{WIDTH}" y1="{_y(at)}" y2="{_y(at)}"/>' for at in _limits(timeline)]
    scale = [
        f'<span class="scale" style="top:{_y(at)}%" aria-hidden="true">{at:.0%}</span>' for at in _limits(timeline)
    ]
    lines = [
        part
        for number in reversed(shown)  # the one that counts most lies on top
        for part in _lines(timeline.steps, number, colour[timeline.labels[number]], first, last)
    ]
    return "\n".join(
        [
            f'<section class="row" aria-label="{clock(first)} to {clock(min(last, timeline.seconds))}">',
            f'<div class="plot" data-first="{first:g}" data-last="{last:g}">',
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">',
            *limits,
            *lines,
            "</svg>",
            *scale,
            "</div>",
            '<div class="lanes">',
            *_lanes(timeline, events, colour, first, last),
            "</div>",
            '<div class="ticks" aria-hidden="true">',
            *_ticks(first, last),
            "</div>",
            "</section>",
        ]
    )


def _limits(timeline: Timeline) -> list[float]:
    return sorted({timeline.rule.on, timeline.rule.off})


def _y(score: float) -> str:
    return f"{HEIGHT * (0.96 - 0.92 * score):.1f}"


def _lines(steps: Steps, label: int, colour: str, first: float, last: float) -> Iterator[str]:
    """The scores of a label as lines, broken where windows are missing; the neighbours of a row reach into it."""
    inside = np.flatnonzero((steps.seconds >= first) & (steps.seconds <= last))
    if len(inside) == 0:
        return
    taken = np.arange(max(inside[0] - 1, 0), min(inside[-1] + 2, len(steps.seconds)))
    breaks = np.flatnonzero(~steps.follows[taken[1:]]) + 1
    for run in np.split(taken, breaks):
        scores = steps.scores[run, label]
        x = (steps.seconds[run] - first) / (last - first) * WIDTH
        if len(run) == 1:
            # A dot would be stretched with its plot: a line as short as it gets.
            places = f"{x[0] - 1:.1f},{_y(scores[0])} {x[0] + 1:.1f},{_y(scores[0])}"
        else:
            places = " ".join(f"{x[i]:.1f},{_y(scores[i])}" for i in _bends(scores))
        yield f'<polyline points="{places}" stroke="{colour}"/>'


def _bends(scores: "np.ndarray[tuple[int], np.dtype[np.float32]]") -> list[int]:
    """Which points of a line are needed: not those between two of about the same height."""
    kept = [0]
    for here in range(1, len(scores) - 1):
        before, after = abs(scores[here] - scores[kept[-1]]), abs(scores[here + 1] - scores[here])
        if before > _FLAT or after > _FLAT:
            kept.append(here)
    return [*kept, len(scores) - 1]


def _lanes(
    timeline: Timeline, events: Sequence[tuple[int, Event]], colour: dict[str, str], first: float, last: float
) -> Iterator[str]:
    """Bars of the events, a lane for each label, in the order of labels on the whole page."""
    for label, of_label in lanes(timeline, events):
        yield '<div class="lane">'
        for number, event in of_label:
            begin, end = max(event.begin, first), min(max(event.end, event.begin), last)
            width = (end - begin) / (last - first)
            narrow = ' class="narrow"' if width < _WORDS_SHARE else ""
            yield (
                f'<a href="#event-{number}"{narrow} title="{escape(said(event))}" '
                f'aria-label="{escape(said(event))}" style="left:{(begin - first) / (last - first):.3%};'
                f'width:{width:.3%};background:{colour.get(label, "var(--series-0)")}">{escape(label)}</a>'
            )
        yield "</div>"


def numbered(timeline: Timeline) -> list[tuple[int, Event]]:
    """The events with their numbers, from 1."""
    return list(enumerate(timeline.events, start=1))


def lanes(timeline: Timeline, events: Sequence[tuple[int, Event]]) -> list[tuple[str, list[tuple[int, Event]]]]:
    """Events by their label, in the order of labels on the whole page."""
    by_label: dict[str, list[tuple[int, Event]]] = {}
    for number, event in events:
        by_label.setdefault(event.label, []).append((number, event))
    order = [timeline.labels[label] for label in timeline.shown_labels(len(timeline.labels))]
    return sorted(by_label.items(), key=lambda item: order.index(item[0]))


def _ticks(first: float, last: float) -> Iterator[str]:
    for at in ticks(first, last, MOST_TICKS):
        share = (at - first) / (last - first)
        edge = ' class="first"' if share < 0.01 else ' class="last"' if share > 0.99 else ""
        yield f'<span{edge} style="left:{share:.3%}">{clock(at, tenths=at % 1 != 0)}</span>'


# --- The rest ---


def _key(timeline: Timeline, shown: Sequence[int], colour: dict[str, str]) -> Iterator[str]:
    for label in shown:
        name = timeline.labels[label]
        yield f'<li><i style="background:{colour[name]}"></i>{escape(name)}</li>'
    if len({event.label for event in timeline.events}) > len(shown):
        yield '<li><i style="background:var(--series-0)"></i>other labels with events</li>'


def said(event: Event) -> str:
    """An event in words: archery, 0:04.5 to 0:09.0, 93%."""
    return f"{event.label}, {clock(event.begin, tenths=True)} to {clock(event.end, tenths=True)}, {event.score:.0%}"


def _events(timeline: Timeline, colour: dict[str, str], pictures: Sequence[bytes | None], link: str | None) -> str:
    if not timeline.events:
        rule, scores = timeline.rule, timeline.steps.scores[:, timeline.rule.numbers(timeline.labels)]
        best = f" The highest score is {scores.max():.0%}." if len(scores) else ""
        return f"<p>None: one begins at a score of {rule.on:.0%} and lasts {rule.min_seconds:g} s or more.{best}</p>"
    parts = ['<ol class="events">']
    for number, (event, picture) in enumerate(zip(timeline.events, pictures, strict=True), start=1):
        image = ""
        if picture is not None:
            alt = f"{event.label} at {clock((event.begin + event.end) / 2, tenths=True)}"
            data = base64.b64encode(picture).decode()
            image = f'<img src="data:image/jpeg;base64,{data}" alt="{escape(alt)}" loading="lazy">'
        span = f"{clock(event.begin, tenths=True)} to {clock(event.end, tenths=True)}"
        if link is not None:
            span = f'<a href="{escape(link)}#t={max(event.begin, 0):.1f}">{span}</a>'
        parts.append(
            f'<li id="event-{number}" style="border-color:{colour.get(event.label, "var(--series-0)")}">{image}'
            f"<div><strong>{escape(event.label)}</strong><small>{span} · {event.score:.0%}</small></div></li>"
        )
    return "\n".join([*parts, "</ol>"])


def _scores(timeline: Timeline) -> dict[str, object]:
    """What the page says of a moment: the three best labels of each step, in percent."""
    steps = timeline.steps
    order = np.argsort(-steps.scores, axis=1, kind="stable")[:, :3]  # (n, 3)
    used = sorted({int(label) for label in order.ravel()})
    place = {label: number for number, label in enumerate(used)}
    return {
        "seconds": np.round(steps.seconds, 3).tolist(),
        "labels": [timeline.labels[label] for label in used],
        "best": [
            [[place[int(label)], round(float(scores[label]) * 100)] for label in best]
            for best, scores in zip(order, steps.scores, strict=True)
        ],
    }
