"""The command line: what it prints, to which stream, and how it exits."""

import json
import os
import re
import shutil
from importlib import import_module
from pathlib import Path

import click
import pytest
from checkpoints import write_checkpoint
from click.testing import CliRunner, Result
from command_tree import commands

from tubelet.cli.tree import COMMANDS, main

ROOT = Path(__file__).parents[2]

COMMAND = commands(main)


def tubelet(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tubelet")


def test_the_commands_are_the_files_beside_the_tree_that_define_one() -> None:
    defining = [
        path.stem
        for path in (ROOT / "tubelet/cli").glob("*.py")
        if isinstance(vars(import_module(f"tubelet.cli.{path.stem}")).get(path.stem), click.Command)
    ]
    assert sorted(defining) == list(COMMANDS) == list(COMMAND)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_tree_says_of_a_command_what_its_help_says(name: str) -> None:
    assert COMMANDS[name].endswith(".")
    words = re.findall(r"\w+", COMMANDS[name])
    text = re.findall(r"\w+", str(COMMAND[name].help))
    assert [word for word in words if word not in text[:30]] == []
    assert words[0] == text[0]


def test_a_command_that_is_not_there() -> None:
    result = tubelet("nonsense")
    assert result.exit_code == 2
    assert "No such command 'nonsense'" in result.stderr
    assert "No such command 'explian'. Did you mean 'explain'?" in tubelet("explian").stderr
    assert "No such option '--hlep'. Did you mean '--help'?" in tubelet("--hlep").stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_stands_in_the_manual(name: str) -> None:
    result = tubelet(name, "-h")
    assert result.exit_code == 0
    assert f"Example:\n    tubelet {name}" in result.output
    assert any(f"tubelet {name}" in page.read_text() for page in (ROOT / "docs").glob("*.md"))
    for parameter in COMMAND[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} has no help"


def test_export_check_classify(tmp_path: Path, video: Path) -> None:
    folder = write_checkpoint(tmp_path / "gestures", "videomae")
    bundle = tmp_path / "my bundle"
    exported = tubelet("export", "--model", folder, "-o", bundle)
    assert exported.exit_code == 0, exported.output
    assert "batch   largest difference" in exported.stdout
    assert "PASS" in exported.stdout
    assert f"tubelet classify '{bundle}' VIDEO" in exported.stdout
    (line,) = exported.stderr.splitlines()
    assert line.startswith("note: pixels are computed as Pillow does, as VideoMAEImageProcessor did before")

    checked = tubelet("check", bundle)
    assert checked.exit_code == 0
    assert checked.stdout.rstrip().endswith("PASS")

    classified = tubelet("classify", bundle, video, "--top-k", 2)
    assert classified.exit_code == 0
    lines = classified.stdout.splitlines()
    assert len(lines) == 2
    assert all("%  activity " in line for line in lines)


def test_export_says_what_is_unusual_on_stderr_and_gives_json(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "gestures", "vivit", labels=[f"LABEL_{i}" for i in range(5)])
    result = tubelet("export", "--model", folder, "-o", tmp_path / "bundle", "--input", "frames", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["bundle"] == str(tmp_path / "bundle")
    assert document["parity"]["passed"] is True
    assert "note: labels remain LABEL_0 to LABEL_4" in result.stderr
    assert "note: pixels are centred twice" in result.stderr


def test_labels_from_a_file(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "gestures", "vivit", labels=[f"LABEL_{i}" for i in range(5)])
    names = tmp_path / "labels.txt"
    names.write_text("wave\nnod\nclap\npoint\nshrug\n")
    result = tubelet("export", "--model", folder, "-o", tmp_path / "bundle", "--labels", names)
    assert result.exit_code == 0, result.output
    assert "labels remain" not in result.stderr
    info = json.loads(tubelet("info", tmp_path / "bundle", "--json").stdout)
    assert info["labels"] == ["wave", "nod", "clap", "point", "shrug"]

    names.write_text("wave\nnod\n")
    result = tubelet("export", "--model", folder, "-o", tmp_path / "other", "--labels", names)
    assert result.exit_code == 1
    assert "labels.txt has 2 labels, and the model has 5" in result.stderr
    assert not (tmp_path / "other").exists()


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "gestures", "vivit")
    result = tubelet("export", "--model", folder, "-o", tmp_path / "bundle", "--dry-run")
    assert result.exit_code == 0
    assert "would export gestures\nVivitForVideoClassification, " in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["gestures"]
    document = json.loads(tubelet("export", "--model", folder, "-o", tmp_path / "b", "--dry-run", "--json").stdout)
    assert document["labels"] == 5


def test_an_existing_output_is_refused_before_the_model_is_looked_for(vivit_bundle: Path) -> None:
    result = tubelet("export", "--model", "no/such-model", "-o", vivit_bundle)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {vivit_bundle} exists\n  fix: choose another folder with -o, or replace it with --force\n"
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./no/such folder", "is neither a folder that exists nor a Hub id"),
        ("{tmp}", "has no config.json, so it is not a checkpoint"),
        (
            "{tmp}/unknown",
            "model_type 'bert' with architectures ['BertModel'] is not supported; supported are",
        ),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, model: str, message: str) -> None:
    unknown = tmp_path / "unknown"
    unknown.mkdir()
    (unknown / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    result = tubelet("export", "--model", model.format(tmp=tmp_path), "-o", tmp_path / "bundle")
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "bundle").exists()


def test_classify_gives_one_object_for_one_video(vivit_bundle: Path, video: Path) -> None:
    document = json.loads(tubelet("classify", vivit_bundle, video, "--json", "--top-k", 2).stdout)
    assert list(document) == ["video", "predictions", "frames", "seconds"]
    assert document["video"] == str(video)
    assert [list(prediction) for prediction in document["predictions"]] == [["label", "score"]] * 2
    assert document["frames"] == [11, 13, 15, 17]
    assert document["seconds"] == pytest.approx([frame / 30 for frame in document["frames"]], abs=1e-3)


def test_times_that_a_file_does_not_have_are_null(vivit_bundle: Path, tmp_path: Path) -> None:
    from videos import make_video

    raw = tmp_path / "raw.h264"
    make_video(raw)
    document = json.loads(tubelet("classify", vivit_bundle, raw, "--json").stdout)
    assert document["frames"] == [11, 13, 15, 17]
    assert document["seconds"] == [None] * 4


def test_classify_goes_on_after_a_bad_video(vivit_bundle: Path, video: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.mp4"
    result = tubelet("classify", vivit_bundle, missing, video, "--sampling", "uniform", "--json")
    assert result.exit_code == 1
    bad, good = json.loads(result.stdout)
    assert bad == {"video": str(missing), "error": f"{missing} does not exist"}
    assert good["frames"] == [0, 9, 19, 29]
    assert result.stderr == f"Error: {missing} does not exist\n"

    result = tubelet("classify", vivit_bundle, missing, video)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == str(video)


def test_a_file_name_that_is_not_text(vivit_bundle: Path, video: Path, tmp_path: Path) -> None:
    odd = shutil.copy(video, os.fsdecode(os.fsencode(tmp_path) + b"/clip\xff.mp4"))
    result = tubelet("classify", vivit_bundle, odd, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["video"] == odd
    result = tubelet("classify", vivit_bundle, odd, video)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{tmp_path}/clip\\udcff.mp4\n")


def test_what_the_system_refuses_is_a_message(tmp_path: Path) -> None:
    result = tubelet("info", tmp_path / ("long" * 100))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {tmp_path}/long")
    assert result.stderr.endswith(": File name too long\n")


def test_check_fails_with_3_when_the_reference_differs(vivit_bundle: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from tubelet.runtime.bundle.bundle import Bundle
    from tubelet.runtime.bundle.files import BundleFile
    from tubelet.runtime.bundle.reference import Reference, load_reference

    copy = shutil.copytree(vivit_bundle, tmp_path / "bundle")
    reference = load_reference(Bundle.open(copy))
    Reference(reference.clips, reference.input_sha256, {"logits": reference.logits + 1}).save(copy / "reference.npz")
    bundle = Bundle.open(vivit_bundle)
    replace(bundle, path=copy, reference=BundleFile.of(copy / "reference.npz")).write_manifest()
    result = tubelet("check", copy)
    assert result.exit_code == 3
    assert result.stdout.rstrip().endswith("FAIL")
    result = tubelet("check", copy, "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["passed"] is False


def test_info_in_words_and_as_json(vivit_bundle: Path) -> None:
    result = tubelet("info", vivit_bundle)
    assert result.exit_code == 0
    assert "pixel_values float32 (batch, 4, 3, 32, 32) -> logits float32 (batch, 5), opset 23" in result.stdout
    document = json.loads(tubelet("info", vivit_bundle, "--json").stdout)
    assert document == json.loads((vivit_bundle / "bundle.json").read_text())


def test_doctor_tells_what_really_starts() -> None:
    result = tubelet("doctor")
    assert result.exit_code == 0
    assert "CPUExecutionProvider" in result.stdout
    document = json.loads(tubelet("doctor", "--json").stdout)
    assert {"name": "CPUExecutionProvider", "error": None} in document["providers"]
    assert document["packages"]["av"]


@pytest.mark.parametrize("command", ["check", "info", "classify"])
def test_a_folder_that_is_no_bundle(command: str, tmp_path: Path, video: Path) -> None:
    result = tubelet(command, tmp_path, *([video] if command == "classify" else []))
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {tmp_path} is not a bundle: it has no bundle.json\n  fix: tubelet export --model ID -o BUNDLE\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["classify", "x"],
        ["check", "x", "--backend", "tpu"],
        ["classify", "x", "y", "--top-k", "0"],
        ["nonsense"],
    ],
)
def test_misuse_exits_with_2(arguments: list[str]) -> None:
    assert tubelet(*arguments).exit_code == 2


def test_a_precision_that_the_bundle_lacks(vivit_bundle: Path) -> None:
    result = tubelet("check", vivit_bundle, "--precision", "int8")
    assert result.exit_code == 1
    assert "has no int8 graph; it has fp32" in result.stderr
