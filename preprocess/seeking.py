"""Finding frames without decoding: which frames a stream holds, and the way to each by seeking.

MP4 and MOV list their frames, so that the file itself need not be read. In other containers the packets are
read undecoded for their timestamps and keyframes, which costs little beside decoding. Either can be missing or wrong,
so every frame that arrives must carry the timestamp promised for its place. Where one does not, UnreliableIndex is
raised, and the next slower way is taken. That is the packets instead of the list, and last of all to count the frames
that decoding yields. What is never decoded is taken at its word.
"""

from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from .container import OpenVideo, stated_bytes
from .errors import VideoError
from .pyav import bytes_of, listed_frames, pyav
from .sampling import distinct

# To start again at a keyframe takes about as long as to decode this many frames (measured on H.264 of 340x256
# and 1280x720), most of it to fill the decoder's queue for reordering.
FRAMES_PER_SEEK = 6


class UnreliableIndex(Exception):
    """An index leaves open which frame is which, or decoding did not yield what it promised."""


class CutShort(VideoError):
    """Raised where a file says that it holds more than it does."""


@dataclass(frozen=True)
class FrameIndex:
    """The frames of a stream as they are promised.

    pts:         int64 (N,), presentation timestamps of the frames that are shown, rising
    key_pts:     int64 (K,), those of the packets at which decoding can start, rising; the first is not later
                 than the first frame
    key_seek_to: int64 (K,), the earlier of the two timestamps of each, because formats seek by one or by the
                 other. To be sent to an earlier keyframe costs little, but to a later one everything.
    """

    pts: NDArray[np.int64]
    key_pts: NDArray[np.int64]
    key_seek_to: NDArray[np.int64]


def list_frames(video: OpenVideo) -> FrameIndex:
    """Read the index that an MP4 or MOV file carries, by reading one packet.

    The list is in decoding order and has decoding times. Display times are the same list, later by a constant. That
    holds where frames are evenly spaced or never reordered, and in groups of pictures that refer to no other. A file
    for which this is not so shows it in its first packet or when it is decoded.

    Raises:
        UnreliableIndex: where there is no such list.
        CutShort: where the file ends before what is listed.
    """
    container, stream = video.container, video.stream
    entries = listed_frames(stream)
    count = len(entries)
    if not container.format.name.startswith("mov") or count == 0:
        raise UnreliableIndex
    dts, ends = np.empty(count, np.int64), np.empty(count, np.int64)
    is_key, is_discarded = np.empty(count, np.bool_), np.empty(count, np.bool_)
    for number, entry in enumerate(entries):
        dts[number], ends[number] = entry.timestamp, entry.pos + entry.size
        is_key[number], is_discarded[number] = entry.is_keyframe, entry.is_discard
    size = bytes_of(container)
    held = int((ends <= size).sum()) if size else count
    if held < count and not video.skips_damage:
        raise _cut_short(video, f"lists {count} frames", f"{held}")
    # A fragmented file has a list in each fragment; stream.frames is what one whole list promises. Frames are
    # discarded by an edit list.
    if held < count or stream.frames != count or is_discarded.any():
        raise UnreliableIndex

    first = next(video.packets())
    steps = np.diff(dts)
    if first.pts is None or first.dts is None or first.dts != dts[0] or not is_key[0] or (steps <= 0).any():
        raise UnreliableIndex
    delay = first.pts - first.dts
    is_even = len(steps) == 0 or steps.min() == steps.max()
    is_reordered = delay != 0 or stream.codec_context.has_b_frames
    if stream.codec.canonical_name == "vp8" or (is_reordered and not is_even):  # VP8 may hide frames: _is_shown
        raise UnreliableIndex
    pts = dts + delay
    return FrameIndex(pts, pts[is_key], dts[is_key])


def index_packets(video: OpenVideo) -> FrameIndex:
    """Index a video by reading all of its packets and decoding none.

    Raises:
        UnreliableIndex: where its packets leave open which frame is which.
        CutShort: where the file is not as long as it says.
    """
    container, stream = video.container, video.stream
    if not video.skips_damage:
        _refuse_less_than_stated(video)
    # AVI stores no presentation times: what FFmpeg makes up is wrong where the codec reorders frames.
    reliable = not (container.format.name == "avi" and stream.codec_context.has_b_frames)
    shown = array("q")  # 8 bytes each: there may be hundreds of thousands
    keys: list[tuple[int, int]] = []
    for packet in video.packets():
        if packet.size == 0:  # marks the end of the stream
            continue
        if packet.pts is None or packet.is_corrupt:
            reliable = False
            continue
        if packet.is_keyframe:
            keys.append((packet.pts, packet.pts if packet.dts is None else min(packet.pts, packet.dts)))
        if _is_shown(packet):
            shown.append(packet.pts)

    pts = distinct(np.frombuffer(shown, np.int64))
    key_pts, key_seek_to = np.array(sorted(keys), np.int64).reshape(-1, 2).T
    if not reliable or len(pts) == 0 or len(pts) < len(shown) or len(key_pts) == 0 or key_pts[0] > pts[0]:
        raise UnreliableIndex
    return FrameIndex(pts, key_pts, key_seek_to)


def refuse_cut_short(video: OpenVideo) -> None:
    """Raise CutShort where a file says that it holds more than it does. It reads one packet."""
    _refuse_less_than_stated(video)
    with suppress(UnreliableIndex):
        list_frames(video)


def _refuse_less_than_stated(video: OpenVideo) -> None:
    stated = stated_bytes(video)
    if stated is not None and 0 < bytes_of(video.container) < stated:
        raise _cut_short(video, f"states {stated} bytes", f"{bytes_of(video.container)}")


def _cut_short(video: OpenVideo, promise: str, held: str) -> CutShort:
    return CutShort(f"{video.source} is cut short: it {promise} and holds {held}", fix="copy the file again")


def _is_shown(packet: "Packet[VideoStream]") -> bool:
    """Whether decoding the packet yields a frame.

    An edit list hides frames that others refer to. VP8 keeps pictures that are only referred to in packets of their
    own. Bit 4 of their first byte, show_frame, is unset (RFC 6386, section 9.1). Later codecs pack them together with
    a frame that is shown.
    """
    if packet.is_discard:
        return False
    return packet.stream.codec.canonical_name != "vp8" or bool(memoryview(packet)[0] & 0x10)


def frames_by_seeking(
    video: OpenVideo, index: FrameIndex, wanted: NDArray[np.int64]
) -> Iterator[tuple[int, VideoFrame]]:
    """Decode each of `wanted`, which rise, from the keyframes before them.

    Args:
        video: the open file.
        index: the frames that it promises.
        wanted: int64 (T,), positions from 0, rising.

    Yields:
        Position and frame of each.

    Raises:
        UnreliableIndex: as soon as a frame arrives that the index does not have in that place.
    """
    for number, positions in _runs(index, wanted):
        expected = _first_position(index, number)
        for position, frame in _frames_from(video, index, number):
            if position != expected:
                raise UnreliableIndex
            if position in positions:
                yield position, frame
            expected += 1
            if expected > positions[-1]:
                break
        else:
            raise UnreliableIndex


def _runs(index: FrameIndex, wanted: NDArray[np.int64]) -> Iterator[tuple[int, list[int]]]:
    """Groups of `wanted` to decode in one go: the number of the keyframe to start from, and the group."""
    numbers = np.searchsorted(index.key_pts, index.pts[wanted], side="right") - 1
    firsts = np.searchsorted(index.pts, index.key_pts[numbers])
    # Where the next keyframe is close, decoding on is cheaper than seeking to it.
    splits = np.flatnonzero(firsts[1:] - wanted[:-1] > FRAMES_PER_SEEK) + 1
    for run in np.split(np.arange(len(wanted)), splits):
        yield int(numbers[run[0]]), wanted[run].tolist()


def nearest_frames(
    video: OpenVideo, index: FrameIndex, wanted: NDArray[np.int64]
) -> Iterator[tuple[int, int, VideoFrame]]:
    """Decode the nearest frame to each of `wanted` that can be decoded.

    Everything from the first to the last of them is decoded. Where nothing before the first can be, that is from the
    start of the file. A damaged file costs at most to decode it twice. A frame that arrives out of its turn, which
    damage can do, counts as lost.

    Args:
        video: the open file.
        index: the frames that it promises.
        wanted: int64 (T,), positions from 0, rising.

    Yields:
        For each: that position, the position of the nearest frame, and the frame. Where two are as near, it is the
        earlier.

    Raises:
        UnreliableIndex: where none arrives that the index has.
    """
    number, _ = next(_runs(index, wanted))
    arriving = _frames_from(video, index, number)
    first = next(arriving, None)
    if number > 0 and (first is None or first[0] > wanted[0]):
        arriving = _frames_from(video, index, 0)
        first = next(arriving, None)
    if first is None:
        raise UnreliableIndex

    pending = wanted.tolist()
    earlier = first  # kept back, because the nearest to a lost frame may be before it
    for position, frame in chain([first], arriving):
        while pending and pending[0] <= position:
            target = pending.pop(0)
            yield target, *min(earlier, (position, frame), key=lambda found: abs(found[0] - target))
        if not pending:
            return
        earlier = position, frame
    for target in pending:
        yield target, *earlier


def _frames_from(video: OpenVideo, index: FrameIndex, number: int) -> Iterator[tuple[int, VideoFrame]]:
    """Position, rising, and frame of all that decoding yields from a keyframe on.

    Packets between where the seek lands and the keyframe are passed over undecoded. Frames that are shown before it
    are dropped, because they refer to others before it. Raises UnreliableIndex for a frame out of its turn, unless
    `video` skips damage: then it is dropped.
    """
    key_pts = index.key_pts[number]
    try:
        with pyav(video.source):
            video.container.seek(int(index.key_seek_to[number]), stream=video.stream)
    except av.FFmpegError as error:  # a format that has no seeking
        raise UnreliableIndex from error
    is_reached = False
    first = _first_position(index, number)
    last = first - 1
    for packet in video.packets():
        is_reached = is_reached or packet.pts == key_pts
        if not is_reached and packet.is_keyframe and packet.pts is not None and packet.pts > key_pts:
            raise UnreliableIndex  # it is not there, and to look for it further would be to read the whole file
        for frame in video.decode(packet) if is_reached else ():
            position = _position(index, frame)
            if position is not None and last < position:
                yield position, frame
                last = position
            elif not video.skips_damage and (position is None or position >= first):
                raise UnreliableIndex


def _first_position(index: FrameIndex, number: int) -> int:
    """Position of the first frame that a keyframe and what follows it show."""
    return int(np.searchsorted(index.pts, index.key_pts[number]))


def _position(index: FrameIndex, frame: VideoFrame) -> int | None:
    """Where the index has a frame with this timestamp; None where it has none."""
    if frame.pts is None:
        return None
    position = int(np.searchsorted(index.pts, frame.pts))
    return position if position < len(index.pts) and index.pts[position] == frame.pts else None
