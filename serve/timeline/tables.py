"""A timeline as text: JSON, rows of comma-separated values, and subtitles."""

import csv
import io
import json
from typing import Any

from ...runtime.stream.answers import Event
from .record import Timeline


def to_json(timeline: Timeline) -> str:
    """All of it: windows and events as `tubelet watch --json-lines` has them, in one document."""
    answers, labels = timeline.answers, timeline.labels
    document: dict[str, Any] = {
        "video": timeline.name,
        "model": timeline.model,
        "seconds": round(timeline.seconds, 6),
        "every": timeline.grid.every,
        "rule": {"on": timeline.rule.on, "off": timeline.rule.off},
        "events": [
            {
                "label": event.label,
                "begin": round(event.begin, 6),
                "end": round(event.end, 6),
                "score": round(event.score, 6),
            }
            for event in timeline.events
        ],
        "windows": [
            {
                "seconds": [round(first, 6), round(last, 6)],
                "predictions": [
                    {"label": labels[number], "score": round(score, 6)}
                    for number, score in zip(numbers, scores, strict=True)
                ],
            }
            for (first, last), numbers, scores in zip(
                answers.seconds.tolist(), answers.labels.tolist(), answers.scores.tolist(), strict=True
            )
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def to_csv(timeline: Timeline) -> str:
    """One row an event: begin and end in seconds, label, score."""
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(["begin", "end", "label", "score"])
    for event in timeline.events:
        rows.writerow([f"{event.begin:.3f}", f"{event.end:.3f}", event.label, f"{event.score:.4f}"])
    return written.getvalue()


def to_vtt(timeline: Timeline) -> str:
    """Subtitles that name what happens while it does (WebVTT, https://www.w3.org/TR/webvtt1/).

    An event that one window alone carried is shown for as long as from one window to the next.
    """
    blocks = ["WEBVTT", f"NOTE {_one_line(timeline.model)}"]
    for number, event in enumerate(timeline.events, start=1):
        begin, end = max(event.begin, 0), max(event.end, event.begin + timeline.grid.every, 0.001)
        blocks.append(f"{number}\n{_stamp(begin)} --> {_stamp(end)}\n{_cue(event)}")
    return "\n\n".join(blocks) + "\n"


def _cue(event: Event) -> str:
    """A label as the text of a cue, in which < & and an empty line have meanings."""
    label = _one_line(event.label).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{label} {event.score:.0%}"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("-->", "->")


def _stamp(seconds: float) -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}.{rest % 1000:03}"
