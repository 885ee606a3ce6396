"""`tubelet watch`."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from ..runtime.classifier import VideoClassifier
from ..runtime.load import load
from ..runtime.predictions import Prediction
from ..runtime.progress import StatusLine
from ..runtime.reading import Reading
from ..runtime.stream.answers import Event, SourceChange, Window
from ..runtime.stream.events import EventFinder, EventRule
from ..runtime.stream.frames import SourceFrame
from ..runtime.stream.grid import grid_of
from ..runtime.stream.watching import Watching
from ..serve.annotated import AnnotatedVideo, annotated_video
from .event_options import event_options, no_event
from .options import bundle_argument, check_no_video, engine_options, note
from .reading_options import stream_reading_options
from .signals import stopped_by_signals
from .standard_input import STANDARD_INPUT

Line = Window | Event | SourceChange


@click.command()
@bundle_argument
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@engine_options
@click.option("--every", type=float, default=0.5, show_default=True, help="Seconds from one window to the next.")
@event_options
@click.option("--live/--file", default=None, help="Drop what is late, or wait.  [default: as the source is]")
@click.option(
    "--stall-seconds", type=float, help="A stream without a frame for this long is lost.  [default: 10, HLS 30]"
)
@click.option(
    "--retries", type=click.IntRange(min=0), help="Times that a lost stream is opened again.  [default: for ever]"
)
@click.option("--seconds", type=float, help="End after this time.  [default: with the source]")
@click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Windows in one run of the graph."
)
@click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="Labels in a line.")
@stream_reading_options
@click.option("--json-lines", is_flag=True, help="One JSON object a line: each window, event and change of a source.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE.mp4",
    help="A copy of the one SOURCE with what is said written over it.",
)
@click.option("--force", is_flag=True, help="Replace a FILE that is there.")
def watch(
    bundle: Path,
    sources: tuple[str, ...],
    backend: str,
    precision: str | None,
    threads: int | None,
    every: float,
    rule: EventRule,
    live: bool | None,
    stall_seconds: float | None,
    retries: int | None,
    seconds: float | None,
    batch: int,
    top_k: int,
    reading: Reading,
    json_lines: bool,
    output: Path | None,
    force: bool,
) -> None:
    """Say when what happens in streams, cameras and long files.

    A SOURCE is a file, - for standard input, a URL, or a camera such as /dev/video0 or camera:0. URLs are of rtsp,
    http, HLS, or MPEG-TS over tcp or udp. The model looks at a window every half second. A label that it sees in
    several becomes an event with a beginning and an end. Ctrl-C closes what is open.

    \b
    Example:
      tubelet watch artifacts/demo-videomae artifacts/demo-videos/changes.mp4
      tubelet watch artifacts/vivit-b-16x2-kinetics400 rtsp://camera/live --labels archery --json-lines
      tubelet watch artifacts/vivit-b-16x2-kinetics400 camera:0 --on 0.8 --smooth-seconds 2
    """
    if sources.count(STANDARD_INPUT) > 1:
        raise click.UsageError("standard input (-) can be read once")
    if output is not None and len(sources) > 1:
        raise click.UsageError("--output is a copy of one SOURCE, and several are given")
    if output is not None:
        check_no_video([output], sources)
    watching = Watching(every, top_k, batch, live, stall_seconds, retries, seconds)
    stop = threading.Event()
    is_live: dict[int, bool] = {}
    failed = False
    with StatusLine() as progress:
        progress("loading")
        with load(
            bundle,
            backend=backend,
            precision=precision,
            threads=threads,
            reading=reading,
            say=progress.aside(note),
        ) as model:
            progress.clear()
            note(f"windows of {grid_of(model.spec, fps=reading.fps, every=every)}")
            has_events = model.problem_type != "regression"
            if has_events:
                rule.check(model.scoring)
            else:
                note("this model is a regression: its windows have values, and there are no events")
            said = Said(progress, rule, several=len(sources) > 1, json_lines=json_lines, has_events=has_events)
            with copy(output, reading, force=force) as video, stopped_by_signals(stop) as signals:
                for line in lines(model, sources, watching, rule, stop, None if video is None else video.see):
                    said.line(line)
                    if video is not None:
                        video.hear(line)
                    if isinstance(line, SourceChange):
                        is_live[line.stream] = line.state.live
                        failed = failed or (line.state.state == "ended" and line.state.reason is not None)
            said.summary()
    if signals and not (is_live and all(is_live.values())):
        raise click.exceptions.Exit(128 + signals[0])
    if failed:
        raise click.exceptions.Exit(1)


@contextmanager
def copy(output: Path | None, reading: Reading, *, force: bool) -> Iterator[AnnotatedVideo | None]:
    """The annotated copy, where one is asked for."""
    if output is None:
        yield None
        return
    with annotated_video(output, rotate=reading.rotate, force=force) as video:
        yield video
    if video.dropped:
        note(f"{video.dropped} frames are not in {output}: the model was too slow for them")


def lines(
    model: VideoClassifier,
    sources: tuple[str, ...],
    watching: Watching,
    rule: EventRule,
    stop: threading.Event,
    see: Callable[[SourceFrame], None] | None,
) -> Iterator[Line]:
    """Windows, the events that they add up to, and what becomes of the sources, as they come."""
    finders = [EventFinder(rule) for _ in sources]
    for found in model.watch_many(sources, watching, stop=stop, see=see):
        if isinstance(found, Window):
            yield found
            if model.problem_type != "regression":
                yield from finders[found.stream].add(found)
        else:
            if found.state.state != "connected":  # nothing lasts over the time that a source is away
                yield from finders[found.stream].close()
            yield found
    for finder in finders:
        yield from finder.close()


@dataclass(frozen=True)
class PassedOver:
    """What came and was not shown to the model; see Window."""

    skipped: int = 0
    dropped: int = 0
    left_out: int = 0

    @classmethod
    def of(cls, window: Window) -> "PassedOver":
        return cls(window.skipped_windows, window.dropped_frames, window.left_out_frames)

    def __add__(self, other: "PassedOver") -> "PassedOver":
        return PassedOver(self.skipped + other.skipped, self.dropped + other.dropped, self.left_out + other.left_out)

    def __str__(self) -> str:
        counts = (
            ("window", "skipped", self.skipped),
            ("frame", "dropped", self.dropped),
            ("frame", "left out", self.left_out),
        )
        return ", ".join(f"{count} {what}{'s' * (count > 1)} {how}" for what, how, count in counts if count)


class Said:
    """What the command prints: JSON lines, or events for people with the window of the moment in the status line."""

    def __init__(
        self, progress: StatusLine, rule: EventRule, *, several: bool, json_lines: bool, has_events: bool
    ) -> None:
        self._progress, self._rule, self._several = progress, rule, several
        self._json_lines, self._has_events = json_lines, has_events
        self._windows = self._events = 0
        self._passed_over = PassedOver()
        self._best: tuple[float, str, float] | None = None  # score, label and time of what came nearest to an event

    def line(self, line: Line) -> None:
        if self._json_lines:
            self._print(json.dumps(line.to_json()))
        elif isinstance(line, Event):
            self._print(f"{self._source(line)}{event_text(line)}")
        elif isinstance(line, Window) and not self._has_events:
            self._print(f"{self._source(line)}{window_text(line)}")
        elif isinstance(line, SourceChange) and (said := change_text(line)):
            self._progress.clear()
            note(said)
        self._events += isinstance(line, Event) and line.open
        if isinstance(line, Window):
            self._windows += 1
            self._passed_over += PassedOver.of(line)
            if self._has_events:
                labels = line.scoring.labels
                score, number = max((float(line.scores[number]), number) for number in self._rule.numbers(labels))
                if self._best is None or score > self._best[0]:
                    self._best = score, labels[number], line.middle
            self._progress(f"{self._source(line)}{window_text(line)}")

    def summary(self) -> None:
        """Say what was passed over, and why nothing came of it, where nothing did."""
        self._progress.clear()
        if passed_over := str(self._passed_over):
            note(f"{passed_over}, beside {self._windows} windows that the model saw")
        if self._best is not None and not self._events:
            score, label, seconds = self._best
            note(no_event(self._rule, self._windows, score=score, label=label, at=clock(seconds)))

    def _print(self, text: str) -> None:
        self._progress.clear()
        click.echo(text)
        sys.stdout.flush()

    def _source(self, line: Window | Event) -> str:
        return f"{line.source}: " if self._several else ""


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss.s, from -0:00:00.1 on."""
    tenths = round(abs(seconds) * 10)
    sign = "-" if seconds < 0 and tenths else ""
    return f"{sign}{tenths // 36000}:{tenths // 600 % 60:02}:{tenths // 10 % 60:02}.{tenths % 10}"


def event_text(event: Event) -> str:
    if event.open:
        return f"{clock(event.begin)}               {event.label}"
    return f"{clock(event.begin)} to {clock(event.end)}  {event.label}, {event.score:.0%}"


def window_text(window: Window) -> str:
    best = window.predictions[0]
    said = f"{best.label} {best.score:.0%}" if isinstance(best, Prediction) else f"{best.label} {best.value:.6g}"
    lag = "" if window.lag_seconds is None else f"{window.lag_seconds:.1f} s behind"
    return ", ".join(filter(None, (f"{clock(window.seconds[1])}  {said}", lag, str(PassedOver.of(window)))))


def change_text(change: SourceChange) -> str:
    """What a person should know of it; nothing of the end of a file."""
    state = change.state
    if state.state == "connected":
        policy = "live: what is late is dropped (--file waits)" if state.live else "a file: nothing is dropped"
        return f"{change.source} is read as {policy}"
    if change.error is not None or state.reason is not None:
        return f"{change.source} {state.state}: {change.error or state.reason}"
    return ""
