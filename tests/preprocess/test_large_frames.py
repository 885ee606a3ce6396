"""Memory: what one frame and one reading may take, whatever a header says; and frames whose size changes midway."""

import re
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner
from videos import everything, make_video, take

from tubelet.cli.tree import main
from tubelet.preprocess.decode import probe, read_fitted, read_frames
from tubelet.preprocess.errors import VideoError
from tubelet.preprocess.frames import Frames
from tubelet.preprocess.prepare import prepare
from tubelet.preprocess.sources import Source
from tubelet.preprocess.spec import ExactSize, ShortestEdge
from tubelet.preprocess.views import cut_views, prepare_views
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.load import load
from tubelet.runtime.reading import Reading, prepare_crops, read_crops

# What the process may claim in all, and what may be resident at its peak beside what importing takes.
ADDRESS_SPACE = 6 << 30
MOST_GROWTH_MB = 150


def gif(width: int, height: int, frames: int = 3) -> bytes:
    """A GIF of a few bytes whose pictures are one pixel in a screen of any size."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF0, 0, 0) + bytes([0, 0, 0, 255, 255, 255])
    picture = b"\x21\xf9\x04\x00\x0a\x00\x00\x00\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return screen + picture * frames + b"\x3b"


MEASURED = """
import resource, sys
from tubelet.cli.tree import main
import onnxruntime
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
@pytest.mark.parametrize("command", ["info", "classify", "skip", "fast", "small"])
def test_a_header_that_claims_a_huge_frame_costs_nothing(tmp_path: Path, vivit_bundle: Path, command: str) -> None:
    bomb = tmp_path / "bomb.gif"
    side = 5000 if command == "small" else 16000
    bomb.write_bytes(gif(side, side))
    others = {"skip": ["--on-error", "skip"], "fast": ["--resize", "fast"], "small": ["--max-mb", "200"]}
    arguments = ["info", bomb] if command == "info" else ["classify", vivit_bundle, bomb, *others.get(command, [])]
    code = MEASURED.format(limit=ADDRESS_SPACE)
    process = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    size = {"small": "5000x5000, 71.5 MB each, and one may take 50 MB"}.get(
        command, "16000x16000, 732 MB each, and one may take 256 MB"
    )
    *message, grown = process.stderr.splitlines()
    assert process.returncode == 1
    assert message[0] == f"Error: {bomb} has frames of {size}, a quarter of what a reading may hold"
    assert message[1].startswith("  fix: make it smaller: ")
    assert int(grown) < MOST_GROWTH_MB << 10


def test_what_fits_is_read(tmp_path: Path) -> None:
    path = tmp_path / "small.gif"
    path.write_bytes(gif(500, 400))
    assert read_frames(path, everything).pixels.shape == (3, 400, 500, 3)
    path.write_bytes(gif(7680, 4320, frames=1))
    assert read_frames(path, take(0)).pixels.shape == (1, 4320, 7680, 3)
    assert Source.of(path).max_pixels > 8192 * 8192


def test_a_reading_of_more_than_it_may_hold(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", size=(640, 480))
    source = replace(Source.of(path), max_mb=4)  # one frame is 0.9 MB
    assert read_frames(source, take(1, 2, 3)).pixels.shape == (3, 480, 640, 3)
    with pytest.raises(
        VideoError, match=r"5 frames of .* are 4 MB at 640x480, and a reading may hold 4 MB\n  fix: take"
    ):
        read_frames(source, take(1, 2, 3, 4, 5))
    fitted = read_fitted(source, everything, lambda pixels: [pixels[:, ::10, ::10]])
    assert fitted[0].pixels.shape == (30, 48, 64, 3)


@pytest.mark.parametrize(("suffix", "size"), [("h264", "640x480, 0.879 MB each"), ("ts", "a size that is not known")])
def test_a_size_that_becomes_too_large_midway(tmp_path: Path, suffix: str, size: str) -> None:
    codec = "libx264" if suffix == "h264" else "mpeg2video"
    first = make_video(tmp_path / f"first.{suffix}", codec=codec, frames=5)
    second = make_video(tmp_path / f"second.{suffix}", codec=codec, frames=5, size=(640, 480), times=range(5, 10))
    both = tmp_path / f"both.{suffix}"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    source = replace(Source.of(both), max_mb=1)
    with pytest.raises(VideoError, match=f"has frames of {size}, and one may take 0.25 MB, a quarter of what"):
        read_frames(source, everything)
    assert read_frames(source, everything, on_error="skip").pixels.shape[1:] == (64, 96, 3)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (1200, 200), (98, 2002), (1300, 1300)])
def test_the_size_that_is_advised_is_the_largest_that_is_read(tmp_path: Path, size: tuple[int, int]) -> None:
    source = replace(Source.of(make_video(tmp_path / "v.mp4", frames=2, size=size)), max_mb=1)
    with pytest.raises(VideoError) as refused:
        read_frames(source, everything)
    found = re.search(r"scale=(\d+):-2 ", str(refused.value))
    assert found
    for smaller, is_read in ((int(found[1]), True), (int(found[1]) + 2, False)):
        height = 2 * int(smaller * size[1] / size[0] / 2 + 0.5)  # of scale=N:-2
        again = replace(Source.of(make_video(tmp_path / f"{is_read}.mp4", frames=2, size=(smaller, height))), max_mb=1)
        if is_read:
            assert read_frames(again, everything).pixels.shape == (2, height, smaller, 3)
        else:
            with pytest.raises(VideoError, match="has frames of"):
                read_frames(again, everything)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_large_frames_are_resized_as_they_arrive(tmp_path: Path, vivit_bundle: Path) -> None:
    """60 frames and more of 1920x1080 are 370 MB; a reading holds a few of them at once."""
    path = tmp_path / "large.gif"
    path.write_bytes(gif(1920, 1080, frames=160))
    code = (
        "import resource, sys\n"
        "from dataclasses import replace\n"
        "from tubelet import Bundle\n"
        "from tubelet.runtime.reading import Reading, read_crops\n"
        "import tubelet.preprocess.decode\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "spec = replace(Bundle.open(sys.argv[1]).spec, num_frames=16)\n"
        "crops = read_crops(sys.argv[2], spec, Reading(clips=5, crops=3))\n"
        "assert len(crops) == 3 and len(crops[0].frames) > 60\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(vivit_bundle), str(path)], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) < 250  # a group of 64 MB, again as one array, and the decoder's frames


# --- Frames whose size changes ---


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 frames of 96x64 and 12 of 128x160."""
    folder = tmp_path_factory.mktemp("changing")
    options: dict[str, Any] = {"codec": "mpeg2video", "frames": 12, "keyframe_every": 4}
    first = make_video(folder / "first.ts", **options)
    second = make_video(folder / "second.ts", size=(128, 160), times=range(12, 24), **options)
    both = folder / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    return both


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("rule", [ShortestEdge(40), ExactSize(40, 48), None])
@pytest.mark.parametrize("reading", [Reading(), Reading(sampling="uniform", crops=3), Reading(clips=3, crops=3)])
def test_each_frame_is_resized_by_itself(
    changing: Path, vivit_bundle: Path, rule: ShortestEdge | ExactSize | None, reading: Reading
) -> None:
    pictures = decoded(changing)
    assert len({picture.shape for picture in pictures}) == 2
    spec = replace(Bundle.open(vivit_bundle).spec, resize=rule, num_frames=8)
    crops = read_crops(changing, spec, reading)
    expected = [cut_views(picture[np.newaxis], spec, reading.crops) for picture in pictures]
    for number, clips in enumerate(crops):
        shown = [expected[index][number][0] for index in clips.frames.indices]
        np.testing.assert_array_equal(clips.frames.pixels, np.stack(shown))
    assert len({pictures[index].shape for index in crops[0].frames.indices}) == 2
    assert prepare_crops(crops, spec).shape == (reading.views, 8, 3, 32, 32)


def test_without_a_crop_the_frames_of_a_clip_must_become_equal(changing: Path, vivit_bundle: Path) -> None:
    spec = replace(Bundle.open(vivit_bundle).spec, resize=ShortestEdge(32), crop=None, num_frames=8)
    with pytest.raises(
        VideoError, match=r"changes its frame size: 48x32 before frame 12, 32x40 from there\n  fix: re-e"
    ):
        read_crops(changing, spec, Reading(sampling="uniform"))


def test_frames_are_what_they_were_where_the_size_stays(video: Path, vivit_bundle: Path) -> None:
    for reading in (Reading(), Reading(clips=4, crops=3)):
        with load(vivit_bundle, reading=reading) as model:
            clips = model.read(video)
            crops = read_crops(video, model.spec, reading)
            np.testing.assert_array_equal(prepare_crops(crops, model.spec), model.prepare(clips))
            views = prepare_views(clips.frames, model.spec, clips.positions, reading.crops)
            np.testing.assert_array_equal(prepare_crops(crops, model.spec), views)
            given = read_crops(Frames.from_array(clips.clip(0).pixels), model.spec, replace(reading, clips=1, crops=1))
            np.testing.assert_array_equal(prepare_crops(given, model.spec)[0], prepare(clips.clip(0), model.spec))


def test_a_changing_video_on_the_command_line(
    changing: Path, vivit_bundle: Path, attentive_bundle: Path, masked_bundle: Path, tmp_path: Path
) -> None:
    for arguments in (
        ("classify", vivit_bundle, changing, "--sampling", "uniform"),
        ("classify", vivit_bundle, changing, "--views", "3x3", "--resize", "fast"),
        ("features", attentive_bundle, changing, "--sampling", "uniform"),
        ("explain", attentive_bundle, changing, "--sampling", "uniform", "-o", tmp_path / "a.png"),
        ("reconstruct", masked_bundle, changing, "--sampling", "uniform", "-o", tmp_path / "b.png"),
        ("info", changing),
    ):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output


def test_an_animated_webp_says_so(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "moving.webp"
    pictures = [Image.new("RGB", (64, 48), (shade, 0, 0)) for shade in (0, 100, 200)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    if "webp_anim" in av.formats_available:  # from FFmpeg 9 on, which PyAV 19 brings
        frames = read_frames(path, everything)
        assert [int(picture[0, 0, 0]) for picture in frames.pixels] == pytest.approx([0, 100, 200], abs=4)
    else:
        with pytest.raises(VideoError, match="it is an animated WebP, which this build of FFmpeg cannot decode"):
            probe(path)
    pictures[0].save(tmp_path / "still.webp")
    with pytest.raises(VideoError, match="is a picture, not a video"):
        probe(tmp_path / "still.webp")


def test_a_frame_that_is_padded_to_whole_blocks_is_no_damage(tmp_path: Path) -> None:
    """340x250 is stored as 352x256, which has more pixels than are allowed; the frame has fewer."""
    video = make_video(tmp_path / "padded.mp4", size=(340, 250), frames=4)
    assert probe(replace(Source.of(video), max_mb=1)).width == 340
