"""The trained demo checkpoints, the scripts that score them, and the drawing of their predictions."""

import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import score_demo
import torch
from annotate import ScoreTrack, annotate, text_ink
from click.testing import CliRunner
from demo import changing_scene, classify_over_time
from demo_checkpoint import CONFIGS, PROCESSORS, build, demo_spec, hub_config
from motion import LABELS, clip_seconds, random_scene, render
from numpy.typing import NDArray
from score_demo import Score, filmed_frames, rendered_frames, score
from score_events import score_events
from transformers import AutoModelForVideoClassification

from tubelet.exporter.checkpoint.load import Checkpoint, load_checkpoint
from tubelet.exporter.lower.search import add_graph
from tubelet.exporter.plan import clip_spec
from tubelet.exporter.tensorrt.recipes import Recipe, make_graph
from tubelet.preprocess.decode import probe, read_frames
from tubelet.preprocess.frames import Frames
from tubelet.preprocess.prepare import prepare
from tubelet.runtime.backends.ort import CPU_PROVIDER, open_session
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.load import load
from tubelet.runtime.visual.picture_files import write_gif, write_video

DEMO = Path(__file__).parents[2] / "artifacts" / "demo"
CLIPS = 132


@dataclass(frozen=True)
class Demo:
    """A demo checkpoint, where it lies, and a bundle of it."""

    family: str
    folder: Path
    checkpoint: Checkpoint
    bundle: Path

    def infer(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = self.checkpoint.model(torch.from_numpy(batch)).numpy()
        return logits


def whole(path: Path) -> Frames:
    """Every frame of a file."""
    return read_frames(path, lambda timeline: np.arange(len(timeline)))


@pytest.fixture(scope="module", params=list(CONFIGS))
def demo(request: pytest.FixtureRequest, demo_bundle: Callable[[str], Path]) -> Demo:
    folder = DEMO / request.param
    checkpoint = load_checkpoint(str(folder), report=lambda _: None)
    return Demo(request.param, folder, checkpoint, demo_bundle(request.param))


def test_the_checkpoint_is_small_and_says_what_it_is(demo: Demo) -> None:
    assert (demo.folder / "model.safetensors").stat().st_size < 5_000_000
    assert json.loads((demo.folder / "preprocessor_config.json").read_text()) == PROCESSORS[demo.family]
    assert json.loads((demo.folder / "config.json").read_text()) == json.loads(
        json.dumps(hub_config(build(demo.family), demo.family))
    )
    assert clip_spec(demo.checkpoint, "pixel_values") == demo_spec(demo.family)
    card = (demo.folder / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\npipeline_tag: video-classification\n")
    assert "synthetic demo model" in card


def test_transformers_gives_the_same_logits(demo: Demo) -> None:
    theirs = AutoModelForVideoClassification.from_pretrained(demo.folder).eval()
    assert tuple(theirs.config.id2label.values()) == LABELS
    spec = demo_spec(demo.family)
    batch = np.stack([prepare(rendered_frames(spec, seed), spec) for seed in range(4)])
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(batch)).logits.numpy()
    np.testing.assert_allclose(demo.infer(batch), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_bundle_is_as_often_right_as_torch(demo: Demo) -> None:
    spec = demo_spec(demo.family)
    torch_score = score(demo.infer, spec, partial(rendered_frames, spec), clips=CLIPS)
    with load(demo.bundle) as model:
        assert model.labels == LABELS
        bundle_score = score(model.logits, model.spec, partial(rendered_frames, model.spec), clips=CLIPS)
    assert bundle_score == torch_score
    assert bundle_score.clips == CLIPS
    assert bundle_score.top1 > 0.9


@pytest.mark.slow
def test_in_8_bits_it_is_right_as_often_within_a_point(demo: Demo, tmp_path: Path) -> None:
    bundle = Bundle.open(shutil.copytree(demo.bundle, tmp_path / "bundle"))
    for precision in ("int8", "int8-static", "fp8"):
        bundle, _ = add_graph(bundle, precision)
    read = functools.cache(partial(rendered_frames, bundle.spec))
    right = {}
    for precision in ("fp32", "int8", "int8-static", "fp8"):
        with load(bundle.path, precision=precision) as model:
            right[precision] = score(model.logits, bundle.spec, read, clips=2 * CLIPS).top1
    # The form that TensorRT is given, with the rest in float16, step by step
    graph = make_graph(bundle, Recipe("int8-static"), tmp_path)
    session = open_session(graph.SerializeToString(), CPU_PROVIDER)
    infer = lambda batch: session.run(None, {"pixel_values": batch})[0]  # noqa: E731
    right["engine"] = score(infer, bundle.spec, read, clips=2 * CLIPS).top1
    assert all(found >= right["fp32"] - 0.01 for found in right.values()), right


@pytest.mark.slow
def test_every_motion_of_a_film_is_found_in_time_and_none_is_invented(demo: Demo, tmp_path: Path) -> None:
    """Through H.264, by the default rule. docs/watch.md has longer films."""
    if demo.family not in ("videomae", "vivit"):
        pytest.skip("it is promised of VideoMAE and ViViT")
    with load(demo.bundle) as model:
        found = score_events(model, tmp_path, seed=0, seconds=90, every=0.5)
    assert found.motions >= 6
    assert found.is_perfect, found.table()


def test_one_frame_is_not_enough(demo: Demo) -> None:
    spec = demo_spec(demo.family)
    found = score(demo.infer, spec, partial(rendered_frames, spec, single_frame=True), clips=CLIPS)
    assert found.top1 < 0.25


@pytest.mark.parametrize("clips", [len(LABELS), pytest.param(6 * len(LABELS), marks=pytest.mark.slow)])
def test_files_are_recognised_too(demo: Demo, tmp_path: Path, clips: int) -> None:
    with load(demo.bundle) as model:
        read = partial(filmed_frames, model.spec, folder=tmp_path)
        assert score(model.logits, model.spec, read, clips=clips).top1 > 0.8
    assert list(tmp_path.iterdir()) == []


def test_score_demo_prints_what_it_found(demo: Demo) -> None:
    result = CliRunner().invoke(score_demo.main, [str(demo.bundle), "--clips", "22", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["clips"] == 22
    assert found["labels"] == list(LABELS)
    assert found["low"] < found["top1"] == found["right"] / 22
    text = CliRunner().invoke(score_demo.main, [str(demo.bundle), "--clips", "22"]).stdout
    assert f"{found['top1']:.1%} of 22 clips" in text


def test_score_demo_refuses_other_models(vivit_bundle: Path) -> None:
    result = CliRunner().invoke(score_demo.main, [str(vivit_bundle)])
    assert result.exit_code == 1
    assert "is no demo model: its labels are activity 0" in result.output


def test_a_score_says_what_labels_are_taken_for() -> None:
    counts = np.zeros((len(LABELS), len(LABELS)), int)
    counts[0, 0], counts[0, 3] = 3, 1
    found = Score(tuple(tuple(row) for row in counts.tolist()))
    assert (found.clips, found.right, found.top1) == (4, 3, 0.75)
    assert "moves left                   4   75.0%   moves down (1)" in found.table()


def test_a_change_of_motion_is_seen(demo: Demo, tmp_path: Path) -> None:
    path = tmp_path / "changes.mp4"
    write_video(path, render(changing_scene(3), clip_seconds(225, 1), 120, 160), 30)
    with load(demo.bundle) as model:
        track = classify_over_time(model, whole(path))
    for label, middle in {"moves right": 1.25, "turns clockwise": 3.75, "moves down": 6.25}.items():
        nearest = np.abs(track.seconds - middle).argmin()
        assert LABELS[track.scores[nearest].argmax()] == label


@pytest.fixture(scope="module")
def annotated() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Ten frames, and the same annotated: first "moves left" for certain, then "vanishes"."""
    pixels = render(random_scene("grows", 1), clip_seconds(10, 3), 240, 320)
    scores = np.zeros((8, len(LABELS)))
    scores[:4, 0] = scores[4:, -1] = 1
    track = ScoreTrack(LABELS, np.arange(1, 9) / 10, scores, clip_seconds=0.2, duration=1.0)
    return pixels, annotate(pixels, np.arange(10) / 10, track)


def test_annotated_frames_show_the_video_and_the_best_label(
    annotated: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> None:
    pixels, frames = annotated
    np.testing.assert_array_equal(frames[:, 16 : 16 + 200, 16 : 16 + 320], pixels[:, :200])
    caption = frames[:, 16 + 240 - 28 : 16 + 240, 16 : 16 + 320]
    for number, label in ((0, "moves left"), (9, "vanishes")):
        ink = text_ink(label)
        written = caption[number, 6 : 6 + ink.shape[0], 10 : 10 + ink.shape[1]]
        assert (written[ink] == [240, 244, 248]).all()


def test_the_font_has_every_letter_of_the_labels() -> None:
    for label in LABELS:
        assert text_ink(label).any()
    with pytest.raises(ValueError, match="not found"):
        text_ink("é")


def test_a_gif_repeats_and_keeps_frames_and_colours(
    annotated: tuple[NDArray[np.uint8], NDArray[np.uint8]], tmp_path: Path
) -> None:
    _, frames = annotated
    path = tmp_path / "picture.gif"
    write_gif(path, frames, 10)
    assert b"NETSCAPE2.0\x03\x01\x00\x00" in path.read_bytes()  # the block that says: for ever
    with av.open(path) as container:
        decoded = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(int) - frames).mean() < 8


def test_a_video_keeps_frames_and_rate(tmp_path: Path) -> None:
    pixels = render(random_scene("grows", 1), clip_seconds(12, 1), 48, 64)
    write_video(tmp_path / "grows.mp4", pixels, 30)
    info = probe(tmp_path / "grows.mp4")
    assert (info.frames, info.width, info.height, info.frame_rate) == (12, 64, 48, 30)
    frames = whole(tmp_path / "grows.mp4")
    assert isinstance(frames, Frames)
    assert np.abs(frames.pixels.astype(int) - pixels).mean() < 10
