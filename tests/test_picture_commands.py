"""`tubelet reconstruct` and `tubelet explain`, with transformers' models where the graphs will be."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image
from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEModel
from tubelet.preprocess.decode import read_frames
from tubelet.runtime.bundle import Bundle, TensorInfo
from tubelet.runtime.cli import TubeletGroup
from tubelet.runtime.commands import explain as explain_module
from tubelet.runtime.commands import reconstruct as reconstruct_module
from tubelet.runtime.commands.explain import explain
from tubelet.runtime.commands.reconstruct import reconstruct
from tubelet.runtime.explanation import Explanation, explain_clip
from tubelet.runtime.masking import TubeletSize, TubeMask
from tubelet.runtime.pictures import GAP, contact_sheet, spread
from tubelet.runtime.reading import Reading, Video, read_clips
from tubelet.runtime.reconstruction import Pretraining, Reconstruction, reconstruct_clip
from tubelet.runtime.rollout import Method

COMMANDS = TubeletGroup(commands={"explain": explain, "reconstruct": reconstruct})


class TransformersModel:
    """A tiny VideoMAE of transformers with the methods that the commands call."""

    def __init__(self, bundle: Bundle, reading: Reading) -> None:
        self.spec, self.reading = bundle.spec, reading
        assert self.spec.size is not None
        torch.manual_seed(0)
        self.config = VideoMAEConfig(
            image_size=self.spec.size,
            patch_size=8,
            num_frames=self.spec.num_frames,
            tubelet_size=2,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            decoder_hidden_size=16,
            decoder_num_hidden_layers=1,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=24,
            use_mean_pooling=False,
            attn_implementation="eager",
        )
        self.tubelet = TubeletSize(2, 8, 8)

    def reconstruct(self, video: Video, *, seed: int) -> Reconstruction:
        model = VideoMAEForPreTraining(self.config).eval()
        tokens = model.videomae.embeddings.num_patches
        masked = tokens // 2

        def infer(batch: NDArray[Any], mask: TubeMask) -> NDArray[np.float32]:
            hidden = torch.zeros(1, tokens, dtype=torch.bool)
            hidden[0, torch.from_numpy(mask.masked[0])] = True
            with torch.no_grad():
                return np.asarray(model(torch.from_numpy(batch), bool_masked_pos=hidden).logits)

        frames = read_clips(video, self.spec, self.reading).clip(0)
        return reconstruct_clip(frames, self.spec, Pretraining(self.tubelet, masked, True), infer, seed=seed)

    def explain(self, video: Video, *, method: Method) -> Explanation:
        def infer(batch: NDArray[Any]) -> Sequence[NDArray[np.float32]]:
            with torch.no_grad():
                found = VideoMAEModel(self.config).eval()(torch.from_numpy(batch), output_attentions=True)
            return [attention.numpy() for attention in found.attentions]

        frames = read_clips(video, self.spec, self.reading).clip(0)
        return explain_clip(frames, self.spec, self.tubelet, "mean", infer, method=method)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


@pytest.fixture
def bundle(tmp_path: Path, vivit_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle that says it is for masked modelling and gives attentions."""

    def load(path: Path, *, reading: Reading, **_: Any) -> TransformersModel:
        return TransformersModel(Bundle.open(path), reading)

    monkeypatch.setattr(reconstruct_module, "load", load)
    monkeypatch.setattr(explain_module, "load", load)
    path = Path(shutil.copytree(vivit_bundle, tmp_path / "bundle"))
    opened = Bundle.open(path)
    (graph,) = opened.graphs
    attentions = TensorInfo("attentions.0", "float32", ("batch", 2, 9, 9))
    graph = replace(graph, outputs=(*graph.outputs, attentions))
    replace(opened, task="masked-modeling", graphs=(graph,)).write_manifest()
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(COMMANDS, list(map(str, arguments)))


def direct(bundle: Path, reading: Reading | None = None) -> TransformersModel:
    return TransformersModel(Bundle.open(bundle), reading or Reading())


def test_reconstruct_a_sheet(bundle: Path, video: Path, tmp_path: Path) -> None:
    result = run("reconstruct", bundle, video, "-o", tmp_path / "a.png", "--seed", 3, "--frames", 2)
    assert result.exit_code == 0, result.output
    found = direct(bundle).reconstruct(video, seed=3)
    masked = found.mask.masked.size
    assert result.stdout == (
        f"{masked} of {2 * masked} tokens masked, loss {found.loss:.4f}\n{tmp_path / 'a.png'} is ready\n"
    )
    panels = [found.original, found.masked, found.reconstructed]
    assert len({panel.tobytes() for panel in panels}) == 3
    chosen = spread(len(found.original), 2)
    with Image.open(tmp_path / "a.png") as image:
        times = 192 // found.original.shape[1]
        sheet = np.asarray(image)
    large = [panel[chosen].repeat(times, axis=1).repeat(times, axis=2) for panel in panels]
    np.testing.assert_array_equal(sheet, contact_sheet(large, columns=8))


def test_reconstruct_as_json_with_another_seed_and_reading(bundle: Path, video: Path, tmp_path: Path) -> None:
    options = ["--json", "--seed", 8, "--sampling", "uniform"]
    result = run("reconstruct", bundle, video, "-o", tmp_path / "a.gif", *options)
    assert result.exit_code == 0, result.output
    found = direct(bundle, Reading("uniform")).reconstruct(video, seed=8)
    assert json.loads(result.stdout) == {
        "video": str(video),
        "picture": str(tmp_path / "a.gif"),
        "tokens": 2 * found.mask.masked.size,
        "masked": found.mask.masked.size,
        "loss": round(found.loss, 6),
    }


@pytest.mark.parametrize("method", ["rollout", "last"])
def test_explain_a_film(bundle: Path, video: Path, tmp_path: Path, method: Method) -> None:
    result = run("explain", bundle, video, "-o", tmp_path / "a.mp4", "--method", method)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'a.mp4'} is ready\n"
    found = direct(bundle).explain(video, method=method)
    assert found.heat.shape == tuple(side // step for side, step in zip(found.frames.shape, (2, 8, 8), strict=False))
    film = read_frames(tmp_path / "a.mp4", lambda timeline: np.arange(len(timeline))).pixels.astype(int)
    times = 192 // found.frames.shape[1]
    for left, panel in ((0, found.frames), (times * found.frames.shape[2] + GAP, found.overlay())):
        large = panel.repeat(times, axis=1).repeat(times, axis=2)
        assert abs(film[:, :, left : left + large.shape[2]] - large).mean() < 6


def test_explain_as_json(bundle: Path, video: Path, tmp_path: Path) -> None:
    result = run("explain", bundle, video, "-o", tmp_path / "a.png", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    found = direct(bundle).explain(video, method="rollout")
    assert document.pop("attention_over_time") == pytest.approx(found.heat.sum(axis=(1, 2)), abs=1e-6)
    assert document == {"video": str(video), "picture": str(tmp_path / "a.png"), "method": "rollout"}


@pytest.mark.parametrize("command", ["reconstruct", "explain"])
def test_outputs_that_cannot_be(command: str, bundle: Path, video: Path, tmp_path: Path) -> None:
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
        f"Error: {vivit_bundle} is a bundle for video-classification; reconstruct needs one for masked-modeling\n"
        "  fix: tubelet export --model ID --task masked-modeling\n"
    )
    result = run("explain", vivit_bundle, video, "-o", tmp_path / "a.png")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: the fp32 graph of {vivit_bundle} gives no attentions\n"
        "  fix: export it again: tubelet export --model ID --outputs attentions\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["reconstruct", "explain"])
def test_a_video_that_is_none_leaves_no_picture(command: str, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_text("no video")
    result = run(command, bundle, tmp_path / "no.mp4", "-o", tmp_path / "a.png")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert not (tmp_path / "a.png").exists()
