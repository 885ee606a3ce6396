"""Finding frames by their packets: which frames a stream holds, and the way to each by seeking.

Packets are read undecoded for their timestamps and keyframes, which costs little beside decoding. Timestamps
can be missing or wrong, so every frame that arrives must carry the one that a packet promised for its place.
Where one does not, UnreliableIndex is raised, and the frames that decoding yields have to be counted instead.
What is never decoded is taken at its word.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from .errors import VideoError

# To start again at a keyframe takes about as long as to decode this many frames (measured on H.264 of 340x256
# and 1280x720), most of it to fill the decoder's queue for reordering.
FRAMES_PER_SEEK = 6


@dataclass(frozen=True)
class OpenVideo:
    """A file that is open, and the stream of it that is read."""

    path: Path
    container: InputContainer
    stream: VideoStream


class UnreliableIndex(Exception):
    """Packets leave open which frame is which, or decoding did not yield what they promised."""


@dataclass(frozen=True)
class Keyframe:
    """A packet at which decoding can start.

    pts:     when it is shown
    seek_to: the earlier of its two timestamps, because formats seek by one or by the other, and to be sent to
             an earlier keyframe costs little, but to a later one everything
    """

    pts: int
    seek_to: int


@dataclass(frozen=True)
class PacketIndex:
    """The frames of a stream as its packets promise them.

    pts:       int64 (N,), presentation timestamps of the frames that are shown, rising
    keyframes: by rising pts; the first is not later than the first frame
    """

    pts: NDArray[np.int64]
    keyframes: list[Keyframe]


def index_packets(video: OpenVideo) -> PacketIndex:
    """The index of a video, by reading all of its packets and decoding none.

    Raises UnreliableIndex, or VideoError where a file lists frames that it does not hold.
    """
    container, stream = video.container, video.stream
    # AVI stores no presentation times: what FFmpeg makes up is wrong where the codec reorders frames.
    reliable = not (container.format.name == "avi" and stream.codec_context.has_b_frames)
    pts: list[int] = []
    keyframes: list[Keyframe] = []
    packets = 0
    for packet in container.demux(stream):
        if packet.size == 0:  # marks the end of the stream
            continue
        packets += 1
        if packet.pts is None or packet.is_corrupt:
            reliable = False
            continue
        if packet.is_keyframe:
            seek_to = packet.pts if packet.dts is None else min(packet.pts, packet.dts)
            keyframes.append(Keyframe(packet.pts, seek_to))
        if _is_shown(packet):
            pts.append(packet.pts)

    # MP4 and MOV list every frame before the first, so a download that broke off can be told.
    listed = len(stream.index_entries) if container.format.name.startswith("mov") else packets
    if packets < listed:
        raise VideoError(
            f"{video.path} is cut short: it lists {listed} frames and holds {packets}",
            fix="copy the file again",
        )
    rising = np.unique(np.array(pts, np.int64))
    keyframes.sort(key=lambda keyframe: keyframe.pts)
    if not reliable or not pts or len(rising) < len(pts) or not keyframes or keyframes[0].pts > rising[0]:
        raise UnreliableIndex
    return PacketIndex(rising, keyframes)


def _is_shown(packet: "Packet[VideoStream]") -> bool:
    """Whether decoding the packet yields a frame.

    An edit list hides frames that others refer to. VP8 keeps pictures that are only referred to in packets of
    their own, where bit 4 of the first byte, show_frame, is unset (RFC 6386, section 9.1); later codecs pack
    them together with a frame that is shown.
    """
    if packet.is_discard:
        return False
    return packet.stream.codec.canonical_name != "vp8" or bool(memoryview(packet)[0] & 0x10)


def frames_by_seeking(
    video: OpenVideo, index: PacketIndex, wanted: NDArray[np.int64]
) -> Iterator[tuple[int, VideoFrame]]:
    """Position and frame of each of `wanted`, which rise, by decoding from the keyframes before them.

    Raises UnreliableIndex as soon as a frame arrives that the index does not have in that place.
    """
    for keyframe, first, positions in _runs(index, wanted):
        expected = first
        for frame in _decode_from(video, keyframe):
            if frame.pts != index.pts[expected]:
                raise UnreliableIndex
            if expected in positions:
                yield expected, frame
            expected += 1
            if expected > positions[-1]:
                break
        else:
            raise UnreliableIndex


def _runs(index: PacketIndex, wanted: NDArray[np.int64]) -> Iterator[tuple[Keyframe, int, NDArray[np.int64]]]:
    """Groups of `wanted` to decode in one go: where to start, the first frame that this shows, the group."""
    key_pts = np.array([keyframe.pts for keyframe in index.keyframes])
    numbers = np.searchsorted(key_pts, index.pts[wanted], side="right") - 1
    firsts = np.searchsorted(index.pts, key_pts[numbers])
    # Where the next keyframe is close, decoding on is cheaper than seeking to it.
    splits = np.flatnonzero(firsts[1:] - wanted[:-1] > FRAMES_PER_SEEK) + 1
    for run in np.split(np.arange(len(wanted)), splits):
        yield index.keyframes[numbers[run[0]]], int(firsts[run[0]]), wanted[run]


def _decode_from(video: OpenVideo, keyframe: Keyframe) -> Iterator[VideoFrame]:
    """The frames from `keyframe` on. Packets between where the seek lands and it are passed over undecoded."""
    try:
        video.container.seek(keyframe.seek_to, stream=video.stream)
    except av.FFmpegError as error:  # a format that has no seeking
        raise UnreliableIndex from error
    packets = video.container.demux(video.stream)
    for packet in dropwhile(lambda packet: packet.pts != keyframe.pts, packets):
        yield from packet.decode()
