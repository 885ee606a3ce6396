"""`tubelet reconstruct` and `tubelet explain`, on bundles of tiny models."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tubelet.cli.tree import main
from tubelet.preprocess.decode import read_frames
from tubelet.runtime.load import load
from tubelet.runtime.reading import Reading
from tubelet.runtime.visual.drawing import GAP, contact_sheet, spread
from tubelet.runtime.visual.explanation import Explanation
from tubelet.runtime.visual.reconstruction import Reconstruction
from tubelet.runtime.visual.rollout import Method


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)), prog_name="tubelet")


def reconstructed(bundle: Path, video: Path, *, seed: int, reading: Reading | None = None) -> Reconstruction:
    with load(bundle, task="masked-modeling", reading=reading) as model:
        return model.reconstruct(video, seed=seed)


def explained(bundle: Path, video: Path, method: Method) -> Explanation:
    with load(bundle, task=None) as model:
        return model.explain(video, method=method)


def test_reconstruct_a_sheet(masked_bundle: Path, video: Path, tmp_path: Path) -> None:
    result = run("reconstruct", masked_bundle, video, "-o", tmp_path / "a.png", "--seed", 3, "--frames", 2)
    assert result.exit_code == 0, result.output
    found = reconstructed(masked_bundle, video, seed=3)
    masked = found.mask.masked.size
    assert result.stdout == (f"{masked} of 32 tokens masked, loss {found.loss:.4f}\n{tmp_path / 'a.png'} is ready\n")
    panels = [found.original, found.masked, found.reconstructed]
    assert len({panel.tobytes() for panel in panels}) == 3
    chosen = spread(len(found.original), 2)
    with Image.open(tmp_path / "a.png") as image:
        times = 192 // found.original.shape[1]
        sheet = np.asarray(image)
    large = [panel[chosen].repeat(times, axis=1).repeat(times, axis=2) for panel in panels]
    np.testing.assert_array_equal(sheet, contact_sheet(large, columns=8))


def test_reconstruct_as_json_with_another_seed_and_reading(masked_bundle: Path, video: Path, tmp_path: Path) -> None:
    options = ["--json", "--seed", 8, "--sampling", "uniform"]
    result = run("reconstruct", masked_bundle, video, "-o", tmp_path / "a.gif", *options)
    assert result.exit_code == 0, result.output
    found = reconstructed(masked_bundle, video, seed=8, reading=Reading("uniform"))
    assert json.loads(result.stdout) == {
        "video": str(video),
        "picture": str(tmp_path / "a.gif"),
        "tokens": 32,
        "masked": found.mask.masked.size,
        "loss": round(found.loss, 6),
    }


@pytest.mark.parametrize("method", ["rollout", "last"])
def test_explain_a_film(attentive_bundle: Path, video: Path, tmp_path: Path, method: Method) -> None:
    result = run("explain", attentive_bundle, video, "-o", tmp_path / "a.mp4", "--method", method)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'a.mp4'} is ready\n"
    found = explained(attentive_bundle, video, method)
    assert found.heat.shape == tuple(side // step for side, step in zip(found.frames.shape, (2, 16, 16), strict=False))
    film = read_frames(tmp_path / "a.mp4", lambda timeline: np.arange(len(timeline))).pixels.astype(int)
    times = 192 // found.frames.shape[1]
    for left, panel in ((0, found.frames), (times * found.frames.shape[2] + GAP, found.overlay())):
        large = panel.repeat(times, axis=1).repeat(times, axis=2)
        assert abs(film[:, :, left : left + large.shape[2]] - large).mean() < 6


def test_explain_as_json(attentive_bundle: Path, video: Path, tmp_path: Path) -> None:
    result = run("explain", attentive_bundle, video, "-o", tmp_path / "a.png", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    found = explained(attentive_bundle, video, "rollout")
    assert document.pop("attention_over_time") == pytest.approx(found.heat.sum(axis=(1, 2)), abs=1e-6)
    assert document == {"video": str(video), "picture": str(tmp_path / "a.png"), "method": "rollout"}


BUNDLES = [("reconstruct", "masked_bundle"), ("explain", "attentive_bundle")]


@pytest.mark.parametrize(("command", "fixture"), BUNDLES)
def test_outputs_that_cannot_be(
    command: str, fixture: str, video: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    bundle = request.getfixturevalue(fixture)
    (tmp_path / "there.png").write_text("mine")
    expected: list[tuple[str, str]] = [
        ("a.jpg", "must end in .png, .mp4, .gif"),
        ("there.png", "there.png exists\n  fix: choose another file with -o, or replace it with --force"),
        ("nowhere/a.png", "nowhere does not exist"),
    ]
    for name, message in expected:
        result = run(command, bundle, video, "-o", tmp_path / name)
        assert result.exit_code == 1
        assert message in result.stderr
    assert run(command, bundle, video, "-o", tmp_path / "there.png", "--force").exit_code == 0
    with Image.open(tmp_path / "there.png") as image:
        assert image.format == "PNG"
    result = run(command, bundle, video)
    assert result.exit_code == 2
    assert "Missing option '-o'" in result.stderr
    result = run(command, bundle, video, "-o", tmp_path / "b.png", "--views", "2x3")  # one view can be shown
    assert result.exit_code == 2


def test_bundles_that_cannot(vivit_bundle: Path, video: Path, tmp_path: Path) -> None:
    result = run("reconstruct", vivit_bundle, video, "-o", tmp_path / "a.png")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {vivit_bundle} is for video-classification, and a bundle for masked-modeling is needed here\n"
        f"  fix: tubelet classify, or load('{vivit_bundle}', task='video-classification') in Python, takes this one; "
        "to make one for masked-modeling: "
        "tubelet export --model ID --task masked-modeling\n"
    )
    result = run("explain", vivit_bundle, video, "-o", tmp_path / "a.png")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {vivit_bundle} gives no attentions over whole clips\n"
        "  fix: tubelet export --model ID --outputs attentions, with --task feature-extraction or "
        "video-classification\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("command", "fixture"), BUNDLES)
def test_a_video_that_is_none_leaves_no_picture(
    command: str, fixture: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    bundle = request.getfixturevalue(fixture)
    (tmp_path / "no.mp4").write_text("no video")
    result = run(command, bundle, tmp_path / "no.mp4", "-o", tmp_path / "a.png")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert not (tmp_path / "a.png").exists()
