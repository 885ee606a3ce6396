"""A copy of a stream with what the model says written over it, while it runs.

Each frame gets the window whose middle is nearest to it. That is known half a window later, for which frames wait, as
small as the copy has them.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from av.video.stream import VideoStream

from ..preprocess.convert import Converter, Scaling
from ..preprocess.errors import MissingExtra, TubeletError
from ..preprocess.resize import Pixels
from ..preprocess.spec import ShortestEdge
from ..runtime.predictions import Prediction
from ..runtime.storage.written import written_file
from ..runtime.stream.answers import Event, SourceChange, Window
from ..runtime.stream.frames import SourceFrame
from ..runtime.visual.drawing import enlarged
from ..runtime.visual.picture_files import check_picture
from .timeline.thumbnails import boxed
from .timeline.times import clock

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

LEAST_SIDE, MOST_SIDE = 240, 480  # of the shorter side of the copy
MOST_WAITING = 600  # frames; more than wait for any model that keeps up
TICK = Fraction(1, 90_000)
BAND, INK, SOFT, ACCENT = 0.3, (240, 244, 248), (170, 180, 192), (64, 200, 190)  # BAND: of the picture behind the text


def check_target(path: Path, *, force: bool) -> None:
    """Raise TubeletError where no annotated video can go to `path`, MissingExtra without what writes text."""
    if path.suffix.lower() != ".mp4":
        raise TubeletError(f"{path} must end in .mp4", fix="name an .mp4 with -o")
    check_picture(path, force=force)
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise MissingExtra("pillow", "picture", purpose="to write over a video") from error


@dataclass(frozen=True)
class _Waiting:
    """A frame of the copy that waits for its window. at: seconds from the start of the copy"""

    at: float
    seconds: float
    segment: int
    pixels: Pixels


class AnnotatedVideo:
    """A copy that is being written. `see` takes frames on the thread that reads them, `hear` what is said of them."""

    def __init__(self, container: "av.container.OutputContainer", path: Path, *, rotate: bool) -> None:
        self._container, self._path = container, path
        self._rotate = rotate
        self._stream: VideoStream | None = None
        self._converters: tuple[Converter, Converter] | None = None
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._window: Window | None = None
        self._open: set[str] = set()
        self._segment: int | None = None
        self._offset = self._last = 0.0  # what is added to media time, and where the copy is
        self.dropped = 0  # frames that waited in vain

    def see(self, frame: SourceFrame) -> None:
        """Take a frame; one without a time is not copied."""
        if frame.seconds is None:
            return
        pixels = enlarged(self._small(frame)[np.newaxis], LEAST_SIDE)[0]
        with self._lock:
            if frame.segment != self._segment:
                self._segment = frame.segment
                self._offset = self._last + (1 / 30 if self._last else 0) - frame.seconds
            self._last = max(self._last, frame.seconds + self._offset)
            self._waiting.append(_Waiting(frame.seconds + self._offset, frame.seconds, frame.segment, pixels))
            if len(self._waiting) > MOST_WAITING:
                self._waiting.popleft()
                self.dropped += 1

    def hear(self, line: Window | Event | SourceChange) -> None:
        """Take what is said, and write the frames whose window is known by that."""
        if isinstance(line, Event):
            (self._open.add if line.open else self._open.discard)(line.label)
        elif isinstance(line, Window):
            before = self._window
            for waiting in self._ready(before, line):
                self._write(waiting, before)
            self._window = line

    def finish(self) -> None:
        """Write the frames that still wait, and the end of the file."""
        for waiting in self._waiting:
            self._write(waiting, self._window)
        self._waiting.clear()
        if self._stream is None:
            raise TubeletError(f"{self._path} is not written: no frame came", fix="see what is said of the source")
        self._container.mux(self._stream.encode(None))

    def _small(self, frame: SourceFrame) -> Pixels:
        if isinstance(frame.frame, np.ndarray):
            return frame.frame
        if self._converters is None:
            scaling = Scaling(ShortestEdge(MOST_SIDE), "bilinear")
            self._converters = (
                Converter("the stream", rotate=self._rotate, scaling=None),
                Converter("the stream", rotate=self._rotate, scaling=scaling),
            )
        return self._converters[min(frame.frame.width, frame.frame.height) > MOST_SIDE].pixels(frame.frame)

    def _ready(self, before: Window | None, window: Window) -> Iterator[_Waiting]:
        """The frames that are nearer to the window `before` than to this one, which came behind it."""
        while True:
            with self._lock:
                if not self._waiting or not self._is_before(self._waiting[0], before, window):
                    return
                waiting = self._waiting.popleft()
            yield waiting

    @staticmethod
    def _is_before(waiting: _Waiting, before: Window | None, window: Window) -> bool:
        if waiting.segment != window.segment:
            return waiting.segment < window.segment
        if before is None or before.segment != window.segment:
            return False
        return waiting.seconds < (before.middle + window.middle) / 2

    def _write(self, waiting: _Waiting, window: Window | None) -> None:
        pixels = waiting.pixels
        if self._stream is None:
            height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
            stream = self._container.add_stream("libx264", rate=30, options={"crf": "20", "preset": "veryfast"})
            assert isinstance(stream, VideoStream)
            stream.height, stream.width, stream.pix_fmt, stream.time_base = height, width, "yuv420p", TICK
            stream.codec_context.time_base = TICK
            self._stream = stream
        pixels = boxed(pixels[np.newaxis], self._stream.height, self._stream.width)[0]
        shown = window if window is not None and window.segment == waiting.segment else None
        frame = av.VideoFrame.from_ndarray(written_over(pixels, waiting.seconds, shown, self._open), format="rgb24")
        frame.pts, frame.time_base = round(waiting.at / TICK), TICK
        self._container.mux(self._stream.encode(frame))


@contextmanager
def annotated_video(path: Path, *, rotate: bool, force: bool) -> Iterator[AnnotatedVideo]:
    """Open an annotated copy that is at `path`, whole, when the block ends well, and not there otherwise.

    Args:
        path: an .mp4.
        rotate: whether frames are turned upright.
        force: replace a file that is there.

    Raises:
        TubeletError: as `check_target` does, and where the file cannot be written.
    """
    check_target(path, force=force)
    try:
        with written_file(path, follow_link=True) as beside, av.open(beside, "w") as container:
            video = AnnotatedVideo(container, path, rotate=rotate)
            yield video
            video.finish()
    except av.error.FFmpegError as error:
        raise TubeletError(f"{path} cannot be written: {error}") from error


def written_over(pixels: Pixels, seconds: float, window: Window | None, open_labels: set[str]) -> Pixels:
    """A frame (H, W, 3) with its time, and what the window says, on a dark band below. Labels of open events are in
    colour."""
    from PIL import Image, ImageDraw

    height, width, _ = pixels.shape
    size = max(12, height // 18)
    band = size + size // 2 + 4
    picture = pixels.copy()
    picture[-band:] = (picture[-band:] * BAND).astype(np.uint8)
    image = Image.fromarray(picture)
    draw, font, middle = ImageDraw.Draw(image), _font(size), height - band / 2
    time = clock(seconds)
    draw.text((width - 8, middle), time, font=font, fill=SOFT, anchor="rm")
    if window is not None:
        best = window.predictions[0]
        said = f"{best.label} {best.score:.0%}" if isinstance(best, Prediction) else f"{best.label} {best.value:.4g}"
        room = width - 24 - draw.textlength(time, font=font)
        while len(said) > 1 and draw.textlength(said, font=font) > room:
            said = said[:-2] + "…"
        draw.text((8, middle), said, font=font, fill=ACCENT if best.label in open_labels else INK, anchor="lm")
    return np.asarray(image)


def _font(size: int) -> "FreeTypeFont | ImageFont":
    from PIL import ImageFont

    return ImageFont.load_default(size)
