"""Decoding, against PyAV decoding each file whole from its start, and against the numbers drawn on frames."""

import os
import re
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import videos
from PIL import Image
from tubelet.preprocess import decode
from tubelet.preprocess.decode import probe, read_frames
from tubelet.preprocess.errors import VideoError
from videos import index_of, make_sound, make_video

X264 = "x264-params"

# name -> what `make_video` is given; the suffix is the container. Between them they hold B-frames, timestamps
# that are uneven, missing or wrong, streams that start late, keyframes at which decoding cannot start, and no
# keyframes but the first.
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
}


def decode_whole(path):
    """uint8 (N, H, W, 3): every frame that PyAV yields from the start, upright."""
    with av.open(str(path)) as container:
        return np.stack(
            [np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90) for frame in container.decode(video=0)]
        )


def take(*indices):
    return lambda _: np.array(indices, np.int64)


def everything(count):
    return np.arange(count)


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

    def choose(count):
        counts.append(count)
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
    assert (info.path, info.codec, info.width, info.height) == (path, "h264", 48, 96)
    assert (info.rotation, info.frames, info.frame_rate, info.duration_seconds) == (-90, 10, 25.0, 0.4)

    raw = probe(make_video(tmp_path / "raw.h264", frames=10, rate=25))
    assert (raw.frames, raw.frame_rate, raw.duration_seconds) == (10, None, None)

    assert probe(make_video(tmp_path / "v.mkv", frames=10, rate=25)).duration_seconds == pytest.approx(0.4)


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

    def choose(count):
        counts.append(count)
        return np.arange(count)

    frames = read_frames(path, choose)
    assert counts == [31, 30]
    assert [index_of(picture) for picture in frames.pixels] == list(range(30))


COUNTED = {
    "h264.h264",
    "h264.avi",
    "open_group.avi",
    "mpeg4_b_frames.avi",
    "intra_refresh.ts",
    "mpeg2.mpg",
    "no_keyframes.swf",
    "same_millisecond.mkv",
}


def test_only_files_that_need_it_are_decoded_whole(variant, monkeypatch):
    path, whole = variant
    counted = []
    frames_by_counting = decode._frames_by_counting
    monkeypatch.setattr(
        decode, "_frames_by_counting", lambda *given: counted.append(path.name) or frames_by_counting(*given)
    )
    for index in range(0, len(whole), 3):
        read_frames(path, take(index))
    assert bool(counted) == (path.name in COUNTED)


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
        "  fix: copy the file again, or save what is readable: ffmpeg -i IN OUT"
    )
    assert isinstance(error.value.__cause__, av.FFmpegError)


def test_corrupt_packets_without_timestamps(tmp_path):
    path = make_video(tmp_path / "bad.h264", codec_options={"bf": "0"})
    units = path.read_bytes().split(b"\0\0\1")  # the slices of frames last, one for each
    units[-5] = units[-5][:1] + b"\xff" * 20
    path.write_bytes(b"\0\0\1".join(units))
    with pytest.raises(VideoError, match=r"is damaged: it cannot be decoded to its end \(.*\); \d+ of 30 frames"):
        read_frames(path, everything)


def written(content):
    def write(path):
        path.write_bytes(content)
        return path

    return write


def without_index(path):
    content = make_video(path).read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    return path


def cut_short(path):
    content = make_video(path, container_options={"movflags": "faststart"}).read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
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
    "nothing.avi": (without_frames, "holds no frames"),
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


def test_a_download_that_broke_off(tmp_path):
    path = cut_short(tmp_path / "cut.mp4")
    with pytest.raises(
        VideoError, match=r"is cut short: it lists 30 frames and holds \d+\n  fix: copy the file again$"
    ):
        probe(path)


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


def test_a_file_that_changes_while_it_is_read(tmp_path):
    path = make_video(tmp_path / "clip.h264")
    shorter = make_video(tmp_path / "shorter.h264", frames=10).read_bytes()

    def choose(count):
        path.write_bytes(shorter)
        return np.arange(count)

    with pytest.raises(VideoError, match="changed while it was read: 20 frames have gone"):
        read_frames(path, choose)


def test_a_name_that_ffmpeg_would_take_for_a_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / "plain.mp4").rename("concat:clip.mp4")
    assert index_of(read_frames("concat:clip.mp4", take(11)).pixels[0]) == 11
