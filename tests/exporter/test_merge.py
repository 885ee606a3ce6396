"""`tubelet export --merge`: bundles whose tokens merge, in every engine and precision that takes them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from checkpoints import write_checkpoint
from click.testing import CliRunner
from videos import make_video

from tubelet.bench.bench import _notes
from tubelet.bench.machine import examine_machine
from tubelet.bench.measure import Plan
from tubelet.cli.tree import main
from tubelet.exporter.checkpoint.load import Checkpoint, load_checkpoint
from tubelet.exporter.export import export_bundle
from tubelet.exporter.graph.record import torch_run
from tubelet.exporter.graph.tasks import exported_model
from tubelet.exporter.graph.trace import trace
from tubelet.exporter.merge import _truth, merged_model, search
from tubelet.exporter.options import ExportOptions
from tubelet.exporter.plan import plan_export
from tubelet.exporter.steady import STEADY
from tubelet.preprocess.errors import CheckpointError, OutOfBounds, ParityError
from tubelet.preprocess.frames import Frames
from tubelet.preprocess.prepare import prepare
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.reference import load_reference
from tubelet.runtime.hub import HubAddress
from tubelet.runtime.load import load
from tubelet.runtime.precisions import GraphPrecision
from tubelet.runtime.proof.check import check
from tubelet.serve.hub.card import write_card

CAPABLE = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
LOWER: tuple[GraphPrecision, ...] = ("fp16", "int8", "int8-static")


def read(folder: Path) -> Checkpoint:
    return load_checkpoint(str(folder), report=lambda _: None)


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle of each family with every precision, its checkpoint beside it. Not to be changed."""
    found = {}
    for family in ("vivit", "videomae"):
        folder = tmp_path_factory.mktemp(family)
        checkpoint = read(write_checkpoint(folder / family, family, num_hidden_layers=3, image_size=(48, 48)))
        options = ExportOptions(merge=3, precisions=LOWER)
        found[family] = export_bundle(checkpoint, folder / "bundle", options)[0].path
    return found


@pytest.mark.parametrize("family", ["vivit", "videomae"])
def test_a_merged_bundle_is_proven_in_every_precision(family: str, merged: dict[str, Path]) -> None:
    bundle = Bundle.open(merged[family])
    assert [graph.precision for graph in bundle.graphs] == ["fp32", *LOWER]
    for graph in bundle.graphs:
        assert graph.parity is not None
        assert sorted({row.batch for row in graph.parity.batches}) == [1, 2, 3, 8]
    for backend, precision in (("onnxruntime", "fp32"), ("openvino", "fp32")):
        report = check(bundle.path, backend=backend, precision=precision)
        assert report.passed, report.table()
    merging = bundle.merging
    assert merging is not None
    assert merging.removed == 3
    assert merging.tokens == {"vivit": (19, 16, 13), "videomae": (72, 69, 66)}[family]
    assert merging.moved is not None
    assert merging.moved <= STEADY
    assert merging.compared_on == "the 4 reference clips"


@pytest.mark.skipif("BF16" not in CAPABLE, reason="this CPU has no bfloat16")
def test_tokens_are_numbered_beyond_what_bfloat16_holds(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", "videomae", image_size=(128, 128), num_frames=8)
    bundle, _ = export_bundle(read(folder), tmp_path / "bundle", ExportOptions(merge=8))
    assert bundle.merging is not None
    assert bundle.merging.tokens[0] == 1024  # of which 512 are numbered
    report = check(bundle.path, backend="openvino", precision="bf16")
    assert report.passed, report.table()


def test_what_is_said_of_the_unmerged_model_is_measured(merged: dict[str, Path]) -> None:
    for path in merged.values():
        bundle = Bundle.open(path)
        checkpoint = read(path.parent / path.parent.name.rstrip("0123456789"))
        run = torch_run(exported_model(checkpoint.model), bundle.spec)
        reference = load_reference(bundle)
        clips = np.stack([prepare(Frames.from_array(clip), bundle.spec) for clip in reference.clips])
        unmerged, ours = run({bundle.spec.input_name: clips})["logits"], reference.logits
        lengths = np.linalg.norm(unmerged, axis=1) * np.linalg.norm(ours, axis=1)
        assert bundle.merging is not None
        assert bundle.merging.cosine == pytest.approx(float(((unmerged * ours).sum(1) / lengths).min()), abs=1e-5)
        assert bundle.merging.same_label == (unmerged.argmax(1) == ours.argmax(1)).mean()


def test_every_report_says_that_tokens_are_merged(merged: dict[str, Path], tmp_path: Path) -> None:
    path = merged["vivit"]
    bundle = Bundle.open(path)
    assert bundle.merging is not None
    said = "3 tokens a layer: 19 enter the first, 13 the last; not the published function"
    run = CliRunner()
    for arguments in (["info", path], ["check", path]):
        result = run.invoke(main, list(map(str, arguments)))
        assert result.exit_code == 0, result.output
        assert said in result.output
        assert "beside the unmerged model on the 4 reference clips: cosine 0." in result.output
    checked = json.loads(run.invoke(main, ["check", str(path), "--json"]).output)
    shown = json.loads(run.invoke(main, ["info", str(path), "--json"]).output)
    assert checked["merging"] == shown["merging"]
    assert shown["merging"]["tokens"] == [19, 16, 13]
    plan = Plan(bundle, (("onnxruntime", "fp32"),), (1,), 1, 3, 1, None, None)
    assert any(said in note for note in _notes(plan, examine_machine()))
    assert said in write_card(bundle, HubAddress.parse("me/merged"), None)
    assert "The graph computes the same" not in write_card(bundle, HubAddress.parse("me/merged"), None)
    video = tmp_path / "video.mp4"
    make_video(video)
    with load(path) as model:
        assert len(model.classify(video)) == 5


def test_export_says_it_too_and_dry_run_before(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", "videomae")
    command = ["export", "--model", str(folder), "-o", str(tmp_path / "bundle"), "--merge", "4", "--input", "frames"]
    planned = CliRunner().invoke(main, [*command, "--dry-run"])
    assert "merging 4 tokens in each layer, which is not the published function" in planned.output
    result = CliRunner().invoke(main, [*command, "--json"])
    assert result.exit_code == 0, result.output
    assert "note: 4 tokens a layer: 32 enter the first, 28 the last" in result.stderr
    assert "note: beside the unmerged model on the 4 reference clips" in result.stderr
    assert json.loads(result.stdout)["merging"]["removed"] == 4


MISUSED = [
    (["--merge", "17"], 2, "--merge must be from 1 to 16, half of the 32 tokens of a clip, got 17"),
    (["--merge", "0"], 2, "merge must be a whole number from 1"),
    (["--merge", "many"], 2, "merge must be a whole number from 1"),
    (["--merge", "auto"], 2, "neither goes without the other"),
    (["--max-loss", "1"], 2, "neither goes without the other"),
    (["--merge", "auto", "--max-loss", "1"], 2, "calibrate names none"),
    (["--merge", "auto", "--max-loss", "nan"], 2, "max_loss must be from 0 to 100"),
    (["--merge", "4", "--outputs", "attentions"], 1, "of a model that merges tokens are of no one tubelet"),
    (["--merge", "4", "--task", "feature-extraction"], 1, "it gives a row for each token"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), MISUSED, ids=[" ".join(row[0]) for row in MISUSED])
def test_what_cannot_be_merged_is_refused_before_anything_is_done(
    arguments: list[str], code: int, message: str, tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path / "model", "videomae")
    command = ["export", "--model", str(folder), "-o", str(tmp_path / "bundle"), "--dry-run", *arguments]
    result = CliRunner().invoke(main, command)
    assert (result.exit_code, message in result.output) == (code, True), result.output


def test_a_graph_that_merges_otherwise_fails_and_says_how_narrow_the_choice_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = read(write_checkpoint(tmp_path / "model", "videomae"))
    other = merged_model(checkpoint.model, 5)
    monkeypatch.setattr(
        "tubelet.exporter.export.trace", lambda _, spec, opset: trace(exported_model(other), spec, opset=opset)
    )
    with pytest.raises(ParityError, match="the narrowest choice between two merges on the reference clips was by"):
        export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(merge=4))
    assert not (tmp_path / "bundle").exists()


def test_an_older_opset_merges_too(tmp_path: Path) -> None:
    checkpoint = read(write_checkpoint(tmp_path / "model", "vivit"))
    bundle, report = export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(merge=2, opset=17))
    assert report.passed
    assert bundle.graphs[0].opset == 17


LOSSES = {1: 0.0, 2: 0.0, 3: 0.5, 4: 0.4, 5: 1.0, 6: 2.0, 7: 3.0, 8: 4.0}


@pytest.mark.parametrize(("max_loss", "found", "tried"), [(0.0, 2, 4), (0.5, 4, 4), (1.0, 5, 4), (10.0, 8, 1)])
def test_the_search_takes_what_it_measured(max_loss: float, found: int, tried: int) -> None:
    trials = search(8, LOSSES.__getitem__, max_loss)
    assert max(trial.removed for trial in trials if trial.loss <= max_loss) == found
    assert len(trials) == tried


@pytest.fixture(scope="module")
def sorted_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos in folders that are called as the labels of a tiny checkpoint."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(6):
        place = folder / f"activity {number % 3}"
        place.mkdir(exist_ok=True)
        make_video(place / f"{number}.mp4", frames=8 + number, size=(64, 48 + 8 * number))
    return folder


@pytest.mark.parametrize("labelled", [True, False])
def test_auto_takes_the_most_that_loses_little_enough(labelled: bool, sorted_videos: Path, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", "videomae")
    calibrate = sorted(place for place in sorted_videos.iterdir())
    if not labelled:
        calibrate = [Path(shutil.copytree(place, tmp_path / f"day {i}")) for i, place in enumerate(calibrate)]
    options: list[Any] = [word for place in calibrate for word in ("--calibrate", str(place))]
    command = ["export", "--model", str(folder), "-o", str(tmp_path / "bundle"), "--merge", "auto", *options]
    result = CliRunner().invoke(main, [*command, "--max-loss", "34"])
    assert result.exit_code == 0, result.output
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.merging is not None
    (note,) = [note for note in bundle.notes if "--merge auto" in note]
    judged = "accuracy, of " if labelled else "best labels that change"
    assert note.startswith(f"--merge auto took {bundle.merging.removed}, the most that loses at most 34 %: {judged}")
    assert "on 6 videos; tried 16 (loses " in note
    assert bundle.merging.compared_on == "6 videos"
    assert bundle.merging.same_label is not None
    if not labelled:  # what is said of the number that was taken is what was measured of it
        lost = 100 * (1 - bundle.merging.same_label)
        assert f"{bundle.merging.removed} (loses {lost:.2f} %)" in note


def test_a_link_is_judged_by_the_folder_that_it_lies_in(sorted_videos: Path, tmp_path: Path) -> None:
    """As in the cache of the Hub, or in a set that is put together of links."""
    (tmp_path / "activity 2").mkdir()
    link = tmp_path / "activity 2" / "clip.mp4"
    link.symlink_to(next((sorted_videos / "activity 0").iterdir()))
    assert _truth([link], ["activity 0", "activity 2"]) == [1]
    (link.parent / "more").mkdir()
    assert _truth([link.parent / "more" / ".." / link.name], ["activity 2"]) == [0]


def test_a_model_that_chooses_among_no_labels_is_merged_by_a_number(sorted_videos: Path, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", "videomae", num_labels=1, labels=["height"])
    auto = ExportOptions(merge="auto", max_loss=0.5, calibrate=tuple(sorted_videos.iterdir()))
    checkpoint = read(folder)
    assert checkpoint.problem_type == "regression"
    for refused in (
        lambda: plan_export(checkpoint, tmp_path / "no", auto),
        lambda: export_bundle(checkpoint, tmp_path / "no", auto),
    ):
        with pytest.raises(CheckpointError, match=r"this model has no several to choose from\n  fix: .*--merge R"):
            refused()
    bundle, _ = export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(merge=4))
    merging = Bundle.open(bundle.path).merging
    assert merging is not None
    assert (merging.cosine, merging.same_label) == (None, None)
    assert merging.farthest is not None
    assert merging.farthest > 0
    assert "values are off by " in merging.note()
    assert "cosine" not in merging.note()


def test_auto_says_what_it_tried_where_nothing_is_good_enough(
    sorted_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = read(write_checkpoint(tmp_path / "model", "videomae"))
    monkeypatch.setattr("tubelet.exporter.merge.search", lambda *_: search(2, lambda removed: 10.0 * removed, 0.5))
    options = ExportOptions(merge="auto", max_loss=0.5, calibrate=tuple(sorted_videos.iterdir()))
    with pytest.raises(CheckpointError, match=r"loses at most 0\.5 %: .* tried 2 \(loses 20\.00 %\), 1 \(loses 10"):
        export_bundle(checkpoint, tmp_path / "bundle", options)
    assert not (tmp_path / "bundle").exists()


def test_options_from_python_are_checked_as_well() -> None:
    wrong: list[dict[str, Any]] = [{"merge": 0}, {"merge": "most"}, {"merge": True}, {"merge": "auto"}, {"max_loss": 1}]
    for values in wrong:
        with pytest.raises(OutOfBounds):
            ExportOptions(**values)
