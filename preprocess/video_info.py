"""VideoInfo: what a video file holds."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from .container import OpenVideo, video_tracks
from .convert import display_matrix
from .frames import Timeline

CountedBy = Literal["list", "packets", "decoding"]
Timestamps = Literal["rising", "not rising", "missing"]

# Matrices from RGB to YUV by their numbers in ISO/IEC 23091-2; 2 is for none named.
_COLOUR_SPACES = {
    0: "RGB",
    1: "BT.709",
    4: "FCC",
    5: "BT.601",
    6: "BT.601",
    7: "SMPTE 240M",
    8: "YCgCo",
    9: "BT.2020",
    10: "BT.2020 constant luminance",
}
_COLOUR_RANGES = {int(ColorRange.MPEG): "limited", int(ColorRange.JPEG): "full"}

_COUNTED_BY: dict[CountedBy, str] = {
    "list": "as the file lists them",
    "packets": "by its packets",
    "decoding": "by decoding all of them",
}
_UNTIMED: dict[Timestamps, str] = {
    "not rising": "not known, for the timestamps do not rise from frame to frame",
    "missing": "no timestamps",
}


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds.

    path:             what it was given as, or is called
    container:        FFmpeg's names of its format
    width, height:    pixels of the first frame as displayed, after the rotation that the file asks for
    rotation:         that rotation in degrees, counter-clockwise, from -180 to 180
    mirrored:         whether the file asks for a mirror image, with or without a rotation
    pixel_format:     FFmpeg's name, which tells bits and chroma
    colour_space:     the matrix that the file names; None where it names none
    colour_range:     "limited" (16 to 235) or "full" (0 to 255) as tagged; None where untagged
    frames:           number of frames
    counted_by:       how that is known: by the "list" that a file has, by reading its "packets", or by "decoding" it
                      whole. Only the last is a proof; the others are taken at their word for
                      what is not decoded
    timestamps:       "rising" from frame to frame, as they should; "not rising" where they start over, as in files
                      that were joined, or some lack; or "missing"
    frame_rate:       average in frames per second; None where the timestamps do not rise
    variable_rate:    whether the time between frames varies; None where the timestamps do not rise
    duration_seconds: as the file states it; None where it states none, or the timestamps do not rise
    tracks:           number of video tracks, attached pictures left out
    track:            which of them this is about, from 0
    """

    path: str
    container: str
    codec: str
    width: int
    height: int
    rotation: int
    mirrored: bool
    pixel_format: str
    colour_space: str | None
    colour_range: str | None
    frames: int
    counted_by: CountedBy
    timestamps: Timestamps
    frame_rate: float | None
    variable_rate: bool | None
    duration_seconds: float | None
    tracks: int
    track: int

    def to_json(self) -> dict[str, Any]:
        """The fields as `json.dumps` takes them."""
        return dataclasses.asdict(self)

    def summary(self) -> str:
        """The file in a few lines."""
        turned = f", turned by {self.rotation} degrees" if self.rotation else ""
        mirrored = ", mirrored" if self.mirrored else ""
        # Files that were joined need not be of one size.
        first = ", of the first frame" if self.timestamps == "not rising" else ""
        rate = _UNTIMED.get(self.timestamps, "not stated")
        if self.frame_rate is not None:
            varying = "on average, varying" if self.variable_rate else "constant"
            rate = f"{self.frame_rate:.6g} per second, {varying}"
        duration = "not stated" if self.duration_seconds is None else f"{self.duration_seconds:.3f} seconds"
        rows = [
            ("video", self.path),
            ("format", f"{self.codec} in {self.container}"),
            ("size", f"{self.width}x{self.height}{turned}{mirrored}{first}"),
            ("colour", f"{self.pixel_format}, {self._colour()}"),
            ("frames", f"{self.frames}, {_COUNTED_BY[self.counted_by]}"),
            ("rate", rate),
            ("duration", duration),
        ]
        if self.tracks > 1:
            others = f"{self.tracks} of video, 0 to {self.tracks - 1}; another is read with --track"
            rows.insert(1, ("track", f"{self.track} ({others})"))
        return "\n".join(f"{name:<10} {text}" for name, text in rows)

    def _colour(self) -> str:
        if self.colour_space == "RGB":
            return "RGB"
        if self.colour_space is None and self.colour_range is None:
            return "untagged, read as BT.601 limited"
        space = self.colour_space or "matrix untagged, read as BT.601"
        return f"{space}, {self.colour_range or 'range untagged, read as limited'}"


def describe(video: OpenVideo, frame: VideoFrame, timeline: Timeline, counted_by: CountedBy) -> VideoInfo:
    """A file by its headers, its first frame, and the times of all frames."""
    stream, tracks = video.stream, video_tracks(video.container)
    timestamps = _timestamps(video, timeline)
    matrix = display_matrix(video.source, frame)
    width, height = abs(matrix) @ (frame.width, frame.height)
    return VideoInfo(
        path=video.source.name,
        container=video.container.format.name,
        codec=stream.codec.canonical_name,
        width=int(width),
        height=int(height),
        rotation=frame.rotation,
        mirrored=bool(np.linalg.det(matrix) < 0),
        pixel_format=frame.format.name,
        colour_space="RGB" if frame.format.is_rgb else _COLOUR_SPACES.get(frame.colorspace),
        colour_range=_COLOUR_RANGES.get(frame.color_range),
        frames=len(timeline),
        counted_by=counted_by,
        timestamps=timestamps,
        # FFmpeg guesses one where there are no timestamps.
        frame_rate=float(stream.average_rate) if stream.average_rate and timestamps == "rising" else None,
        variable_rate=timeline.is_variable,
        duration_seconds=None if timestamps == "not rising" else _duration_seconds(video),
        tracks=len(tracks),
        track=tracks.index(stream),
    )


def _timestamps(video: OpenVideo, timeline: Timeline) -> Timestamps:
    if video.stream.start_time is None:
        return "missing"
    return "rising" if timeline.is_timed else "not rising"


def _duration_seconds(video: OpenVideo) -> float | None:
    stream = video.stream
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    duration = video.container.duration  # of the longest stream; Matroska states no other
    return None if duration is None else duration / av.time_base
