"""Small real videos whose frames carry their own number, so that a test sees which frames it was given.

The upper half of a picture is a coloured gradient that moves; the lower half is the number in binary, in
black and white blocks that are large enough to outlive lossy compression.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from tubelet.preprocess.frames import Timeline

ROWS, COLUMNS = 2, 6  # of blocks, so numbers go up to 4095

VideoPacket: TypeAlias = "av.Packet[VideoStream]"


def draw(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture of frame `number`: uint8 (H, W, 3), where `size` is (width, height)."""
    width, height = size
    x, y = np.arange(width) / width, np.arange(height)[:, None] / height
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = 255 * ((x + number / 16) % 1)
    picture[..., 1] = 255 * y
    picture[..., 2] = 40 * (number % 6)
    for bit, block in enumerate(_blocks(picture)):
        block[:] = 255 * (number >> bit & 1)
    return picture


def index_of(picture: NDArray[np.uint8]) -> int:
    """The number that `draw` put in a picture (H, W, 3), decoded. Raises ValueError where a block is grey."""
    number = 0
    for bit, block in enumerate(_blocks(picture)):
        height, width, _ = block.shape
        inside = block[height // 4 : height - height // 4, width // 4 : width - width // 4].mean()
        if 80 < inside < 175:
            raise ValueError(f"block {bit} is neither black nor white but {inside:.0f}")
        number |= int(inside > 128) << bit
    return number


def _blocks(picture: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Views of the blocks of a picture (H, W, 3), lowest bit first."""
    lower = picture[picture.shape[0] // 2 :]
    rows = np.array_split(lower, ROWS, axis=0)
    return [block for row in rows for block in np.array_split(row, COLUMNS, axis=1)]


def make_video(
    path: Path,
    *,
    frames: int = 30,
    size: tuple[int, int] = (96, 64),
    rate: int = 30,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    keyframe_every: int = 10,
    times: Sequence[int] | None = None,
    rotation: int = 0,
    codec_options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
) -> Path:
    """Writes a video of `frames` frames that `index_of` can read, numbered from 0, and returns its path.

    path:           its suffix says which container
    size:           (width, height) as displayed, so after `rotation`
    rate:           frames per second
    keyframe_every: frames from one keyframe to the next, at most; H.264 gets B-frames in between
    times:          of each frame in units of 1 / rate seconds; evenly spaced where not given
    rotation:       counter-clockwise degrees that the file asks a player for; frames are stored turned back
    """
    with av.open(path, "w", options=dict(container_options or {})) as container:
        stream = container.add_stream(codec, rate=rate, options=dict(codec_options or {}))
        assert isinstance(stream, VideoStream)
        width, height = size
        stream.width, stream.height = (height, width) if rotation % 180 == 90 else (width, height)
        stream.pix_fmt = pixel_format
        stream.gop_size = keyframe_every
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(frames):
            picture = np.rot90(draw(number, size), -(rotation // 90))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_sound(path: Path, *, seconds: float = 1.0, cover: bool = False) -> Path:
    """Writes silence, with a cover picture where asked for, and returns its path."""
    rate = 44100
    with av.open(path, "w") as container:
        sound = container.add_stream("libmp3lame", rate=rate)
        assert isinstance(sound, AudioStream)
        if cover:
            art = container.add_stream("png")
            art.width, art.height, art.pix_fmt = 64, 48, "rgb24"
            art.disposition = Disposition.attached_pic
        silence = av.AudioFrame.from_ndarray(np.zeros((2, int(rate * seconds)), np.float32), "fltp", "stereo")
        silence.rate = rate
        container.mux([*sound.encode(silence), *sound.encode(None)])
        if cover:
            picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            container.mux([*art.encode(picture), *art.encode(None)])
    return path


# --- Files of all kinds ---

X264 = "x264-params"
AV1 = {"preset": "12", "svtav1-params": "lp=1"}

# name -> what `make_video` is given; the suffix is the container. Between them they hold B-frames, timestamps
# that are uneven, missing or wrong, streams that start late, keyframes at which decoding cannot start, and no
# keyframes but the first; then what the codecs and pixel formats in use make of frames.
VARIANTS: dict[str, dict[str, Any]] = {
    "h264.mp4": {},
    "h264.mov": {},
    "h264.mkv": {},
    "h264.ts": {},
    "h264.flv": {},
    "h264.h264": {},
    "h264.avi": {},
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "no_b_frames.mp4": {"codec_options": {"bf": "0"}},
    "long_group.mp4": {"keyframe_every": 1000},
    "intra_only.mp4": {"keyframe_every": 1},
    "open_group.mp4": {"codec_options": {X264: "open-gop=1:bframes=3:keyint=8:min-keyint=8:scenecut=0"}},
    "open_group.ts": {"codec_options": {X264: "open-gop=1:bframes=3:keyint=8:min-keyint=8:scenecut=0"}},
    "open_group.avi": {"codec_options": {X264: "open-gop=1:bframes=3:keyint=8:min-keyint=8:scenecut=0"}},
    "intra_refresh.ts": {"codec_options": {X264: "intra-refresh=1:keyint=8"}},
    "interlaced.ts": {"codec_options": {X264: "tff=1:bframes=2"}},
    "uneven.mp4": {"times": np.cumsum(np.arange(30) % 4 + 1).tolist()},
    "odd.mp4": {"size": (97, 63), "pixel_format": "yuv444p"},
    "hevc.mp4": {"codec": "libx265", "codec_options": {"x265-params": "log-level=none"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4_b_frames.avi": {"codec": "mpeg4", "codec_options": {"bf": "2"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "codec_options": {"bf": "2"}},
    "vp8.webm": {"codec": "libvpx", "codec_options": {"deadline": "realtime"}},
    "vp9.webm": {"codec": "libvpx-vp9", "codec_options": {"deadline": "realtime", "auto-alt-ref": "1"}},
    "motion_jpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "no_keyframes.swf": {"codec": "flv"},
    "same_millisecond.mkv": {"rate": 2000},
    "animation.gif": {"codec": "gif", "pixel_format": "rgb8"},
    "one_frame.mp4": {"frames": 1},
    "rotated_90.mp4": {"rotation": 90},
    "rotated_-90.mp4": {"rotation": -90},
    "rotated_180.mp4": {"rotation": 180},
    "starts_late.mp4": {"times": range(20, 50)},
    "starts_late.mkv": {"times": range(20, 50)},
    "uneven.mkv": {"times": np.cumsum(np.arange(30) % 4 + 1).tolist()},
    "uneven_no_b_frames.mp4": {"times": np.cumsum(np.arange(30) % 4 + 1).tolist(), "codec_options": {"bf": "0"}},
    "hevc.ts": {"codec": "libx265", "codec_options": {"x265-params": "log-level=none"}},
    "hevc_open_group.mp4": {
        "codec": "libx265",
        "codec_options": {"x265-params": "log-level=none:open-gop=1:keyint=8:min-keyint=8"},
    },
    "av1.mkv": {"codec": "libsvtav1", "codec_options": AV1},
    "av1.mp4": {"codec": "libsvtav1", "codec_options": AV1},
    "vp9.mp4": {"codec": "libvpx-vp9", "codec_options": {"deadline": "realtime"}},
    "mpeg4_b_frames.mp4": {"codec": "mpeg4", "codec_options": {"bf": "2"}},
    "mpeg2.ts": {"codec": "mpeg2video", "codec_options": {"bf": "2"}},
    "mpeg1.mpg": {"codec": "mpeg1video"},
    "windows_media.wmv": {"codec": "wmv2"},
    "uncompressed.avi": {"codec": "rawvideo", "pixel_format": "bgr24"},
    "odd.webm": {"codec": "libvpx-vp9", "size": (97, 63), "codec_options": {"deadline": "realtime"}},
    "10_bits.mp4": {"pixel_format": "yuv420p10le"},
    "10_bits_422.mkv": {"pixel_format": "yuv422p10le"},
    "10_bits_hevc.mkv": {
        "codec": "libx265",
        "pixel_format": "yuv420p10le",
        "codec_options": {"x265-params": "log-level=none"},
    },
    "full_range.mp4": {"pixel_format": "yuvj420p"},
    "grey.mkv": {"codec": "ffv1", "pixel_format": "gray"},
    "grey_10_bits.mkv": {"codec": "ffv1", "pixel_format": "gray10le"},
    "alpha.mkv": {"codec": "ffv1", "pixel_format": "yuva420p"},
    "alpha.mov": {"codec": "prores_ks", "pixel_format": "yuva444p10le"},
    "alpha_rgb.mov": {"codec": "png", "pixel_format": "rgba"},
}


# --- Reading and editing them ---


def decode_whole(path: Path) -> NDArray[np.uint8]:
    """uint8 (N, H, W, 3): every frame that PyAV yields from the start, upright."""
    with av.open(str(path)) as container:
        return np.stack(
            [np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90) for frame in container.decode(video=0)]
        )


def take(*indices: int) -> Callable[[Timeline], NDArray[np.int64]]:
    """A choice of these frames, whatever the file holds."""
    return lambda _: np.array(indices, np.int64)


def everything(timeline: Timeline) -> NDArray[np.int64]:
    """A choice of all frames."""
    return np.arange(len(timeline))


def remux(source: Path, target: Path, edit: Callable[[int, VideoPacket], list[VideoPacket]]) -> Path:
    """Copies a stream packet by packet; `edit(number, packet)` gives the packets to write in its place."""
    with av.open(str(source)) as read, av.open(str(target), "w") as write:
        stream = write.add_stream_from_template(read.streams.video[0])
        packets = [packet for packet in read.demux(video=0) if packet.size]
        for number, packet in enumerate(packets):
            for edited in edit(number, packet):
                edited.stream = stream
                write.mux(edited)
    return target


def packet_like(packet: VideoPacket, content: bytes, *, later: int = 0) -> VideoPacket:
    """A packet with the timestamps of another, `later` ticks later."""
    assert packet.pts is not None
    assert packet.dts is not None
    copy = cast(VideoPacket, av.Packet(content))
    copy.pts, copy.dts = packet.pts + later, packet.dts + later
    copy.time_base, copy.duration, copy.is_keyframe = packet.time_base, packet.duration, packet.is_keyframe
    return copy


def damage(path: Path, numbers: Iterable[int]) -> Path:
    """Overwrites the packets with these numbers, in the order of the file, and returns its path."""
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for number in numbers:
        start, size = places[number]
        assert start is not None
        content[start : start + size] = b"\xff" * size
    path.write_bytes(content)
    return path
