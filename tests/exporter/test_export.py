import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from checkpoints import write_checkpoint

from tubelet.exporter import export
from tubelet.exporter.checkpoint.load import Checkpoint, load_checkpoint
from tubelet.exporter.export import export_bundle
from tubelet.exporter.graph.record import FRAME_SIZES, moving_clip, record_reference
from tubelet.exporter.graph.tasks import exported_model
from tubelet.exporter.graph.trace import trace
from tubelet.exporter.options import ExportOptions
from tubelet.exporter.plan import clip_spec, default_output, plan_export
from tubelet.preprocess.errors import BundleError, CheckpointError, NotWritten, ParityError
from tubelet.preprocess.frames import Frames
from tubelet.preprocess.prepare import prepare
from tubelet.preprocess.spec import Evaluation, Sampling
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.reference import Reference


def load(folder: Path) -> Checkpoint:
    return load_checkpoint(str(folder), report=lambda _: None)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load(write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "gestures", "vivit"))


@pytest.fixture
def traced_once(graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph of `checkpoint`, traced once: for what an export does around it."""
    monkeypatch.setattr(export, "trace", lambda *_, **__: ir.from_proto(onnx.load_from_string(graph)))


@pytest.fixture(scope="module")
def graph(checkpoint: Checkpoint) -> bytes:
    model = trace(exported_model(checkpoint.model), clip_spec(checkpoint, "pixel_values"))
    return ir.to_proto(model).SerializeToString()


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_reference_is_what_torch_answers(checkpoint: Checkpoint) -> None:
    spec = clip_spec(checkpoint, "pixel_values")
    reference = record_reference(exported_model(checkpoint.model), spec)
    assert [clip.shape for clip in reference.clips] == [(4, *size, 3) for size in FRAME_SIZES]
    batch = np.stack([prepare(Frames.from_array(clip), spec) for clip in reference.clips])
    with torch.inference_mode():
        logits = checkpoint.model(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(reference.logits, logits, atol=1e-5)
    assert len(set(reference.input_sha256)) == len(FRAME_SIZES)


def test_reference_clips_move_and_fill_the_range_of_values() -> None:
    clip = moving_clip(8, 60, 80, seed=0)
    assert clip.min() == 0
    assert clip.max() == 255
    changes = np.abs(np.diff(clip.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert (changes > 1).all()
    np.testing.assert_array_equal(clip, moving_clip(8, 60, 80, seed=0))
    assert not np.array_equal(clip, moving_clip(8, 60, 80, seed=1))


@pytest.mark.parametrize(
    ("family", "labels", "evaluation"),
    [
        ("vivit", 5, Evaluation(Sampling("centre-loop", 2), "up", "logits")),
        ("videomae", 5, Evaluation(Sampling("centre-hold", 4), "down", "scores")),
        ("videomae", 174, Evaluation(Sampling("segments", 1), "down", "scores")),
    ],
)
def test_the_evaluation_is_the_published_one(tmp_path: Path, family: str, labels: int, evaluation: Evaluation) -> None:
    checkpoint = load(write_checkpoint(tmp_path / "m", family, num_labels=labels))
    assert clip_spec(checkpoint, "frames").evaluation == evaluation


def test_export_leaves_a_bundle_and_nothing_else(checkpoint: Checkpoint, tmp_path: Path) -> None:
    messages: list[str] = []
    bundle, report = export_bundle(checkpoint, tmp_path / "deep" / "bundle", progress=messages.append)
    assert report.passed
    assert entries(tmp_path / "deep") == ["bundle"]
    assert json.dumps(Bundle.open(bundle.path).to_json()) == json.dumps(bundle.to_json())
    assert Bundle.open(bundle.path).graphs[0].parity == report
    assert "tracing the graph" in messages
    assert bundle.notes == ("pixels are centred twice, as published: rescaling gives [-1, 1], "
                            "then mean and std give [-3, 1]",)  # fmt: skip


@pytest.mark.usefixtures("traced_once")
def test_an_existing_bundle_is_replaced_only_when_told(checkpoint: Checkpoint, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    export_bundle(checkpoint, target)
    (target / "note.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"bundle exists\n  fix: .*--force"):
        export_bundle(checkpoint, target)
    assert "note.txt" in entries(target)
    export_bundle(checkpoint, target, force=True)
    assert "note.txt" not in entries(target)
    assert entries(tmp_path) == ["bundle"]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_bundle_is_never_replaced(checkpoint: Checkpoint, tmp_path: Path, kind: str, force: bool) -> None:
    target = tmp_path / "precious"
    match kind:
        case "folder":
            target.mkdir()
            (target / "thesis.tex").touch()
        case "file":
            target.touch()
        case "link":
            target.symlink_to("unplugged")
    with pytest.raises(BundleError, match=r"is not a bundle|which does not exist") as refused:
        export_bundle(checkpoint, target, force=force)
    assert refused.value.fix is not None
    assert "--force" not in refused.value.fix  # which would not do it either
    assert entries(tmp_path) == ["precious"]
    assert kind != "folder" or entries(target) == ["thesis.tex"]


@pytest.mark.usefixtures("traced_once")
def test_outside_tolerance_nothing_is_left(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong_by_a_little(*arguments: object, **options: object) -> Reference:
        reference = record_reference(*arguments, **options)  # type: ignore[arg-type]
        return Reference(reference.clips, reference.input_sha256, {"logits": reference.logits + np.float32(0.01)})

    monkeypatch.setattr(export, "record_reference", wrong_by_a_little)
    with pytest.raises(ParityError, match=r"does not compute what torch computes\n\n(.*\n)*.*FAIL"):
        export_bundle(checkpoint, tmp_path / "bundle")
    assert entries(tmp_path) == []


@pytest.mark.usefixtures("traced_once")
def test_interrupted_nothing_is_left_and_the_old_bundle_stays(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "bundle"
    export_bundle(checkpoint, target)
    before = (target / "bundle.json").read_bytes()

    def interrupt(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "check_bundle", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_bundle(checkpoint, target, force=True)
    assert entries(tmp_path) == ["bundle"]
    assert (target / "bundle.json").read_bytes() == before


@pytest.mark.usefixtures("traced_once")
def test_what_comes_there_in_the_meantime_is_kept(checkpoint: Checkpoint, tmp_path: Path) -> None:
    target = tmp_path / "bundle"

    def come_in_between(message: str) -> None:
        if message == "tracing the graph":
            target.mkdir()
            (target / "thesis.tex").touch()

    with pytest.raises(BundleError, match="is not a bundle, so --force does not replace it"):
        export_bundle(checkpoint, target, force=True, progress=come_in_between)
    assert entries(tmp_path) == ["bundle"]
    assert entries(target) == ["thesis.tex"]


@pytest.mark.usefixtures("traced_once")
def test_force_over_a_link_replaces_what_it_points_to(
    checkpoint: Checkpoint, vivit_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    target = shutil.copytree(vivit_bundle, tmp_path / "store/v1")
    (tmp_path / "current").symlink_to("store/v1")
    bundle, _ = export_bundle(checkpoint, tmp_path / "current", force=True)
    assert bundle.path == tmp_path / "current"
    assert (tmp_path / "current").readlink() == Path("store/v1")
    assert Bundle.open(target).model_id == bundle.model_id == "gestures"
    assert entries(tmp_path) == ["current", "store"]
    assert entries(tmp_path / "store") == ["v1"]


@pytest.mark.parametrize("below", ["bundle", "deeper/bundle"])
def test_an_output_inside_a_file_is_refused(checkpoint: Checkpoint, tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(NotWritten, match=r"bundle cannot be written: .*file.*\n  fix: choose another folder"):
        export_bundle(checkpoint, file / below)
    assert entries(tmp_path) == ["file"]


def test_logits_that_are_all_zero_are_a_bundle_too(tmp_path: Path) -> None:
    checkpoint = load(write_checkpoint(tmp_path / "m", "videomae"))
    torch.nn.init.zeros_(checkpoint.model.get_parameter("classifier.weight"))
    torch.nn.init.zeros_(checkpoint.model.get_parameter("classifier.bias"))
    bundle, report = export_bundle(checkpoint, tmp_path / "bundle")
    assert report.passed
    assert [row.cosine for row in report.batches] == [1.0] * 4
    json.dumps(bundle.to_json(), allow_nan=False)


def test_a_processor_of_another_size_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", "videomae", processor={"crop_size": {"height": 48, "width": 32}})
    message = r"takes 32x32 pixels \(height x width\), preprocessor_config.json makes 48x32 pixels"
    with pytest.raises(CheckpointError, match=message):
        export_bundle(load(folder), tmp_path / "bundle")


def test_frames_of_any_width_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", "videomae", processor={"do_center_crop": False})
    with pytest.raises(CheckpointError, match=r"makes frames of any width"):
        plan_export(load(folder), tmp_path / "bundle", ExportOptions(input_name="frames"))


def test_channels_that_no_video_has_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "m", "videomae", num_channels=1)
    with pytest.raises(CheckpointError, match="the model takes 1 channels; videos are read as 3, RGB"):
        plan_export(load(folder), tmp_path / "bundle", ExportOptions(input_name="frames"))


def test_the_plan_says_what_the_export_does(checkpoint: Checkpoint, tmp_path: Path) -> None:
    plan = plan_export(checkpoint, tmp_path / "bundle", ExportOptions(input_name="frames"))
    assert entries(tmp_path) == []
    bundle, _ = export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(input_name="frames"))
    (graph,) = bundle.graphs
    size = sum(file.bytes for file in graph.files)
    assert plan.graph_bytes == pytest.approx(size, rel=0.5)  # a tiny model: the graph itself is most of it
    assert plan.parameters == sum(p.numel() for p in checkpoint.model.parameters())
    assert (plan.architecture, plan.labels) == (bundle.architecture, len(bundle.labels))
    assert str(tmp_path / "bundle") in plan.summary()


def test_two_exports_are_the_same_to_the_byte(checkpoint: Checkpoint, tmp_path: Path) -> None:
    first, _ = export_bundle(checkpoint, tmp_path / "a")
    second, _ = export_bundle(checkpoint, tmp_path / "b")
    assert first.to_json() == second.to_json()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("google/vivit-b-16x2", "vivit-b-16x2"),
        ("google/vivit-b-16x2@refs/pr/3", "vivit-b-16x2"),
        ("models/gestures/", "gestures"),
    ],
)
def test_the_default_output(model: str, name: str) -> None:
    assert default_output(model) == Path("artifacts") / name


def test_the_default_output_of_a_folder_with_an_at_sign(tmp_path: Path) -> None:
    folder = tmp_path / "gestures@2"
    folder.mkdir()
    assert default_output(str(folder)) == Path("artifacts") / "gestures@2"


def test_a_bundle_is_complete_wherever_it_is_copied(vivit_bundle: Path, tmp_path: Path) -> None:
    moved = Bundle.open(shutil.copytree(vivit_bundle, tmp_path / "bundle"))
    for file in (moved.reference, *moved.graphs[0].files):
        assert moved.verified(file).parent == tmp_path / "bundle"
