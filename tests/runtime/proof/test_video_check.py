import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from click.testing import CliRunner
from videos import make_video

from tubelet.cli.tree import main
from tubelet.preprocess.errors import BundleError
from tubelet.runtime.backends import open_backend
from tubelet.runtime.bundle.bundle import Bundle
from tubelet.runtime.proof.video_check import StageReport, check_video


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle that recorded a video, and the video."""
    folder = tmp_path_factory.mktemp("stages")
    video = make_video(folder / "numbered.mp4")
    checkpoint = write_checkpoint(folder / "gestures", "videomae")
    arguments = ["export", "--model", checkpoint, "-o", folder / "bundle", "--input", "frames", "--video", video]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return folder / "bundle", video


def check(bundle: Bundle, video: Path) -> StageReport:
    with open_backend("onnxruntime", bundle, "fp32") as backend:
        return check_video(video, bundle.videos, bundle.spec, backend.infer, backend="onnxruntime", precision="fp32")


def test_every_stage_is_as_recorded(exported: tuple[Path, Path], tmp_path: Path) -> None:
    bundle = Bundle.open(exported[0])
    renamed = tmp_path / "renamed.mp4"
    shutil.copy(exported[1], renamed)
    report = check(bundle, renamed)
    assert report.passed, report.table()
    assert report.frames == 4
    result = CliRunner().invoke(main, ["check", str(bundle.path), "--video", str(renamed), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["passed"] is True


def test_a_difference_is_placed_where_it_is(exported: tuple[Path, Path]) -> None:
    bundle = Bundle.open(exported[0])
    (record,) = bundle.videos
    other = "0" * 64

    changed = replace(record, frames_sha256=(record.frames_sha256[0], other, *record.frames_sha256[2:]))
    report = check(replace(bundle, videos=(changed,)), exported[1])
    assert (report.indices_equal, report.frames_different, report.input_equal) == (True, (1,), True)
    assert not report.passed
    assert "1 of 4 DIFFERENT, the first at position 1" in report.table()

    report = check(replace(bundle, videos=(replace(record, input_sha256=other),)), exported[1])
    assert (report.frames_different, report.input_equal, report.logits.passed) == ((), False, True)
    assert not report.passed

    shifted = tuple(logit + 1 for logit in record.logits)
    report = check(replace(bundle, videos=(replace(record, logits=shifted),)), exported[1])
    assert (report.input_equal, report.logits.passed) == (True, False)
    assert report.table().endswith("FAIL")

    evaluation = bundle.spec.evaluation
    denser = replace(evaluation, sampling=replace(evaluation.sampling, stride=1))
    report = check(replace(bundle, spec=replace(bundle.spec, evaluation=denser)), exported[1])
    assert not report.indices_equal
    assert not report.passed


def test_a_file_without_a_record(exported: tuple[Path, Path], tmp_path: Path) -> None:
    bundle = Bundle.open(exported[0])
    other = make_video(tmp_path / "other.mp4", frames=12)
    with pytest.raises(BundleError, match=r"has no record of .*other\.mp4; it has numbered\.mp4\n  fix: .*--video"):
        check(bundle, other)
    with pytest.raises(BundleError, match=r"is not the numbered\.mp4 that the export recorded: its bytes differ"):
        check(bundle, Path(shutil.copy(other, tmp_path / "numbered.mp4")))
    with pytest.raises(BundleError, match=r"missing\.mp4 is not a file"):
        check(bundle, tmp_path / "missing.mp4")
