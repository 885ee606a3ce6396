"""tubelet bench --end-to-end: real processes take files to labels, and what is said of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from click.testing import CliRunner, Result
from videos import make_video

from tubelet.bench.end_to_end import EndToEndReport, FilesMeasurement
from tubelet.bench.machine import examine_machine
from tubelet.bench.measurement import Subject
from tubelet.cli.tree import main
from tubelet.runtime.load import load


def tubelet(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, arguments), "--rounds", "3", "--threads", "1"])


def test_files_become_the_labels_that_classify_gives(vivit_bundle: Path, video: Path, tmp_path: Path) -> None:
    files = [video, make_video(tmp_path / "other.mp4", size=(64, 48))]
    result = tubelet(vivit_bundle, *(part for file in files for part in ("--end-to-end", file)), "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    (measured,) = report["measurements"]
    with load(vivit_bundle) as model:
        best = [model.classify(file, top_k=1)[0].label for file in files]
        assert [model.labels[label] for label in measured["labels"]] == best
    assert len(measured["rounds_ms"]) == len(measured["model_ms"]) == 3
    (computed,) = report["computed"]
    assert computed["files_per_second"] > 0
    assert computed["share_of_model"]["median"] > 0


@pytest.mark.slow
def test_the_pipeline_of_transformers_takes_the_same_files(vivit_bundle: Path, video: Path, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "vivit", "vivit")
    result = tubelet(
        *(vivit_bundle, "--end-to-end", video, "--against", "torch-transformers", "--model", checkpoint, "--json")
    )
    assert result.exit_code == 0, result.output
    ours, theirs = json.loads(result.stdout)["measurements"]
    assert theirs["subject"]["engine"] == "torch-transformers"
    assert theirs["model_ms"] is None
    assert len(ours["labels"]) == len(theirs["labels"]) == 1


def test_the_table_is_by_the_median_round() -> None:
    ours = FilesMeasurement(Subject("onnxruntime", "fp32", 1), (500.0, 400.0, 900.0), (450.0, 380.0, 450.0), (3, 1))
    theirs = FilesMeasurement(Subject("torch-transformers", "fp32", 1), (1000.0, 1000.0, 900.0), None, (3, 2))
    machine = replace(examine_machine(), cpu="a CPU")
    report = EndToEndReport("", "model", machine, 2, 3, ("a.mp4", "b.mp4"), (ours, theirs), ())
    lines = report.table().splitlines()
    assert lines[0] == "2 files, 3 rounds, 2 threads, a CPU"
    assert " ".join(lines[3].split()) == "onnxruntime fp32 4 0.9 (0.7 to 0.925) 2 (1.5 to 2.25) 2 of 2"
    assert " ".join(lines[4].split()) == "torch-transformers 2 1 of 2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "2"], "--batch does not go with --end-to-end"),
        (["--report", "page.html"], "--report does not go with --end-to-end"),
        (["--against", "torch"], "--against takes torch-transformers alone"),
    ],
)
def test_what_does_not_go_with_files(vivit_bundle: Path, video: Path, arguments: list[str], message: str) -> None:
    result = tubelet(vivit_bundle, "--end-to-end", video, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_file_that_is_no_video(vivit_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.mp4").write_text("not a video")
    result = tubelet(vivit_bundle, "--end-to-end", tmp_path / "letter.mp4")
    assert result.exit_code == 1
    assert "letter.mp4" in result.stderr
