"""What a source of frames is called on a command line: a file, `-`, a URL, a camera."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from ...preprocess.errors import VideoError
from ...preprocess.live import LiveSource, PipeSource
from ...preprocess.redaction import redacted_url
from ...preprocess.sources import MAX_MB, FileLike, Source, is_url

STANDARD_INPUT = "-"
STALL_SECONDS = 10.0
HLS_STALL_SECONDS = 30.0  # it comes in pieces of several seconds

# Words in front of a colon: formats of FFmpeg that are devices, and `camera`, which is that of the platform.
_DEVICE = re.compile(r"(v4l2|avfoundation|dshow|lavfi|camera):(.+)", re.DOTALL)

# What is asked of FFmpeg for a scheme. To find out the rate of a stream it would hold back twenty frames. RTSP over UDP
# smears where packets are lost. What reads too slowly from UDP loses packets, and goes on.
_AT_ONCE = {"fpsprobesize": "0"}
_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "rtsp": {**_AT_ONCE, "rtsp_transport": "tcp"},
    "rtsps": {**_AT_ONCE, "rtsp_transport": "tcp"},
    "tcp": _AT_ONCE,
    "udp": {**_AT_ONCE, "overrun_nonfatal": "1"},
    "rtp": _AT_ONCE,
    "rtmp": _AT_ONCE,
}
_FORMATS = {"udp": "mpegts"}  # it can be joined anywhere


def source_of(
    named: FileLike | Source,
    *,
    stall_seconds: float | None = None,
    options: Mapping[str, str] | None = None,
    track: int | None = None,
    max_mb: int = MAX_MB,
) -> Source:
    """Find out what a source is, without opening it.

    Args:
        named: a path, bytes, a binary file, a URL, or `-` for standard input. A device is its path such as
            /dev/video0, `camera:0`, or FORMAT:NAME for one of FFmpeg: v4l2, avfoundation, dshow or lavfi.
        stall_seconds: how long to wait for each packet of a stream.
        options: of FFmpeg, for a stream.
        track: which of its video tracks is read.
        max_mb: MiB of pixels that may be held; a quarter of it for one frame.

    Returns:
        A LiveSource for an address, a PipeSource for standard input, a Source of a file otherwise.

    Raises:
        VideoError: for what is no source.
    """
    if isinstance(named, Source):
        return named
    if named == STANDARD_INPUT:
        return _standard_input(track, max_mb)
    found = _live(named) if isinstance(named, str | Path) else None
    if found is None:
        file = Source.of(named)
        return Source(file.name, file.content, track, max_mb)
    name, address, form, own = found
    seconds = stall_limit(address) if stall_seconds is None else stall_seconds
    return LiveSource(name, address, track, max_mb, format=form, options={**own, **(options or {})}, seconds=seconds)


def stall_limit(address: str) -> float:
    """How many seconds a stream may give no frame before it counts as lost, where nobody says."""
    return HLS_STALL_SECONDS if re.split("[?#]", address)[0].endswith(".m3u8") else STALL_SECONDS


def _live(named: str | Path) -> tuple[str, str, str | None, Mapping[str, str]] | None:
    """The name, address, format and options of a URL or device; None for a file."""
    text = str(named)
    if isinstance(named, str) and is_url(named):
        scheme = named.partition(":")[0].lower()
        options = _AT_ONCE if named.endswith("?udp") else _OPTIONS.get(scheme, {})  # FFmpeg's way to ask for it
        return redacted_url(named), named, _FORMATS.get(scheme), options
    device = _DEVICE.fullmatch(text) if isinstance(named, str) else None
    if device is not None:
        return text, *(camera(device[2]) if device[1] == "camera" else (device[2], device[1], {}))
    if text.startswith("/dev/") or Path(text).is_char_device():
        return text, *camera(text)
    return None


def camera(name: str) -> tuple[str, str, Mapping[str, str]]:
    """The address, format and options of FFmpeg for a camera of this platform, called by its number or name.

    Raises VideoError where there is no way to one.
    """
    if sys.platform == "darwin":
        return name, "avfoundation", {"framerate": "30"}  # it takes no other rate of most cameras
    if sys.platform == "win32":
        return f"video={name}", "dshow", {}
    if sys.platform.startswith("linux"):
        return f"/dev/video{name}" if name.isdigit() else name, "v4l2", {}
    raise VideoError(f"camera {name} cannot be opened: FFmpeg has no cameras on {sys.platform}")


def _standard_input(track: int | None, max_mb: int) -> Source:
    if sys.stdin is None or sys.stdin.isatty():
        raise VideoError(
            "nothing comes in on standard input (-)", fix="send it a video, such as ffmpeg -i IN -f mpegts - | tubelet"
        )
    return PipeSource("standard input", sys.stdin.buffer, track, max_mb)
