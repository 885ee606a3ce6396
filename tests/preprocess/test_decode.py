"""Decoding, against PyAV decoding each file whole from its start, and against the numbers drawn on frames."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import videos
from videos import VARIANTS, damage, decode_whole, everything, index_of, make_video, packet_like, remux, take

from tubelet.preprocess import decode
from tubelet.preprocess.convert import Scaling
from tubelet.preprocess.decode import probe, read_frames
from tubelet.preprocess.errors import VideoError
from tubelet.preprocess.gather import gather
from tubelet.preprocess.spec import ExactSize


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
        frames = read_frames(path, take(*indices))
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


REAL_VIDEOS = Path(__file__).parents[3] / "shared" / "videos"


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
        np.testing.assert_array_equal(read_frames(path, take(*chosen)).pixels, whole[chosen])


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


def test_a_list_and_packets_that_promise_a_frame_too_many(tmp_path):
    def blank(number, packet):
        return [packet_like(packet, b"\0\0\0\3\x46\x01\x50") if number == 12 else packet]

    intra: dict[str, Any] = {"codec": "libx265", "codec_options": {"x265-params": "log-level=none:keyint=1:bframes=0"}}
    path = remux(make_video(tmp_path / "source.mp4", **intra), tmp_path / "blank.mp4", blank)
    counts = []

    def choose(timeline):
        counts.append(len(timeline))
        return np.array([11, 12])

    numbers = [index_of(picture) for picture in read_frames(path, choose).pixels]
    assert (counts, numbers) == ([30, 30, 29], [11, 13])


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
    monkeypatch.setattr(
        decode, "gather", lambda reading, *others: ways.add(reading.counted_by) or gather(reading, *others)
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
    with pytest.raises(VideoError, match="changes its frame size: 96x64 before frame 8, 128x96 from there"):
        read_frames(both, take(8, 2))


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_frames_of_two_sizes_are_those_of_the_whole_file(tmp_path, suffix):
    options: dict[str, Any] = {"codec": "mpeg2video", "frames": 12, "keyframe_every": 4}
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


def test_a_file_that_changes_while_it_is_read(tmp_path):
    path = make_video(tmp_path / "clip.h264")
    shorter = make_video(tmp_path / "shorter.h264", frames=10).read_bytes()

    def choose(timeline):
        path.write_bytes(shorter)
        return np.arange(len(timeline))

    with pytest.raises(VideoError, match="changed while it was read: 20 frames have gone"):
        read_frames(path, choose)
