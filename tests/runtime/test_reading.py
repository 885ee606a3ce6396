"""From a video to scores over several views, and many videos at once."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from videos import index_of, make_video

from tubelet.cli.tree import main
from tubelet.preprocess.decode import read_frames
from tubelet.preprocess.errors import OutOfBounds, VideoError
from tubelet.preprocess.frames import Frames
from tubelet.preprocess.prepare import normalise, prepare, resize_and_crop
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.classifier import VideoClassifier
from tubelet.runtime.load import load
from tubelet.runtime.predictions import merge_views
from tubelet.runtime.reading import Reading, read_clip, read_clips


def tubelet(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tubelet")


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("long") / "long.mp4", frames=90)


def test_views_are_read_once_and_are_those_of_the_evaluation(vivit_bundle: Path, long_video: Path) -> None:
    spec = Bundle.open(vivit_bundle).spec
    clips = read_clips(long_video, spec, Reading(clips=4))
    # starts linspace(0, 90 - 4 * 2, 4), every 2nd frame
    expected = [[start, start + 2, start + 4, start + 6] for start in (0, 27, 54, 82)]
    assert clips.indices.tolist() == expected
    assert [[index_of(frame) for frame in clips.clip(number).pixels] for number in range(4)] == expected
    assert clips.seconds == pytest.approx(clips.indices / 30, abs=1e-3)

    overlapping = read_clips(long_video, replace(spec, num_frames=32), Reading(clips=4))
    assert len(overlapping.frames) < overlapping.positions.size  # each frame once
    assert len(np.unique(overlapping.frames.indices)) == len(overlapping.frames)


def test_one_view_is_the_plain_clip(vivit_bundle: Path, long_video: Path) -> None:
    with load(vivit_bundle) as model:
        clips = model.read(long_video)
        assert clips.positions.shape == (1, 4)
        expected = prepare(read_clip(long_video, model.spec), model.spec)
        np.testing.assert_array_equal(model.prepare(clips), expected[np.newaxis])


@pytest.mark.parametrize(("fixture", "averages"), [("vivit_bundle", "logits"), ("videomae_bundle", "softmax")])
def test_scores_of_views_are_merged_as_published(
    fixture: str, averages: str, long_video: Path, request: pytest.FixtureRequest
) -> None:
    with load(request.getfixturevalue(fixture), reading=Reading(clips=2, crops=3)) as model:
        batch = model.prepare(model.read(long_video))
        assert len(batch) == 6
        logits = torch.from_numpy(model.logits(batch))
        merged = logits.mean(0).softmax(-1) if averages == "logits" else logits.softmax(-1).mean(0)
        predictions = model.classify(long_video, top_k=5)
    assert [score for _, score in predictions] == pytest.approx(merged.sort(descending=True).values.tolist(), abs=1e-6)


@pytest.mark.parametrize(("fixture", "left"), [("vivit_bundle", 6), ("videomae_bundle", 5)])
def test_uniform_sampling_changes_the_frames_and_nothing_else(
    fixture: str, left: int, request: pytest.FixtureRequest
) -> None:
    """Crops of 32 in frames of 32x43 lie 5.5 pixels from the left: ViViT rounds that up, however frames are sampled."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 43, 3), dtype=np.uint8)
    with load(request.getfixturevalue(fixture), reading=Reading(sampling="uniform", crops=3)) as model:
        spec = model.spec
        views = model.prepare(model.read(pixels))
    cut = pixels[:, :, left : left + 32]
    np.testing.assert_array_equal(views[1], cut if spec.layout == "THWC" else normalise(cut, spec))


def test_several_labels_a_video_are_averaged_too() -> None:
    logits = np.array([[2.0, -1.0], [0.0, 3.0]], np.float32)
    expected = torch.from_numpy(logits).sigmoid().mean(0).numpy()
    got = merge_views(logits, "scores", "multi_label_classification")
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_frames_by_time(tmp_path: Path, vivit_bundle: Path) -> None:
    fast = make_video(tmp_path / "fast.mp4", frames=120, rate=60)
    spec = Bundle.open(vivit_bundle).spec
    assert read_clips(fast, spec, Reading()).indices.tolist() == [[56, 58, 60, 62]]
    # at 30 a second there are 60, of which 26, 28, 30, 32 are taken: twice as far apart in the file
    assert read_clips(fast, spec, Reading(fps=30)).indices.tolist() == [[52, 56, 60, 64]]


def test_upright_or_as_stored(tmp_path: Path, vivit_bundle: Path) -> None:
    turned = make_video(tmp_path / "turned.mp4", rotation=90)
    spec = Bundle.open(vivit_bundle).spec
    upright = read_clips(turned, spec, Reading()).frames.pixels
    stored = read_clips(turned, spec, Reading(rotate=False)).frames.pixels
    assert upright.shape[1:3] == stored.shape[2:0:-1]
    np.testing.assert_array_equal(upright, np.rot90(stored, axes=(1, 2)))


def test_fast_resize_is_close_and_not_equal(long_video: Path, vivit_bundle: Path) -> None:
    spec = Bundle.open(vivit_bundle).spec
    exact = resize_and_crop(read_clip(long_video, spec).pixels, spec)
    fast = read_clips(long_video, spec, Reading(resize="fast"))
    assert fast.frames.pixels.shape[1] == 32  # decoded to the size that the model resizes to
    difference = np.abs(resize_and_crop(fast.clip(0).pixels, spec).astype(int) - exact)
    assert 0 < difference.mean() < 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fps": 0.0}, "fps must be above 0 and at most 100000 .*, got 0.0"),
        ({"fps": float("nan")}, "fps must be above 0 and at most 100000 .*, got nan"),
        ({"sampling": "published"}, "sampling must be eval or uniform, got 'published'"),
        ({"on_error": "ignore"}, "on_error must be raise or skip, got 'ignore'"),
        ({"clips": 0}, "clips must be a whole number from 1 to 1000 .*, got 0"),
        ({"crops": 2}, "crops must be 1 or 3, got 2"),
        ({"sampling": "uniform", "clips": 2}, "uniform sampling is one clip over the whole file, got 2 clips"),
    ],
)
def test_readings_that_make_no_sense(values: dict[str, object], message: str) -> None:
    with pytest.raises(OutOfBounds, match=message):
        Reading(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("clips", [1, 2])
def test_many_videos_give_what_each_gives_alone(
    vivit_bundle: Path, long_video: Path, video: Path, tmp_path: Path, batch: int, clips: int
) -> None:
    missing = tmp_path / "missing.mp4"
    videos = [long_video, missing, video, missing, missing, long_video, video]
    with load(vivit_bundle, reading=Reading(clips=clips)) as model:
        alone = {path: model.classify(path) for path in (video, long_video)}
        results = list(model.classify_many(iter(videos), batch=batch, workers=3))
    assert [result.video for result in results] == videos
    for path, result in zip(videos, results, strict=True):
        if path == missing:
            assert isinstance(result.error, VideoError)
            assert (result.predictions, result.clips) == ((), None)
        else:
            assert [p.label for p in result.predictions] == [p.label for p in alone[path]]
            assert [score for _, score in result.predictions] == pytest.approx(
                [score for _, score in alone[path]], abs=1e-6
            )


def test_decoding_runs_ahead_of_the_model(vivit_bundle: Path) -> None:
    """With a model and a reader that take 30 ms each, ten videos take little more than ten models."""

    class Slow:
        def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
            busy.append(time.perf_counter())
            time.sleep(0.03)
            busy.append(time.perf_counter())
            return np.zeros((len(batch), 5), np.float32)

        def close(self) -> None: ...

    class SlowReader(VideoClassifier):
        def _prepare_video(self, numbered: tuple[int, Any]) -> Any:
            time.sleep(0.03)
            return super()._prepare_video(numbered)

    busy: list[float] = []
    bundle = Bundle.open(vivit_bundle)
    clip = Frames.from_array(np.zeros((4, 32, 32, 3), np.uint8))
    model = SlowReader(bundle, Slow())  # type: ignore[arg-type]
    list(model.classify_many([clip] * 10, workers=2))
    at_work = sum(busy[1::2]) - sum(busy[::2])
    assert at_work / (busy[-1] - busy[0]) > 0.6  # one after the other would be 0.5


def test_views_on_the_command_line(videomae_bundle: Path, long_video: Path) -> None:
    result = tubelet("classify", videomae_bundle, long_video, "--views", "5x3", "--batch", 4, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [len(clip) for clip in document["frames"]] == [4] * 5
    assert len(document["predictions"]) == 5
    for wrong, why in {
        "4": "'4' is not CLIPSxCROPS, such as 4x3 (there are two numbers)",
        "4x3x2": "'4x3x2' is not CLIPSxCROPS, such as 4x3 (there are two numbers)",
        "x3": "'x3' is not CLIPSxCROPS, such as 4x3 ('' is no whole number)",
        "1x2": "crops must be 1 or 3, got 2",
        "0x1": "clips must be a whole number from 1 to 1000",
    }.items():
        result = tubelet("classify", videomae_bundle, long_video, "--views", wrong)
        assert result.exit_code == 2
        assert why in result.stderr


def test_json_lines_are_whole_and_one_bad_file_stops_nothing(
    vivit_bundle: Path, long_video: Path, video: Path, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.mp4"
    result = tubelet("classify", vivit_bundle, video, missing, long_video, "--json-lines")
    assert result.exit_code == 1
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    assert [document["video"] for document in documents] == [str(video), str(missing), str(long_video)]
    assert documents[1] == {"video": str(missing), "error": f"{missing} does not exist"}
    assert tubelet("classify", vivit_bundle, video, "--json", "--json-lines").exit_code == 2


def test_an_interrupt_leaves_whole_lines(vivit_bundle: Path, video: Path) -> None:
    code = "from tubelet.cli.tree import main; main()"
    videos = [str(video)] * 5000
    with subprocess.Popen(
        [sys.executable, "-c", code, "classify", str(vivit_bundle), *videos, "--json-lines"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGINT)
        lines += process.stdout.readlines()
        errors = process.stderr.read()
        assert process.wait(timeout=60) == 130
    assert 3 <= len(lines) < 5000
    assert all(json.loads(line)["video"] == str(video) and line.endswith("\n") for line in lines)
    assert "Traceback" not in errors


def test_damage_is_skipped_and_counted(vivit_bundle: Path, tmp_path: Path) -> None:
    damaged = damaged_video(tmp_path)
    failed = tubelet("classify", vivit_bundle, damaged, "--sampling", "uniform")
    assert failed.exit_code == 1
    assert "is damaged" in failed.stderr
    skipped = tubelet("classify", vivit_bundle, damaged, "--sampling", "uniform", "--on-error", "skip", "--json")
    assert skipped.exit_code == 0, skipped.output
    document = json.loads(skipped.stdout)
    assert document["skipped_packets"] >= 1
    assert document["stood_in"] >= 1


def damaged_video(folder: Path) -> Path:
    """A video in which the packets of the last frames, one of which uniform sampling takes, hold nothing but 0xff."""
    import av

    whole = make_video(folder / "whole.mp4", keyframe_every=1)
    content = bytearray(whole.read_bytes())
    with av.open(whole) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for position, size in places[-3:]:
        assert position is not None
        content[position + 5 : position + size] = b"\xff" * (size - 5)
    path = folder / "damaged.mp4"
    path.write_bytes(content)
    return path


def test_info_of_a_video(video: Path) -> None:
    document = json.loads(tubelet("info", video, "--json").stdout)
    assert document["codec"] == "h264"
    assert (document["width"], document["height"], document["frames"]) == (96, 64, 30)
    words = tubelet("info", video)
    assert words.exit_code == 0
    assert "h264" in words.stdout
    assert "96x64" in words.stdout


def test_a_whole_video_in_memory_is_read_by_views_too(vivit_bundle: Path, long_video: Path) -> None:
    spec = Bundle.open(vivit_bundle).spec
    everything = read_frames(long_video, lambda timeline: np.arange(len(timeline)))
    in_memory = read_clips(everything, spec, Reading(clips=3))
    from_file = read_clips(long_video, spec, Reading(clips=3))
    assert in_memory.indices.tolist() == from_file.indices.tolist()
    np.testing.assert_array_equal(in_memory.clip(2).pixels, from_file.clip(2).pixels)


def test_fast_resize_needs_a_resize(long_video: Path, vivit_bundle: Path) -> None:
    spec = Bundle.open(vivit_bundle).spec
    with pytest.raises(VideoError, match=r"not resized, so there is nothing to do fast\n  fix: --resize exact"):
        read_clips(long_video, replace(spec, resize=None), Reading(resize="fast"))
    with pytest.raises(VideoError, match=r"not by hamming\n  fix: --resize exact"):
        read_clips(long_video, replace(spec, resample="hamming"), Reading(resize="fast"))


def test_a_video_may_last_so_long(vivit_bundle: Path, long_video: Path) -> None:
    spec = Bundle.open(vivit_bundle).spec
    assert len(read_clips(long_video, spec, Reading(max_seconds=3)).frames) == 4
    with pytest.raises(VideoError, match=r"the video lasts 3\.0 seconds, and it may last 2\.5"):
        read_clips(long_video, spec, Reading(max_seconds=2.5))
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(OutOfBounds, match="max_seconds must be above 0"):
            Reading(max_seconds=wrong)
        with pytest.raises(OutOfBounds, match="timeout_seconds must be above 0"):
            Reading(timeout_seconds=wrong)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_reading_may_take_so_long(vivit_bundle: Path, long_video: Path, on_error: Any) -> None:
    """However a file is read: by its list, by its packets, or by decoding, of which each can take for ever."""
    spec = Bundle.open(vivit_bundle).spec
    raw = long_video.with_suffix(".h264")  # has no list, and no times
    make_video(raw, frames=90)
    for video in (long_video, raw, raw.read_bytes()):
        assert len(read_clips(video, spec, Reading(timeout_seconds=60, on_error=on_error)).frames) == 4
        with pytest.raises(VideoError, match="takes longer to read than is allowed"):
            read_clips(video, spec, Reading(timeout_seconds=1e-9, on_error=on_error))
