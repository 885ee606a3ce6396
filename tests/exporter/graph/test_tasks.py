"""Features, pretraining, hidden states and attentions: our models against transformers, then bundles against both."""

import json
import math
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import torch
import transformers
from click.testing import CliRunner, Result
from torch import Tensor
from transformers_models import LIMIT, ORACLES, clips, masks, seeded
from videos import make_video

from tubelet.cli.tree import main
from tubelet.exporter.checkpoint.load import load_checkpoint
from tubelet.exporter.export import export_bundle
from tubelet.exporter.families.attention import attend_with, eager_attention
from tubelet.exporter.families.registry import family_named
from tubelet.exporter.families.videomae_pretraining import VideoMAEForPreTraining, split_tokens
from tubelet.exporter.families.vivit import VivitModel
from tubelet.exporter.lower.search import add_graph
from tubelet.exporter.options import ExportOptions
from tubelet.exporter.plan import plan_export
from tubelet.preprocess.errors import BackendError, BundleError, CheckpointError, OutOfBounds, VideoError
from tubelet.runtime.backends import open_backend
from tubelet.runtime.bundle.bundle import Bundle, Task
from tubelet.runtime.bundle.reference import KEPT, kept_values, load_reference
from tubelet.runtime.load import load
from tubelet.runtime.proof.parity import check_outputs, limit_of
from tubelet.runtime.reading import Reading

DECODER: dict[str, Any] = {
    "decoder_hidden_size": 24,
    "decoder_num_attention_heads": 3,
    "decoder_num_hidden_layers": 2,
    "decoder_intermediate_size": 40,
}
PRETRAINING: dict[str, Any] = {"use_mean_pooling": False, **DECODER}
SQUARE: list[dict[str, Any]] = [
    {},
    {"hidden_size": 48, "num_attention_heads": 3},
    {"num_hidden_layers": 1},
    {"num_hidden_layers": 5},
    {"qkv_bias": False},
    {"layer_norm_eps": 1e-3},
    {"hidden_act": "relu"},
    {"num_frames": 8},
]
VIVIT: list[dict[str, Any]] = [
    {"pooler_output_size": 7},
    {"pooler_act": "gelu"},
    {"tubelet_size": (4, 8, 16)},
    {"image_size": (24, 40)},
]
VIDEOMAE: list[dict[str, Any]] = [
    {"use_mean_pooling": True},
    {"norm_pix_loss": False},
    {"decoder_hidden_size": 32, "decoder_num_attention_heads": 4},
    {"decoder_num_hidden_layers": 1},
    {"tubelet_size": 4},
    {"patch_size": (16, 16)},
    {"num_channels": 1},
]
VARIANTS = [
    *(pytest.param("vivit", "feature-extraction", changes, id=f"vivit-{changes}") for changes in SQUARE + VIVIT),
    *(
        pytest.param("videomae", task, {**PRETRAINING, **changes}, id=f"videomae-{task}-{changes}")
        for task in ("feature-extraction", "masked-modeling")
        for changes in SQUARE + VIDEOMAE
    ),
    *(pytest.param(family, "video-classification", {}, id=f"{family}-classifier") for family in ("vivit", "videomae")),
]


@pytest.mark.parametrize(("family", "task", "changes"), VARIANTS)
@torch.inference_mode()
def test_every_output_equals_that_of_transformers(family: str, task: Task, changes: dict[str, Any]) -> None:
    ours, theirs = seeded(family, task, changes)
    pixel_values = clips(ours.config, batch=3)
    given: dict[str, Any] = {}
    indices: tuple[Tensor, ...] = ()
    if task == "masked-modeling":
        given["bool_masked_pos"] = masks(ours, 3)
        indices = split_tokens(given["bool_masked_pos"])
    expected = theirs(pixel_values, **given, output_hidden_states=True, output_attentions=True)
    found = ours.outputs(pixel_values, *indices)
    names = {
        **{f"hidden_states.{i}": state for i, state in enumerate(expected.hidden_states)},
        **{f"attentions.{i}": weights for i, weights in enumerate(expected.attentions)},
        **{name: expected[name] for name in ("logits", "last_hidden_state", "pooler_output") if name in expected},
    }
    assert set(found) == set(names)
    for name, value in names.items():
        assert found[name].shape == value.shape
        assert (found[name] - value).abs().max() <= LIMIT, name
    primary = ours.output_names[0]
    assert (ours(pixel_values, *indices) - found[primary]).abs().max() <= LIMIT
    if isinstance(ours, VideoMAEForPreTraining):
        loss = ours.loss(found["logits"], pixel_values, indices[1])
        assert abs(loss - expected.loss) <= LIMIT * max(1, expected.loss)


def test_default_configs_give_the_published_base_models() -> None:
    """VivitModel, VideoMAEModel and VideoMAEForPreTraining have as many parameters as those of transformers."""
    published: list[tuple[str, Task]] = [
        ("vivit", "feature-extraction"),
        ("videomae", "feature-extraction"),
        ("videomae", "masked-modeling"),
    ]
    for family, task in published:
        config = family_named(family).config()
        with torch.device("meta"):
            ours = checkpoints.build(config, task, pooler=family == "vivit")
            kind = transformers.VivitConfig if family == "vivit" else transformers.VideoMAEConfig
            theirs = ORACLES[family, task](kind())
        assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_split_tokens_keeps_the_order_of_boolean_indexing() -> None:
    mask = torch.rand(4, 30, generator=torch.Generator().manual_seed(0)).argsort(1) < 11
    visible, masked = split_tokens(mask)
    everything = torch.arange(30).expand(4, -1)
    assert torch.equal(visible, everything[~mask].reshape(4, -1))
    assert torch.equal(masked, everything[mask].reshape(4, -1))
    mask[0, mask[0].int().argmin()] = True
    with pytest.raises(ValueError, match=r"the same number of masked tokens, got \[12, 11, 11, 11\]"):
        split_tokens(mask)


# Bundles


def exported(
    folder: Path,
    family: str,
    task: Task,
    *,
    extras: tuple[str, ...] = (),
    input_name: str = "pixel_values",
    **options: Any,
) -> Path:
    checkpoint = load_checkpoint(
        str(checkpoints.write_checkpoint(folder / "checkpoint", family, task=task, **options)), report=lambda _: None
    )
    bundle, report = export_bundle(checkpoint, folder / "bundle", ExportOptions(extras=extras, input_name=input_name))  # type: ignore[arg-type]
    assert report.passed
    return bundle.path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    make_video(path, frames=24, size=(64, 48))
    return path


def tubelet(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tubelet")


def test_a_bundle_of_features_gives_what_torch_gives(attentive_bundle: Path, video: Path) -> None:
    checkpoint = load_checkpoint(str(attentive_bundle.parent / "vivit"), report=lambda _: None)
    assert isinstance(checkpoint.model, VivitModel)
    attend_with(checkpoint.model, eager_attention)
    with load(attentive_bundle, task="feature-extraction", reading=Reading(clips=2)) as model:
        found = model.features(video)
        batch = model.prepare(model.read(video))
    assert list(found) == [
        "last_hidden_state", "pooler_output", "hidden_states.0", "hidden_states.1", "hidden_states.2",
        "attentions.0", "attentions.1",
    ]  # fmt: skip
    with torch.inference_mode():
        expected = checkpoint.model.outputs(torch.from_numpy(batch))
    for name, value in found.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, expected[name].numpy(), atol=1e-5)
    assert found["last_hidden_state"].shape == (2, 9, 32)


def test_features_of_a_classifier_leave_its_head_out_and_say_so(tmp_path: Path) -> None:
    said: list[str] = []
    folder = checkpoints.write_checkpoint(tmp_path / "checkpoint", "videomae")
    checkpoint = load_checkpoint(str(folder), task="feature-extraction", report=said.append)
    assert said == ["2 weights of the checkpoint's head have no part in features: classifier.bias, classifier.weight"]
    bundle, _ = export_bundle(checkpoint, tmp_path / "bundle")
    assert bundle.labels == ()
    assert [output.describe() for output in bundle.graphs[0].outputs] == [
        "last_hidden_state float32 (batch, 32, 32)",
        "pooler_output float32 (batch, 32)",
    ]
    # What the classifier reads: its logits are a linear layer away.
    classifier = load_checkpoint(str(folder), report=lambda _: None).model
    pixel_values = clips(classifier.config)
    with torch.inference_mode():
        pooled = checkpoint.model.outputs(pixel_values)["pooler_output"]
        assert (classifier.get_submodule("classifier")(pooled) - classifier(pixel_values)).abs().max() <= LIMIT


def test_a_missing_weight_of_the_encoder_is_an_error_for_features_too(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "videomae", num_hidden_layers=1)
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"videomae: 15 keys missing\n"):
        load_checkpoint(str(folder), task="feature-extraction", report=lambda _: None)


@pytest.mark.parametrize("family", ["vivit", "videomae"])
def test_what_transformers_saves_of_a_bare_encoder_becomes_features(family: str, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, family)
    config = transformers.AutoConfig.from_pretrained(folder)
    theirs = ORACLES[family, "feature-extraction"](config).eval()
    (folder / "model.safetensors").unlink()
    theirs.save_pretrained(folder)
    checkpoint = load_checkpoint(str(folder), report=lambda _: None)
    assert checkpoint.task == "feature-extraction"
    pixel_values = clips(checkpoint.config)
    with torch.inference_mode():
        expected = theirs(pixel_values)
        found = checkpoint.model.outputs(pixel_values)
    assert (found["last_hidden_state"] - expected.last_hidden_state).abs().max() <= LIMIT
    if family == "vivit":
        assert (found["pooler_output"] - expected.pooler_output).abs().max() <= LIMIT


def test_a_pretraining_checkpoint_becomes_a_bundle_that_reconstructs(masked_bundle: Path, video: Path) -> None:
    bundle = Bundle.open(masked_bundle)
    assert bundle.norm_pix_loss is True
    assert [tensor.describe() for tensor in bundle.graphs[0].inputs] == [
        "pixel_values float32 (batch, 4, 3, 32, 32)", "visible int64 (batch, 4)", "masked int64 (batch, 28)",
    ]  # fmt: skip
    checkpoint = load_checkpoint(str(masked_bundle.parent / "videomae"), report=lambda _: None)
    assert isinstance(checkpoint.model, VideoMAEForPreTraining)
    with load(masked_bundle, task="masked-modeling") as model:
        found = model.reconstruct(video, seed=4)
        again = model.reconstruct(video, seed=4)
        other = model.reconstruct(video, seed=5)
        batch = torch.from_numpy(model.prepare(model.read(video)))
    np.testing.assert_array_equal(found.reconstructed, again.reconstructed)
    assert (found.reconstructed != other.reconstructed).any()
    visible, masked = torch.from_numpy(found.mask.visible), torch.from_numpy(found.mask.masked)
    with torch.inference_mode():
        loss = checkpoint.model.loss(checkpoint.model(batch, visible, masked), batch, masked)
    assert found.loss == pytest.approx(float(loss), rel=1e-4)


@pytest.mark.slow
def test_frames_in_uint8_go_through_the_graph_of_every_task(tmp_path: Path, video: Path) -> None:
    encoder = exported(tmp_path / "a", "videomae", "feature-extraction", input_name="frames")
    masked = exported(tmp_path / "b", "videomae", "masked-modeling", input_name="frames", **PRETRAINING)
    with load(encoder, task="feature-extraction") as model:
        assert model.features(video)["last_hidden_state"].shape == (1, 32, 32)
    with load(masked, task="masked-modeling") as model:
        assert model.reconstruct(video).reconstructed.shape == (4, 32, 32, 3)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("fixture", ["attentive_bundle", "masked_bundle"])
def test_every_engine_on_the_cpu_gives_every_output(backend: str, fixture: str, request: pytest.FixtureRequest) -> None:
    bundle = Bundle.open(request.getfixturevalue(fixture))
    reference = load_reference(bundle)
    with open_backend(backend, bundle, "fp32") as engine:
        limit = limit_of(bundle, "fp32", reference)
        report = check_outputs(engine.run, reference, bundle.spec, limit=limit, backend=backend, precision="fp32")
    assert report.passed, report.table()
    assert {row.output for row in report.batches} == {output.name for output in bundle.graphs[0].outputs}


@pytest.mark.parametrize("precision", ["fp16", "int8", "int8-static"])
@pytest.mark.parametrize("fixture", ["attentive_bundle", "masked_bundle"])
def test_lower_precisions_are_for_every_task(
    precision: Any, fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    import shutil

    path = Path(shutil.copytree(request.getfixturevalue(fixture), tmp_path / "bundle"))
    bundle, report = add_graph(Bundle.open(path), precision)
    assert report.passed
    assert bundle.graph(precision).parity == report
    assert not report.limit.top  # nothing is ranked


def test_a_wrong_output_is_found_and_named(attentive_bundle: Path) -> None:
    bundle = Bundle.open(attentive_bundle)
    reference = load_reference(bundle)
    with open_backend("onnxruntime", bundle, "fp32") as engine:

        def run(inputs: Any) -> Any:
            outputs = engine.run(inputs)
            outputs["attentions.1"] = outputs["attentions.1"].swapaxes(2, 3)
            return outputs

        limit = limit_of(bundle, "fp32", reference)
        report = check_outputs(run, reference, bundle.spec, limit=limit, backend="onnxruntime", precision="fp32")
    assert not report.passed
    assert {row.output for row in report.batches if not row.passed} == {"attentions.1"}
    assert "attentions.1" in report.table()
    assert report.table().endswith("FAIL")


def test_large_outputs_are_sampled_over_all_columns() -> None:
    output = np.arange(2 * 300 * 768, dtype=np.float32).reshape(2, 300, 768)
    kept = kept_values(output)
    assert KEPT / 2 < kept.shape[1] <= KEPT
    assert len(set((kept[0] % 768).tolist())) == 768  # every column is seen
    np.testing.assert_array_equal(kept_values(output[:, :2]), output[:, :2].reshape(2, -1))


@pytest.mark.parametrize(
    ("fixture", "own", "task"),
    [
        ("attentive_bundle", "feature-extraction", "video-classification"),
        ("masked_bundle", "masked-modeling", "video-classification"),
        ("masked_bundle", "masked-modeling", "feature-extraction"),
        ("vivit_bundle", "video-classification", "feature-extraction"),
        ("attentive_bundle", "feature-extraction", "masked-modeling"),
    ],
)
def test_a_bundle_of_another_task_says_so(fixture: str, own: Task, task: Task, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(fixture)
    with pytest.raises(BundleError) as raised:
        load(path, task=task)
    command = {"video-classification": "classify", "feature-extraction": "features"}.get(own, "reconstruct")
    assert str(raised.value) == (
        f"{path} is for {own}, and a bundle for {task} is needed here\n"
        f"  fix: tubelet {command}, or load('{path}', task='{own}') in Python, takes this one; to make one for {task}: "
        f"tubelet export --model ID --task {task}"
    )


def test_vivit_has_no_masked_modeling(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "vivit")
    with pytest.raises(CheckpointError, match="there is no masked-modeling of it"):
        load_checkpoint(str(folder), task="masked-modeling", report=lambda _: None)


def test_the_memory_of_attentions_is_said_beforehand(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path / "checkpoint", "vivit")
    checkpoint = load_checkpoint(str(folder), report=lambda _: None)
    plan = plan_export(checkpoint, tmp_path / "bundle", ExportOptions(extras=("attentions",)))
    assert plan.attention_bytes == 4 * 2 * 4 * 9**2  # float32, 2 layers, 4 heads, 9 tokens
    assert plan.warnings()[0].startswith("attention weights take 2.59e-06 GB a clip")
    bundle, _ = export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(extras=("attentions",)))
    outputs = bundle.graphs[0].outputs
    assert [output.name for output in outputs] == ["logits", "attentions.0", "attentions.1"]
    assert 4 * sum(math.prod(map(int, output.shape[1:])) for output in outputs[1:]) == plan.attention_bytes


def test_other_inputs_are_refused_by_name(masked_bundle: Path, attentive_bundle: Path) -> None:
    with (
        load(masked_bundle, task="masked-modeling") as model,
        pytest.raises(VideoError, match=r"masked must be int64 \(B, 28\), got"),
    ):
        model.run(
            np.zeros((1, 4, 3, 32, 32), np.float32),
            visible=np.zeros((1, 4), np.int64),
            masked=np.zeros((1, 3), np.int64),
        )
    with (
        load(attentive_bundle, task="feature-extraction") as encoder,
        pytest.raises(VideoError, match="pixel_values must be float32"),
    ):
        encoder.run(np.zeros((1, 4, 3, 32, 31), np.float32))
    with pytest.raises(BackendError, match="the backend is closed"):
        model.run(
            np.zeros((1, 4, 3, 32, 32), np.float32),
            visible=np.zeros((1, 4), np.int64),
            masked=np.zeros((1, 28), np.int64),
        )


def test_every_clip_needs_all_that_the_graph_takes(masked_bundle: Path) -> None:
    clips_of_two = np.zeros((2, 4, 3, 32, 32), np.float32)
    visible, masked = np.arange(4)[None], np.arange(4, 32)[None]
    with load(masked_bundle, task="masked-modeling") as model:
        with pytest.raises(VideoError, match="got 2 of pixel_values, 1 of visible, 1 of masked"):
            model.run(clips_of_two, visible=visible, masked=masked)
        with pytest.raises(VideoError, match="the graph takes pixel_values, visible, masked, got pixel_values"):
            model.run(clips_of_two)
        with pytest.raises(VideoError, match="visible must number tokens from 0 to 31"):
            model.run(clips_of_two[:1], visible=visible - 1, masked=masked)
        with pytest.raises(OutOfBounds, match="seed must be 0 or more, got -1"):
            model.reconstruct(np.zeros((4, 32, 32, 3), np.uint8), seed=-1)


def test_what_is_not_whole_tubelets_cannot_be_masked(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(
        tmp_path, "videomae", task="masked-modeling", image_size=(36, 36), **PRETRAINING
    )
    checkpoint = load_checkpoint(str(folder), report=lambda _: None)
    with pytest.raises(CheckpointError, match="clips of 4 frames of 36x36 are not whole tubelets of 2x8x8"):
        plan_export(checkpoint, tmp_path / "bundle")


@pytest.mark.parametrize("task", ["video-classification", "feature-extraction"])
def test_only_a_pretraining_checkpoint_has_a_decoder(task: Task, tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path, "videomae", task=task)
    with pytest.raises(CheckpointError, match="this checkpoint has no decoder"):
        load_checkpoint(str(folder), task="masked-modeling", report=lambda _: None)


def test_views_are_asked_one_by_one(attentive_bundle: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with load(attentive_bundle, task="feature-extraction", reading=Reading(clips=3)) as model:
        together = model.run(model.prepare(model.read(video)))
        sizes = []
        run = model.run
        monkeypatch.setattr(model, "run", lambda batch: sizes.append(len(batch)) or run(batch))
        found = model.features(video)
    assert sizes == [1, 1, 1]
    for name, value in found.items():
        np.testing.assert_allclose(value, together[name], atol=1e-5)


# Commands


def test_features_writes_what_numpy_reads(attentive_bundle: Path, video: Path, tmp_path: Path) -> None:
    target = tmp_path / "features.npz"
    result = tubelet("features", attentive_bundle, video, "--npz", target, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    with np.load(target) as arrays, load(attentive_bundle, task="feature-extraction") as model:
        expected = model.features(video)
        assert sorted(arrays.files) == sorted(expected) == sorted(document["features"])
        for name in arrays.files:
            np.testing.assert_array_equal(arrays[name], expected[name])
            assert document["features"][name]["shape"] == list(expected[name].shape)
    again = tubelet("features", attentive_bundle, video, "--npz", target)
    assert again.exit_code == 1
    assert "exists\n  fix: choose another with --npz, or replace it with --force" in again.stderr
    assert tubelet("features", attentive_bundle, video, "--npz", target, "--force").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["features.npz"]


def test_features_of_several_videos_go_into_a_folder(attentive_bundle: Path, video: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    make_video(other, frames=12, size=(64, 48))
    result = tubelet("features", attentive_bundle, video, other, "--npz", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["other.npz", "video.npz"]
    assert "last_hidden_state    1x9x32" in result.stdout


def test_features_of_several_videos_need_a_file_each(attentive_bundle: Path, video: Path, tmp_path: Path) -> None:
    namesake = tmp_path / "video.mkv"
    for second in (video, namesake):
        shared = tubelet("features", attentive_bundle, video, second, "--npz", tmp_path / "out")
        assert shared.exit_code == 2
        assert (
            f"the features of {video} and {second} would both be written to {tmp_path}/out/video.npz" in shared.stderr
        )
        assert "with --npz and the name of a file" in shared.stderr
    one = tubelet("features", attentive_bundle, video, namesake, "--npz", tmp_path / "k.npz")
    assert one.exit_code == 2
    assert one.stderr.endswith(
        f"--npz takes a folder for several videos, got the file {tmp_path}/k.npz: name a folder, such as {tmp_path}/k\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_features_of_a_bad_file_leave_the_others(attentive_bundle: Path, video: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    result = tubelet("features", attentive_bundle, tmp_path / "bad.mp4", video, "--npz", tmp_path / "out", "--json")
    assert result.exit_code == 1
    bad, good = json.loads(result.stdout)
    assert set(bad) == {"video", "error"}
    assert good["npz"] == str(tmp_path / "out" / "video.npz")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["video.npz"]
    result = tubelet("features", attentive_bundle, video, "--npz", f"{tmp_path / 'folder'}/")
    assert result.exit_code == 0
    assert (tmp_path / "folder" / "video.npz").is_file()


def test_export_names_task_and_outputs(tmp_path: Path) -> None:
    folder = checkpoints.write_checkpoint(tmp_path / "checkpoint", "videomae")
    out = tmp_path / "bundle"
    result = tubelet(
        "export", "--model", folder, "--task", "feature-extraction", "--outputs", "hidden_states,attentions", "-o", out
    )
    assert result.exit_code == 0, result.output
    assert "note: attention weights take" in result.stderr
    assert result.stdout.rstrip().endswith(f"tubelet features {out} VIDEO --npz FEATURES.npz")
    assert "hidden_states.0 float32 (batch, 32, 32) and 2 more" in tubelet("info", out).stdout
    assert tubelet("check", out).exit_code == 0
    wrong = tubelet("export", "--model", folder, "--outputs", "logits", "-o", tmp_path / "other")
    assert wrong.exit_code == 2
    assert "'logits' is none of hidden_states, attentions" in wrong.stderr
    labelled = tmp_path / "labels.txt"
    labelled.write_text("a\n" * 5)
    refused = tubelet(
        "export", "--model", folder, "--task", "feature-extraction", "--labels", labelled, "-o", out, "--force"
    )
    assert refused.exit_code == 1
    assert "labels are for a classifier" in refused.stderr
