import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from videos import index_of

from tubelet.preprocess.decode import read_frames
from tubelet.preprocess.errors import BackendError, OutOfBounds, VideoError
from tubelet.preprocess.frames import Frames
from tubelet.preprocess.sampling import sample
from tubelet.runtime.backends import open_backend
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.classifier import VideoClassifier
from tubelet.runtime.load import load
from tubelet.runtime.reading import Reading


def test_a_video_is_classified_as_torch_would(vivit_bundle: Path, video: Path) -> None:
    from tubelet.exporter.checkpoint.load import load_checkpoint

    checkpoint = load_checkpoint(str(vivit_bundle.parent / "vivit"), report=lambda _: None)
    with load(vivit_bundle) as model:
        predictions = model.classify(video, top_k=5)
        clip = model.prepare(model.read(video))[0]
    with torch.inference_mode():
        scores = checkpoint.model(torch.from_numpy(clip[None])).softmax(-1)[0]
    assert [p.label for p in predictions] == [checkpoint.labels[i] for i in scores.argsort(descending=True)]
    assert [score for _, score in predictions] == pytest.approx(scores.sort(descending=True).values.tolist(), abs=1e-5)
    assert sum(score for _, score in predictions) == pytest.approx(1)


def test_the_frames_read_are_those_of_the_sampling(vivit_bundle: Path, video: Path) -> None:
    with load(vivit_bundle) as model:
        frames = model.read(video).clip(0)
        expected = sample(model.spec.evaluation.sampling, num_frames=4, available=30)
        assert frames.indices.tolist() == expected.tolist() == [11, 13, 15, 17]
        assert [index_of(frame) for frame in frames.pixels] == expected.tolist()
    with load(vivit_bundle, reading=Reading(sampling="uniform")) as model:
        assert model.read(video).indices.tolist() == [[0, 9, 19, 29]]


def test_a_file_frames_and_pixels_give_the_same_answer(videomae_bundle: Path, video: Path) -> None:
    everything = read_frames(video, lambda timeline: np.arange(len(timeline)))
    with load(videomae_bundle) as model:
        expected = model.classify(video)
        assert model.classify(str(video)) == expected
        assert model.classify(model.read(video).clip(0)) == expected
        assert model.classify(model.read(video).clip(0).pixels) == expected
        assert model.classify(everything) == expected  # a whole video is sampled from
        assert model.classify(everything.pixels) == expected


def test_a_video_shorter_than_a_clip_still_makes_one(vivit_bundle: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), dtype=np.uint8)
    with load(vivit_bundle) as model:
        assert model.read(pixels).indices.tolist() == [[0, 2, 1, 0]]
        assert len(model.classify(pixels, top_k=2)) == 2


def test_both_input_forms_agree(videomae_bundle: Path, video: Path, tmp_path: Path) -> None:
    from tubelet.exporter.checkpoint.load import load_checkpoint
    from tubelet.exporter.export import export_bundle

    checkpoint = load_checkpoint(str(videomae_bundle.parent / "videomae"), report=lambda _: None)
    bundle, _ = export_bundle(checkpoint, tmp_path / "bundle")
    with load(videomae_bundle) as inside, load(bundle.path) as outside:
        assert inside.spec.layout == "THWC"
        assert outside.spec.layout == "TCHW"
        for (got, score), (label, expected) in zip(inside.classify(video), outside.classify(video), strict=True):
            assert got == label
            assert score == pytest.approx(expected, abs=1e-5)


def test_labels_that_exclude_nothing_are_scored_each_on_its_own(vivit_bundle: Path, video: Path) -> None:
    bundle = replace(Bundle.open(vivit_bundle), problem_type="multi_label_classification")
    with VideoClassifier(bundle, open_backend("onnxruntime", bundle, "fp32")) as model:
        logits = model.logits(model.prepare(model.read(video)))
        _, best = model.classify(video, top_k=1)[0]
    assert best == pytest.approx(float(torch.from_numpy(logits).sigmoid().max()), abs=1e-6)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 32, 32, 3)), "frames must be a uint8 array of RGB values from 0 to 255, got float64"),
        (np.zeros((32, 32, 3), np.uint8), r"frames must be \(T, H, W, 3\).*frames.shape = \(32, 32, 3\)"),
        (
            np.zeros((4, 3, 32, 32), np.uint8),
            r"frames must be \(T, H, W, 3\).*frames.shape = \(4, 3, 32, 32\)",
        ),
        (
            np.zeros((0, 32, 32, 3), np.uint8),
            r"frames must be \(T, H, W, 3\).*frames.shape = \(0, 32, 32, 3\)",
        ),
        ([[1, 2]], "frames must be uint8 arrays of RGB values from 0 to 255, got list"),
    ],
)
def test_arrays_that_are_no_video(vivit_bundle: Path, pixels: Any, message: str) -> None:
    with load(vivit_bundle) as model, pytest.raises(VideoError, match=message):
        model.classify(pixels)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 8, 3, 32, 32), np.float32),
        ((0, 4, 3, 32, 32), np.float32),
        ((4, 3, 32, 32), np.float32),
        ((1, 4, 3, 32, 32), np.float64),
    ],
)
def test_a_batch_of_another_shape_or_dtype(vivit_bundle: Path, shape: tuple[int, ...], dtype: type) -> None:
    expected = r"pixel_values must be float32 \(B, 4, 3, 32, 32\), got float"
    with load(vivit_bundle) as model, pytest.raises(VideoError, match=expected):
        model.logits(np.zeros(shape, dtype))


def test_logits_that_are_not_finite_are_an_error(vivit_bundle: Path) -> None:
    with load(vivit_bundle) as model, pytest.raises(BackendError, match=r"NaN or infinite\n  fix: .*tubelet check"):
        model.logits(np.full((1, 4, 3, 32, 32), np.nan, np.float32))


def test_arguments_that_make_no_sense(vivit_bundle: Path) -> None:
    clip = Frames.from_array(np.zeros((4, 32, 32, 3), np.uint8))
    with load(vivit_bundle) as model:
        with pytest.raises(OutOfBounds, match="top_k must be 1 or more, got 0"):
            model.classify(clip, top_k=0)
        with pytest.raises(OutOfBounds, match="top_k must be 1 or more, got -1"):
            next(model.classify_many([clip], top_k=-1))
        with pytest.raises(OutOfBounds, match="method must be rollout or last, got 'first'"):
            model.explain(clip, method="first")  # type: ignore[arg-type]


def test_a_bundle_can_be_moved(vivit_bundle: Path, video: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(vivit_bundle, tmp_path / "elsewhere")
    with load(vivit_bundle) as here, load(moved) as there:
        assert here.classify(video) == there.classify(video)


@pytest.mark.parametrize("one", ["absent.mp4", Path("absent.mp4"), b"a video"])
def test_one_video_is_no_list_of_videos(vivit_bundle: Path, one: Any) -> None:
    with load(vivit_bundle) as model, pytest.raises(VideoError, match="videos must be several, got one: "):
        next(model.classify_many(one))
