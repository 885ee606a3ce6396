"""A stream or camera: read as long as it sends, and opened again when it is lost."""

import time
from collections.abc import Iterator
from threading import Event
from typing import Any

import av
from av.packet import Packet
from av.video.frame import VideoFrame

from ...preprocess.container import PLAYLIST_FORMATS, OpenVideo, is_endless, open_video
from ...preprocess.errors import OutOfMemory, VideoError
from ...preprocess.live import LiveSource
from ...preprocess.through import frames_in_order
from .back_off import BackOff
from .frames import Pace, Segments, SourceFrame, SourceState

WELL_SECONDS = 60.0  # of frames, after which a stream that is lost is taken for one that was never lost before
KEY_SECONDS = 10.0  # in which a stream shows a key frame, or has none: it renews itself part by part

_NO_TIMESTAMPS = 0x0080  # AVFMT_NOTIMESTAMPS in libavformat/avformat.h: its times are made up
_SAFE_AT_ANY_FRAME = ("h264",)  # FFmpeg's decoder itself begins where it can, which need not be a key frame

# What waiting does not heal, where the very first opening fails of it.
_FINAL = (LookupError, FileNotFoundError, PermissionError, av.error.ArgumentError)
_REFUSED = (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)


class Lost(Exception):
    """A stream stopped; its text says how."""


class _Gate:
    """Leaves out frames that refer to what was lost: up to the first key frame, from damage to the next.

    It counts them, over all connections of a source.
    """

    def __init__(self) -> None:
        self.left_out = 0
        self.begin(is_open=False)

    def begin(self, *, is_open: bool) -> None:
        """Begin a connection."""
        self._is_open, self._has_begun = is_open, False
        self._closed_at: float | None = None  # when the first frame was left out

    def counted(self) -> int:
        """How many frames were left out since this was asked last."""
        counted, self.left_out = self.left_out, 0
        return counted

    def close(self) -> None:
        """Leave out what comes up to the next key frame. Before the first frame nothing can be damaged."""
        if self._has_begun:
            self._is_open, self._closed_at = False, None

    def lets(self, frame: VideoFrame, now: float) -> bool:
        if not self._is_open:
            self._closed_at = now if self._closed_at is None else self._closed_at
            self._is_open = bool(frame.key_frame) or now - self._closed_at > KEY_SECONDS
        lets = self._is_open and not frame.is_corrupt
        self._has_begun = self._has_begun or lets
        self.left_out += not lets
        return lets


def connected(
    source: LiveSource, *, live: bool | None, retries: int | None, back_off: BackOff, stop: Event
) -> Iterator[SourceFrame | SourceState]:
    """Read a stream, and open it again whenever it is lost.

    Args:
        source: what is opened.
        live: whether it is; None for all but a URL that says how long it is.
        retries: how many times it is opened again without a minute of frames in between; None is for ever.
        back_off: how long to wait before each.
        stop: ends it. A read under way is waited for.

    Yields:
        Its states and frames.

    Raises:
        VideoError: where it cannot be opened for a reason that waiting does not heal. Also where one that is not live
            cannot be read to its end.
    """
    segments, gate, attempt = Segments(), _Gate(), 0
    is_live, was_connected = True, False
    while not stop.is_set():
        try:
            with open_video(source) as video:
                is_live = is_endless(video.container) if live is None else live
                if was_connected and not is_live:  # a live playlist that says now that it is complete
                    yield SourceState("ended", attempt, None, segments.number, True)
                    return
                was_connected = True
                segments.cut()
                yield SourceState("connected", attempt, None, segments.number, is_live)
                if not is_live:
                    yield from _whole(video, segments, stop)
                    return
                since = time.monotonic()
                for frame in _live_frames(video, source.seconds, segments, gate, stop):
                    yield frame
                    if frame.arrived - since > WELL_SECONDS:
                        attempt = 0
                reason = "it ended"
        except Lost as lost:
            reason = str(lost)
        except VideoError as error:
            if not is_live:
                raise
            reason = _why_not_open(error, source, again=was_connected)
        if stop.is_set():
            return
        yield SourceState("lost", attempt, reason, segments.number, True)
        if retries is not None and attempt >= retries:
            yield SourceState("ended", attempt, reason, segments.number, True)
            return
        attempt += 1
        stop.wait(back_off.seconds(attempt))


def _whole(video: OpenVideo, segments: Segments, stop: Event) -> Iterator[SourceFrame | SourceState]:
    """A stream that has an end, from its start."""
    for frame, seconds, _ in frames_in_order(video):
        if stop.is_set():
            return
        yield SourceFrame(frame, seconds, time.monotonic(), segments.of(frame, seconds))
    yield SourceState("ended", 0, None, segments.number, False)


def _live_frames(
    video: OpenVideo, stall_seconds: float, segments: Segments, gate: _Gate, stop: Event
) -> Iterator[SourceFrame]:
    """The frames of a stream until it ends or `stop` is set. Raises Lost."""
    container = video.container
    has_times = not container.format.flags & _NO_TIMESTAMPS
    in_pieces = container.format.name in PLAYLIST_FORMATS
    pace = Pace(stop) if in_pieces else None
    gate.begin(is_open=video.stream.codec_context.name in _SAFE_AT_ANY_FRAME)
    opened = last = time.monotonic()
    packets = video.packets_of_all()
    while not stop.is_set():
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            raise Lost(why_lost(error, stall_seconds)) from error
        if packet is None:
            return
        arrived = time.monotonic()
        if packet.is_corrupt and not in_pieces:  # a part of it, or of what follows, was lost; pieces count anew
            gate.close()
        for frame in _decoded(video, packet, gate) if packet.stream_index == video.stream.index else ():
            if not gate.lets(frame, arrived):
                continue
            seconds = frame.time if has_times else arrived - opened
            if pace is not None:
                pace.wait(seconds)
                arrived = time.monotonic()
            last = arrived
            yield SourceFrame(frame, seconds, arrived, segments.of(frame, seconds), gate.counted())
        if arrived - last > stall_seconds:
            raise Lost(f"it showed nothing for {stall_seconds:g} seconds, and sent something")


def _decoded(video: OpenVideo, packet: "Packet[Any]", gate: _Gate) -> list[VideoFrame]:
    """The frames that a packet completes, none where it cannot be decoded."""
    try:
        return video.decode(packet)
    except av.FFmpegError:
        gate.close()
        gate.left_out += 1
        return []


def why_lost(error: av.FFmpegError | OSError, seconds: float) -> str:
    """What FFmpeg's error means for a stream."""
    if isinstance(error, av.error.ExitError):  # PyAV's time-out
        return f"it sent nothing for {seconds:g} seconds"
    return str(error.strerror)


def _why_not_open(error: VideoError, source: LiveSource, *, again: bool) -> str:
    """Why a stream could not be opened. Raises the error where waiting does not heal it."""
    cause = error.__cause__
    if cause is None:  # it was opened, and holds no video
        if again:
            return error.message
        raise error
    if not isinstance(cause, av.FFmpegError | OSError) or isinstance(error, OutOfMemory):
        raise error
    if not again and isinstance(cause, _FINAL + _REFUSED):
        raise error
    # An RTSP server has no such path while nobody sends to it; a web server has no such page.
    if not again and isinstance(cause, av.error.HTTPNotFoundError) and not str(source.content).startswith("rtsp"):
        raise error
    return why_lost(cause, source.seconds)
