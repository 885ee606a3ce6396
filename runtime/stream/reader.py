"""A source on a thread of its own: it is read, converted and prepared there, beside the model.

A file waits for the model and loses nothing. A live stream keeps up: a window that the model has not taken makes way
for the next, which counts what was passed over.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...preprocess.convert import Converter
from ...preprocess.prepare import normalise
from ...preprocess.spec import ClipSpec
from ...preprocess.views import cut_views
from ..reading import Reading, scaling_of
from .frames import SourceFrame, SourceState
from .windows import DueWindow, Prepare

Due = Generator[DueWindow | SourceState, None, None]


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


class Stream:
    """A source, and what it has ready for the model. All of it is touched under the lock of `ready` alone."""

    def __init__(self, number: int, name: str, ready: threading.Condition, depth: int) -> None:
        self.number, self.name = number, name
        self.live, self.is_done = False, False
        self.stop = threading.Event()
        self._ready, self._depth = ready, depth
        self._items: deque[DueWindow | SourceState | Exception] = deque()
        self._windows = 0  # among the items
        self._accounted = -1  # number of the last frame that was shown to the model, or counted as dropped

    def read(self, coming: Due) -> None:
        """What the thread does."""
        try:
            with closing(coming):
                for item in coming:
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
                left_out=newer.left_out + older.left_out,
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
