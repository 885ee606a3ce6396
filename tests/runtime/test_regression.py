"""A model trained as regression: its values as they are, everywhere."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from annotate import ScoreTrack
from checkpoints import hub_config, tiny_config, write_checkpoint
from click.testing import CliRunner, Result

from tubelet.bench.worker import Settings, in_one_step, stage_times
from tubelet.cli.tree import main
from tubelet.exporter.checkpoint.load import Checkpoint, load_checkpoint
from tubelet.exporter.export import export_bundle
from tubelet.exporter.options import ExportOptions
from tubelet.preprocess.errors import CheckpointError
from tubelet.runtime.backends import open_backend
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.bundle.reference import load_reference
from tubelet.runtime.limits import CosineLimit, ElementLimit, ValueLimit, limit_on
from tubelet.runtime.load import load
from tubelet.runtime.precisions import PRECISIONS
from tubelet.runtime.predictions import Prediction, Value, answer
from tubelet.runtime.proof.parity import compare_logits, compare_outputs, limit_of
from tubelet.runtime.reading import Reading


def load_tiny(folder: Path, labels: int, **settings: Any) -> Checkpoint:
    written = write_checkpoint(folder, "videomae", num_labels=labels, extra=settings)
    return load_checkpoint(str(written), report=lambda _: None)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One label, no problem_type, in lower precisions too. Not to be changed."""
    folder = tmp_path_factory.mktemp("one")
    checkpoint = load_tiny(folder / "checkpoint", 1)
    bundle, report = export_bundle(
        checkpoint, folder / "bundle", ExportOptions(precisions=("fp16", "int8", "int8-static"))
    )
    assert report.passed
    return bundle


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, video: Path) -> Bundle:
    """Three labels, said to be a regression, with a recorded video. Not to be changed."""
    folder = tmp_path_factory.mktemp("three")
    checkpoint = load_tiny(folder / "checkpoint", 3, problem_type="regression")
    return export_bundle(checkpoint, folder / "bundle", ExportOptions(videos=(video,)))[0]


def tubelet(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tubelet")


@pytest.mark.parametrize(
    ("labels", "stated", "trained_with"),
    [
        (1, None, torch.float32),
        (5, None, torch.long),
        (1, "multi_label_classification", torch.float32),
        (2, "regression", torch.float32),
    ],
)
def test_the_problem_is_what_transformers_trains(
    labels: int, stated: str | None, trained_with: torch.dtype, tmp_path: Path
) -> None:
    settings = hub_config(tiny_config("videomae")) | {"num_labels": labels, "problem_type": stated}
    theirs: Any = transformers.VideoMAEForVideoClassification(transformers.VideoMAEConfig(**settings)).eval()
    shape = (1,) if trained_with == torch.long else (1, labels)
    theirs(torch.zeros(1, 4, 3, 32, 32), labels=torch.zeros(shape, dtype=trained_with))
    assert load_tiny(tmp_path / "m", labels, problem_type=stated).problem_type == theirs.config.problem_type


def test_one_label_to_choose_from_is_refused_as_transformers_refuses_it(tmp_path: Path) -> None:
    stated: dict[str, Any] = {"problem_type": "single_label_classification"}
    with pytest.raises(ValueError, match="num_labels > 1"):
        transformers.VideoMAEConfig(**{"num_labels": 1, **stated})
    with pytest.raises(CheckpointError, match=r"whose score is 1 whatever the video shows\n  fix: set problem_type"):
        load_tiny(tmp_path / "m", 1, **stated)


@pytest.mark.parametrize("views", [Reading(), Reading(clips=2, crops=3)])
@pytest.mark.parametrize("fixture", ["one", "three"])
def test_values_are_torchs_and_views_are_averaged(
    fixture: str, views: Reading, video: Path, request: pytest.FixtureRequest
) -> None:
    bundle: Bundle = request.getfixturevalue(fixture)
    checkpoint = load_checkpoint(str(bundle.path.parent / "checkpoint"), report=lambda _: None)
    with load(bundle.path, reading=views) as model:
        batch = model.prepare(model.read(video))
        found = model.classify(video, top_k=1)  # of values that are not ranked none is left out
        (several,) = model.classify_many([video], batch=4)
    with torch.inference_mode():
        expected = checkpoint.model(torch.from_numpy(batch)).mean(0).tolist()
    assert [type(said) for said in found] == [Value] * len(bundle.labels)
    assert [said.label for said in found] == list(bundle.labels)
    assert [value for _, value in found] == pytest.approx(expected, abs=1e-4)
    assert [value for _, value in several.predictions] == pytest.approx(expected, abs=1e-4)


def test_classify_shows_values(one: Bundle, video: Path) -> None:
    with load(one.path) as model:
        ((label, value),) = model.classify(video)
    text = tubelet("classify", one.path, video)
    assert text.output == f"{value:10.6g}  {label}\n"
    document = json.loads(tubelet("classify", one.path, video, "--json").output)
    assert document["predictions"] == [{"label": label, "value": pytest.approx(value, abs=1e-6)}]
    line = json.loads(tubelet("classify", one.path, video, "--json-lines").output)
    assert line["predictions"] == document["predictions"]


def test_info_says_that_it_is_a_regression(one: Bundle, three: Bundle) -> None:
    assert "task       video-classification, regression, 1 value: activity 0\n" in tubelet("info", one.path).output
    assert "regression, 3 values: activity 0, activity 1, activity 2" in tubelet("info", three.path).output
    assert json.loads(tubelet("info", one.path, "--json").output)["problem_type"] == "regression"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8-static"])
def test_check_compares_values_and_ranks_nothing(one: Bundle, precision: str) -> None:
    result = tubelet("check", one.path, "--precision", precision)
    assert result.exit_code == 0, result.output
    assert "x the root mean square of each value over the reference clips: PASS" in result.output
    assert "top-" not in result.output
    report = json.loads(tubelet("check", one.path, "--precision", precision, "--json").output)
    assert {row["cosine"] for row in report["batches"]} == {None}
    assert {row["batch"] for row in report["batches"]} == {1, 2, 3, 8}
    parity = one.graph(precision).parity
    assert parity is not None
    assert (parity.passed, parity.limit.top) == (True, 0)


def test_an_export_with_more_outputs_says_how_near_values_are(tmp_path: Path) -> None:
    """Hidden states have a cosine, and the limit is that on values all the same."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", "videomae", num_labels=1)
    more = ["--precision", "fp16", "--outputs", "hidden_states"]
    result = tubelet("export", "--model", checkpoint, "-o", tmp_path / "bundle", *more)
    assert result.exit_code == 0, result.output
    assert re.search(r"\nfp16: \d+\.\d% of the limit: PASS\n", result.stdout)


def test_a_recorded_video_is_checked_by_its_values(three: Bundle, video: Path) -> None:
    result = tubelet("check", three.path, "--video", video)
    assert result.exit_code == 0, result.output
    with open_backend("onnxruntime", three, "fp32") as backend:
        reference = load_reference(three)
        off = {"logits": reference.outputs["logits"] * np.float32(1.001)}
        assert not compare_outputs(off, reference, range(4), limit_of(three, "fp32", reference))[0].passed
        assert backend is not None


@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_a_limit_on_values_sees_what_a_cosine_does_not(precision: str) -> None:
    values = np.array([[30.0, 0.02], [40.0, -0.01], [35.0, 0.03]], np.float32)  # in units of their own
    of_labels = PRECISIONS[precision].limit
    limit = limit_on(of_labels, ranked=False, values=values)
    assert isinstance(limit, ValueLimit)
    assert compare_logits(values, values, [0, 1, 2], limit).passed
    for column in (0, 1):  # the small value counts as much as the large one
        scaled = values.copy()
        scaled[:, column] *= 1 + 2 * limit.share
        found = compare_logits(scaled, values, [0, 1, 2], limit)
        assert not found.passed
        assert (found.cosine, found.top_equal) == (None, True)
    # One value, twice as large: no angle, and nothing to rank.
    single = compare_logits(
        2 * values[:, :1],
        values[:, :1],
        [0, 1, 2],
        limit_on(of_labels, ranked=False, values=values[:, :1]),
    )
    assert not single.passed
    if isinstance(of_labels, CosineLimit):
        assert compare_logits(2 * values[:, :1], values[:, :1], [0, 1, 2], of_labels.unranked()).passed


def test_how_far_a_value_may_be_off() -> None:
    assert ElementLimit(1e-4, 1e-4).share() == pytest.approx(2e-4)
    # Two vectors of one length with that cosine are so far apart, as a share of it.
    angle = np.arccos(0.99)
    apart = np.linalg.norm([1 - np.cos(angle), np.sin(angle)])
    assert CosineLimit(0.99).share() == pytest.approx(apart)


def test_bench_takes_values_for_what_they_are(three: Bundle) -> None:
    settings = Settings("onnxruntime", "fp32", 2, 1, str(three.path), "", None, None, None)
    with open_backend("onnxruntime", three, "fp32") as backend:
        times = stage_times(in_one_step(backend.infer), three, three.spec, settings)
    assert "rank" in times
    logits = np.array([[3.0, -1.0, 2.0]], np.float32)
    assert answer(logits, "scores", "regression", "abc", 1) == [Value("a", 3.0), Value("b", -1.0), Value("c", 2.0)]
    (best,) = answer(logits, "scores", "multi_label_classification", "abc", 1)
    assert isinstance(best, Prediction)
    assert best.label == "a"
    assert best.score == pytest.approx(1 / (1 + np.exp(-3.0)))


def test_a_sigmoid_where_one_label_is_said_to_be_one_of_several(one: Bundle, video: Path, tmp_path: Path) -> None:
    checkpoint = load_tiny(tmp_path / "checkpoint", 1, problem_type="multi_label_classification")
    bundle, _ = export_bundle(checkpoint, tmp_path / "bundle")
    with load(bundle.path) as model, load(one.path) as values:
        (score,), (value,) = model.classify(video), values.classify(video)
    assert isinstance(score, Prediction)
    assert isinstance(value, Value)
    assert score.score == pytest.approx(1 / (1 + np.exp(-value.value)), abs=1e-5)


def test_values_are_not_drawn_as_shares_of_a_bar() -> None:
    drawn = ScoreTrack(["a"], np.arange(2.0), np.array([[0.0], [1.0]]), 0.2, 1.0)
    with pytest.raises(ValueError, match=r"scores must be from 0 to 1 .*, got 0 to 30: the values of a regression"):
        replace(drawn, scores=np.array([[0.0], [30.0]]))
