"""Streams on one model. Each source is read, converted and prepared on a thread of its own, beside the model.

A file waits for the model and loses nothing. A live stream keeps up. The model may take longer than the time from one
window to the next. It is then asked about the newest window alone, and what was passed over is counted in the answer.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.convert import Converter
from ...preprocess.errors import OutOfBounds, VideoError
from ...preprocess.prepare import normalise
from ...preprocess.sources import FileLike, Source, is_file_like
from ...preprocess.spec import ClipSpec
from ...preprocess.views import cut_views
from ..bounds import shown
from ..reading import Reading, scaling_of
from .address import source_of
from .answers import Scoring, SourceChange, Window
from .frames import SourceFrame, SourceState
from .source import GivenFrames, open_source
from .windows import DueWindow, Grid, Prepare, grid_of, windows

# What can be watched; see `open_source`.
Watchable = FileLike | Source | GivenFrames
Due = Generator[DueWindow | SourceState, None, None]

LEAST_DEPTH = 2  # windows of a file that are ready ahead of the model
CLOSING_SECONDS = 2.0  # that a reader gets to end; one that waits for a packet ends when that comes
_GLANCE_SECONDS = 0.1  # between two looks at whether to stop


@dataclass(frozen=True)
class Asked:
    """What streams need of a model.

    spec:    its input contract
    reading: how frames are read; what is about whole files plays no part
    scoring: how logits become an answer
    infer:   prepared clips (B, T, ...) -> logits float32 (B, K)
    """

    spec: ClipSpec
    reading: Reading
    scoring: Scoring
    infer: Callable[[NDArray[Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class Watching:
    """How sources are watched.

    every:         seconds from one window to the next
    top_k:         labels in an answer
    batch:         windows in one run of the graph
    live:          drop what is late (True), or wait (False); None: as the source is
    stall_seconds: without a frame, after which a stream is lost; None is the source's own
    retries:       how many times a lost stream is opened again; None is for ever
    seconds:       after which watching ends, by a file's time and by the clock of a stream; None is never
    """

    every: float = 0.5
    top_k: int = 5
    batch: int = 1
    live: bool | None = None
    stall_seconds: float | None = None
    retries: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise OutOfBounds(f"seconds must be above 0, got {shown(self.seconds)}")


# --- One source, on its thread ---


def preparer(spec: ClipSpec, reading: Reading, name: str) -> Prepare:
    """Make what turns one frame of a source into model input, as `read_crops` and `prepare_crops` do with a clip."""
    converter = Converter(name, rotate=reading.rotate, scaling=scaling_of(spec, reading))

    def prepare(frame: SourceFrame) -> tuple[NDArray[Any], ...]:
        picture = frame.frame if isinstance(frame.frame, np.ndarray) else converter.pixels(frame.frame)
        cut = cut_views(picture[np.newaxis], spec, reading.crops)  # (H, W, 3) -> (1, H', W', 3) for each crop
        return tuple(pixels[0] if spec.layout == "THWC" else normalise(pixels, spec)[0] for pixels in cut)

    return prepare


def until(coming: Iterable[SourceFrame | SourceState], seconds: float) -> Iterator[SourceFrame | SourceState]:
    """End a source after `seconds`. Its own time counts where it is a file, the clock where it is live."""
    live, begin = False, None
    for item in coming:
        if isinstance(item, SourceState):
            live = item.live
        now = time.monotonic() if live else item.seconds if isinstance(item, SourceFrame) else None
        begin = now if begin is None else begin
        if now is not None and begin is not None and now - begin > seconds:
            yield SourceState("ended", 0, None, item.segment, live)
            return
        yield item


def seen(
    coming: Iterable[SourceFrame | SourceState], see: Callable[[SourceFrame], None]
) -> Iterator[SourceFrame | SourceState]:
    """Show each frame to `see` as it comes by."""
    for item in coming:
        if isinstance(item, SourceFrame):
            see(item)
        yield item


class _Stream:
    """A source, and what it has ready for the model. All of it is touched under the lock of `ready` alone."""

    def __init__(self, number: int, name: str, ready: threading.Condition, depth: int) -> None:
        self.number, self.name = number, name
        self.live, self.is_done = False, False
        self.stop = threading.Event()
        self._ready, self._depth = ready, depth
        self._items: deque[DueWindow | SourceState | Exception] = deque()
        self._windows = 0  # among the items
        self._accounted = -1  # number of the last frame that was shown to the model, or counted as dropped

    def read(self, coming: Callable[[], Due]) -> None:
        """What the thread does."""
        try:
            with closing(coming()) as items:
                for item in items:
                    if not self._put(item):
                        return
        except Exception as error:  # whatever it is, the thread of the consumer raises it
            self._put(error)
        finally:
            with self._ready:
                self.is_done = True
                self._ready.notify_all()

    def _put(self, item: DueWindow | SourceState | Exception) -> bool:
        """Whether there is somebody to take it. A window of a file waits for room, one of a live stream takes the place
        of an older one."""
        with self._ready:
            if isinstance(item, SourceState):
                self.live = item.live
            if isinstance(item, DueWindow):
                if self.live:
                    item = self._in_place_of_older(item)
                else:
                    self._ready.wait_for(lambda: self._windows < self._depth or self.stop.is_set())
                self._windows += 1
            if self.stop.is_set():
                return False
            self._items.append(item)
            self._ready.notify_all()
            return True

    def _in_place_of_older(self, newer: DueWindow) -> DueWindow:
        for older in [item for item in self._items if isinstance(item, DueWindow)]:
            self._items.remove(older)
            self._windows -= 1
            first = max(older.frames[0].number, self._accounted + 1)
            last = min(older.frames[-1].number, newer.frames[0].number - 1)
            self._accounted = max(self._accounted, last)
            newer = replace(
                newer,
                follows=newer.follows and older.follows,
                skipped=newer.skipped + older.skipped + 1,
                dropped=newer.dropped + older.dropped + max(0, last - first + 1),
            )
        return newer

    def take(self) -> list[DueWindow | SourceState | Exception]:
        """What is next: one window at most, and what comes before it."""
        taken: list[DueWindow | SourceState | Exception] = []
        while self._items:
            item = self._items.popleft()
            taken.append(item)
            if isinstance(item, DueWindow):
                self._windows -= 1
                self._accounted = max(self._accounted, item.frames[-1].number)
                self._ready.notify_all()
                break
        return taken


# --- All of them, on the model ---

_Taken = tuple[_Stream, DueWindow | SourceState | Exception]


def watch_sources(
    sources: Sequence[Watchable],
    asked: Asked,
    watching: Watching,
    stop: threading.Event,
    see: Callable[[SourceFrame], None] | None = None,
) -> Iterator[Window | SourceChange]:
    """Ask a model about the windows of several sources, as they become ready.

    Args:
        sources: what `open_source` takes.
        asked: the model.
        watching: how.
        stop: ends it when set.
        see: called with every frame, on the thread that reads it.

    Yields:
        Windows and changes, those of each source in order.

    Raises:
        VideoError: for what is no source. One that cannot be read is a change with its error.
        BackendError: where the engine fails.
    """
    grid = grid_of(asked.spec, fps=asked.reading.fps, every=watching.every)
    batch = watching.batch
    ready = threading.Condition()
    streams = []
    for number, source in enumerate(sources):
        stream = _Stream(number, _name(source, number), ready, max(LEAST_DEPTH, batch))
        streams.append((stream, _reader(source, stream, asked, watching, grid, see)))
    threads = [
        threading.Thread(target=stream.read, args=(coming,), name=f"tubelet-stream-{stream.number}", daemon=True)
        for stream, coming in streams
    ]
    try:
        for thread in threads:
            thread.start()
        yield from _ask([stream for stream, _ in streams], ready, asked, batch, watching.top_k, stop)
    finally:
        with ready:
            for stream, _ in streams:
                stream.stop.set()
            ready.notify_all()
        last = time.monotonic() + CLOSING_SECONDS
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, last - time.monotonic()))


def _name(source: Watchable, number: int) -> str:
    """What a source is called, without its password."""
    return source_of(source).name if is_file_like(source) else f"stream {number + 1}"


def _reader(
    source: Watchable,
    stream: _Stream,
    asked: Asked,
    watching: Watching,
    grid: Grid,
    see: Callable[[SourceFrame], None] | None,
) -> Callable[[], Due]:
    def coming() -> Due:
        reading = asked.reading
        opened = open_source(
            source,
            live=watching.live,
            stall_seconds=watching.stall_seconds,
            retries=watching.retries,
            track=reading.track,
            max_mb=reading.max_mb,
            on_error=reading.on_error,
            stop=stream.stop,
        )
        frames = opened if watching.seconds is None else until(opened, watching.seconds)
        frames = frames if see is None else seen(frames, see)
        prepare = preparer(asked.spec, reading, stream.name)
        return windows(frames, grid, prepare, asked.spec.evaluation.sampling, name=stream.name)

    return coming


def _ask(
    streams: Sequence[_Stream],
    ready: threading.Condition,
    asked: Asked,
    batch: int,
    top_k: int,
    stop: threading.Event,
) -> Iterator[Window | SourceChange]:
    """Run the graph on what is ready, up to `batch` windows at once, and never wait for more of them."""
    turn = 0
    while not stop.is_set():
        with ready:
            taken, turn = _take(streams, turn, batch)
            if not taken:
                if all(stream.is_done for stream in streams):
                    return
                ready.wait(_GLANCE_SECONDS)
                continue
        due = [window for _, window in taken if isinstance(window, DueWindow)]
        logits = iter(asked.infer(np.concatenate([window.batch() for window in due])) if due else ())
        answered = time.monotonic()
        for stream, item in taken:
            if isinstance(item, DueWindow):
                views: NDArray[np.float32] = np.stack([next(logits) for _ in item.frames[0].crops])
                yield _answer(stream, item, views, asked.scoring, top_k, answered)
            elif isinstance(item, SourceState):
                yield SourceChange(stream.name, stream.number, item)
            elif isinstance(item, VideoError):
                state = SourceState("ended", 0, item.message, 0, stream.live)
                yield SourceChange(stream.name, stream.number, state, item)
            else:
                raise item


def _take(streams: Sequence[_Stream], turn: int, batch: int) -> tuple[list[_Taken], int]:
    """What is ready, up to `batch` windows, one of each stream in turn; and whose turn is next."""
    taken: list[_Taken] = []
    windows_taken, empty = 0, 0
    while windows_taken < batch and empty < len(streams):
        stream = streams[turn]
        found = stream.take()
        taken += [(stream, item) for item in found]
        has_window = bool(found) and isinstance(found[-1], DueWindow)
        windows_taken += has_window
        empty = 0 if has_window else empty + 1
        turn = (turn + 1) % len(streams)
    return taken, turn


def _answer(
    stream: _Stream, due: DueWindow, logits: NDArray[np.float32], scoring: Scoring, top_k: int, answered: float
) -> Window:
    """logits: (views, K) of one window; answered: when, by `time.monotonic()`"""
    lag = answered - due.frames[-1].arrived
    return Window(
        source=stream.name,
        stream=stream.number,
        segment=due.segment,
        frame_seconds=np.array([frame.seconds for frame in due.frames]),
        logits=logits,
        scoring=scoring,
        predictions=scoring.answer(logits, top_k),
        follows=due.follows,
        skipped_windows=due.skipped,
        dropped_frames=due.dropped,
        lag_seconds=lag if stream.live else None,
        arrived_at=time.time() - (time.monotonic() - due.frames[-1].arrived) if stream.live else None,
    )
