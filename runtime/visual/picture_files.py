"""Pictures to files: PNG, H.264 video, and animated GIF, through the encoders that PyAV brings."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.codec import Codec, UnknownCodecError
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ...preprocess.errors import TubeletError
from ..storage.written import written_file
from .drawing import contact_sheet, enlarged, side_by_side, spread

Pixels = NDArray[np.uint8]

# What a file may be, by its suffix, and which of FFmpeg's encoders makes it.
ENCODERS = {".png": "png", ".mp4": "libx264", ".gif": "gif"}

LEAST_SIDE = 192  # of a panel; smaller clips are enlarged
SHEET_COLUMNS = 8
CRF = 16  # of x264: its artefacts must not be taken for the model's
SLOWEST, FASTEST, UNTIMED = 4, 30, 8  # frames a second


def check_picture(path: Path, *, force: bool) -> None:
    """Raise TubeletError where no picture can go to `path`.

    That is so for another suffix, without an encoder for it, without its folder, and over a file without `force`.
    """
    encoder = ENCODERS.get(path.suffix.lower())
    if encoder is None:
        raise TubeletError(
            f"{path} must end in {', '.join(ENCODERS)}",
            fix="name a .png for a sheet of frames, an .mp4 or .gif to watch them",
        )
    try:
        Codec(encoder, "w")
    except UnknownCodecError as error:
        raise TubeletError(
            f"the FFmpeg of this PyAV ({av.__version__}) has no {encoder} encoder, which {path.name} needs",
            fix="pip install --force-reinstall --only-binary av av, or name a file of another suffix",
        ) from error
    if not path.parent.is_dir():
        raise TubeletError(f"the folder {path.parent} does not exist", fix="make it, or name another with -o")
    if path.is_dir():
        raise TubeletError(f"{path} is a folder", fix="name a file with -o")
    if path.exists() and not force:
        raise TubeletError(f"{path} exists", fix="choose another file with -o, or replace it with --force")


def frame_rate(seconds: NDArray[np.float64]) -> int:
    """Frames a second to show frames at that were taken at `seconds` (T,). It is their own speed, kept within what a
    viewer can follow.
    """
    steps = np.diff(seconds)
    steps = steps[steps > 0]  # a short video is held or looped; NaN is not above 0
    return round(np.clip(1 / np.median(steps), SLOWEST, FASTEST)) if len(steps) else UNTIMED


def write_png(path: Path, picture: Pixels) -> None:
    """Write uint8 RGB pixels (H, W, 3) without loss."""
    encoder = VideoCodecContext.create("png", "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt = "rgb24"
    encoder.time_base = Fraction(1)
    packets = [*encoder.encode(_video_frame(picture, 0, 1)), *encoder.encode(None)]
    path.write_bytes(b"".join(bytes(packet) for packet in packets))


def write_video(path: Path, pixels: Pixels, rate: int, *, crf: int = 23) -> None:
    """Write uint8 RGB pixels (T, H, W, 3) as H.264 of `rate` frames a second. The lower `crf`, the fewer artefacts.

    Its colours are at half resolution, so that every player shows it. An odd side is made even by repeating the last
    row or column.
    """
    height, width = pixels.shape[1:3]
    pixels = np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    with av.open(path, "w") as container:
        # The same pixels give the same file: x264's result depends on how many threads there are, and what it finds
        # when it looks ahead is not the same each time.
        options = {"crf": str(crf), "threads": "1", "x264-params": "rc-lookahead=0:sync-lookahead=0:mbtree=0"}
        stream = container.add_stream("libx264", rate=rate, options=options)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(pixels):
            container.mux(stream.encode(_video_frame(picture, number, rate)))
        container.mux(stream.encode(None))


def write_gif(path: Path, pixels: NDArray[np.uint8], rate: int) -> None:
    """Write uint8 RGB pixels (T, H, W, 3) as a GIF that repeats for ever.

    All frames share one palette of 256 colours made for them (FFmpeg's palettegen and paletteuse). Colours
    between are dithered in a fixed pattern, which stands still where the picture does and so costs few bytes.
    """
    height, width = pixels.shape[1:3]
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=Fraction(1, rate))
    split, palette = graph.add("split"), graph.add("palettegen", "stats_mode=full")
    apply, sink = graph.add("paletteuse", "dither=bayer:bayer_scale=5:diff_mode=rectangle"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(palette, 0)
    split.link_to(apply, 1, 0)
    palette.link_to(apply, 0, 1)
    apply.link_to(sink)
    graph.configure()
    for number, picture in enumerate(pixels):
        graph.vpush(_video_frame(picture, number, rate))
    graph.vpush(None)

    with av.open(path, "w") as container:
        stream = container.add_stream("gif", rate=rate)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = height, width
        stream.pix_fmt = "pal8"
        for _ in pixels:
            container.mux(stream.encode(graph.vpull()))
        container.mux(stream.encode(None))


def write_panels(
    path: Path, panels: Sequence[Pixels], seconds: NDArray[np.float64], *, shown: int, force: bool
) -> None:
    """Write panels of one clip as the suffix of `path` says.

    Args:
        path: a .png for a sheet of `shown` frames spread over the clip, each panel in its own row. A .mp4 or .gif
            for all frames, panels side by side, at the speed of the video.
        panels: each uint8 (T, H, W, 3).
        seconds: float64 (T,), when the frames are shown, NaN where that is not known.
        shown: frames on a sheet.
        force: replace a file that is there.

    Raises:
        TubeletError: as `check_picture` does, and where the file cannot be written. What was there then still is.
    """
    check_picture(path, force=force)
    panels = [enlarged(panel, LEAST_SIDE) for panel in panels]
    try:
        with written_file(path, follow_link=True) as beside:
            match path.suffix.lower():
                case ".png":
                    chosen = spread(len(seconds), shown)
                    write_png(beside, contact_sheet([panel[chosen] for panel in panels], columns=SHEET_COLUMNS))
                case ".gif":
                    write_gif(beside, side_by_side(panels), frame_rate(seconds))
                case _:
                    write_video(beside, side_by_side(panels), frame_rate(seconds), crf=CRF)
    except av.error.FFmpegError as error:
        raise TubeletError(f"{path} cannot be written: {error}") from error


def _video_frame(picture: NDArray[np.uint8], number: int, rate: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame.pts, frame.time_base = number, Fraction(1, rate)
    return frame
