"""Decoding, against PyAV decoding each file whole from its start, and against the numbers drawn on frames."""

import json
import math
import os
import re
import struct
from contextlib import suppress
from fractions import Fraction
from functools import partial
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
import videos
from PIL import Image
from tubelet.preprocess import decode
from tubelet.preprocess.convert import Scaling
from tubelet.preprocess.decode import probe, read_frames
from tubelet.preprocess.errors import VideoError
from tubelet.preprocess.resize import resize, resized_size
from tubelet.preprocess.spec import ExactSize, ShortestEdge
from videos import index_of, make_sound, make_video

X264 = "x264-params"
AV1 = {"preset": "12", "svtav1-params": "lp=1"}

# name -> what `make_video` is given; the suffix is the container. Between them they hold B-frames, timestamps
# that are uneven, missing or wrong, streams that start late, keyframes at which decoding cannot start, and no
# keyframes but the first; then what the codecs and pixel formats in use make of frames.
VARIANTS = {
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


def decode_whole(path):
    """uint8 (N, H, W, 3): every frame that PyAV yields from the start, upright."""
    with av.open(str(path)) as container:
        return np.stack(
            [np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90) for frame in container.decode(video=0)]
        )


def take(*indices):
    return lambda _: np.array(indices, np.int64)


def everything(timeline):
    return np.arange(len(timeline))


def remux(source, target, edit):
    """Copies a stream packet by packet; `edit(number, packet)` gives the packets to write in its place."""
    with av.open(str(source)) as read, av.open(str(target), "w") as write:
        stream = write.add_stream_from_template(read.streams.video[0])
        packets = [packet for packet in read.demux(video=0) if packet.size]
        for number, packet in enumerate(packets):
            for edited in edit(number, packet):
                edited.stream = stream
                write.mux(edited)
    return target


def packet_like(packet, content, *, later=0):
    copy = av.Packet(content)
    copy.pts, copy.dts = packet.pts + later, packet.dts + later
    copy.time_base, copy.duration, copy.is_keyframe = packet.time_base, packet.duration, packet.is_keyframe
    return copy


def damage(path, numbers):
    """Overwrites the packets with these numbers, in the order of the file, and returns its path."""
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for number in numbers:
        start, size = places[number]
        content[start : start + size] = b"\xff" * size
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request, tmp_path_factory):
    path = make_video(tmp_path_factory.mktemp("variant") / request.param, **VARIANTS[request.param])
    return path, decode_whole(path)


def test_any_indices_in_any_order_are_the_frames_of_the_whole_file(variant):
    path, whole = variant
    random = np.random.default_rng(0)
    count = len(whole)
    choices = [
        np.arange(count),
        np.arange(count)[::-1],
        np.sort(random.choice(count, min(count, 4), replace=False)),
        random.choice(count, 16),
        np.array([count - 1]),
        np.array([count // 2, count // 2]),
    ]
    for indices in choices:
        frames = read_frames(path, lambda _, indices=indices: indices)
        assert frames.indices.tolist() == indices.tolist()
        assert frames.pixels.flags.c_contiguous
        np.testing.assert_array_equal(frames.pixels, whole[indices])
        assert [index_of(picture) for picture in frames.pixels] == indices.tolist()


def test_every_frame_by_itself(variant):
    path, whole = variant
    for index in range(len(whole)):
        np.testing.assert_array_equal(read_frames(path, take(index)).pixels[0], whole[index])


def test_choose_and_probe_are_told_the_exact_number_of_frames(variant):
    path, whole = variant
    counts = []

    def choose(timeline):
        counts.append(len(timeline))
        return np.array([0])

    read_frames(path, choose)
    assert counts[-1] == len(whole) == probe(path).frames


REAL_VIDEOS = Path(__file__).parents[2] / "shared" / "videos"


@pytest.mark.skipif(not REAL_VIDEOS.is_dir(), reason="the folder of real videos is not there")
@pytest.mark.parametrize(
    "path",
    [p for p in sorted(REAL_VIDEOS.glob("*")) if p.suffix != ".md" and p.name != "corrupted.mp4"],
    ids=lambda path: path.name,
)
def test_real_videos(path):
    whole = decode_whole(path)
    indices = np.random.default_rng(0).choice(len(whole), 8)
    assert probe(path).frames == len(whole)
    for chosen in (indices, np.sort(indices), np.array([len(whole) // 2])):
        np.testing.assert_array_equal(read_frames(path, lambda _, c=chosen: c).pixels, whole[chosen])


def test_times(tmp_path):
    even = make_video(tmp_path / "even.mp4")
    np.testing.assert_allclose(read_frames(even, everything).seconds, np.arange(30) / 30, rtol=1e-15)

    times = np.cumsum(np.arange(30) % 4 + 1)
    uneven = make_video(tmp_path / "uneven.mkv", times=times.tolist())  # Matroska counts milliseconds
    np.testing.assert_allclose(read_frames(uneven, everything).seconds, (times - 1) / 30, atol=1.1e-3)

    late = make_video(tmp_path / "late.ts")  # starts at 1.4 seconds, as every transport stream does
    assert read_frames(late, take(0, 29, 0)).seconds == pytest.approx([0, 29 / 30, 0])

    for name in ("untimed.h264", "out_of_order.avi"):
        assert np.isnan(read_frames(make_video(tmp_path / name), everything).seconds).all()


def test_times_count_from_where_the_sound_starts(tmp_path):
    path = tmp_path / "sound_first.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=44100)
        video = container.add_stream("mpeg4", rate=30)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 44100), np.float32), "fltp", "stereo")
        silence.rate, silence.pts = 44100, 0
        container.mux([*sound.encode(silence), *sound.encode(None)])
        for number in range(30):
            frame = av.VideoFrame.from_ndarray(videos.draw(number, (96, 64)), format="rgb24")
            frame.pts, frame.time_base = number + 15, Fraction(1, 30)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    assert read_frames(path, take(0, 3)).seconds == pytest.approx([0.5, 0.6], abs=1e-4)


def test_probe(tmp_path):
    path = make_video(tmp_path / "tall.mp4", size=(48, 96), rate=25, frames=10, rotation=-90)
    info = probe(str(path))
    assert info.to_json() == {
        "path": str(path),
        "container": "mov,mp4,m4a,3gp,3g2,mj2",
        "codec": "h264",
        "width": 48,
        "height": 96,
        "rotation": -90,
        "mirrored": False,
        "pixel_format": "yuv420p",
        "colour_space": None,
        "colour_range": None,
        "frames": 10,
        "counted_by": "list",
        "frame_rate": 25.0,
        "variable_rate": False,
        "duration_seconds": 0.4,
    }
    json.dumps(info.to_json())
    assert (
        info.summary()
        == f"""\
video      {path}
format     h264 in mov,mp4,m4a,3gp,3g2,mj2
size       48x96, turned by -90 degrees
colour     yuv420p, untagged, read as BT.601 limited
frames     10, as the file lists them
rate       25 per second, constant
duration   0.400 seconds"""
    )


def test_probe_of_a_stream_without_times(tmp_path):
    raw = probe(make_video(tmp_path / "raw.h264", frames=10, rate=25))
    assert (raw.frames, raw.counted_by) == (10, "decoding")
    assert (raw.frame_rate, raw.variable_rate, raw.duration_seconds) == (None, None, None)
    assert raw.summary().splitlines()[-3:] == [
        "frames     10, by decoding all of them",
        "rate       no timestamps",
        "duration   not stated",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("full_range.mp4", ("yuvj420p", None, "full", False)),
        ("10_bits_422.mkv", ("yuv422p10le", None, None, False)),
        ("vp8.webm", ("yuv420p", "BT.601", "limited", False)),
        ("animation.gif", ("bgra", "RGB", None, False)),
        ("uneven.mp4", ("yuv420p", None, None, True)),
        ("uneven.mkv", ("yuv420p", None, None, True)),
    ],
)
def test_colour_and_rate(tmp_path, name, expected):
    info = probe(make_video(tmp_path / name, **VARIANTS[name]))
    assert (info.pixel_format, info.colour_space, info.colour_range, info.variable_rate) == expected


def test_duration_of_matroska(tmp_path):
    assert probe(make_video(tmp_path / "v.mkv", frames=10, rate=25)).duration_seconds == pytest.approx(0.4)


# The eight ways to lay out a picture: where (x, y) goes, as (a x + c y, b x + d y).
LAYOUTS = [
    *((a, 0, 0, d) for a, d in product((1, -1), repeat=2)),
    *((0, b, c, 0) for b, c in product((1, -1), repeat=2)),
]


def with_display_matrix(path, a, b, c, d):
    """Writes the matrix into the track header, where a plain file has that of 16.16 ones."""
    plain = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    asked = struct.pack(">9i", *(round(value * 65536) for value in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
    head, _, track = make_video(path, frames=2).read_bytes().partition(b"tkhd")
    path.write_bytes(head + b"tkhd" + track.replace(plain, asked, 1))
    return path


@pytest.mark.parametrize("matrix", LAYOUTS)
def test_turned_and_mirrored_pictures(tmp_path, matrix):
    path = with_display_matrix(tmp_path / "turned.mp4", *matrix)
    stored = read_frames(path, take(1), rotate=False).pixels[0]
    height, width, _ = stored.shape
    assert (width, height) == (96, 64)

    a, b, c, d = matrix
    placed = {}
    for y, x in product(range(height), range(width)):
        middle_x, middle_y = 2 * x - (width - 1), 2 * y - (height - 1)  # twice the distance from the middle
        placed[a * middle_x + c * middle_y, b * middle_x + d * middle_y] = stored[y, x]
    columns, rows = sorted({x for x, _ in placed}), sorted({y for _, y in placed})
    expected = np.array([[placed[x, y] for x in columns] for y in rows])

    np.testing.assert_array_equal(read_frames(path, take(1)).pixels[0], expected)
    info = probe(path)
    assert (info.height, info.width) == expected.shape[:2]
    assert info.mirrored == (a * d - b * c < 0)


@pytest.mark.parametrize("degrees", [45, 10, 80])
def test_a_slanted_picture_can_be_read_as_it_is_stored(tmp_path, degrees):
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    path = with_display_matrix(tmp_path / "slanted.mp4", cosine, sine, -sine, cosine)
    with pytest.raises(VideoError, match=r"asks for a rotation of -\d+ degrees; only quarter turns"):
        read_frames(path, take(0))
    assert read_frames(path, take(0), rotate=False).pixels.shape == (1, 64, 96, 3)


def test_frames_that_an_edit_list_cuts_off_do_not_count(tmp_path):
    path = make_video(tmp_path / "edited.mp4", times=range(-5, 25))
    whole = decode_whole(path)
    assert probe(path).frames == len(whole) == 25
    assert [index_of(picture) for picture in read_frames(path, take(0, 3, 24)).pixels] == [5, 8, 29]
    for index in range(25):
        np.testing.assert_array_equal(read_frames(path, take(index)).pixels[0], whole[index])


def test_hidden_pictures_of_vp8_do_not_count(tmp_path):
    def hide(number, packet):
        content = bytearray(bytes(packet))
        if number % 7 == 3:
            content[0] &= 0xEF  # show_frame
        return [packet_like(packet, bytes(content))]

    source = make_video(tmp_path / "source.webm", codec="libvpx", codec_options={"deadline": "realtime"})
    path = remux(source, tmp_path / "hidden.webm", hide)
    shown = [number for number in range(30) if number % 7 != 3]
    whole = decode_whole(path)
    assert [index_of(picture) for picture in whole] == shown
    for index in range(len(shown)):
        np.testing.assert_array_equal(read_frames(path, take(index)).pixels[0], whole[index])
    assert probe(path).frames == len(shown)


def test_a_packet_that_yields_no_frame_makes_choose_be_asked_again(tmp_path):
    def delimit(number, packet):
        empty = packet_like(packet, b"\0\0\0\3\x46\x01\x50", later=100)  # an access unit delimiter, and no slice
        empty.is_keyframe = False
        return [packet, empty] if number == 12 else [packet]

    source = make_video(tmp_path / "source.mp4", **VARIANTS["hevc.mp4"])
    path = remux(source, tmp_path / "delimited.mp4", delimit)
    counts = []

    def choose(timeline):
        counts.append(len(timeline))
        return np.arange(len(timeline))

    frames = read_frames(path, choose)
    assert counts == [31, 30]
    assert [index_of(picture) for picture in frames.pixels] == list(range(30))


# Which of them are found by the list that the file has, and which only by decoding them from the start; all
# the others are found by their packets.
LISTED = {
    *("h264.mp4", "h264.mov", "no_b_frames.mp4", "long_group.mp4", "intra_only.mp4", "odd.mp4"),
    *("one_frame.mp4", "rotated_90.mp4", "rotated_-90.mp4", "rotated_180.mp4", "starts_late.mp4", "av1.mp4"),
    *("uneven_no_b_frames.mp4", "vp9.mp4", "10_bits.mp4", "full_range.mp4", "alpha.mov"),
    *("alpha_rgb.mov",),
}
COUNTED = {
    *("h264.h264", "h264.avi", "open_group.avi", "mpeg4_b_frames.avi", "intra_refresh.ts", "mpeg2.mpg"),
    *("mpeg1.mpg", "no_keyframes.swf", "same_millisecond.mkv"),
}


def test_only_files_that_need_it_are_read_or_decoded_whole(variant, monkeypatch):
    path, whole = variant
    ways = set()
    gather = decode._gather
    monkeypatch.setattr(
        decode, "_gather", lambda reading, converter: ways.add(reading.counted_by) or gather(reading, converter)
    )
    for index in range(0, len(whole), 3):
        read_frames(path, take(index))
    assert (ways == {"list"}) == (path.name in LISTED)
    assert ("decoding" in ways) == (path.name in COUNTED)


def test_only_the_groups_of_pictures_that_are_needed_are_decoded(tmp_path):
    path = make_video(tmp_path / "damaged.mp4", frames=60, keyframe_every=20)
    whole = decode_whole(path)
    damage(path, range(25, 35))
    np.testing.assert_array_equal(read_frames(path, take(45, 3, 59)).pixels, whole[[45, 3, 59]])
    with pytest.raises(VideoError, match="is damaged"):
        read_frames(path, take(3, 39))


def test_a_recording_that_starts_between_keyframes(tmp_path):
    source = make_video(tmp_path / "source.mkv", codec_options={"bf": "0"})
    path = remux(source, tmp_path / "late.mkv", lambda number, packet: [packet] if number > 3 else [])
    whole = decode_whole(path)
    assert [index_of(picture) for picture in whole] == list(range(10, 30))
    for index in range(20):
        np.testing.assert_array_equal(read_frames(path, take(index)).pixels[0], whole[index])


def test_a_recording_with_a_gap(tmp_path):
    path = make_video(tmp_path / "gap.ts", frames=12, size=(320, 240), keyframe_every=1)
    content = path.read_bytes()
    middle = len(content) // 188 // 2 * 188
    path.write_bytes(content[:middle] + content[middle + 188 :])  # one transport packet lost
    whole = decode_whole(path)
    assert probe(path).frames == len(whole)
    for index in range(len(whole)):
        np.testing.assert_array_equal(read_frames(path, take(index)).pixels[0], whole[index])


def test_corrupt_packets(tmp_path):
    path = damage(make_video(tmp_path / "bad.mp4", codec_options={"bf": "0"}), [12, 13])
    with pytest.raises(VideoError) as error:
        read_frames(path, everything)
    assert str(error.value) == (
        f"{path} is damaged: frame 12 at 0.400 seconds cannot be decoded (Invalid data found when processing "
        "input); 28 of 30 frames are readable\n"
        "  fix: copy the file again, or pass over the damage"
    )
    assert isinstance(error.value.__cause__, av.FFmpegError)


def test_corrupt_packets_without_timestamps(tmp_path):
    path = make_video(tmp_path / "bad.h264", codec_options={"bf": "0"})
    units = path.read_bytes().split(b"\0\0\1")  # the slices of frames last, one for each
    units[-5] = units[-5][:1] + b"\xff" * 20
    path.write_bytes(b"\0\0\1".join(units))
    with pytest.raises(VideoError, match=r"is damaged: it cannot be decoded to its end \(.*\); \d+ of 30 frames"):
        read_frames(path, everything)


def decodable(path):
    """pts -> picture of every frame that can be had by passing over packets that cannot be decoded."""
    pictures = {}
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            with suppress(av.FFmpegError):
                pictures.update({frame.pts: frame.to_ndarray(format="rgb24") for frame in packet.decode()})
    return pictures


DAMAGE = {
    "middle.mp4": ({"codec_options": {"bf": "0"}}, [12, 13]),
    "keyframe.mp4": ({"codec_options": {"bf": "0"}}, [10]),
    "first.mp4": ({}, [0]),
    "last.mp4": ({}, [28, 29]),
    "group.mp4": ({}, range(10, 20)),
    "hevc.mp4": (VARIANTS["hevc.mp4"], [12, 13]),
    "mpeg4.avi": ({"codec": "mpeg4"}, [5, 6, 7, 20]),
    "motion.avi": ({"codec": "mjpeg", "pixel_format": "yuvj420p"}, [0, 1, 2, 17]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_the_nearest_good_frame_stands_in_for_a_lost_one(tmp_path, name):
    options, packets = DAMAGE[name]
    path = make_video(tmp_path / name, **options)
    with av.open(str(path)) as container:
        pts = sorted(packet.pts for packet in container.demux(video=0) if packet.size)
    damage(path, packets)
    pictures = decodable(path)
    good = [position for position, value in enumerate(pts) if value in pictures]
    assert len(good) < 30
    with pytest.raises(VideoError, match="is damaged"):
        read_frames(path, everything)

    for indices in (np.arange(30), np.array([29, 12, 12, 0]), np.array([11]), np.array([13, 14])):
        frames = read_frames(path, lambda _, i=indices: i, on_error="skip")
        assert frames.indices.tolist() == indices.tolist()
        assert np.isfinite(frames.seconds).all()
        for index, picture, stood_in in zip(indices, frames.pixels, frames.stood_in, strict=True):
            nearest = min(good, key=lambda position: abs(position - index))  # the earlier of two as near
            assert stood_in == (nearest != index)
            np.testing.assert_array_equal(picture, pictures[pts[nearest]])
    assert read_frames(path, everything, on_error="skip").skipped_packets == len(packets)


def test_frames_that_damage_puts_out_of_order_are_lost(tmp_path):
    path = damage(make_video(tmp_path / "bad.mp4"), [10])  # a keyframe in the midst of B-frames
    frames = read_frames(path, everything, on_error="skip")
    assert np.flatnonzero(frames.stood_in).tolist() == list(range(8, 17))
    assert [index_of(picture) for picture in frames.pixels[[7, 8, 12, 20, 29]]] == [7, 7, 7, 20, 29]


def test_damage_that_is_not_on_the_way_is_not_looked_for(tmp_path):
    path = make_video(tmp_path / "bad.mp4", frames=60, keyframe_every=20)
    whole = decode_whole(path)
    damage(path, [25])
    frames = read_frames(path, take(3, 59), on_error="skip")
    assert (frames.skipped_packets, frames.stood_in.any()) == (0, False)
    np.testing.assert_array_equal(frames.pixels, whole[[3, 59]])


def test_where_there_are_no_timestamps_lost_frames_do_not_count(tmp_path):
    path = make_video(tmp_path / "bad.h264", codec_options={"bf": "0"})
    units = path.read_bytes().split(b"\0\0\1")
    units[-5] = units[-5][:1] + b"\xff" * 20
    path.write_bytes(b"\0\0\1".join(units))
    whole = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            with suppress(av.FFmpegError):
                whole.extend(frame.to_ndarray(format="rgb24") for frame in packet.decode())
    frames = read_frames(path, everything, on_error="skip")
    np.testing.assert_array_equal(frames.pixels, whole)
    assert len(whole) == 29
    assert (frames.skipped_packets, frames.stood_in.any()) == (1, False)


def test_nothing_left_to_stand_in(tmp_path):
    path = damage(make_video(tmp_path / "bad.mp4"), range(30))
    with pytest.raises(VideoError, match=r"holds no frame that can be decoded$"):
        read_frames(path, take(0), on_error="skip")


def written(content):
    def write(path):
        path.write_bytes(content)
        return path

    return write


def without_index(path):
    content = make_video(path).read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    return path


def without_frames(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.start_encoding()
    return path


def of_unknown_codec(path):
    path.write_bytes(make_video(path).read_bytes().replace(b"avc1", b"zzzz"))
    return path


def picture(path):
    Image.new("RGB", (64, 48)).save(path)
    return path


def folder(path):
    path.mkdir()
    return path


# name of the file -> what makes it, and what is said of it
UNUSABLE = {
    "missing.mp4": (lambda path: path, "does not exist"),
    "folder.mp4": (folder, "is not a file"),
    "empty.mp4": (written(b""), "cannot be opened as a video: it is empty"),
    "text.mp4": (
        written(b"not a video\n" * 20),
        "cannot be opened as a video: Invalid data found when processing input",
    ),
    "text.txt": (written(b"not a video\n" * 50), "is not a video: FFmpeg could only draw its bytes as text"),
    "picture.png": (picture, "is a picture, not a video"),
    "picture.jpg": (picture, "is a picture, not a video"),
    "sound.mp3": (make_sound, "holds no video, only audio"),
    "cover.mp3": (partial(make_sound, cover=True), "holds no video, only audio and cover art"),
    "subtitles.srt": (
        written(b"1\n00:00:00,000 --> 00:00:01,000\nHello\n\n"),
        "holds no video, only subtitle",
    ),
    "nothing.mp4": (without_frames, "holds no video, only an empty header"),
    "nothing.avi": (without_frames, "holds no frame that can be decoded"),
    "unfinished.mp4": (
        without_index,
        "cannot be opened as a video: it is an MP4 file without its index (moov), cut short or never finished",
    ),
    "unknown.mp4": (of_unknown_codec, "holds video in a codec that this build of FFmpeg cannot decode"),
    "diagonal.mp4": (
        partial(make_video, rotation=45, size=(96, 96)),
        "asks for a rotation of 45 degrees; only quarter turns keep pixels as they are\n"
        "  fix: re-encode it upright: ffmpeg -i IN OUT",
    ),
}


@pytest.mark.parametrize("read", [probe, lambda path: read_frames(path, take(0))], ids=["probe", "read_frames"])
@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_read_is_said_and_closed(tmp_path, name, read):
    make, message = UNUSABLE[name]
    path = make(tmp_path / name)
    descriptors = open_descriptors()
    with pytest.raises(VideoError) as error:
        read(path)
    assert str(error.value) == f"{path} {message}"
    assert open_descriptors() == descriptors


def open_descriptors():
    """What this process has open, where the system tells."""
    return sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else []


def test_files_are_closed_after_reading(tmp_path):
    paths = [make_video(tmp_path / "seek.mp4"), make_video(tmp_path / "count.h264")]
    descriptors = open_descriptors()
    for path in paths:
        read_frames(path, take(7))
    assert open_descriptors() == descriptors


@pytest.mark.parametrize(
    ("name", "options", "promise"),
    [
        ("cut.mp4", {"container_options": {"movflags": "faststart"}}, "lists 30 frames"),
        ("cut.mkv", {}, r"states \d+ bytes"),
        ("cut.webm", VARIANTS["vp8.webm"], r"states \d+ bytes"),
        ("cut.avi", {"codec": "mpeg4"}, r"states \d+ bytes"),
    ],
)
def test_a_download_that_broke_off(tmp_path, name, options, promise):
    path = make_video(tmp_path / name, **options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    for read in (probe, partial(read_frames, choose=take(0))):
        with pytest.raises(VideoError, match=rf"is cut short: it {promise} and holds \d+\n  fix: copy the file again$"):
            read(path)
    frames = read_frames(path, everything, on_error="skip")
    assert 5 < len(frames) < 30
    assert [index_of(picture) for picture in frames.pixels] == np.rint(frames.seconds * 30).tolist()


def test_a_file_that_never_knew_its_length(tmp_path):
    path = make_video(tmp_path / "live.mkv", container_options={"live": "1"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    assert probe(path).frames == len(decode_whole(path))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file here that opens and cannot be read")
def test_a_file_that_the_system_cannot_read():
    with pytest.raises(VideoError, match=r"^/proc/self/mem cannot be opened as a video: Input/output error$"):
        probe("/proc/self/mem")


@pytest.mark.parametrize("name", ["clip.mp4", "clip.h264"])
@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 30], "{path} has 30 frames, 0 to 29, but frame 30 was asked for"),
        ([-1, 0], "{path} has 30 frames, 0 to 29, but frame -1 was asked for"),
        ([], "indices must be (T,), at least one of them, got indices.shape = (0,)"),
        ([[0, 1]], "indices must be (T,), at least one of them, got indices.shape = (1, 2)"),
    ],
)
def test_indices_that_no_frame_has(tmp_path, name, indices, message):
    path = make_video(tmp_path / name)
    with pytest.raises(VideoError, match=f"^{re.escape(message.format(path=path))}$"):
        read_frames(path, lambda _: np.array(indices, np.int64))


def test_a_frame_size_that_changes(tmp_path):
    small = make_video(tmp_path / "small.h264", frames=5)
    large = make_video(tmp_path / "large.h264", frames=5, size=(128, 96))
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    assert read_frames(both, take(7, 9)).pixels.shape == (2, 96, 128, 3)
    with pytest.raises(VideoError, match="changes its frame size: 96x64 at frame 2, 128x96 at frame 8"):
        read_frames(both, take(8, 2))


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_frames_of_two_sizes_are_those_of_the_whole_file(tmp_path, suffix):
    options = {"codec": "mpeg2video", "frames": 12, "keyframe_every": 4}
    small = make_video(tmp_path / f"small.{suffix}", **options)
    large = make_video(tmp_path / f"large.{suffix}", size=(128, 96), times=range(12, 24), **options)
    both = tmp_path / f"both.{suffix}"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    with av.open(str(both)) as container:
        whole = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert {picture.shape for picture in whole} == {(64, 96, 3), (96, 128, 3)}
    for index, picture in enumerate(whole):
        np.testing.assert_array_equal(read_frames(both, take(index)).pixels[0], picture)
    one_size = read_frames(both, everything, scale_to=Scaling(ExactSize(40, 56), "bilinear"))
    assert one_size.pixels.shape == (len(whole), 40, 56, 3)


# --- Resized on the way ---


@pytest.mark.parametrize("rotation", [0, 90, -90, 180])
@pytest.mark.parametrize("rule", [ShortestEdge(32), ExactSize(40, 30)])
def test_scaled_frames_have_the_size_of_the_rule_as_displayed(tmp_path, rule, rotation):
    path = make_video(tmp_path / "turned.mp4", frames=3, size=(96, 64), rotation=rotation)
    scaled = read_frames(path, everything, scale_to=Scaling(rule, "bilinear"))
    assert scaled.pixels.shape[1:3] == resized_size(64, 96, rule)
    assert [index_of(picture) for picture in scaled.pixels] == [0, 1, 2]
    assert scaled.pixels.flags.c_contiguous


@pytest.mark.parametrize("resample", ["nearest", "box", "bilinear", "bicubic", "lanczos"])
def test_scaled_frames_are_close_to_those_of_the_exact_resize(tmp_path, resample):
    path = make_video(tmp_path / "large.mp4", frames=2, size=(640, 360))
    exact = resize(read_frames(path, everything).pixels, (120, 213), resample)
    scaled = read_frames(path, everything, scale_to=Scaling(ShortestEdge(120), resample)).pixels
    difference = np.abs(exact.astype(int) - scaled)
    assert 0 < difference.mean() < 4


def test_a_filter_that_cannot_scale_on_the_way():
    with pytest.raises(ValueError, match=r"by nearest, box, bilinear, bicubic, lanczos, got 'hamming'$"):
        Scaling(ShortestEdge(32), "hamming")


def test_a_file_that_changes_while_it_is_read(tmp_path):
    path = make_video(tmp_path / "clip.h264")
    shorter = make_video(tmp_path / "shorter.h264", frames=10).read_bytes()

    def choose(timeline):
        path.write_bytes(shorter)
        return np.arange(len(timeline))

    with pytest.raises(VideoError, match="changed while it was read: 20 frames have gone"):
        read_frames(path, choose)


def test_a_name_that_ffmpeg_would_take_for_a_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "plain.mp4").rename("concat:clip.mp4")
    assert index_of(read_frames("concat:clip.mp4", take(11)).pixels[0]) == 11
