"""Streams on one model. Each source is read, converted and prepared on a thread of its own, beside the model.

A file waits for the model and loses nothing. A live stream keeps up. The model may take longer than the time from one
window to the next. It is then asked about the newest window alone, and what was passed over is counted in the answer.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.errors import VideoError
from ...preprocess.sources import is_file_like
from ...preprocess.spec import ClipSpec
from ..reading import Reading
from .address import source_of
from .answers import Scoring, SourceChange, Window
from .frames import SourceFrame, SourceState
from .grid import Grid, grid_of
from .reader import Due, Stream, preparer, seen, until
from .source import open_source
from .watching import Watchable, Watching
from .windows import DueWindow, windows

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


_Taken = tuple[Stream, DueWindow | SourceState | Exception]


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
    streams: list[Stream] = []
    threads: list[threading.Thread] = []
    for number, source in enumerate(sources):
        stream = Stream(number, _name(source, number), ready, max(LEAST_DEPTH, batch))
        streams.append(stream)
        coming = _due(source, stream, asked, watching, grid, see)
        name = f"tubelet-stream-{number}"
        threads.append(threading.Thread(target=stream.read, args=(coming,), name=name, daemon=True))
    try:
        for thread in threads:
            thread.start()
        yield from _ask(streams, ready, asked, batch, watching.top_k, stop)
    finally:
        with ready:
            for stream in streams:
                stream.stop.set()
            ready.notify_all()
        last = time.monotonic() + CLOSING_SECONDS
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, last - time.monotonic()))


def _name(source: Watchable, number: int) -> str:
    """What a source is called, without its password."""
    return source_of(source).name if is_file_like(source) else f"stream {number + 1}"


def _due(
    source: Watchable,
    stream: Stream,
    asked: Asked,
    watching: Watching,
    grid: Grid,
    see: Callable[[SourceFrame], None] | None,
) -> Due:
    """The windows of a source, and its states. Nothing is opened before the first is asked for."""
    reading = asked.reading
    frames = open_source(
        source,
        live=watching.live,
        stall_seconds=watching.stall_seconds,
        retries=watching.retries,
        track=reading.track,
        max_mb=reading.max_mb,
        on_error=reading.on_error,
        stop=stream.stop,
    )
    if watching.seconds is not None:
        frames = until(frames, watching.seconds)
    if see is not None:
        frames = seen(frames, see)
    prepare = preparer(asked.spec, reading, stream.name)
    yield from windows(frames, grid, prepare, asked.spec.evaluation.sampling, name=stream.name)


def _ask(
    streams: Sequence[Stream],
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


def _take(streams: Sequence[Stream], turn: int, batch: int) -> tuple[list[_Taken], int]:
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
    stream: Stream, due: DueWindow, logits: NDArray[np.float32], scoring: Scoring, top_k: int, answered: float
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
        due=due.due,
        follows=due.follows,
        skipped_windows=due.skipped,
        dropped_frames=due.dropped,
        left_out_frames=due.left_out,
        lag_seconds=lag if stream.live else None,
        arrived_at=time.time() - (time.monotonic() - due.frames[-1].arrived) if stream.live else None,
    )
